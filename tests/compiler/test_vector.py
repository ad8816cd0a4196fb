"""Element-wise work in binary32, statistics and constants: networks on machines of every size equal the reference."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from random import Random

import numpy as np
import pytest

import accelsim
from accelsim.arithmetic.affine import FLOAT, Affine
from accelsim.arithmetic.engines import KernelSet
from accelsim.arithmetic.vector import Operation, Register, Statistic, Writer
from accelsim.errors import CompileError
from accelsim.network import (
    Constant,
    Convolution,
    Linear,
    Network,
    Node,
    Permute,
    Reshape,
    Value,
    Weights,
    vector_node,
)
from accelsim.network.checks import check

sys.path.insert(0, str(Path(__file__).parent))

from networks import compiled

CODES = [Affine(0.05, 7, "uint8"), Affine(0.25, -3, "int8")]


class Drawing:
    """A random network of vector nodes, movements and constants."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.values: dict[str, Value] = {}
        self.nodes: list[Node] = []

    def add(self, node: Node, shape: tuple[int, ...], affine: Affine) -> str:
        self.values[node.name] = Value(node.name, shape, affine, tuple(range(len(shape))))
        if node.name != "x":
            self.nodes.append(node)
        return node.name

    def some(self, shape: tuple[int, ...]) -> list[str]:
        """Values that broadcast to a shape."""
        found = []
        for name, value in self.values.items():
            missing = len(shape) - len(value.shape)
            if missing >= 0 and all(a in (1, b) for a, b in zip(value.shape, shape[missing:], strict=True)):
                found.append(name)
        return found

    def step(self) -> None:
        random, name = self.random, f"n{len(self.values)}"
        source = random.choice(list(self.values))
        shape, affine = self.values[source].shape, self.values[source].affine
        kind = random.choice(["map", "map", "map", "statistic", "permute", "reshape", "constant"])
        if kind == "permute":
            axes = tuple(random.sample(range(len(shape)), len(shape)))
            self.add(Permute(name, (source,), axes), tuple(shape[axis] for axis in axes), affine)
        elif kind == "reshape" and len(shape) > 1:
            self.add(Reshape(name, (source,)), (shape[0] * shape[1], *shape[2:]), affine)
        elif kind == "constant":
            made = tuple(random.choice([1, size]) for size in shape)
            content = np.random.default_rng(random.getrandbits(32)).normal(0, 1, made).astype(np.float32)
            self.add(Constant(name, (), content), made, FLOAT)
        else:
            self._vector(name, source, shape, statistic=kind == "statistic")

    def _vector(self, name: str, source: str, shape: tuple[int, ...], *, statistic: bool) -> None:
        random = self.random
        inputs = [source, *random.choices(self.some(shape), k=random.randint(0, 2))]
        writer = Writer()
        made = [writer.dequantized(Register(i), self.values[part].affine) for i, part in enumerate(inputs)]
        total = made[0]
        for part in made[1:]:
            total = writer.step(random.choice([Operation.ADD, Operation.MULTIPLY, Operation.MAXIMUM]), total, part)
        if random.random() < 0.5:
            total = writer.function(random.choice(["tanh", "sigmoid", "hardswish"]), total)
        if statistic:
            axes = tuple(sorted(random.sample(range(len(shape)), random.randint(1, len(shape)))))
            reduced = tuple(1 if axis in axes else size for axis, size in enumerate(shape))
            chosen = random.choice([Statistic.SUM, Statistic.MAXIMUM, Statistic.MINIMUM])
            node = vector_node(name, tuple(inputs), "statistic", writer.program, chosen, axes)
            self.add(node, reduced, FLOAT)
            return
        affine = random.choice([FLOAT, *CODES])
        writer.quantized(total, affine, random.choice(["fused", "separate", "converted", "division"]))
        self.add(vector_node(name, tuple(inputs), "map", writer.program), shape, affine)


def drawn(random: Random) -> Network:
    drawing = Drawing(random)
    shape = tuple(random.choice([1, 2, 3, 5, 8, 17, 40]) for _ in range(random.randint(1, 4)))
    drawing.values["x"] = Value("x", shape, random.choice(CODES), tuple(range(len(shape))))
    for _ in range(random.randint(2, 8)):
        drawing.step()
    outputs = random.sample([node.name for node in drawing.nodes], min(2, len(drawing.nodes)))
    needed = set(outputs)
    nodes = []
    for node in reversed(drawing.nodes):
        if node.name in needed:
            nodes.append(node)
            needed |= set(node.inputs)
    values = {name: value for name, value in drawing.values.items() if name in needed | {"x"}}
    return Network("pt2e", KernelSet("avx2", "vnni"), values, tuple(nodes[::-1]), ("x",), tuple(outputs))


def machine(random: Random) -> accelsim.Accelerator:
    return accelsim.Accelerator.from_dict(
        {
            "name": "drawn",
            "mac_array": {"rows": 2, "columns": 2},
            "buffers": {
                "weight": {"bytes": 64},
                "accumulator": {"bytes": 64},
                "activation": {"bytes": random.choice([600, 3000, 20_000, 200_000]), "banks": random.randint(1, 64)},
                "parameter": {"bytes": 2048, "banks": random.choice([1, 7, 16])},
            },
            "vector_unit": {"lanes": random.choice([1, 3, 16, 64, 100]), "latency": random.randint(1, 6)},
            "dram": {"bytes_per_cycle": random.choice([1, 8, 64])},
        }
    )


@pytest.mark.parametrize("seed", [*range(25), *(pytest.param(s, marks=pytest.mark.full) for s in range(25, 800))])
def test_random_networks_equal_the_reference(seed: int) -> None:
    random = Random(seed)
    network, accelerator = drawn(random), machine(random)
    check(network)
    program = compiled(network, accelerator, effort=0)
    if isinstance(program, str):
        assert re.search("enlarge buffers|the limit is", program), program  # not one row fits, or very many tiles
        return
    value = network.values["x"]
    codes = np.random.default_rng(seed).integers(0, 256, value.shape).astype(np.uint8).view(value.affine.dtype)
    result = accelsim.simulate(program, codes)
    assert accelsim.simulate(program).cycles == result.cycles
    expected = network.trace(codes)
    for output in result.outputs:
        assert output.quantized.dtype == expected[output.name].dtype
        assert output.quantized.tobytes() == expected[output.name].tobytes(), output.name
    for name, seen in result.values.items():
        assert seen.quantized.tobytes() == expected[name].tobytes(), name


def test_a_row_that_has_no_room_is_refused_by_name() -> None:
    shape = (1, 5000)
    values = {
        "x": Value("x", shape, CODES[0], (0, 1)),
        "f": Value("f", shape, FLOAT, (0, 1)),
        "m": Value("m", (1, 1), FLOAT, (0, 1)),
    }
    writer = Writer()
    writer.dequantized(Register(0), CODES[0])
    nodes = (
        vector_node("f", ("x",), "dequantize", writer.program),
        vector_node("m", ("f",), "sum", (), Statistic.SUM, (1,)),
    )
    network = Network("pt2e", KernelSet("avx2", "vnni"), values, nodes, ("x",), ("m",))
    tiny = {"name": "tiny", "mac_array": {"rows": 2, "columns": 2}}
    tiny["buffers"] = {name: {"bytes": 4096} for name in ("activation", "weight", "accumulator", "parameter")}
    with pytest.raises(CompileError, match=r"m: its smallest tile takes 20,004 bytes of the activation buffer"):
        accelsim.compile(network, accelsim.Accelerator.from_dict(tiny), effort=0)


def float_layer(rng: np.random.Generator) -> Network:
    """A convolution or a linear layer whose value is its sum in binary32, then a ReLU and a quantisation."""
    channels, outputs = int(rng.integers(1, 20)), int(rng.integers(1, 40))
    source = Affine(0.05, int(rng.integers(256)), "uint8")
    kernel: tuple[int, ...] = ()
    shape: tuple[int, ...] = (int(rng.integers(1, 9)), channels)
    if rng.random() < 0.7:
        kernel, shape = (int(rng.integers(1, 4)), int(rng.integers(1, 4))), (2, channels, 7, 6)
    weights = Weights(
        rng.integers(-127, 128, (outputs, channels, *kernel)).astype(np.int8),
        rng.uniform(0.001, 0.02, outputs).astype(np.float32).astype(np.float64),
        np.zeros(outputs, np.int32),
        True,
        rng.normal(0, 1, outputs).astype(np.float32) if rng.random() < 0.7 else None,
    )
    layer: Convolution | Linear = Linear("f", ("x",), weights, float_output=True)
    result: tuple[int, ...] = (shape[0], outputs)
    if kernel:
        padding = tuple((int(p), int(p)) for p in rng.integers(0, 2, 2))
        layer = Convolution("f", ("x",), weights, (1, 2), padding, (1, 1), float_output=True)
        sizes = [
            (size + 2 * pad[0] - tap) // step + 1
            for size, pad, tap, step in zip(shape[2:], padding, kernel, (1, 2), strict=True)
        ]
        result = (*result, *sizes)
    writer = Writer()
    writer.quantized(writer.step(Operation.MAXIMUM, Register(0), 0.0), CODES[0], "separate")
    values = {
        name: Value(name, size, affine, tuple(range(len(size))))
        for name, size, affine in (("x", shape, source), ("f", result, FLOAT), ("y", result, CODES[0]))
    }
    nodes = (layer, vector_node("y", ("f",), "relu", writer.program))
    return Network("pt2e", KernelSet("avx2", "vnni"), values, nodes, ("x",), ("f", "y"))


@pytest.mark.parametrize("seed", [*range(15), *(pytest.param(s, marks=pytest.mark.full) for s in range(15, 400))])
def test_sums_in_binary32_equal_the_reference(seed: int) -> None:
    rng = np.random.default_rng(seed)
    network = float_layer(rng)
    check(network)
    sizes = {
        "mac_array": {"rows": int(rng.integers(1, 20)), "columns": int(rng.integers(1, 20))},
        "buffers": {
            "activation": {"bytes": int(rng.choice([2000, 8000, 100_000])), "banks": int(rng.integers(1, 33))},
            "weight": {"bytes": int(rng.choice([2000, 50_000]))},
            "accumulator": {"bytes": int(rng.choice([400, 4000]))},
            "parameter": {"bytes": 2000},
        },
        "requant_unit": {"lanes": int(rng.choice([1, 5, 16]))},
    }
    program = compiled(network, accelsim.Accelerator.from_dict({"name": "drawn", **sizes}), effort=seed % 2)
    if isinstance(program, str):
        assert "enlarge" in program, program
        return
    codes = rng.integers(0, 256, network.values["x"].shape).astype(np.uint8)
    result = accelsim.simulate(program, codes)
    assert accelsim.simulate(program).cycles == result.cycles
    expected = network.trace(codes)
    for output in result.outputs:
        assert output.quantized.tobytes() == expected[output.name].tobytes(), output.name
    # By hand, in binary64: the sum of the products, scales and bias.
    value = network.values["x"].affine
    scale = network.nodes[0].weights.scale * value.scale  # type: ignore[attr-defined]
    bias = network.nodes[0].weights.bias  # type: ignore[attr-defined]
    if isinstance(network.nodes[0], Linear):
        real = (codes.astype(np.int64) - value.zero_point) @ network.nodes[0].weights.codes.astype(np.int64).T * scale
        real = real if bias is None else real + bias
        np.testing.assert_allclose(expected["f"], real, rtol=1e-5, atol=1e-5)


def test_another_arithmetic_refuses_sums_in_binary32_by_name() -> None:
    network = float_layer(np.random.default_rng(0))
    machine = accelsim.Accelerator.from_yaml("edge_16x16").replace(**{"requant_unit.arithmetic": "gemmlowp"})
    with pytest.raises(CompileError, match="f: a layer's sum becomes a value in binary32 in float32_exact only"):
        accelsim.compile(network, machine, effort=0)
