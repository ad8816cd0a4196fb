"""QuantizeLinear and DequantizeLinear: where real numbers become codes, and codes real numbers."""

from __future__ import annotations

import numpy as np

from accelsim.arithmetic import onnxruntime
from accelsim.arithmetic.affine import Affine
from accelsim.errors import ModelError
from accelsim.frontend.onnx.builder import Builder
from accelsim.frontend.onnx.container import Call
from accelsim.frontend.onnx.references import Codes, Constant, GraphInput, Parameter, Pending, Real

from .table import operator

_OUTPUT_DTYPES = {2: "uint8", 3: "int8"}


@operator("QuantizeLinear")
def _(builder: Builder, call: Call) -> None:
    reference = builder.reference(call, 0)
    if isinstance(reference, Constant):
        return builder.assign(call, Constant(_quantize_constant(builder, call, reference.array)))
    dtype = _OUTPUT_DTYPES.get(int(call.attribute("output_dtype", 2)), "another type")
    affine = affine_of(builder, call, 1, 2, dtype)
    match reference:
        case GraphInput():
            name = builder.input(reference, affine, call)
        case Real():
            if reference.plain and builder.is_pair(call.inputs[0]) and builder.is_read_once(call.outputs[0]):
                raise ModelError(
                    f"{call.where}: two pairs of QuantizeLinear and DequantizeLinear in a row, of which ONNX Runtime "
                    "makes one of another scale; leave one of them out"
                )
            table = onnxruntime.table(reference.values, affine)
            label = "-".join(reference.steps) or "requantize"
            name = builder.look_up(call, reference.name, table, affine, label, call.name)
        case Pending():
            name = builder.quantized(call, reference, affine)
        case _:
            raise ModelError(f"{call.where}: it quantises what is no float tensor")
    return builder.assign(call, Codes(name))


@operator("DequantizeLinear")
def _(builder: Builder, call: Call) -> None:
    reference = builder.reference(call, 0)
    if isinstance(reference, Constant):
        return builder.assign(call, parameter(builder, call, 0, 1, 2))
    name = codes(builder, call, 0, 1, 2)
    return builder.assign(call, builder.real(name))


def affine_of(builder: Builder, call: Call, scale_at: int, zero_at: int, dtype: str) -> Affine:
    """The affine map that two operands of a call state; `dtype` where there is no zero point.

    Raises ModelError for several scales, and for codes that are not of 8 bits.
    """
    scale, zero = builder.constant(call, scale_at), builder.constant(call, zero_at)
    if scale is None or scale.size != 1 or (zero is not None and zero.size != 1):
        raise ModelError(f"{call.where}: activations with several scales are not supported; quantise them per tensor")
    if scale.dtype != np.float32:
        raise ModelError(f"{call.where}: a scale of {scale.dtype}; scales are float32")
    if call.attribute("block_size"):
        raise ModelError(f"{call.where}: scales of blocks are not supported")
    kind = dtype if zero is None else str(zero.dtype)
    if kind not in ("uint8", "int8"):
        raise ModelError(f"{call.where}: codes of {kind} are not supported; quantise activations to uint8 or int8")
    number = float(scale.reshape(-1)[0])
    if not (np.isfinite(number) and number > 0):
        raise ModelError(f"{call.where}: scale {number}; scales are finite and above 0")
    return Affine(number, 0 if zero is None else int(zero.reshape(-1)[0]), kind)  # type: ignore[arg-type]


def codes(builder: Builder, call: Call, at: int, scale_at: int, zero_at: int) -> str:
    """The value that a quantised operand stands for, of the scale and zero point that the call states."""
    reference = builder.reference(call, at)
    match reference:
        case Codes(name):
            stated = affine_of(builder, call, scale_at, zero_at, builder.values[name].affine.dtype)
            if builder.values[name].affine != stated:
                raise ModelError(
                    f"{call.where}: it reads codes of {builder.values[name].affine} as if they were of {stated}"
                )
            return name
        case GraphInput(position):
            dtype = builder.graph.inputs[position].dtype
            stated = affine_of(builder, call, scale_at, zero_at, dtype)
            if stated.dtype != dtype:
                raise ModelError(f"{call.where}: its input is {dtype}, its zero point {stated.dtype}")
            return builder.input(reference, stated, call)
    raise ModelError(f"{call.where}: operand {call.inputs[at] if at < len(call.inputs) else at!r} holds no codes")


def parameter(builder: Builder, call: Call, at: int, scale_at: int, zero_at: int, axis: int | None = None) -> Parameter:
    """A constant operand with the scales and zero points that the call states."""
    array, scale, zero = (builder.constant(call, place) for place in (at, scale_at, zero_at))
    if array is None or scale is None or scale.dtype != np.float32 or scale.ndim > 1:
        raise ModelError(f"{call.where}: parameters need scales of float32, one or one an output channel")
    if array.dtype not in (np.int8, np.uint8, np.int32):
        raise ModelError(f"{call.where}: parameters of {array.dtype} are not supported; int8, uint8 and int32 are")
    if call.attribute("block_size"):
        raise ModelError(f"{call.where}: scales of blocks are not supported")
    if not np.all(np.isfinite(scale) & (scale > 0)):
        raise ModelError(f"{call.where}: scales are finite and above 0")
    if zero is not None and (zero.dtype != array.dtype or zero.size not in (1, scale.size)):
        raise ModelError(f"{call.where}: zero points {zero.dtype} of shape {zero.shape} for {array.dtype} codes")
    scales = np.atleast_1d(scale)
    zeros = np.broadcast_to(0 if zero is None else zero.reshape(-1), scales.shape).astype(np.int32)
    if scale.size == 1:
        return Parameter(array, scales, zeros)
    along = (int(call.attribute("axis", 1)) if axis is None else axis) % max(array.ndim, 1)
    if array.ndim == 0 or array.shape[along] != scale.size:
        raise ModelError(f"{call.where}: {scale.size} scales along axis {along} of parameters of shape {array.shape}")
    return Parameter(array, scales, zeros, along)


def _quantize_constant(builder: Builder, call: Call, array: np.ndarray) -> np.ndarray:
    scale, zero = builder.constant(call, 1), builder.constant(call, 2)
    if array.dtype != np.float32 or scale is None or scale.dtype != np.float32 or scale.ndim > 1:
        raise ModelError(f"{call.where}: it quantises a constant of {array.dtype}; float32 is supported")
    if call.attribute("block_size") or not np.all(np.isfinite(scale) & (scale > 0)):
        raise ModelError(f"{call.where}: scales of blocks, or scales that are not finite and above 0")
    dtype = (
        zero.dtype if zero is not None else np.dtype(_OUTPUT_DTYPES.get(int(call.attribute("output_dtype", 2)), "u2"))
    )
    if dtype not in (np.int8, np.uint8):
        raise ModelError(f"{call.where}: it quantises a constant to {dtype}; int8 and uint8 are supported")
    if scale.size > 1:
        axis = int(call.attribute("axis", 1)) % max(array.ndim, 1)
        if array.ndim == 0 or array.shape[axis] != scale.size:
            raise ModelError(f"{call.where}: {scale.size} scales along axis {axis} of a constant of {array.shape}")
        sides = [1] * array.ndim
        sides[axis] = scale.size
        scale = scale.reshape(sides)
        zero = None if zero is None else zero.reshape(sides if zero.size > 1 else [1] * array.ndim)
    limits, zeros = np.iinfo(dtype), np.zeros(1, np.int32) if zero is None else zero.astype(np.int32)
    with np.errstate(over="ignore", invalid="ignore"):
        steps = np.rint(array / scale)
    low, high = (np.asarray(end - zeros, np.float32) for end in (int(limits.min), int(limits.max)))
    shaped = np.fmin(np.fmax(steps, low), high).astype(np.int32) + zeros
    return shaped.reshape(array.shape).astype(dtype)
