"""From int32 accumulator to code, as each engine's convolutions and linear layers do it.

Sources: FBGEMM `QuantUtilsAvx2.cc` (requantizeOutputProcessingAvx2) and ATen `qlinear.cpp`, `qconv.cpp` for the
constants; QNNPACK `requantization/` and `pack.h`; oneDNN's int8 kernels as `qconv.cpp` and `qlinear.cpp` set them up.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .affine import Affine
from .binary32 import f32, reciprocal
from .engines import KernelSet
from .requantize import Requantization

#: Of `should_use_onednn_quant` in ATen's `onednn_utils.h`: more groups than this stay with fbgemm.
_ONEDNN_GROUPS = 100


def arithmetic_of(
    engine: str,
    kernels: KernelSet,
    *,
    kind: str,
    weight_zero_point: NDArray[np.int32],
    groups: int = 1,
    output_padding: tuple[int, ...] = (),
) -> str:
    """Whose arithmetic a layer gets: `x86` has none of its own.

    On a host with VNNI its convolutions are oneDNN's unless the weights are asymmetric, the groups more than 100 or the
    output padded (ATen `should_use_onednn_quant`); everything else is fbgemm's.
    """
    if engine != "x86":
        return engine
    onednn = (
        kind == "convolution"
        and kernels.matrix == "vnni"
        and not np.any(weight_zero_point)
        and groups <= _ONEDNN_GROUPS
        and not any(output_padding)
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
    offset: NDArray[np.int32] | None = None,
) -> Requantization:
    """The pipeline of one layer; `kind` is "convolution" or "linear".

    `weight_scale`, `weight_zero_point`: length 1, or `channels` if `per_channel`; `bias`: length `channels`, in
    real units.
    `offset`: int32 of length `channels`, added to each accumulator first (what the zero points leave of a sum of raw
    codes). All constants come out with length `channels`.
    """
    owner = arithmetic_of(
        engine,
        kernels,
        kind=kind,
        weight_zero_point=weight_zero_point,
        groups=groups,
        output_padding=output_padding,
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
        total = np.zeros(channels, np.int64) if offset is None else offset.astype(np.int64)
        if bias is not None:
            total = total + np.rint(f32(bias) / product).astype(np.int64)
        integer = total.astype(np.int32) if bias is not None or offset is not None else None
        return Requantization(**clamp, offset=integer, multiplier=full(product * reciprocal(so)))
    if owner == "fbgemm":
        multiplier = full(product / so)
        if bias is None:
            return Requantization(**clamp, offset=offset, multiplier=multiplier)
        if per_channel:
            return Requantization(**clamp, offset=offset, bias=f32(bias) / product, multiplier=multiplier)
        factor = full(reciprocal(product))
        return Requantization(**clamp, offset=offset, bias=f32(bias), bias_factor=factor, multiplier=multiplier)
    # oneDNN: the scales stand apart, the bias is in real units, and the zero point is added before the rounding.
    source = full(reciprocal(reciprocal(sx)))
    weight = full(reciprocal(reciprocal(sw)) if kind == "linear" else sw)
    scales: dict[str, Any] = (
        {"scale_1": source * weight} if kernels.matrix == "avx2" else {"scale_1": source, "scale_2": weight}
    )
    return Requantization(
        **clamp,
        **scales,
        offset=offset,
        bias=None if bias is None else f32(bias),
        multiplier=full(reciprocal(so)),
        zero_point_first=True,
    )
