"""Sums in binary32 in the order in which ATen adds (`SumKernel.cpp`, `cascade_sum`), and the mean that needs them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .affine import Affine, Codes, dequantize, quantize
from .binary32 import Float32, f32

#: Columns that one pass over the rows takes (four vectors of eight, or four numbers if there is not even one vector);
#: the columns left over are summed in another order.
_VECTORS, _NUMBERS, _LANES = 32, 4, 8
_LEVELS = 4


def column_sums(rows: Float32) -> Float32:
    """The sums of (rows, columns) over the rows, each in ATen's order of additions."""
    columns = rows.shape[1]
    width = _VECTORS if columns >= _LANES else _NUMBERS
    split = columns // width * width
    return np.concatenate([_cascade(rows[:, :split]), _interleaved(rows[:, split:])])


def _cascade(rows: Float32) -> Float32:
    """Blocks of rows are summed one after another; their sums go up level by level (`multi_row_sum`)."""
    count = len(rows)
    power = max(4, (count - 1).bit_length() // _LEVELS)
    step = 1 << power
    levels = np.zeros((_LEVELS, *rows.shape[1:]), np.float32)
    done = 0
    while done + step <= count:
        levels[0] = np.add.accumulate(rows[done : done + step])[-1]  # one by one; it was 0
        done += step
        for level in range(1, _LEVELS):
            levels[level] += levels[level - 1]
            levels[level - 1] = 0
            if done & ((step - 1) << (level * power)):
                break
    for row in rows[done:]:
        levels[0] += row
    for level in range(1, _LEVELS):
        levels[0] += levels[level]
    return f32(levels[0])


def _interleaved(rows: Float32) -> Float32:
    """Four sums of every fourth row, the rows left over added to the first of them (`row_sum`)."""
    whole = len(rows) // 4 * 4
    parts = _cascade(rows[:whole].reshape(whole // 4, 4, rows.shape[1]))
    total = f32(parts[0])
    for row in rows[whole:]:
        total = total + row
    for part in parts[1:]:
        total = total + part
    return total


def mean_channels_last(codes: Codes, grid: Affine) -> NDArray[np.integer]:
    """The mean over height and width of a channels_last tensor of (N, H * W, C) codes, as (N, C) codes.

    ATen dequantises, sums in binary32, divides, and quantises to the input's grid (`ReduceOps.cpp`).
    """
    values = dequantize(codes, grid)
    sums = np.stack([column_sums(image) for image in values])
    return quantize(sums / f32(codes.shape[1]), grid)
