"""The sums of convolutions and linear layers: exact integers, through binary32 matrix products that never round.

Integers up to 2**24 are exact in binary32, and so is every sum of them, in any order, whose terms' magnitudes add up to
no more than that. A sum whose terms may add up to more is cut into parts that keep to it, which are added as integers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

from .costs import GATHERED

#: Every integer up to here is exact in binary32.
_EXACT = 1 << 24

#: Sums of a depthwise convolution that are worked on at a time: about what a core's second-level cache holds.
_BLOCK = 1 << 16

#: Exact sums: in binary32 where it holds them all, else modulo 2**32 in int32.
Sums = np.ndarray


def linear(x: NDArray[np.integer], zero_point: int, weights: NDArray[np.integer]) -> Sums:
    """Sums (..., O) of codes `x` (..., I) less their zero point times centred `weights` (O, I)."""
    rows = np.subtract(x.reshape(-1, x.shape[-1]), zero_point, dtype=np.float32)
    matrix = weights.astype(np.float32)[None]
    parts = _exact_parts(matrix, _magnitude(rows))
    sums = np.empty((len(rows), len(weights)), _dtype(parts))
    _multiply(rows[None], matrix, parts, sums)
    return sums.reshape(*x.shape[:-1], len(weights))


def convolution(
    x: NDArray[np.integer],
    zero_point: int,
    weights: NDArray[np.integer],
    *,
    stride: Sequence[int],
    padding: Sequence[tuple[int, int]],
    dilation: Sequence[int],
    groups: int,
) -> Sums:
    """Sums (N, *out, O) of codes `x` (N, C, *size) less their zero point, which is also the padding's.

    `weights`: centred, (O, C / groups, *kernel); `padding`: before and after along each axis of `size`.
    """
    outputs, each, *kernel = weights.shape
    padded = _padded(np.moveaxis(x, 1, -1), zero_point, padding)
    spans = ((taps - 1) * step + 1 for taps, step in zip(kernel, dilation, strict=True))
    out = tuple((s - span) // t + 1 for s, span, t in zip(padded.shape[1:-1], spans, stride, strict=True))
    taps = math.prod(kernel)
    matrix = np.empty((groups, outputs // groups, *kernel, each), np.float32)
    matrix[...] = np.moveaxis(weights.reshape(groups, outputs // groups, each, *kernel), 2, -1)
    matrix = matrix.reshape(groups, outputs // groups, taps * each)
    parts = _exact_parts(matrix, _magnitude(padded))
    depthwise = each == 1 and len(parts) == 1
    result = np.empty((len(x), *out, outputs), _dtype(parts))
    line = math.prod(out[1:])
    block = max(_BLOCK // (line * outputs) if depthwise else GATHERED // (line * padded.shape[-1] * taps), 1)
    for images, start, stop in _blocks(len(x), out[0], block, together=not depthwise):
        lines = padded[images, start * stride[0] :]
        windows = [lines[(slice(None), *tap)][:, : stop - start] for tap in _taps(kernel, stride, dilation, out)]
        target = result[images, start:stop]
        if depthwise:
            _depthwise(windows, matrix, target)
        else:
            _multiply(_gathered(windows, groups), matrix, parts, target.reshape(-1, outputs))
    return result


def _padded(x: np.ndarray, zero_point: int, padding: Sequence[tuple[int, int]]) -> NDArray[np.float32]:
    """Codes (N, *size, C) less their zero point in binary32, with zeros around them."""
    if not any(map(any, padding)):
        return np.subtract(x, zero_point, dtype=np.float32, order="C")
    sizes = [size + before + after for size, (before, after) in zip(x.shape[1:-1], padding, strict=True)]
    padded = np.zeros((x.shape[0], *sizes, x.shape[-1]), np.float32)
    inside = tuple(slice(before, before + size) for size, (before, _) in zip(x.shape[1:-1], padding, strict=True))
    np.subtract(x, zero_point, out=padded[(slice(None), *inside)], dtype=np.float32)
    return padded


def _magnitude(values: np.ndarray) -> int:
    return max(int(values.max(initial=0)), -int(values.min(initial=0)))


def _blocks(images: int, lines: int, block: int, *, together: bool) -> Iterator[tuple[slice, int, int]]:
    """Ranges of images and of lines: several whole images, if `together`, or some lines of one."""
    if together and block >= lines:
        step = block // lines
        yield from ((slice(first, first + step), 0, lines) for first in range(0, images, step))
        return
    for image, first in product(range(images), range(0, lines, block)):
        yield slice(image, image + 1), first, min(first + block, lines)


def _taps(
    kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int], out: Sequence[int]
) -> Iterator[tuple[slice, ...]]:
    """For each tap, the last axis fastest, what it sees of the padded input from the first line on."""
    for tap in np.ndindex(*kernel):
        yield tuple(
            slice(i * d, i * d + (size - 1) * s + 1, s)
            for i, d, s, size in zip(tap, dilation, stride, out, strict=True)
        )


def _gathered(windows: list[NDArray[np.float32]], groups: int) -> NDArray[np.float32]:
    """The left operand (groups, positions, taps * channels of a group) of windows (N, *out, C), one a tap."""
    *shape, channels = windows[0].shape
    if groups == len(windows) == 1:
        return windows[0].reshape(1, -1, channels)
    gathered = np.empty((groups, *shape, len(windows), channels // groups), np.float32)
    for tap, window in enumerate(windows):
        gathered[..., tap, :] = np.moveaxis(window.reshape(*shape, groups, -1), -2, 0)
    return gathered.reshape(groups, math.prod(shape), -1)


def _dtype(parts: Sequence[slice]) -> type[np.float32] | type[np.int32]:
    return np.float32 if len(parts) == 1 else np.int32


def _multiply(
    left: NDArray[np.float32], right: NDArray[np.float32], parts: Sequence[slice], target: np.ndarray
) -> None:
    """Into `target` (rows, O): `left` (groups, rows, K) times `right` (groups, O / groups, K) transposed."""
    if len(right) == len(parts) == 1:
        np.matmul(left[0], right[0].T, out=target)
        return
    grouped = np.moveaxis(target.reshape(len(target), len(right), -1), 1, 0)
    for number, part in enumerate(parts):
        product = np.matmul(left[..., part], right[..., part].swapaxes(1, 2))
        if number:
            np.add(grouped, product.astype(np.int32), out=grouped)
        else:
            np.copyto(grouped, product, casting="unsafe")


def _exact_parts(right: NDArray[np.float32], largest: int) -> list[slice]:
    """The reduction of weights (groups, outputs, K) in as few equal parts as keep every sum exact."""
    reduction = right.shape[-1]
    if reduction * largest * _magnitude(right) <= _EXACT:
        return [slice(0, reduction)]
    weights, ones = np.abs(right), np.ones(reduction, np.float32)
    length = reduction
    while True:
        parts = [slice(start, min(start + length, reduction)) for start in range(0, reduction, length)]
        # The magnitudes of a part's terms add up to no more than the largest code times those of one output's weights;
        # those sums are exact, or 2**24 and more.
        if length == 1 or all((weights[..., part] @ ones[part]).max() * largest < _EXACT for part in parts):
            return parts
        length = -(-length // 2)


def _depthwise(windows: list[NDArray[np.float32]], matrix: NDArray[np.float32], target: np.ndarray) -> None:
    """Into `target` (N, *out, O): sums of one channel a group, tap by tap."""
    groups, outputs, _ = matrix.shape
    total = target.reshape(*target.shape[:-1], groups, outputs)
    product = np.empty(total.shape, np.float32)
    for tap, window in enumerate(windows):
        np.multiply(window[..., None], matrix[..., tap], out=product if tap else total)
        if tap:
            total += product
