"""Operators that take codes and give codes, and state all scales themselves (QOperator form)."""

from __future__ import annotations

import numpy as np

from accelsim.arithmetic import onnxruntime
from accelsim.errors import ModelError
from accelsim.frontend.onnx.builder import Builder
from accelsim.frontend.onnx.container import Call
from accelsim.frontend.onnx.references import Codes, Constant, Parameter, Pending

from .elementwise import FUNCTIONS, of_two, with_constant
from .layers import (
    Bias,
    convolution,
    gemm_operand,
    integer_bias,
    pending,
    product,
    transposed,
    weights_of,
)
from .movement import concatenated
from .pooling import average, mean
from .quantization import affine_of, codes, parameter
from .table import operator


def _finish(builder: Builder, call: Call, result: Pending, scale_at: int, zero_at: int, dtype: str) -> None:
    """The call's result: `result`, quantised to what two of its operands state."""
    affine = affine_of(builder, call, scale_at, zero_at, dtype)
    builder.assign(call, Codes(builder.quantized(call, result, affine)))


def _bias(builder: Builder, call: Call, at: int, source: str, weight: Parameter) -> Bias | None:
    array = builder.constant(call, at)
    if array is None:
        return None
    return integer_bias(call, array, onnxruntime.unit(builder.values[source].affine, weight.scale))


@operator("QLinearConv")
def _(builder: Builder, call: Call) -> None:
    source, weight = codes(builder, call, 0, 1, 2), parameter(builder, call, 3, 4, 5, axis=0)
    layer = convolution(builder, call, source, weights_of(call, weight, 0, _bias(builder, call, 8, source, weight)))
    _finish(builder, call, pending(builder, call, source, layer), 6, 7, builder.values[source].affine.dtype)


@operator("QLinearMatMul")
def _(builder: Builder, call: Call) -> None:
    source = codes(builder, call, 0, 1, 2)
    weights = weights_of(call, *transposed(call, parameter(builder, call, 3, 4, 5, axis=1)), None)
    layer = product(builder, call, source, weights)
    _finish(builder, call, pending(builder, call, source, layer), 6, 7, builder.values[source].affine.dtype)


@operator("QGemm")
def _(builder: Builder, call: Call) -> None:
    if len(call.inputs) < 8 or not call.inputs[7]:
        raise ModelError(f"{call.where}: its result is float; give it an output scale (end the model in codes)")
    source = codes(builder, call, 0, 1, 2)
    weight = parameter(builder, call, 3, 4, 5, axis=0 if call.attribute("transB", 0) else 1)
    operand, axis = gemm_operand(builder, call, weight)
    bias = _bias(builder, call, 6, source, weight)
    layer = product(builder, call, source, weights_of(call, operand, axis, bias))
    _finish(builder, call, pending(builder, call, source, layer), 7, 8, builder.values[source].affine.dtype)


@operator("QLinearAdd", "QLinearMul")
def _(builder: Builder, call: Call) -> None:
    kind = call.operator.removeprefix("QLinear")
    constants = [isinstance(builder.reference(call, at), Constant) for at in (0, 3)]
    if any(constants):
        at = 3 if constants[0] else 0
        name = codes(builder, call, at, at + 1, at + 2)
        operand = parameter(builder, call, 3 - at, 4 - at, 5 - at)
        result = with_constant(builder, call, name, operand, constant_first=constants[0], operator=kind)
    else:
        a, b = (codes(builder, call, at, at + 1, at + 2) for at in (0, 3))
        name, result = a, of_two(builder, call, a, b, kind)
    _finish(builder, call, result, 6, 7, builder.values[name].affine.dtype)


@operator("QLinearGlobalAveragePool", "QLinearAveragePool")
def _(builder: Builder, call: Call) -> None:
    if call.attribute("channels_last", 0):
        raise ModelError(f"{call.where}: channels_last is not supported; it is made inside of ONNX Runtime only")
    source = codes(builder, call, 0, 1, 2)
    pool = mean if call.operator == "QLinearGlobalAveragePool" else average
    _finish(builder, call, pool(builder, call, source), 3, 4, builder.values[source].affine.dtype)


@operator("QLinearConcat")
def _(builder: Builder, call: Call) -> None:
    places = range(2, len(call.inputs), 3)
    names = [codes(builder, call, at, at + 1, at + 2) for at in places]
    if not names:
        raise ModelError(f"{call.where}: it has no operand")
    _finish(builder, call, concatenated(builder, call, names), 0, 1, builder.values[names[0]].affine.dtype)


@operator("QLinearLeakyRelu", "QLinearSigmoid")
def _(builder: Builder, call: Call) -> None:
    name, kind = codes(builder, call, 0, 1, 2), call.operator.removeprefix("QLinear")
    affine = affine_of(builder, call, 3, 4, builder.values[name].affine.dtype)
    values = FUNCTIONS[kind](call)(builder.real(name).values)
    table = onnxruntime.table(np.asarray(values, np.float32), affine)
    builder.assign(call, Codes(builder.look_up(call, name, table, affine, kind.lower(), call.name)))
