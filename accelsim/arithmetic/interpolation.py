"""Resizing of images of codes: nearest neighbours, which only move codes, and bilinear, which rounds.

Sources: ATen `UpSampleNearest2d.cpp`, `UpSampleBilinear2d.cpp` (contiguous) and `QuantizedOpKernels.cpp`
(`qupsample_bilinear2d_nhwc_kernel`) of the quantised CPU kernels, which every engine uses; `UpSample.h` for the places.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import ModelError

from .affine import Affine, Codes
from .binary32 import Float32, f32, fma
from .engines import KernelSet
from .lanes import Layout

#: Channels that one vector of the channels_last kernel takes.
_LANES = 8

Indices = NDArray[np.int64]


def _ratio(source: int, target: int, factor: float | None) -> Float32:
    """Source pixels per target pixel; `factor` is the scale factor if the caller gave one."""
    if factor is not None and factor > 0:
        return f32(1.0 / factor)
    return f32(source) / f32(target)


def nearest_indices(
    sources: Sequence[int], targets: Sequence[int], factors: Sequence[float | None], *, exact: bool = False
) -> list[Indices]:
    """For each axis and each of its `targets` places the one of `sources` whose code it gets.

    `nearest`, or `nearest-exact` if `exact`. An image of the same size is copied, whatever the factors.
    """
    if tuple(sources) == tuple(targets):
        return [np.arange(target) for target in targets]
    indices = []
    for source, target, factor in zip(sources, targets, factors, strict=True):
        places = f32(np.arange(target))
        scaled = (places + f32(0.5) if exact else places) * _ratio(source, target, factor)
        indices.append(np.minimum(np.floor(scaled).astype(np.int64), source - 1))
    return indices


def _places(
    source: int, target: int, factor: float | None, align_corners: bool, fused: bool
) -> tuple[Indices, Indices, Float32, Float32]:
    """Along one axis: lower and upper neighbours and their weights."""
    at = f32(np.arange(target))
    if align_corners:
        step = f32(source - 1) / f32(target - 1) if target > 1 else f32(0)
        real = step * at
    else:
        step, half = _ratio(source, target, factor), f32(0.5)
        middle = at + half
        real = np.maximum(fma(step, middle, -half) if fused else step * middle - half, f32(0))
    low = real.astype(np.int64)
    high = low + (low < source - 1)
    upper = f32(real - f32(low))
    return low, high, f32(1) - upper, upper


def bilinear(
    codes: Codes,
    grid: Affine,
    size: tuple[int, int],
    kernels: KernelSet,
    layout: Layout,
    *,
    align_corners: bool = False,
    factors: tuple[float | None, float | None] = (None, None),
) -> NDArray[np.int32]:
    """Codes (N, C, *size) of a bilinear resize of codes (N, C, H, W); `grid` is the input's and the output's.

    `layout` is the input's as ATen sees it, for which one channel is channels_last. Weights and sums are binary32; the
    zero point is taken off, and put back before the rounding. The channels_last kernel of AVX2 fuses products and sums,
    in the tail's channels ("uniform" has none) the other product of each sum.
    """
    height, width = codes.shape[2:]
    if layout == "contiguous" and (height, width) == size:
        return codes.astype(np.int32)
    fused = layout == "channels_last" and kernels.aten != "default"
    top, bottom, above, below = _places(height, size[0], factors[0], align_corners, fused)
    left, right, before, after = _places(width, size[1], factors[1], align_corners, fused)
    above, below = above[:, None], below[:, None]
    values = f32(codes)

    def blend(first: Float32, a: Float32, second: Float32, b: Float32) -> Float32:
        """`first * a + second * b`: unfused, or one product fused, the second's in whole vectors of channels."""
        if not fused:
            return f32(first * a + second * b)
        channels = a.shape[1]
        body = channels if kernels.aten == "uniform" else channels // _LANES * _LANES
        return np.concatenate(
            [fma(second, b[:, :body], first * a[:, :body]), fma(first, a[:, body:], second * b[:, body:])], axis=1
        )

    upper = blend(before, values[:, :, top][..., left], after, values[:, :, top][..., right])
    lower = blend(before, values[:, :, bottom][..., left], after, values[:, :, bottom][..., right])
    total = blend(above, upper, below, lower) - f32(grid.zero_point)
    return np.clip(np.rint(total + f32(grid.zero_point)), grid.minimum, grid.maximum).astype(np.int32)


def check_resize(channels: int, height: int, width: int, layout: Layout) -> None:
    """Raises ModelError for the one resize whose codes PyTorch mixes up."""
    if layout == "contiguous" and channels > 1 and height == width == 1:
        raise ModelError(
            f"a resize of {channels} contiguous channels of one pixel: PyTorch writes the result in another order than "
            "it says; expand the pixel instead, or make the tensor channels_last"
        )
