"""Operators along axes: sums, means, norms of vectors, softmaxes, averages of windows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from accelsim.arithmetic.vector import Operand, Operation, Statistic, Writer
from accelsim.frontend.builder import Builder, windows
from accelsim.frontend.calls import Call
from accelsim.frontend.floats import FloatCall

from .steps import divided, power, same, squared
from .table import operator


def _axes(dims: Any, rank: int) -> tuple[int, ...]:
    if dims is None or dims == []:
        return tuple(range(rank))
    return tuple(sorted(axis % rank for axis in ([dims] if isinstance(dims, int) else dims)))


def _rows(call: FloatCall) -> tuple[str, tuple[int, ...]] | None:
    """The value that a call reduces, and along which axes."""
    source = call.source(call.call.tensors[0])
    if not isinstance(source, str) or not call.shape(source):
        return None
    return source, _axes(call.argument("dim"), len(call.shape(source)))


def _statistic(kind: Statistic, name: str) -> None:
    def handler(call: FloatCall) -> bool:
        rows = _rows(call)
        return rows is not None and call.finish(name, [rows[0]], same, statistic=kind, axes=rows[1])

    operator(name)(handler)


_statistic(Statistic.SUM, "sum")
_statistic(Statistic.MAXIMUM, "amax")
_statistic(Statistic.MINIMUM, "amin")


def count(call: FloatCall, source: str, axes: Sequence[int]) -> float:
    """Elements of a row of a value."""
    return float(math.prod(call.shape(source)[axis] for axis in axes))


def total(call: FloatCall, source: str, axes: Sequence[int]) -> str:
    """The sum of rows."""
    return call.internal("sum", [source], same, statistic=Statistic.SUM, axes=axes)


def _mean(call: FloatCall, source: str, axes: Sequence[int]) -> bool:
    """The call's result is the mean of rows: their sum, divided by how many there are."""
    return call.finish("mean", [total(call, source, axes), count(call, source, axes)], divided)


@operator("mean")
def _(call: FloatCall) -> bool:
    rows = _rows(call)
    return rows is not None and _mean(call, *rows)


@operator("_adaptive_avg_pool2d", "adaptive_avg_pool2d")
def _(call: FloatCall) -> bool:
    source = call.source(call.call.tensors[0])
    if not isinstance(source, str) or tuple(call.result.shape[-2:]) != (1, 1):
        return False
    rank = len(call.shape(source))
    return _mean(call, source, (rank - 2, rank - 1))


@operator("avg_pool2d")
def _(call: FloatCall) -> bool:
    source = call.source(call.call.tensors[0])
    sizes, steps = call.argument("kernel_size"), call.argument("stride")
    plain = not any(call.argument("padding") or ()) and not call.argument("ceil_mode", False)
    if not isinstance(source, str) or not plain or call.argument("divisor_override") is not None:
        return False
    rank = len(call.shape(source))
    sizes = [int(size) for size in (*sizes, *sizes)[:2]]
    steps = [int(step) for step in (*steps, *steps)[:2]] if steps else sizes
    for axis, size, step in zip((rank - 2, rank - 1), sizes, steps, strict=True):
        move = windows(call.shape(source), axis, size, step)
        name = call.builder.unused(call.call, "windows")
        affine = call.builder.value(source).affine
        source = call.builder.internal(move.node(name, (source,)), move.shape, affine)
    return _mean(call, source, (rank, rank + 1))


@operator("linalg_vector_norm", "norm")
def _(call: FloatCall) -> bool:
    rows = _rows(call)
    if rows is None or call.argument("ord", call.argument("p", 2)) != 2:
        return False
    squares = call.internal("squares", [rows[0]], squared, statistic=Statistic.SUM, axes=rows[1])
    return call.finish("norm", [squares], lambda writer, x: writer.function("sqrt", x))


@operator("_softmax", "softmax", "_safe_softmax")
def _(call: FloatCall) -> bool:
    rows = _rows(call)
    return rows is not None and call.finish("softmax", powers(call, *rows), divided)


def quantized_softmax(builder: Builder, call: Call, name: str, axis: int) -> None:
    """A softmax of codes to codes, which ATen computes in binary32 (`qsoftmax.cpp`): dequantised, then quantised."""
    work = FloatCall(builder, call)
    work.quantize("softmax", powers(work, name, (axis,)), divided, builder.affine(call, call.results[0]))


def _largest(call: FloatCall, source: str, axes: Sequence[int]) -> str:
    return call.internal("maximum", [source], same, statistic=Statistic.MAXIMUM, axes=axes)


def powers(call: FloatCall, source: str, axes: Sequence[int], operator: str = "exp") -> tuple[str, str]:
    """exp(x - maximum) of rows, and its sum."""
    made = call.internal(operator, [source, _largest(call, source, axes)], power)
    return made, total(call, made, axes)


@operator("_log_softmax", "log_softmax")
def _(call: FloatCall) -> bool:
    rows = _rows(call)
    if rows is None:
        return False
    source, axes = rows
    most = _largest(call, source, axes)
    summed = call.internal("sum", [source, most], power, statistic=Statistic.SUM, axes=axes)

    def last(writer: Writer, x: Operand, top: Operand, total: Operand) -> Operand:
        return writer.step(Operation.SUBTRACT, writer.step(Operation.SUBTRACT, x, top), writer.function("log", total))

    return call.finish("log_softmax", [source, most, summed], last)
