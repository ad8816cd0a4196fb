"""Good files that the fuzzer starts from: small, so that one input takes milliseconds, with every kind of node and
instruction in one of them."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np

import accelsim
from accelsim.arithmetic.affine import Affine
from accelsim.arithmetic.engines import KernelSet
from accelsim.network import (
    Add,
    AveragePool,
    Bilinear,
    Concatenate,
    Convolution,
    Gather,
    GroupNorm,
    LayerNorm,
    Linear,
    Lookup,
    Matmul,
    MaxPool,
    Multiply,
    Network,
    Node,
    Permute,
    Reshape,
    Slice,
    Softmax,
    Unfold,
    Value,
    Weights,
)

_A = Affine(0.1, 7, "uint8")
_B = Affine(0.05, 120, "uint8")
_SHARE = Affine(2.0**-8, 0, "uint8")
_NONE = ((0, 0), (0, 0))


def _weights(*shape: int, channels: int | None = None) -> Weights:
    rng = np.random.default_rng(len(shape))
    count = channels or 1
    return Weights(
        rng.integers(-9, 10, shape, np.int8),
        np.full(count, 0.02),
        np.zeros(count, np.int32),
        channels is not None,
        np.full(channels or shape[0], 0.5, np.float32),
        "layer",
    )


def _network(engine: str, built: Sequence[tuple[Node, tuple[int, ...], Affine]], first: tuple[int, ...]) -> Network:
    values = {"x": Value("x", first, _A, tuple(range(len(first))))}
    for node, shape, affine in built:
        values[node.name] = Value(node.name, shape, affine, tuple(range(len(shape))))
    nodes = tuple(node for node, _, _ in built)
    return Network(engine, KernelSet("avx2", "vnni"), values, nodes, ("x",), (nodes[-1].name,), "sample")


@cache
def graphs() -> tuple[Network, ...]:
    """One that compiles, one of what has no instruction."""
    table = np.arange(256, dtype=np.uint8)[::-1].reshape(1, 256).copy()
    compiles = _network(
        "fbgemm",
        [
            (Convolution("conv", ("x",), _weights(4, 1, 2, 2, channels=4), (1, 1), _NONE, (1, 1), 2), (1, 4, 3, 3), _B),
            (Lookup("look", ("conv",), "sigmoid", table, ((0, 36, 0),)), (1, 4, 3, 3), _A),
            (Convolution("up", ("look",), _weights(4, 2, 2, 2, channels=2), (1, 1), _NONE, (1, 1), transposed=True,
                         output_padding=(0, 0)), (1, 2, 4, 4), _A),
            (MaxPool("most", ("up",), (2, 2), (2, 2), _NONE, (1, 1)), (1, 2, 2, 2), _A),
            (AveragePool("mean", ("up",), "window", (2, 2), (2, 2), _NONE), (1, 2, 2, 2), _A),
            (Add("sum", ("most", "mean")), (1, 2, 2, 2), _B),
            (Multiply("product", ("sum", "most")), (1, 2, 2, 2), _A),
            (Concatenate("beside", ("product", "most"), 1), (1, 4, 2, 2), _A),
            (Permute("turned", ("beside",), (0, 2, 3, 1)), (1, 2, 2, 4), _A),
            (Slice("cut", ("turned",), 3, 1, 4, 2), (1, 2, 2, 2), _A),
            (Reshape("flat", ("cut",)), (1, 8), _A),
            (Gather("chosen", ("flat",), 1, (7, 0, 0, 3)), (1, 4), _A),
            (Linear("dense", ("chosen",), _weights(3, 4, channels=3), True), (1, 3), _B),
        ],
        (1, 2, 4, 4),
    )  # fmt: skip
    others = _network(
        "qnnpack",
        [
            (Bilinear("large", ("x",), False, (2.0, None)), (1, 2, 4, 3), _A),
            (GroupNorm("groups", ("large",), 2, np.ones(2, np.float32), None, 1e-5), (1, 2, 4, 3), _B),
            (LayerNorm("rows", ("groups",), 1, None, np.ones(3, np.float32), 1e-3), (1, 2, 4, 3), _B),
            (Unfold("windows", ("rows",), 2, 2, 1), (1, 2, 3, 3, 2), _B),
            (Permute("back", ("windows",), (0, 1, 2, 4, 3)), (1, 2, 3, 2, 3), _B),
            (Matmul("squares", ("windows", "back")), (1, 2, 3, 3, 3), _A),
            (Softmax("shares", ("squares",), 4), (1, 2, 3, 3, 3), _SHARE),
        ],
        (1, 2, 2, 3),
    )
    return compiles, others


@cache
def networks() -> tuple[bytes, ...]:
    """The graphs as files."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "network"
        saved = []
        for network in graphs():
            network.save(path)
            saved.append(path.read_bytes())
    return tuple(saved)


@cache
def programs() -> tuple[accelsim.Program, ...]:
    """The graph that compiles, for small machines whose requant units and memories differ."""
    root = Path(__file__).parents[2]
    machine = accelsim.Accelerator.from_yaml(root / "configs" / "teaching_4x4.yaml")
    streamed = machine.replace(**{"requant_unit.arithmetic": "gemmlowp", "mac_array.dataflow": "input_stationary"})
    data = machine.to_dict()
    data["dram"] |= {"model": "banked", "preset": "hbm2"}
    data["mac_array"]["dataflow"] = "output_stationary"
    data["requant_unit"]["arithmetic"] = {"fixed_point": {"multiplier_bits": 31}}
    machines = (machine, streamed, accelsim.Accelerator.from_dict(data))
    return tuple(accelsim.compile(graphs()[0], machine, effort=0) for machine in machines)
