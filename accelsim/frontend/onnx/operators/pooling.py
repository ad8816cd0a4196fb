"""Pools: the largest code of a window, and averages that are rounded once."""

from __future__ import annotations

import numpy as np

from accelsim.arithmetic.affine import Affine
from accelsim.errors import ModelError
from accelsim.frontend.onnx.builder import MIXED, Builder
from accelsim.frontend.onnx.container import Call
from accelsim.frontend.onnx.references import Codes, Move, Pending, Real, Shape
from accelsim.network import AveragePool, MaxPool

from .layers import windows
from .movement import reshaped
from .table import operator


@operator("MaxPool")
def _(builder: Builder, call: Call) -> None:
    reference = builder.reference(call, 0)
    if len(call.outputs) > 1 and call.outputs[1]:
        raise ModelError(f"{call.where}: its second result, the places of the largest elements, is not supported")
    if not isinstance(reference, Codes | Pending) and not (isinstance(reference, Real) and reference.plain):
        raise ModelError(f"{call.where}: its input is not quantised; put a QuantizeLinear before it")
    shape = builder.shape_of(reference)
    kernel = _kernel(call, shape)
    stride, padding, dilation, sizes = windows(call, shape[2:], kernel, ceil=bool(call.attribute("ceil_mode", 0)))
    padding = tuple(
        (before, max(after, (count - 1) * step + (taps - 1) * rate + 1 - size - before))
        for (before, after), count, step, taps, rate, size in zip(
            padding, sizes, stride, kernel, dilation, shape[2:], strict=True
        )
    )
    if any(max(pair) >= (taps - 1) * rate + 1 for pair, taps, rate in zip(padding, kernel, dilation, strict=True)):
        raise ModelError(f"{call.where}: padding {padding} as wide as its window {kernel}")
    move = Move(
        lambda name, inputs: MaxPool(name, inputs, kernel, stride, padding, dilation), (*shape[:2], *sizes), call.name
    )
    builder.move(call, reference, move)


def _kernel(call: Call, shape: Shape) -> Shape:
    rank = len(shape) - 2
    kernel = tuple(call.attribute("kernel_shape", ()))
    if not 1 <= rank <= 3 or len(kernel) != rank:
        raise ModelError(f"{call.where}: a window of {kernel} over {shape}; one to three spatial axes are supported")
    return kernel


@operator("GlobalAveragePool")
def _(builder: Builder, call: Call) -> None:
    name = _plain(builder, call)
    if builder.form(call, name) == "float":
        builder.computed_in_float(call.name, MIXED)
    builder.assign(call, mean(builder, call, name))


@operator("ReduceMean")
def _(builder: Builder, call: Call) -> None:
    name = _plain(builder, call)
    shape = builder.values[name].shape
    axes = call.attribute("axes") if len(call.inputs) < 2 else builder.constant(call, 1)
    given = () if axes is None else tuple(int(axis) for axis in np.asarray(axes).reshape(-1))
    if {axis % len(shape) for axis in given if -len(shape) <= axis < len(shape)} != set(range(2, len(shape))):
        raise ModelError(
            f"{call.where}: a mean over axes {given} of {shape}; over all axes from the third on is supported"
        )
    average = mean(builder, call, name)
    builder.computed_in_float(call.name, "ReduceMean sums in binary32")
    if not call.attribute("keepdims", 1):
        average = average.moved(reshaped(call, shape[:2]))
    builder.assign(call, average)


@operator("AveragePool")
def _(builder: Builder, call: Call) -> None:
    builder.assign(call, average(builder, call, _plain(builder, call)))


def average(builder: Builder, call: Call, source: str) -> Pending:
    """The averages over windows of a value (N, C, *spatial)."""
    shape = builder.values[source].shape
    kernel = _kernel(call, shape)
    stride, padding, dilation, sizes = windows(call, shape[2:], kernel)
    if call.attribute("ceil_mode", 0) or max(dilation) > 1:
        raise ModelError(f"{call.where}: ceil_mode and dilations are not supported")
    if any(max(pair) >= taps for pair, taps in zip(padding, kernel, strict=True)):
        raise ModelError(f"{call.where}: padding {padding} as wide as its window {kernel}")
    include = bool(call.attribute("count_include_pad", 0))
    builder.computed_in_float(call.name, "AveragePool sums in binary32")

    def emit(builder: Builder, name: str, affine: Affine, relu: bool) -> str:
        _check_average(builder, call, source, affine, relu)
        node = AveragePool(builder.unique(name), (source,), "window", kernel, stride, padding, include)
        return builder.add(node, (*shape[:2], *sizes), affine)

    return Pending(call.name, call.operator, (*shape[:2], *sizes), emit)


def _check_average(builder: Builder, call: Call, source: str, affine: Affine, relu: bool) -> None:
    if relu:
        raise ModelError(f"{call.where}: a ReLU behind an average; quantise the average first")
    if affine.dtype != builder.values[source].affine.dtype:
        raise ModelError(f"{call.where}: it takes {builder.values[source].affine.dtype} to {affine.dtype}")


def _plain(builder: Builder, call: Call) -> str:
    reference = builder.reference(call, 0)
    if not isinstance(reference, Real) or not reference.plain:
        raise ModelError(f"{call.where}: its input is not quantised; put a QuantizeLinear and a DequantizeLinear there")
    return reference.name


def mean(builder: Builder, call: Call, source: str) -> Pending:
    """The mean over all spatial axes of a value (N, C, *spatial)."""
    shape = builder.values[source].shape
    if not 3 <= len(shape) <= 5:
        raise ModelError(f"{call.where}: an input of shape {shape}; one to three spatial axes are supported")
    sizes = shape[2:]

    def emit(builder: Builder, name: str, affine: Affine, relu: bool) -> str:
        _check_average(builder, call, source, affine, relu)
        node = AveragePool(builder.unique(name), (source,), "mean", sizes, sizes, ((0, 0),) * len(sizes))
        return builder.add(node, (*shape[:2], *(1 for _ in sizes)), affine)

    return Pending(call.name, call.operator, (*shape[:2], *(1 for _ in sizes)), emit)
