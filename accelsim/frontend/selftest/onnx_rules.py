"""The rules of ONNX Runtime beside its CPU provider: each case is a QDQ graph of one operator, read and run by both."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from accelsim.arithmetic.affine import Affine
from accelsim.arithmetic.engines import ONNXRUNTIME
from accelsim.errors import AccelsimError
from accelsim.frontend.onnx import extract_onnx
from accelsim.frontend.packages import package

from .rule import Rule

#: Seeds, whether scales make ties, and the type of the codes.
_DRAWS = ((0, True, "uint8"), (1, False, "uint8"), (2, True, "int8"), (3, False, "int8"))


class _Graph:
    """A QDQ graph of one operator that grows: inputs, constants, then the operator between its pairs."""

    def __init__(self, seed: int, ties: bool, dtype: str) -> None:
        self.onnx = package("onnx", "ONNX files")
        self.random, self._ties, self.dtype = np.random.default_rng(seed), ties, dtype
        self.inputs: list[np.ndarray] = []
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._taken: list[Any] = []

    def scale(self, around: float) -> float:
        """A scale of about that size, a power of two where ties are wanted."""
        return around if self._ties else float(np.float32(around * self.random.uniform(0.7, 1.3)))

    def grid(self, scale: float) -> Affine:
        """An affine map with a scale of about that size and any zero point."""
        limits = np.iinfo(self.dtype)
        zero = int(self.random.integers(limits.min, limits.max + 1))
        return Affine(self.scale(scale), zero, self.dtype)  # type: ignore[arg-type]

    def constant(self, array: Any) -> str:
        """The name of a constant."""
        name = f"c{len(self._constants)}"
        self._constants.append(self.onnx.numpy_helper.from_array(np.asarray(array), name))
        return name

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """The name of an operator's result."""
        name = f"t{len(self._nodes)}"
        made = self.onnx.helper.make_node(operator, list(inputs), [name], name=f"{operator}_{name}", **attributes)
        self._nodes.append(made)
        return name

    def pair(self, x: str, grid: Affine) -> str:
        """Quantised and dequantised."""
        parts = self.constant(np.float32(grid.scale)), self.constant(np.array(grid.zero_point, grid.dtype))
        return self.node("DequantizeLinear", self.node("QuantizeLinear", x, *parts), *parts)

    def input(self, *shape: int, scale: float = 0.25) -> tuple[str, Affine]:
        """A quantised input, and its map; its codes are all over the range."""
        grid, name = self.grid(scale), f"x{len(self.inputs)}"
        codes = self.random.integers(grid.minimum, grid.maximum + 1, shape)
        self.inputs.append((np.float32(grid.scale) * (codes - grid.zero_point).astype(np.float32)).astype(np.float32))
        self._taken.append(self.onnx.helper.make_tensor_value_info(name, self.onnx.TensorProto.FLOAT, shape))
        return self.pair(name, grid), grid

    def weight(self, source: Affine, *shape: int) -> tuple[str, str]:
        """An int8 weight with a scale for each output channel (first axis), and its int32 bias."""
        scales = np.array([self.scale(2.0**-6) for _ in range(shape[0])], np.float32)
        zeros = np.zeros(shape[0], np.int8)
        codes = self.random.integers(-63, 64, shape, np.int8)
        weight = self.node("DequantizeLinear", *map(self.constant, (codes, scales, zeros)), axis=0)
        steps = self.random.integers(-900, 901, shape[0]).astype(np.int32)
        unit = np.float32(source.scale) * scales
        bias = self.node("DequantizeLinear", *map(self.constant, (steps, unit, zeros.astype(np.int32))), axis=0)
        return weight, bias

    def finish(self, result: str, scale: float, path: Path) -> None:
        """Quantise and dequantise the result, and save the graph."""
        last, helper = self.pair(result, self.grid(scale)), self.onnx.helper
        output = helper.make_tensor_value_info(last, self.onnx.TensorProto.FLOAT, None)
        graph = helper.make_graph(self._nodes, "selftest", self._taken, [output], self._constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        self.onnx.save(model, path)


#: Adds an operator to a graph; returns its result, and what scale its output has.
_Maker = Callable[[_Graph], tuple[str, float]]


def _convolution(inputs: tuple[int, ...], weight: tuple[int, ...], **attributes: Any) -> _Maker:
    def make(graph: _Graph) -> tuple[str, float]:
        x, grid = graph.input(*inputs)
        return graph.node("Conv", x, *graph.weight(grid, *weight), **attributes), 2.0

    return make


def _gemm(graph: _Graph) -> tuple[str, float]:
    x, grid = graph.input(37, 45)
    return graph.node("Gemm", x, *graph.weight(grid, 30, 45), transB=1), 2.0


def _of(operator: str, *shapes: tuple[int, ...], out: float = 0.5, scale: float = 0.25, **attributes: Any) -> _Maker:
    def make(graph: _Graph) -> tuple[str, float]:
        names = [graph.input(*shape, scale=scale)[0] for shape in shapes]
        return graph.node(operator, *names, **attributes), out

    return make


_IMAGE = (2, 5, 9, 7)
CASES: dict[str, _Maker] = {
    "convolution": _convolution((2, 6, 13, 11), (9, 6, 3, 3), pads=[1, 1, 1, 1]),
    "convolution, pointwise": _convolution((2, 16, 9, 7), (24, 16, 1, 1)),
    "convolution, grouped": _convolution((2, 8, 9, 7), (8, 4, 3, 3), group=2, strides=[2, 1]),
    "convolution, depthwise": _convolution((2, 16, 9, 7), (16, 1, 3, 3), group=16, pads=[1, 1, 1, 1]),
    "convolution, dilated": _convolution((2, 3, 13, 11), (5, 3, 2, 2), dilations=[2, 2]),
    "convolution over one axis": _convolution((2, 6, 33), (10, 6, 3)),
    "linear": _gemm,
    "add": _of("Add", _IMAGE, _IMAGE),
    "mul": _of("Mul", _IMAGE, _IMAGE, out=4.0),
    "cat": _of("Concat", (2, 3, 33), (2, 5, 33), axis=1),
    "relu": _of("Relu", _IMAGE),
    "leaky_relu": _of("LeakyRelu", _IMAGE, alpha=0.25),
    "sigmoid": _of("Sigmoid", _IMAGE, out=2.0**-8, scale=2.0**-4),
    "tanh": _of("Tanh", _IMAGE, out=2.0**-7, scale=2.0**-4),
    "hardsigmoid": _of("HardSigmoid", _IMAGE, out=2.0**-8, scale=2.0**-4),
    "hardswish": _of("HardSwish", _IMAGE, out=0.125, scale=2.0**-4),
    "mean": _of("GlobalAveragePool", (2, 33, 9, 7), out=0.125),
}


def environment() -> dict[str, str]:
    """With what the rules are compared."""
    return {"with": f"ONNX Runtime {package('onnxruntime', 'the rules of ONNX Runtime').__version__}"}


def rules() -> Iterator[Rule]:
    """Each rule, compared."""
    for operator, maker in CASES.items():
        compared = differing = 0
        refused = ""
        for draw in _DRAWS:
            try:
                counts = _compared(maker, _Graph(*draw))
            except AccelsimError as error:
                refused = str(error)
            else:
                compared, differing = compared + counts[0], differing + counts[1]
        yield Rule(engine=ONNXRUNTIME, operator=operator, compared=compared, differing=differing, refused=refused)


def _compared(maker: _Maker, graph: _Graph) -> tuple[int, int]:
    """Codes compared, and those that differ."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.onnx"
        graph.finish(*maker(graph), path)
        network = extract_onnx(path)
        theirs = _answer(path, graph.inputs)
    (mine,) = network.run(tuple(graph.inputs))
    steps = np.rint(theirs.astype(np.float64) / np.float32(mine.scale)) + mine.zero_point
    return steps.size, int(np.count_nonzero(steps != mine.quantized))


def _answer(path: Path, inputs: list[np.ndarray]) -> np.ndarray:
    """ONNX Runtime's output: one thread, sums of products exact on processors without VNNI too."""
    runtime = package("onnxruntime", "the rules of ONNX Runtime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.x64quantprecision", "1")
    session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [item.name for item in session.get_inputs()]
    return np.asarray(session.run(None, dict(zip(names, inputs, strict=True)))[0])
