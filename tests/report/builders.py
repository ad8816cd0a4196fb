"""Results and networks of known numbers, made by hand, for the tests of what is shown."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from accelsim.arithmetic.affine import Affine
from accelsim.arithmetic.engines import KernelSet
from accelsim.hardware import Accelerator
from accelsim.machine.array.use import ArrayUse
from accelsim.machine.result import LayerResult, Result
from accelsim.machine.traffic import Traffic
from accelsim.network import Linear, Network, Value, Weights
from accelsim.network.output import Output

ROOT = Path(__file__).parents[2]
EDGE = Accelerator.from_yaml(ROOT / "configs" / "edge_16x16.yaml")


def result() -> Result:
    """Two layers on 16 x 16 cells: 25,600 MACs in 200 cycles (50 %), and 300 cycles without any."""
    moved = {"dram": Traffic(1000, 0), "activation": Traffic(2048, 512)}
    rest = {"dram": Traffic(0, 64), "activation": Traffic(64, 64)}
    both = {"dram": Traffic(1000, 64), "activation": Traffic(2112, 576)}
    conv = {"load": {"busy": 63, "finished": 137}, "mac": {"busy": 100, "wait_load": 60, "fill": 40}}
    pool = {"load": {"busy": 0, "finished": 300}, "mac": {"busy": 0, "wait_post": 290, "odd_cause": 10}}
    full = ArrayUse(
        folds=2,
        vectors=100,
        rows_used=1600,
        columns_used=1600,
        working=25_600,
        unroll_pixels=1,
        unroll_groups=1,
    )
    layers = (
        LayerResult("conv", 0, 200, 25_600, 0.5, {"wait_load": 60, "fill": 40}, moved, conv, full),
        LayerResult("pool", 200, 300, 0, 0.0, {"wait_post": 290, "odd_cause": 10}, rest, pool, ArrayUse()),
    )
    output = Output("pool", np.arange(20, dtype=np.uint8).reshape(1, 20), 0.125, 7)
    units = {
        "load": {"busy": 63, "finished": 437},
        "mac": {"busy": 100, "wait_load": 60, "fill": 40, "wait_post": 290, "odd_cause": 10},
    }
    return Result("two", EDGE, 500, 25_600, 0.2, layers, both, units, (), [output])


def linear_network(engine: str = "fbgemm") -> Network:
    """Two linear layers, 5 -> 4 -> 3, with ReLU after the first."""
    draw = np.random.default_rng(5)
    values = {
        name: Value(name, (2, size), Affine(scale, zero, "uint8"), (0, 1))
        for name, size, scale, zero in (("x", 5, 0.05, 10), ("fc1", 4, 0.07, 3), ("fc2", 3, 0.09, 120))
    }

    def layer(name: str, source: str, inputs: int, outputs: int, relu: bool) -> Linear:
        per_channel = engine != "qnnpack"
        scale = draw.uniform(0.01, 0.03, outputs if per_channel else 1)
        codes = draw.integers(-128, 128, (outputs, inputs), np.int8)
        bias = draw.normal(size=outputs).astype(np.float32)
        zero = np.zeros(len(scale), np.int32)
        return Linear(name, (source,), Weights(codes, scale, zero, per_channel, bias, name), relu)

    nodes = (layer("fc1", "x", 5, 4, True), layer("fc2", "fc1", 4, 3, False))
    return Network(engine, KernelSet("default", "vnni"), values, nodes, ("x",), ("fc2",), "two_linear")
