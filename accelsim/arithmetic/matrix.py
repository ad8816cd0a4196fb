"""From int32 accumulator to code, as each engine's convolutions and linear layers do it.

Sources: FBGEMM `QuantUtilsAvx2.cc` (requantizeOutputProcessingAvx2) and ATen `qlinear.cpp`, `qconv.cpp` for the
constants; QNNPACK `requantization/` and `pack.h`; oneDNN's int8 kernels as `qconv.cpp` and `qlinear.cpp` set them up.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import ModelError

from . import lowered
from .affine import Affine
from .binary32 import f32, inverse, reciprocal
from .engines import PT2E, KernelSet, check_engine
from .onednn import ConvolutionShape, scaling
from .requantize import Requantization

#: Of `should_use_onednn_quant` in ATen's `OnednnUtils.h`: more groups than this stay with fbgemm.
_ONEDNN_GROUPS = 100

#: Of QNNPACK's `qconv.cc` and `fully-connected.c`: scales from here up are refused.
_QNNPACK_LARGEST = 256.0


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
    codes). `float_output`: as in `lowered.requantization`, which "pt2e" is. All constants come out with length
    `channels`. Holds where sx * sw, so and their reciprocals are normal binary32 numbers. Raises ModelError for what
    QNNPACK refuses, and for what PyTorch gets wrong.
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
    sx, sw, so = f32(input.scale), np.broadcast_to(f32(weight_scale), channels), f32(output.scale)
    product = sx * sw

    def full(value: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.ascontiguousarray(np.broadcast_to(value, channels))

    minimum = output.zero_point if relu else output.minimum
    clamp: dict[str, Any] = {
        "zero_point": output.zero_point,
        "minimum": max(minimum, output.minimum),
        "maximum": output.maximum,
    }
    if owner == "qnnpack":
        if shape is not None and shape.transposed and len(shape.kernel) == 3:
            raise ModelError(
                "PyTorch's QNNPACK leaves most outputs of a transposed convolution over three axes unwritten; use the "
                "engine fbgemm"
            )
        total = np.zeros(channels, np.int64) if offset is None else offset.astype(np.int64)
        if bias is not None:
            # The bias is quantised to int32 with the scales' binary64 product (`qconv.cpp`, `qlinear.cpp`).
            unit = input.scale * np.asarray(weight_scale, np.float64)
            total = total + np.rint(f32(bias) * reciprocal(unit)).astype(np.int64)
        integer = total.astype(np.int32) if bias is not None or offset is not None else None
        multiplier = product * reciprocal(so)
        if not np.all((multiplier > 0) & (multiplier < _QNNPACK_LARGEST)):
            raise ModelError(
                f"QNNPACK takes no layer whose scales sx * sw / so reach {float(np.max(multiplier)):g}: they must lie "
                f"between 0 and {_QNNPACK_LARGEST:g}"
            )
        return Requantization(**clamp, offset=integer, multiplier=full(multiplier))
    if owner == "fbgemm":
        multiplier = full(product / so)
        # An accumulator can leave int32 only with a multiplier of 1 or more.
        last: dict[str, Any] = {"multiplier": multiplier, "indefinite": bool(np.any(multiplier >= 1))}
        if bias is None:
            return Requantization(**clamp, **last, offset=offset)
        if per_channel:
            return Requantization(**clamp, **last, offset=offset, bias=f32(bias) / product)
        return Requantization(**clamp, **last, offset=offset, bias=f32(bias), bias_factor=full(reciprocal(product)))
    # oneDNN: the scales stand apart, the bias is in real units, and the zero point is added before the rounding. ATen
    # hands over reciprocals of binary64 scales (of binary32 ones, of a linear layer's channels), oneDNN inverts them.
    source = full(reciprocal(inverse(input.scale)))
    weight = full(sw)
    if kind == "linear":
        weight = full(reciprocal(reciprocal(sw) if per_channel else inverse(weight_scale)))
    order = "joint" if kernels.matrix == "avx2" else "separate"
    if kind == "convolution" and shape is not None:
        order = scaling(kernels, shape)
    scales: dict[str, Any] = (
        {"scale_1": source * weight} if order == "joint" else {"scale_1": source, "scale_2": weight}
    )
    target = full(reciprocal(inverse(output.scale)))
    last = {"divisor": target} if order == "reference" else {"multiplier": reciprocal(target)}
    return Requantization(
        **clamp,
        **scales,
        **last,
        offset=offset,
        bias=None if bias is None else f32(bias),
        zero_point_first=True,
    )
