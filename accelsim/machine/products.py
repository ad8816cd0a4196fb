"""The sums of a MAC instruction: exact integers, through binary32 matrix products that never have to round.

Integers up to 2**24 are exact in binary32, and so is every sum of them, in any order, whose terms' magnitudes add up to
no more than that. A longer reduction is cut into parts that keep to it, which are added as integers.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accelsim.isa import Mac

from .footprint import Tap, taps

_EXACT = 1 << 24  # binary32 holds every integer up to here
_INT32 = 1 << 31

#: Elements of a gathered operand that are worked on at once.
_AT_ONCE = 1 << 22


class Bounded(NamedTuple):
    """Integers and a bound of their magnitude."""

    values: np.ndarray
    largest: int


def mac_sums(mac: Mac, activations: np.ndarray, weights: np.ndarray) -> Bounded:
    """The sums of an instruction, without what the accumulators held: (runs, pixels, outputs), int32 or int64.

    `activations`: (1 or runs, bytes), the activation memory; `weights`: int8 (1 or runs, reduction, outputs).
    """
    runs = max(len(activations), len(weights))
    step = runs
    if len(weights) > 1:
        step = 1
    elif len(activations) > 1:
        step = max(1, _AT_ONCE // (mac.pixels * mac.taps * mac.channels))
    parts = []
    largest = 0
    for start in range(0, runs, step):
        part = _sums(
            mac,
            activations[start : start + step] if len(activations) > 1 else activations,
            weights[start] if len(weights) > 1 else weights[0],
        )
        parts.append(part.values)
        largest = max(largest, part.largest)
    return Bounded(parts[0] if len(parts) == 1 else np.concatenate(parts), largest)


def _sums(mac: Mac, activations: np.ndarray, weights: np.ndarray) -> Bounded:
    codes = activations.view(np.int8) if mac.signed_activation else activations
    every = tuple(taps(mac))
    activation = max(abs(mac.pad), _magnitude(codes, every))
    matrix = weights.astype(np.float32)
    if mac.weight_zero_point:
        matrix -= np.float32(mac.weight_zero_point)
    weight = max(int(weights.max()) - mac.weight_zero_point, mac.weight_zero_point - int(weights.min()))
    largest = mac.reduction * activation * weight
    if mac.channels == mac.groups:
        values = _depthwise(mac, codes, every, matrix, activation, weight)
    else:
        values = _dense(mac, codes, every, matrix, activation * weight)
    return Bounded(values, largest)


def _magnitude(codes: np.ndarray, every: tuple[Tap, ...]) -> int:
    """A bound of the magnitude of the codes: that of all bytes between the first and the last one."""
    if not every:
        return 0
    hull = codes[:, min(tap.block.start for tap in every) : max(tap.block.stop for tap in every)]
    return max(abs(int(hull.min())), abs(int(hull.max())))


def _dense(mac: Mac, codes: np.ndarray, every: tuple[Tap, ...], weights: np.ndarray, largest: int) -> np.ndarray:
    """(runs, pixels, outputs), as one matrix product for each group; `largest` bounds one product's magnitude."""
    rows = len(codes) * mac.pixels
    gathered = _gather(mac, codes, every).reshape(mac.groups, rows, mac.reduction)
    matrices = weights.reshape(mac.reduction, mac.groups, mac.outputs // mac.groups).transpose(1, 0, 2)
    length = min(mac.reduction, _EXACT // max(1, largest))
    wide = np.int32 if mac.reduction * largest < _INT32 else np.int64
    total: Any = 0
    for start in range(0, mac.reduction, length):
        part = slice(start, start + length)
        total = total + (gathered[:, :, part] @ matrices[:, part]).astype(wide)
    if mac.groups > 1:
        total = total.transpose(1, 0, 2)
    return np.asarray(total.reshape(len(codes), mac.pixels, mac.outputs))


def _gather(mac: Mac, codes: np.ndarray, every: tuple[Tap, ...]) -> NDArray[np.float32]:
    """The left operand (groups, runs, images, lines, pixels, taps down, taps across, channels of a group)."""
    runs, groups = len(codes), mac.groups
    each = mac.channels // groups
    shape = (groups, runs, mac.images, mac.out_height, mac.out_width, mac.kernel_height, mac.kernel_width, each)
    whole = slice(0, mac.out_height), slice(0, mac.out_width)
    padded = len(every) < mac.taps or any((tap.down, tap.across) != whole for tap in every)
    result = np.full(shape, mac.pad, np.float32) if padded else np.empty(shape, np.float32)
    for tap in every:
        source = tap.block.view(codes)
        grouped = source.reshape(*source.shape[:-1], groups, each).transpose(4, 0, 1, 2, 3, 5)
        result[:, :, :, tap.down, tap.across, tap.ky, tap.kx] = grouped
    return result


def _depthwise(
    mac: Mac, codes: np.ndarray, every: tuple[Tap, ...], weights: np.ndarray, activation: int, weight: int
) -> np.ndarray:
    """(runs, pixels, outputs) for one channel a group, tap by tap: padding everywhere, then code - padding inside."""
    bound = mac.taps * weight * (activation + 2 * abs(mac.pad))
    dtype: type[np.float32] | type[np.float64] = np.float32 if bound <= _EXACT else np.float64
    kernel = weights.astype(dtype).reshape(mac.taps, mac.groups, mac.outputs // mac.groups)
    shape = (len(codes), mac.images, mac.out_height, mac.out_width, *kernel.shape[1:])
    total = np.empty(shape, dtype)
    total[...] = mac.pad * kernel.sum(axis=0)
    for tap in every:
        inside = np.subtract(tap.block.view(codes), mac.pad, dtype=dtype)
        total[:, :, tap.down, tap.across] += inside[..., None] * kernel[tap.ky * mac.kernel_width + tap.kx]
    wide = np.int32 if mac.reduction * activation * weight < _INT32 else np.int64
    return total.reshape(len(codes), mac.pixels, mac.outputs).astype(wide)
