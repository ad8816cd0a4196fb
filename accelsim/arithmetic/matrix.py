"""From int32 accumulator to code, as each engine's convolutions and linear layers do it.

Sources: FBGEMM `QuantUtilsAvx2.cc` (requantizeOutputProcessingAvx2) and ATen `qlinear.cpp`, `qconv.cpp` for the
constants; QNNPACK `requantization/` and `pack.h`; oneDNN's int8 kernels as `qconv.cpp` and `qlinear.cpp` set them up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import ModelError

from . import lowered
from .affine import Affine
from .binary32 import Float32, f32, inverse, reciprocal
from .engines import PT2E, KernelSet, check_engine
from .onednn import ConvolutionShape, Scaling, pipeline, plain_order, scaling
from .requantize import Requantization

#: Of `should_use_onednn_quant` in ATen's `OnednnUtils.h`: more groups than this stay with fbgemm.
_ONEDNN_GROUPS = 100

_INT32 = np.iinfo(np.int32)

#: From here on a binary32 number is no int32.
_PAST_INT32 = 2.0**31

#: Half an ulp of a binary32 number near a power of two, with room for the roundings of three steps.
_SLACK = 1 + 2.0**-22


def arithmetic_of(
    engine: str,
    kernels: KernelSet,
    *,
    kind: str,
    weight_zero_point: NDArray[np.int32],
    groups: int = 1,
    output_padding: tuple[int, ...] = (),
    per_channel: bool = False,
    transposed: bool = False,
) -> str:
    """Whose arithmetic a layer gets: `x86` has none of its own.

    On a host with VNNI its convolutions are oneDNN's unless the weights are asymmetric, the groups more than 100 or the
    output padded (ATen `OnednnUtils.h`, `should_use_onednn_quant`, asked by `qconv_prepack.cpp` on Linux); everything
    else is fbgemm's, linear layers always (`qlinear_prepack.cpp`). ATen asks the processor for VNNI, not the
    environment: on a host that has it, `matrix` "vnni" is the only set under which PyTorch computes this.
    """
    if check_engine(engine) != "x86":
        return engine
    onednn = (
        kind == "convolution"
        and kernels.matrix == "vnni"
        and not np.any(weight_zero_point)
        and groups <= _ONEDNN_GROUPS
        and not any(output_padding)
        and not (transposed and per_channel)
    )
    return "onednn" if onednn else "fbgemm"


def requantization(
    engine: str,
    kernels: KernelSet,
    *,
    kind: str,
    input: Affine,
    weight_scale: NDArray[np.float64],
    weight_zero_point: NDArray[np.int32],
    per_channel: bool,
    output: Affine,
    bias: NDArray[np.float32] | None,
    relu: bool,
    channels: int,
    groups: int = 1,
    output_padding: tuple[int, ...] = (),
    transposed: bool = False,
    shape: ConvolutionShape | None = None,
    offset: NDArray[np.int32] | None = None,
    float_output: bool = False,
) -> Requantization:
    """The pipeline of one layer; `kind` is "convolution" or "linear".

    `weight_scale`, `weight_zero_point`: length 1, or `channels` if `per_channel`; `bias`: length `channels`, in
    real units. `channels` counts all groups'. `shape` decides among oneDNN's kernels for convolutions; None stands for
    a plain one of one group.
    `offset`: int32 of length `channels`, added to each accumulator first (what the zero points leave of a sum of raw
    codes), modulo 2**32. `float_output`: as in `lowered.requantization`, which "pt2e" is. All constants come out with
    length `channels`; they may be infinite, subnormal or NaN, as PyTorch's then are. Raises ModelError for what QNNPACK
    refuses, for what PyTorch gets wrong, and for biases that are not finite where oneDNN's kernels disagree about them.
    """
    owner = arithmetic_of(
        engine,
        kernels,
        kind=kind,
        weight_zero_point=weight_zero_point,
        groups=groups,
        output_padding=output_padding,
        per_channel=per_channel,
        transposed=transposed,
    )
    if owner == PT2E:
        return lowered.requantization(
            kernels,
            input=input,
            weight_scale=weight_scale,
            output=output,
            bias=bias,
            relu=relu,
            channels=channels,
            shape=shape,
            offset=offset,
            float_output=float_output,
        )
    layer = _Layer(
        np.float64(input.scale),
        np.broadcast_to(np.asarray(weight_scale, np.float64), channels),
        output,
        None if bias is None else f32(bias),
        per_channel,
        relu,
        offset,
    )
    # Scales at the ends of binary32 make infinite constants, and zeros: so they do in PyTorch.
    with np.errstate(all="ignore"):
        if owner == "qnnpack":
            return _qnnpack(layer, kind, shape)
        if owner == "fbgemm":
            return _fbgemm(layer)
        order = scaling(kernels, shape) if kind == "convolution" and shape is not None else plain_order(kernels)
        return _onednn(layer, kind, order)


@dataclass(frozen=True)
class _Layer:
    """What the three pipelines are made of: scales in binary64, as PyTorch keeps them, the weights' one a channel."""

    source: np.float64
    weight: NDArray[np.float64]
    output: Affine
    bias: Float32 | None
    per_channel: bool
    relu: bool
    offset: NDArray[np.int32] | None

    @property
    def clamp(self) -> dict[str, Any]:
        """Zero point and clamps; a fused ReLU raises the lower one."""
        out = self.output
        lowest = max(out.zero_point, out.minimum) if self.relu else out.minimum
        return {"zero_point": out.zero_point, "minimum": lowest, "maximum": out.maximum}

    @property
    def product(self) -> Float32:
        """`f32(sx * sw)` of each channel."""
        return f32(self.source) * f32(self.weight)

    def full(self, value: Float32) -> Float32:
        """One number a channel."""
        return np.ascontiguousarray(np.broadcast_to(value, len(self.weight)))


def _qnnpack(layer: _Layer, kind: str, shape: ConvolutionShape | None) -> Requantization:
    if shape is not None and shape.transposed and len(shape.kernel) == 3:
        raise ModelError(
            "PyTorch's QNNPACK leaves most outputs of a transposed convolution over three axes unwritten; use the "
            "engine fbgemm"
        )
    multiplier = layer.full(layer.product * reciprocal(layer.output.scale))
    taken = np.isfinite(multiplier) & (multiplier >= np.finfo(np.float32).tiny)
    if not taken.all():
        raise ModelError(
            f"QNNPACK takes no layer whose factor sx * sw / so is {multiplier[~taken][0]:g}: it must be a normal "
            f"binary32 number; choose scales of sizes nearer to one another, or another engine"
        )
    unit, bias, integer = layer.source * layer.weight, layer.bias, layer.offset
    if bias is None and not np.isfinite(reciprocal(unit)).all():
        bias = np.zeros(len(unit), np.float32)  # which ATen puts in the place of none: NaN steps of such a unit
    if bias is not None:
        packed_as_float = kind == "convolution" and (shape is None or not _is_product(shape))
        quantized = quantized_bias(bias, unit, packed_as_float=packed_as_float)
        integer = quantized if integer is None else (integer.astype(np.int64) + quantized).astype(np.int32)
    return Requantization(
        **layer.clamp, offset=integer, multiplier=multiplier, indefinite=_may_leave_int32(multiplier, np.float64(0))
    )


def _is_product(shape: ConvolutionShape) -> bool:
    """Whether QNNPACK computes a convolution as a product of matrices (`convolution.c`)."""
    return (
        not shape.transposed
        and all(size == 1 for size in (*shape.kernel, *shape.stride))
        and all(pad == 0 for pad in shape.padding)
    )


def quantized_bias(bias: Float32, unit: NDArray[np.float64], *, packed_as_float: bool) -> NDArray[np.int32]:
    """The bias in steps of `unit` = sx * sw as `quantize_per_tensor` makes an int32 of it (FBGEMM `QuantUtils.h`).

    It saturates; a NaN, such as 0 times the infinite reciprocal of a unit below 2**-128, becomes -2**31.
    `packed_as_float`: QNNPACK's packing for convolutions (`pack.h`, `b ? b[i] : 0.0f`) takes the integer through
    binary32, in which the largest int32 is 2**31 and comes back as -2**31.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        steps = np.rint(bias * reciprocal(unit)).astype(np.float64)
    lowest = np.isnan(steps) | (packed_as_float & (steps > _INT32.max))
    return np.where(lowest, _INT32.min, np.clip(steps, _INT32.min, _INT32.max)).astype(np.int32)


def _fbgemm(layer: _Layer) -> Requantization:
    product, bias = layer.product, layer.bias
    multiplier = layer.full(product / f32(layer.output.scale))
    constants: dict[str, Any] = {"multiplier": multiplier, "offset": layer.offset}
    steps = np.zeros(len(multiplier))
    if bias is not None and layer.per_channel:
        constants["bias"] = bias / product
        steps = constants["bias"].astype(np.float64)
    elif bias is not None:
        constants |= {"bias": bias, "bias_factor": layer.full(reciprocal(product))}
        steps = bias.astype(np.float64) * constants["bias_factor"]
    return Requantization(**layer.clamp, **constants, indefinite=_may_leave_int32(multiplier, steps))


def _may_leave_int32(multiplier: Float32, bias: NDArray[np.float64] | np.float64) -> bool:
    """Whether `(accumulator + bias) * multiplier` of some channel can be no int32 (`bias` in steps)."""
    reach = (_PAST_INT32 + np.abs(bias) * _SLACK) * multiplier.astype(np.float64)
    return not np.all(np.where(bias == 0, reach, reach * _SLACK) < _PAST_INT32)


def _onednn(layer: _Layer, kind: str, order: Scaling) -> Requantization:
    """The scales stand apart, the bias is in real units, and the zero point is added before the rounding.

    ATen hands over reciprocals of binary64 scales (of binary32 ones, of a linear layer's channels), oneDNN inverts
    them.
    """
    source = layer.full(reciprocal(inverse(layer.source)))
    weight = layer.full(f32(layer.weight))
    if kind == "linear":
        weight = layer.full(reciprocal(reciprocal(weight) if layer.per_channel else inverse(layer.weight)))
    target = layer.full(reciprocal(inverse(layer.output.scale)))
    return pipeline(
        order,
        source=source,
        weight=weight,
        target=target,
        output=layer.output,
        bias=layer.bias,
        relu=layer.relu,
        offset=layer.offset,
    )
