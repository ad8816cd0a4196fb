"""Single operators as plain data, and what becomes of them: a QDQ graph in ONNX, and a network made by hand."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from accelsim.arithmetic import onnxruntime as rules
from accelsim.arithmetic.affine import Affine
from accelsim.arithmetic.engines import KernelSet
from accelsim.network import (
    Add,
    AveragePool,
    Concatenate,
    Convolution,
    Linear,
    Lookup,
    Multiply,
    Network,
    Value,
    Weights,
)


@dataclass(frozen=True)
class Spec:
    """One operator between affine maps. `inputs`: (shape, map) of each; `arrays`: weights, scales and the like."""

    operator: str
    inputs: tuple[tuple[tuple[int, ...], Affine], ...]
    output: Affine
    attributes: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)

    def random_inputs(self, random: np.random.Generator) -> list[np.ndarray]:
        """Codes over the whole range."""
        return [
            random.integers(grid.minimum, grid.maximum + 1, shape).astype(grid.dtype) for shape, grid in self.inputs
        ]


def network(spec: Spec, shape: tuple[int, ...]) -> Network:
    """The network that stands for an operator with an output of that shape."""
    values = {
        f"x{i}": Value(f"x{i}", shape, grid, tuple(range(len(shape)))) for i, (shape, grid) in enumerate(spec.inputs)
    }
    names = tuple(values)
    nodes = _nodes(spec, names, values)
    values[nodes[-1].name] = Value(nodes[-1].name, shape, spec.output, tuple(range(len(shape))))
    kernels = KernelSet("uniform", "vnni")
    return Network("onnxruntime", kernels, values, tuple(nodes), names, (nodes[-1].name,))


def _nodes(spec: Spec, names: tuple[str, ...], values: dict[str, Value]) -> list[Any]:
    arrays, attributes, out = spec.arrays, spec.attributes, spec.output
    match spec.operator:
        case "Conv":
            rank = len(spec.inputs[0][0]) - 2
            pads = attributes.get("pads", [0] * 2 * rank)
            return [
                Convolution(
                    "out",
                    names,
                    _weights(arrays, 0),
                    tuple(attributes.get("strides", [1] * rank)),
                    tuple((pads[axis], pads[axis + rank]) for axis in range(rank)),
                    tuple(attributes.get("dilations", [1] * rank)),
                    attributes.get("group", 1),
                )
            ]
        case "Gemm" | "MatMul":
            return [Linear("out", names, _weights(arrays, 0 if attributes.get("transB") else 1))]
        case "Add":
            # ONNX Runtime takes the operand that is one number in a run for the second.
            swapped = spec.inputs[0][0][-1] == 1 and spec.inputs[1][0][-1] > 1
            # Pairs of QuantizeLinear and DequantizeLinear of int8 become pairs of uint8.
            form = "unsigned" if out.dtype == "int8" else "codes"
            return [Add("out", names[::-1] if swapped else names, form=form)]
        case "Mul":
            if out.dtype == "uint8":
                return [Multiply("out", names)]
            shape = np.broadcast_shapes(*(value.shape for value in values.values()))
            unsigned = Affine(out.scale, out.zero_point + 128, "uint8")
            values["unsigned"] = Value("unsigned", shape, unsigned, tuple(range(len(shape))))
            flip = (np.arange(256, dtype=np.uint8) ^ 0x80)[None]
            spans = ((0, values["unsigned"].size, 0),)
            return [Multiply("unsigned", names), Lookup("out", ("unsigned",), "int8", flip, spans)]
        case "GlobalAveragePool":
            sizes = spec.inputs[0][0][2:]
            return [AveragePool("out", names, "mean", sizes, sizes, ((0, 0),) * len(sizes))]
        case "Concat":
            parts = []
            for name in names:
                table = rules.table(rules.dequantized(values[name].affine), out)
                part = f"{name}.requantized"
                values[part] = Value(part, values[name].shape, out, values[name].order)
                parts.append(Lookup(part, (name,), "requantize", table, ((0, values[name].size, 0),)))
            return [*parts, Concatenate("out", tuple(part.name for part in parts), attributes["axis"])]
    (value,) = values.values()
    real = rules.dequantized(value.affine)
    functions = {
        "Identity": lambda: real,
        "Relu": lambda: np.maximum(real, np.float32(0)),
        "LeakyRelu": lambda: np.where(real >= 0, real, real * np.float32(attributes.get("alpha", 0.01))),
        "Sigmoid": lambda: rules.sigmoid(real),
        "Tanh": lambda: rules.tanh(real),
        "HardSigmoid": lambda: np.clip(real * np.float32(0.2) + np.float32(0.5), 0, 1),
        "HardSwish": lambda: real * np.clip(real * np.float32(1 / 6) + np.float32(0.5), 0, 1),
    }
    return [Lookup("out", names, spec.operator, rules.table(functions[spec.operator](), out), ((0, value.size, 0),))]


def _weights(arrays: dict[str, np.ndarray], outputs_axis: int) -> Weights:
    codes, zeros = arrays["weights"].astype(np.int32), arrays["zero_points"].astype(np.int32)
    shift = 128 if arrays["weights"].dtype == np.uint8 else 0
    codes = np.moveaxis(codes - shift, outputs_axis, 0)
    return Weights(
        codes=np.ascontiguousarray(codes.astype(np.int8)),
        scale=np.atleast_1d(arrays["scales"]).astype(np.float64),
        zero_point=np.atleast_1d(zeros - shift).astype(np.int32),
        per_channel=arrays["scales"].ndim > 0,
        bias=None,
        integer_bias=arrays.get("bias"),
    )


# Cases


#: Near one another, so that m is a power of two, or an ulp beside it: half-way results are frequent.
def _scales(random: np.random.Generator, kind: str, count: int) -> np.ndarray:
    if kind == "random":
        return (10.0 ** random.uniform(-3, 0, count)).astype(np.float32)
    scales = (2.0 ** random.integers(-7, -3, count)).astype(np.float32)
    if kind == "near":
        scales = np.nextafter(scales, np.float32(random.choice([0.0, 1.0])))
    return scales


def _grid(random: np.random.Generator, kind: str, dtype: str, *, scale: float | None = None) -> Affine:
    limits = np.iinfo(dtype)
    zero = int(random.integers(limits.min, limits.max + 1))
    return Affine(float(_scales(random, kind, 1)[0] if scale is None else np.float32(scale)), zero, dtype)  # type: ignore[arg-type]


_CONVOLUTIONS: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ((2, 6, 9, 8), (8, 6, 3, 3), {"pads": [1, 0, 2, 1], "strides": [2, 1]}),
    ((1, 8, 7, 7), (8, 1, 3, 3), {"group": 8, "pads": [1, 1, 1, 1]}),
    ((1, 8, 9, 9), (12, 4, 2, 3), {"group": 2, "dilations": [2, 1]}),
    ((3, 16, 1, 5), (10, 16, 1, 1), {}),
    ((2, 5, 17), (6, 5, 4), {"pads": [0, 3], "strides": [2]}),
    ((1, 3, 5, 6, 4), (4, 3, 2, 3, 2), {"pads": [0, 1, 0, 1, 1, 0]}),
]


def specs(random: np.random.Generator) -> list[Spec]:
    """One of each kind: operators by dtypes, by scales, by shapes."""
    made: list[Spec] = []
    for kind in ("ties", "near", "random"):
        for dtype in ("uint8", "int8"):
            for number, (shape, kernel, attributes) in enumerate(_CONVOLUTIONS):
                unsigned = dtype == "uint8" and number % 2 == 1
                made.append(_layer(random, "Conv", kind, dtype, shape, kernel, 0, attributes, unsigned=unsigned))
            made.append(_layer(random, "Gemm", kind, dtype, (5, 33), (9, 33), 0, {"transB": 1}))
            made.append(_layer(random, "Gemm", kind, dtype, (4, 20), (20, 7), 1, {}))
            made.append(_layer(random, "MatMul", kind, dtype, (6, 21), (21, 10), 1, {}, bias=False))
            made.append(_layer(random, "MatMul", kind, dtype, (2, 3, 16), (16, 12), 1, {}, bias=False))
            for operator in ("Add", "Mul"):
                for first, second in [
                    ((2, 7, 33), (2, 7, 33)),
                    ((1, 6, 1, 1), (2, 6, 5, 7)),
                    ((2, 6, 5, 7), (1, 6, 1, 1)),
                    ((1, 9), (5, 9)),
                    ((1, 1), (11, 13)),
                    ((11, 13), (1, 1)),
                ]:
                    made.append(_two(random, operator, kind, dtype, first, second))
            for shape in ((2, 5, 7, 7), (1, 33, 3, 4), (1, 4, 1, 1), (1, 3, 25)):
                grid = _grid(random, kind, dtype)
                out = _grid(random, kind, dtype, scale=grid.scale * 2.0 ** int(random.integers(-2, 1)))
                made.append(Spec("GlobalAveragePool", ((shape, grid),), out))
            parts = tuple(((2, count, 5), _grid(random, kind, dtype)) for count in (3, 1, 4))
            made.append(Spec("Concat", parts, _grid(random, kind, dtype), {"axis": 1}))
            for operator in ("Identity", "Relu", "LeakyRelu", "Sigmoid", "Tanh", "HardSigmoid", "HardSwish"):
                attributes = {"alpha": float(np.float32(0.3))} if operator == "LeakyRelu" else {}
                source = _grid(random, kind, dtype)
                out = _grid(random, kind, dtype, scale=2.0**-8 if "igmoid" in operator else None)
                made.append(Spec(operator, (((1, 600), source),), out, attributes))
    return made


def _layer(
    random: np.random.Generator,
    operator: str,
    kind: str,
    dtype: str,
    shape: tuple[int, ...],
    weights: tuple[int, ...],
    outputs_axis: int,
    attributes: dict[str, Any],
    *,
    unsigned: bool = False,
    bias: bool = True,
) -> Spec:
    outputs, terms = weights[outputs_axis], int(np.prod(weights)) // weights[outputs_axis]
    per_channel = not unsigned and bool(random.integers(2))
    source, scales = _grid(random, kind, dtype), _scales(random, kind, outputs if per_channel else 1)
    if not per_channel:
        scales = scales.reshape(())
    limits = (0, 256) if unsigned else (-128, 128)
    codes = random.integers(*limits, weights).astype(np.uint8 if unsigned else np.int8)
    zeros = np.zeros(scales.shape, codes.dtype)
    if unsigned:
        zeros = random.integers(0, 256, scales.shape).astype(np.uint8)
    # The output's range is about that of the sums; over a power of two, half of them lie in the middle of two codes.
    spread = float(np.max(scales)) * source.scale * 128 * 74 * np.sqrt(terms) / 128
    scale = spread if kind == "random" else 2.0 ** round(np.log2(spread))
    arrays = {"weights": codes, "scales": scales, "zero_points": zeros}
    if bias:
        arrays["bias"] = random.integers(-9000, 9001, outputs).astype(np.int32)
    out = _grid(random, kind, dtype, scale=scale)
    return Spec(operator, ((shape, source),), out, attributes, arrays)


def _two(
    random: np.random.Generator, operator: str, kind: str, dtype: str, first: tuple[int, ...], second: tuple[int, ...]
) -> Spec:
    grids = [_grid(random, kind, dtype) for _ in range(2)]
    scale = max(grid.scale for grid in grids) * 2 if operator == "Add" else grids[0].scale * grids[1].scale * 64
    if kind == "near":
        scale = float(np.nextafter(np.float32(scale), np.float32(random.choice([0.0, 1.0]))))
    return Spec(operator, tuple(zip((first, second), grids, strict=True)), _grid(random, kind, dtype, scale=scale))
