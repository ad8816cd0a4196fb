"""Normalisations of quantised tensors, as ATen computes them for every engine.

Sources: `Normalization.cpp` and `qnormalization.cpp` of ATen's quantised CPU kernels, their loops in
`QuantizedOpKernels.cpp` (`q_batch_norm_kernel`, `quantized_normalize_kernel`, `quantized_groupnorm_nhwc_kernel`).
All raise ModelError for results that leave int32.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import ModelError

from .affine import Affine, Codes
from .binary32 import Float32, f32, fma, reciprocal
from .engines import KernelSet
from .lanes import Layout

#: Codes that one vector of these kernels takes, and binary32 numbers.
_VECTOR, _FLOATS = 32, 8

#: Results from here on leave int32.
_INT32 = 2.0**31

#: From this number of pixels on the channels_last kernel sums in binary32, channel by channel.
_LARGE_MAP = 512


def _saturated(rounded: Float32, out: Affine, *, add: int, relu: bool = False) -> NDArray[np.int32]:
    if not np.all(np.abs(rounded) < _INT32):
        raise ModelError(
            f"a normalisation to scale {out.scale} has results beyond 2**31 steps of the output, which PyTorch's "
            "kernels wrap round: choose a larger output scale"
        )
    lowest = max(out.zero_point, out.minimum) if relu else out.minimum
    return np.clip(rounded.astype(np.int64) + add, lowest, out.maximum).astype(np.int32)


def _quantized(values: Float32, out: Affine, body: NDArray[np.bool_], kernels: KernelSet) -> NDArray[np.int32]:
    """Codes of binary32 values: the vector body adds the zero point to the integer, the tail before the rounding.

    "uniform" lanes are all the body's.
    """
    inverse = reciprocal(out.scale)
    zero = f32(out.zero_point)
    with np.errstate(over="ignore"):
        scaled = values * inverse
        if kernels.aten == "default":
            first = np.where(body, fma(values, inverse, zero), scaled + zero)
            return _saturated(np.rint(first), out, add=0)
        late = _saturated(np.rint(scaled), out, add=out.zero_point)
        if kernels.aten == "uniform":
            return late
        early = _saturated(np.rint(scaled + zero), out, add=0)
    return np.where(body, late, early)


def batch_norm(
    codes: Codes,
    grid: Affine,
    weight: Float32,
    bias: Float32,
    mean: Float32,
    variance: Float32,
    epsilon: float,
    out: Affine,
    kernels: KernelSet,
    *,
    relu: bool = False,
) -> NDArray[np.int32]:
    """Codes (N, C, ...) of `quantized::batch_norm` of codes (N, C, ...), whatever their layout.

    One binary32 product and sum a channel: fused in whole vectors of 8 channels, and with AVX2 in the rest too.
    """
    sigma = f32(1.0 / np.sqrt(variance + f32(epsilon)).astype(np.float64))
    alpha = f32((sigma * weight).astype(np.float64) * (grid.scale / out.scale))
    beta = f32((bias - mean * sigma * weight).astype(np.float64) / out.scale)
    centred = f32(np.moveaxis(codes, 1, -1).astype(np.int32) - grid.zero_point)
    zero = f32(out.zero_point)
    if kernels.aten == "default":
        value = f32(alpha * centred + beta)
        body = np.arange(codes.shape[1]) < codes.shape[1] // _FLOATS * _FLOATS
        first = _saturated(np.rint(value + zero), out, add=0, relu=relu)
        result = np.where(body, first, _saturated(np.rint(value), out, add=out.zero_point, relu=relu))
    else:
        result = _saturated(np.rint(fma(alpha, centred, beta)), out, add=out.zero_point, relu=relu)
    return np.moveaxis(result, -1, 1)


def _moments(
    total: Float32, squares: Float32, count: int, grid: Affine, epsilon: float, fused: bool
) -> tuple[Float32, Float32]:
    """In steps of the input's scale: the mean, and scale / sqrt(variance + epsilon), from the sums of codes."""
    mean, square = total / f32(count), squares / f32(count)
    variance = fma(-mean, mean, square) if fused else square - mean * mean
    variance = np.maximum(variance, f32(0))
    scale = f32(grid.scale)
    with np.errstate(over="ignore"):
        real = (variance * scale * scale).astype(np.float64) + epsilon
    return mean - f32(grid.zero_point), f32(np.float64(scale) / np.sqrt(real))


def layer_norm(
    codes: Codes,
    grid: Affine,
    weight: Float32 | None,
    bias: Float32 | None,
    epsilon: float,
    out: Affine,
    kernels: KernelSet,
) -> NDArray[np.int32]:
    """Codes (M, N) of `quantized::layer_norm` over the N codes of each row; `weight` and `bias` have length N."""
    fused = kernels.aten != "default"
    count = codes.shape[1]
    wide = codes.astype(np.int64)
    mean, rate = _moments(f32(wide.sum(1)), f32((wide * wide).sum(1)), count, grid, epsilon, fused)
    centred = f32(wide - grid.zero_point) - mean[:, None]
    scaled = centred * rate[:, None]
    gamma = f32(np.ones(count)) if weight is None else weight
    beta = f32(np.zeros(count)) if bias is None else bias
    value = fma(scaled, gamma, beta) if fused else f32(scaled * gamma + beta)
    return _quantized(value, out, np.arange(count) < count // _VECTOR * _VECTOR, kernels)


def group_norm(
    codes: Codes,
    grid: Affine,
    groups: int,
    weight: Float32 | None,
    bias: Float32 | None,
    epsilon: float,
    out: Affine,
    kernels: KernelSet,
    layout: Layout,
) -> NDArray[np.int32]:
    """Codes (N, C, ...) of `quantized::group_norm` of codes (N, C, ...); an instance norm has as many groups as C.

    `layout` is the input's as ATen sees it: only four axes can be channels_last; those with one channel or pixel are.
    """
    fused = kernels.aten != "default"
    images, channels = codes.shape[:2]
    own = channels // groups
    flat = codes.reshape(images, groups, own, -1).astype(np.int64)
    pixels = flat.shape[3]
    check_images(images, own, pixels, layout)
    gamma = f32(np.ones(channels) if weight is None else weight).reshape(groups, own, 1)
    beta = f32(np.zeros(channels) if bias is None else bias).reshape(groups, own, 1)
    if layout == "channels_last" and pixels >= _LARGE_MAP:
        total, squares = (_sequential(powers) for powers in (flat, flat * flat))
    else:
        total, squares = f32(flat.sum((2, 3))), f32((flat * flat).sum((2, 3)))
    mean, rate = (v[..., None, None] for v in _moments(total, squares, own * pixels, grid, epsilon, fused))
    x = f32(flat - grid.zero_point)
    factor = rate * gamma
    if layout == "contiguous":
        value = fma(x - mean, factor, beta) if fused else f32((x - mean) * factor + beta)
        body = np.ones((groups, own, 1), np.bool_)
    else:
        shift = fma(-factor, mean, beta) if fused else f32(-factor * mean + beta)
        value = fma(x, factor, shift) if fused else f32(x * factor + shift)
        length = channels if pixels >= _LARGE_MAP else own
        place = np.arange(channels).reshape(groups, own, 1) % length
        body = place < length // _VECTOR * _VECTOR
    return _quantized(value, out, body, kernels).reshape(codes.shape)


def check_images(images: int, own: int, pixels: int, layout: Layout) -> None:
    """Raises ModelError for the group norms of `own` channels a group whose images PyTorch does not all compute."""
    if layout == "channels_last" and own * pixels < images:
        raise ModelError(
            f"a group norm of {images} images with groups of {own * pixels} elements: PyTorch's channels_last kernel "
            "leaves images out if there are more of them than elements in a group; normalise fewer images at a time"
        )


def _sequential(values: NDArray[np.int64]) -> Float32:
    """Sums of (N, groups, C / groups, pixels) in binary32: each channel's pixels one by one, then the channels."""
    channels = np.add.accumulate(f32(values), axis=3, dtype=np.float32)[..., -1]
    return np.asarray(np.add.accumulate(channels, axis=2, dtype=np.float32)[..., -1])
