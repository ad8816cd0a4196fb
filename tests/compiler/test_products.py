"""Products of two activations on random machines: the machine's codes are the reference executor's."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

import accelsim
from accelsim.arithmetic.affine import Affine
from accelsim.arithmetic.engines import KernelSet
from accelsim.errors import CompileError
from accelsim.isa import Load, Mac, Memory
from accelsim.network import Lookup, Matmul, Network, Node, Permute, Value

sys.path.insert(0, str(Path(__file__).parent))

from networks import compiled
from test_random_networks import random_machine

SAME = np.arange(256, dtype=np.uint8)[None]
KERNELS = KernelSet("avx2", "vnni")


def _value(name: str, shape: tuple[int, ...], affine: Affine) -> Value:
    return Value(name, shape, affine, tuple(range(len(shape))))


def random_product(rng: np.random.Generator) -> Network:
    """Matrices of up to two batch axes, each broadcast or not, transposed or not, inputs or results of an operator."""
    dtype = str(rng.choice(["uint8", "int8"]))
    codes = np.iinfo(dtype)

    def grid(scale: float) -> Affine:
        return Affine(scale, int(rng.integers(codes.min, codes.max + 1)), dtype)  # type: ignore[arg-type]

    rows, length, columns = (int(size) for size in rng.integers(1, 40, 3))
    batch = tuple(int(size) for size in rng.integers(1, 4, int(rng.integers(0, 3))))
    left, right = (tuple(1 if rng.integers(3) == 0 else size for size in batch) for _ in range(2))
    right = right[int(rng.integers(0, len(batch) + 1)) :]
    values: dict[str, Value] = {}
    nodes: list[Node] = []
    sides = {
        "a": ((*left, rows, length), grid(0.125 * rng.choice([1, 3]))),
        "b": ((*right, length, columns), grid(0.25)),
    }
    for name, (shape, affine) in sides.items():
        made = name
        if rng.integers(2):
            shape = (*shape[:-2], shape[-1], shape[-2])
            made = f"{name} turned"
            axes = (*range(len(shape) - 2), len(shape) - 1, len(shape) - 2)
            nodes.append(Permute(name, (made,), axes))
            values[name] = _value(name, tuple(shape[axis] for axis in axes), affine)
        if rng.integers(2):
            nodes.insert(0, Lookup(made, (f"{name} input",), "same", SAME, ((0, int(np.prod(shape)), 0),)))
            values[made] = _value(made, shape, affine)
            made = f"{name} input"
        values[made] = _value(made, shape, affine)
    out = grid(float(rng.choice([16.0, 3.7])))
    shape = (*np.broadcast_shapes(left, right), rows, columns)
    values["product"] = _value("product", shape, out)
    nodes.append(Matmul("product", ("a", "b")))
    if rng.integers(2):
        values["after"] = _value("after", shape, out)
        nodes.append(Lookup("after", ("product",), "same", SAME, ((0, int(np.prod(shape)), 0),)))
    made_by_nodes = {node.name for node in nodes}
    inputs = tuple(name for name in values if name not in made_by_nodes)
    return Network("fbgemm", KERNELS, values, tuple(nodes), inputs, (nodes[-1].name,))


def check(seed: int) -> bool:
    """Whether the product fits; if it does, everything that must hold holds."""
    rng = np.random.default_rng(seed)
    network, machine = random_product(rng), random_machine(rng)
    shapes = [network.values[name].shape for name in network.inputs]
    codes = np.iinfo(network.values["a"].affine.dtype)
    x = tuple(rng.integers(codes.min, codes.max + 1, (2 * size[0], *size[1:]), dtype=codes.dtype) for size in shapes)
    program = compiled(network, machine, effort=0)
    if isinstance(program, str):
        assert "enlarge buffers." in program
        return False
    result, expected = accelsim.simulate(program, x), network.trace(x)
    for name, value in result.values.items():
        assert np.array_equal(value.quantized, expected[name]), f"seed {seed}: {name}"
    for output in result.outputs:
        assert np.array_equal(output.quantized, expected[output.name]), f"seed {seed}: {output.name}"
    timed = accelsim.simulate(program)
    assert (timed.cycles, timed.traffic, timed.units) == (result.cycles, result.traffic, result.units)
    return True


@pytest.mark.parametrize("start", range(0, 20, 10))
def test_random_products_on_random_machines(start: int) -> None:
    assert sum(check(seed) for seed in range(start, start + 10)) >= 5


@pytest.mark.full
@pytest.mark.parametrize("start", range(1000, 1600, 20))
def test_many_random_products_on_random_machines(start: int) -> None:
    assert sum(check(seed) for seed in range(start, start + 20)) >= 10


def _small(zero_points: tuple[int, int], length: int = 6) -> Network:
    a, b = (Affine(0.25, zero, "uint8") for zero in zero_points)
    shapes = {"a": ((1, 4, length), a), "b": ((1, length, 5), b), "y": ((1, 4, 5), Affine(4.0, 9, "uint8"))}
    values = {name: _value(name, shape, affine) for name, (shape, affine) in shapes.items()}
    return Network("fbgemm", KERNELS, values, (Matmul("y", ("a", "b")),), ("a", "b"), ("y",))


EDGE = accelsim.Accelerator.from_yaml(Path(__file__).parents[2] / "configs" / "edge_16x16.yaml")


@pytest.mark.parametrize(("zero", "passes"), [(0, 1), (200, 2)])
def test_the_first_operands_zero_point_takes_a_second_pass(zero: int, passes: int) -> None:
    program = accelsim.compile(_small((zero, 130)), EDGE)
    macs = [item for item in program.instructions if isinstance(item, Mac)]
    # The second operand's codes are int8 in the array, 128 less, and so is its zero point.
    assert [(mac.accumulate, mac.pad, mac.weight_zero_point) for mac in macs] == [(0, 0, 2), (1, -200, 2)][:passes]
    loads = [item for item in program.instructions if isinstance(item, Load) and item.memory == Memory.WEIGHT]
    assert len(loads) == 1
    assert accelsim.simulate(program).layers[0].macs == passes * 4 * 6 * 5


def _run(network: Network, machine: accelsim.Accelerator, seed: int = 0) -> accelsim.Program:
    """Its program, which computes what the reference executor does."""
    program = accelsim.compile(network, machine, effort=0)
    rng = np.random.default_rng(seed)
    x = tuple(rng.integers(0, 256, network.values[name].shape).astype(np.uint8) for name in network.inputs)
    expected = network.run(x)[0].quantized
    assert np.array_equal(accelsim.simulate(program, x).outputs[0].quantized, expected)
    return program


def test_a_product_that_does_not_fit_names_the_buffer() -> None:
    machine = EDGE.replace(**{"buffers.parameter.bytes": 3, "buffers.parameter.banks": 1})
    with pytest.raises(CompileError, match=r"y: .* the parameter buffer.*enlarge buffers.parameter.bytes"):
        accelsim.compile(_small((3, 7)), machine)


@pytest.mark.parametrize(("buffer", "size"), [("weight", 5), ("activation", 6), ("weight", 1), ("accumulator", 4)])
def test_a_sum_is_cut_where_buffers_are_tiny(buffer: str, size: int) -> None:
    program = _run(_small((3, 7)), EDGE.replace(**{f"buffers.{buffer}.bytes": size, f"buffers.{buffer}.banks": 1}))
    sizes = {(mac.channels, mac.outputs, mac.out_width) for mac in program.instructions if isinstance(mac, Mac)}
    assert (6, 5, 4) not in sizes


def test_a_tile_has_no_more_rows_than_the_fields_take() -> None:
    a, b = (Affine(0.25, 3, "uint8"), Affine(0.25, 128, "uint8"))
    shapes = {"a": ((1, 70_000, 1), a), "b": ((1, 1, 1), b), "y": ((1, 70_000, 1), Affine(4.0, 9, "uint8"))}
    values = {name: _value(name, shape, affine) for name, (shape, affine) in shapes.items()}
    network = Network("fbgemm", KERNELS, values, (Matmul("y", ("a", "b")),), ("a", "b"), ("y",))
    program = _run(network, EDGE.replace(**{"buffers.activation.bytes": 1 << 20, "buffers.accumulator.bytes": 1 << 19}))
    assert sum(mac.out_width for mac in program.instructions if isinstance(mac, Mac) and not mac.accumulate) == 70_000


def test_a_product_needs_exact_requantisation() -> None:
    machine = EDGE.to_dict()
    machine["requant_unit"]["arithmetic"] = "thresholds"
    with pytest.raises(CompileError, match=r"^y: .* has thresholds; set requant_unit.arithmetic: float32_exact"):
        accelsim.compile(_small((3, 7)), accelsim.Accelerator.from_dict(machine))
