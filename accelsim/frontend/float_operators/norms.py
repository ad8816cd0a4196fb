"""Layer, group and batch norms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from accelsim.arithmetic.vector import Operand, Operation, Statistic, Writer
from accelsim.frontend.floats import FloatCall

from .rows import count, total
from .steps import divided, scaled_and_shifted, squared
from .table import operator


def _moments(call: FloatCall, source: str, axes: Sequence[int], epsilon: float) -> tuple[str, str]:
    """Reciprocal standard deviation of rows, and their mean times less that."""
    elements = count(call, source, axes)
    mean = call.internal("mean", [total(call, source, axes), elements], divided)

    def deviation(writer: Writer, x: Operand, mean: Operand) -> Operand:
        return squared(writer, writer.step(Operation.SUBTRACT, x, mean))

    squares = call.internal("squares", [source, mean], deviation, statistic=Statistic.SUM, axes=axes)

    def rate(writer: Writer, squares: Operand) -> Operand:
        variance = writer.step(Operation.DIVIDE, squares, elements)
        root = writer.step(Operation.SQUARE_ROOT, writer.step(Operation.ADD, variance, epsilon))
        return writer.step(Operation.DIVIDE, 1.0, root)

    scale = call.internal("rate", [squares], rate)

    def shift(writer: Writer, mean: Operand, scale: Operand) -> Operand:
        return writer.step(Operation.MULTIPLY, writer.step(Operation.MULTIPLY, mean, -1.0), scale)

    return scale, call.internal("shift", [mean, scale], shift)


def _affine(call: FloatCall, name: str, weight: Any, bias: Any, shape: Sequence[int]) -> bool:
    """The result: a value times a weight, plus a bias, where there are such."""
    parts = [None if part is None else call.source(part) for part in (weight, bias)]
    parts = [call.reshaped(part, shape) if isinstance(part, str) else part for part in parts]
    operands: list[str | float] = [name, *(part for part in parts if part is not None)]

    def write(writer: Writer, x: Operand, *rest: Operand) -> Operand:
        left = list(rest)
        if parts[0] is not None:
            x = writer.step(Operation.MULTIPLY, x, left.pop(0))
        return writer.step(Operation.ADD, x, left.pop(0)) if parts[1] is not None else x

    return call.finish("norm", operands, write)


@operator("native_layer_norm")
def _(call: FloatCall) -> bool:
    source = call.source(call.call.tensors[0])
    if not isinstance(source, str):
        return False
    shape, normalised = call.shape(source), call.argument("normalized_shape")
    axes = range(len(shape) - len(normalised), len(shape))
    scale, shift = _moments(call, source, axes, float(np.float32(call.argument("eps"))))
    centred = call.internal("normalised", [source, scale, shift], scaled_and_shifted)
    return _affine(call, centred, call.argument("weight"), call.argument("bias"), tuple(normalised))


@operator("native_group_norm")
def _(call: FloatCall) -> bool:
    source = call.source(call.call.tensors[0])
    if not isinstance(source, str):
        return False
    images, channels, *rest = call.shape(source)
    groups = int(call.argument("group"))
    grouped = call.reshaped(source, (images, groups, channels // groups * math.prod(rest)))
    scale, shift = _moments(call, grouped, (2,), float(np.float32(call.argument("eps"))))
    centred = call.internal("normalised", [grouped, scale, shift], scaled_and_shifted)
    centred = call.reshaped(centred, (images, channels, *rest))
    return _affine(call, centred, call.argument("weight"), call.argument("bias"), (channels, *(1 for _ in rest)))


@operator("_native_batch_norm_legit_no_training", "native_batch_norm", "batch_norm")
def _(call: FloatCall) -> bool:
    source = call.source(call.call.tensors[0])
    if not isinstance(source, str) or call.argument("training"):
        return False
    mean, variance = (call.argument(f"running_{name}") for name in ("mean", "var"))
    weight, bias = call.argument("weight"), call.argument("bias")
    if any(item is not None and call.builder.reference(item) is not None for item in (mean, variance, weight, bias)):
        return False
    single = np.float32
    rate = single(1) / np.sqrt(variance.numpy().astype(single) + single(call.argument("eps")))
    scale = rate if weight is None else weight.detach().numpy().astype(single) * rate
    shift = (single(0) if bias is None else bias.detach().numpy().astype(single)) - mean.numpy().astype(single) * scale
    shape = (len(scale), *(1 for _ in call.shape(source)[2:]))
    operands = [source, *(call.constant(np.asarray(part, single).reshape(shape)) for part in (scale, shift))]
    return call.finish("batch_norm", operands, scaled_and_shifted)
