"""Convolutions and products of matrices between DequantizeLinear and QuantizeLinear."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from accelsim.arithmetic import onnxruntime
from accelsim.arithmetic.affine import Affine
from accelsim.arithmetic.binary32 import f32
from accelsim.errors import ModelError
from accelsim.frontend.onnx.builder import MIXED, Builder
from accelsim.frontend.onnx.container import Call
from accelsim.frontend.onnx.references import Constant, Parameter, Pending, Real, Shape
from accelsim.network import Convolution, Linear, Node, Pads, Weights

from .table import operator


@operator("Conv")
def _(builder: Builder, call: Call) -> None:
    source, weight = _operands(builder, call)
    weights = weights_of(call, weight, 0, _bias(builder, call, 2, source, weight))
    layer = convolution(builder, call, source, weights)
    builder.assign(call, pending(builder, call, source, layer))


@operator("Gemm")
def _(builder: Builder, call: Call) -> None:
    source, weight = _operands(builder, call)
    weights = weights_of(call, *gemm_operand(builder, call, weight), _bias(builder, call, 2, source, weight))
    builder.assign(call, pending(builder, call, source, product(builder, call, source, weights)))


@operator("MatMul")
def _(builder: Builder, call: Call) -> None:
    source, weight = _operands(builder, call)
    weights = weights_of(call, *transposed(call, weight), None)
    builder.assign(call, pending(builder, call, source, product(builder, call, source, weights)))


@dataclass(frozen=True)
class Layer:
    """A layer as a node of any affine map: `make` takes its name, what it reads, and whether a ReLU follows."""

    make: Any
    shape: Shape


def pending(builder: Builder, call: Call, source: str, layer: Layer) -> Pending:
    """A layer of a value that waits for its quantisation."""

    def emit(builder: Builder, name: str, affine: Affine, relu: bool) -> str:
        node: Node = layer.make(builder.unique(name), (source,), relu)
        return builder.add(node, layer.shape, affine)

    return Pending(call.name, call.operator, layer.shape, emit)


def _operands(builder: Builder, call: Call) -> tuple[str, Parameter]:
    """The value that a layer reads, and its weights."""
    source, weight = builder.reference(call, 0), builder.reference(call, 1)
    if not isinstance(source, Real) or not source.plain:
        raise ModelError(
            f"{call.where}: its input is not quantised, or something stands between its DequantizeLinear and it; "
            "quantise what it reads (onnxruntime.quantization.quantize_static does, if its nodes are not left out)"
        )
    if isinstance(weight, Constant):
        raise ModelError(f"{call.where}: its weights are float; quantise them to int8 or uint8")
    if isinstance(weight, Real):
        raise ModelError(f"{call.where}: both of its operands depend on the inputs, which is not supported")
    if not isinstance(weight, Parameter) or weight.codes.dtype == np.int32:
        raise ModelError(f"{call.where}: its weights must be constants of int8 or uint8")
    form = builder.form(call, source.name)
    if form == "float" or (form == "codes" and call.operator != "Gemm" and _is_signed(builder, source.name)):
        builder.computed_in_float(call.name, MIXED)
    return source.name, weight


def _is_signed(builder: Builder, source: str) -> bool:
    return builder.values[source].affine.dtype == "int8"


Bias = tuple[np.ndarray, np.ndarray | None]


def _bias(builder: Builder, call: Call, at: int, source: str, weight: Parameter) -> Bias | None:
    """The bias in real units, and as integers where the file holds them."""
    reference = builder.reference(call, at)
    if reference is None:
        return None
    if isinstance(reference, Constant) and reference.array.dtype == np.float32:
        return reference.array.reshape(-1), None
    if not isinstance(reference, Parameter) or reference.codes.dtype != np.int32 or np.any(reference.zero_point):
        raise ModelError(f"{call.where}: its bias must be a constant: float32, or int32 behind a DequantizeLinear")
    unit = onnxruntime.unit(builder.values[source].affine, weight.scale)
    if not np.array_equal(np.broadcast_to(reference.scale, unit.shape), unit):
        raise ModelError(
            f"{call.where}: the scale of its bias is not f32(input scale * weight scale), so that ONNX Runtime leaves "
            "the layer in float; quantise the bias to that scale, or leave it float"
        )
    codes = reference.codes.reshape(-1)
    return f32(codes) * np.broadcast_to(unit, codes.shape), codes


def integer_bias(call: Call, codes: np.ndarray, unit: np.ndarray) -> Bias:
    """An int32 bias in steps of the sums, with what it stands for."""
    if codes.dtype != np.int32:
        raise ModelError(f"{call.where}: a bias of {codes.dtype}; int32 is supported")
    codes = codes.reshape(-1)
    return f32(codes) * (unit if unit.size == codes.size else unit[:1]), codes


def gemm_operand(builder: Builder, call: Call, weight: Parameter) -> tuple[Parameter, int]:
    """The weights of a Gemm as (outputs, inputs). Raises ModelError for factors and transposed inputs."""
    factors = (float(call.attribute("alpha", 1.0)), float(call.attribute("beta", 1.0)))
    if factors[0] != 1 or (factors[1] != 1 and builder.reference(call, 2) is not None) or call.attribute("transA", 0):
        raise ModelError(f"{call.where}: alpha, beta and transA are not supported; fold them into the weights")
    if call.attribute("transB", 0):
        return weight, 0
    return transposed(call, weight)


def transposed(call: Call, weight: Parameter) -> tuple[Parameter, int]:
    """(inputs, outputs) as (outputs, inputs)."""
    if weight.codes.ndim != 2:
        raise ModelError(f"{call.where}: weights of shape {weight.codes.shape}; two axes are supported")
    axis = None if weight.axis is None else 1 - weight.axis
    return Parameter(weight.codes.T, weight.scale, weight.zero_point, axis), 0


def weights_of(call: Call, weight: Parameter, outputs_axis: int, bias: Bias | None) -> Weights:
    """Weights whose scales go along `outputs_axis`. Codes of uint8 and their zero points become int8 by taking 128."""
    codes, zeros = weight.codes, weight.zero_point
    if weight.axis not in (None, outputs_axis):
        raise ModelError(f"{call.where}: its weights have scales along another axis than that of its outputs")
    if codes.dtype == np.uint8:
        codes, zeros = (codes.astype(np.int16) - 128).astype(np.int8), zeros - 128
    outputs = codes.shape[outputs_axis]
    if bias is not None and bias[0].size != outputs:
        raise ModelError(f"{call.where}: a bias of {bias[0].size} elements for {outputs} outputs")
    real, integer = bias or (None, None)
    if real is not None and not np.isfinite(real).all():
        raise ModelError(f"{call.where}: its bias holds numbers that are not finite")
    return Weights(
        codes=np.ascontiguousarray(codes),
        scale=weight.scale.astype(np.float64),
        zero_point=zeros.astype(np.int32),
        per_channel=weight.axis is not None,
        bias=None if real is None else np.ascontiguousarray(real, np.float32),
        key=call.name,
        integer_bias=None if integer is None else np.ascontiguousarray(integer),
    )


def convolution(builder: Builder, call: Call, source: str, weights: Weights) -> Layer:
    """A convolution of weights (outputs, inputs of a group, *kernel)."""
    shape, codes = builder.values[source].shape, weights.codes
    rank = len(shape) - 2
    if not 1 <= rank <= 3 or codes.ndim != rank + 2:
        raise ModelError(f"{call.where}: input {shape} and weights {codes.shape}; one to three spatial axes are read")
    groups = int(call.attribute("group", 1))
    if groups < 1 or shape[1] != codes.shape[1] * groups or codes.shape[0] % groups:
        raise ModelError(f"{call.where}: {shape[1]} input channels, weights {codes.shape}, {groups} groups")
    kernel = codes.shape[2:]
    if tuple(call.attribute("kernel_shape", kernel)) != kernel:
        raise ModelError(f"{call.where}: kernel_shape {call.attribute('kernel_shape')} for weights {codes.shape}")
    stride, padding, dilation, sizes = windows(call, shape[2:], kernel)

    def make(name: str, inputs: tuple[str, ...], relu: bool) -> Node:
        return Convolution(name, inputs, weights, stride, padding, dilation, groups, relu)

    return Layer(make, (shape[0], codes.shape[0], *sizes))


def product(builder: Builder, call: Call, source: str, weights: Weights) -> Layer:
    """A linear layer of weights (outputs, inputs) over the last axis."""
    shape, codes = builder.values[source].shape, weights.codes
    if len(shape) < 2 or codes.ndim != 2 or shape[-1] != codes.shape[1]:
        raise ModelError(f"{call.where}: an input of shape {shape} and weights of shape {codes.shape[::-1]}")

    def make(name: str, inputs: tuple[str, ...], relu: bool) -> Node:
        return Linear(name, inputs, weights, relu)

    return Layer(make, (*shape[:-1], codes.shape[0]))


def windows(
    call: Call, sizes: Sequence[int], kernel: Sequence[int], *, ceil: bool = False
) -> tuple[Shape, Pads, Shape, Shape]:
    """Strides, padding, dilations and output sizes of what slides a window over `sizes` (`pads`, `auto_pad`)."""
    rank = len(sizes)
    stride = tuple(call.attribute("strides", (1,) * rank))
    dilation = tuple(call.attribute("dilations", (1,) * rank))
    pads = tuple(call.attribute("pads", (0,) * 2 * rank))
    if (len(stride), len(dilation), len(pads)) != (rank, rank, 2 * rank):
        raise ModelError(f"{call.where}: strides {stride}, dilations {dilation}, pads {pads} for {rank} axes")
    if min((*stride, *dilation, *kernel)) < 1 or min(pads) < 0 or max((*stride, *dilation, *pads)) > 1 << 24:
        raise ModelError(f"{call.where}: strides {stride}, dilations {dilation}, pads {pads} out of range")
    spans = [(taps - 1) * step + 1 for taps, step in zip(kernel, dilation, strict=True)]
    auto = call.attribute("auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        padding = tuple(map(_same, sizes, spans, stride, [auto == "SAME_LOWER"] * rank))
    elif auto in ("NOTSET", "VALID"):
        padding = tuple((0, 0) if auto == "VALID" else (pads[axis], pads[axis + rank]) for axis in range(rank))
    else:
        raise ModelError(f"{call.where}: auto_pad {auto!r}; NOTSET, VALID, SAME_UPPER and SAME_LOWER are known")
    outputs = []
    for size, span, step, pad in zip(sizes, spans, stride, padding, strict=True):
        room = size + sum(pad) - span
        if room < 0:
            raise ModelError(f"{call.where}: a window of {span} over {size} elements and padding {pad}")
        count = (math.ceil(room / step) if ceil else room // step) + 1
        if ceil and (count - 1) * step >= size + pad[0]:
            count -= 1
        outputs.append(count)
    return stride, padding, dilation, tuple(outputs)


def _same(size: int, span: int, step: int, lower: bool) -> tuple[int, int]:
    """The padding with which the output has `ceil(size / step)` elements; the odd one after, or before if `lower`."""
    total = max((-(-size // step) - 1) * step + span - size, 0)
    return (total - total // 2, total // 2) if lower else (total // 2, total - total // 2)
