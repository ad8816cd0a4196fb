"""Sums of rows in the order of the vector unit, and which differences from another order that explains.

A row is read `lanes` numbers at a time. A pass adds its numbers in a tree of binary32 adders: neighbours in pairs,
their sums in pairs, and so on; of an odd count the last goes up as it is. The passes' sums are added one after the
other. Lanes without a number in the last pass hold +0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from accelsim.errors import AccelsimError

from ..binary32 import Float32, f32

#: Half of the distance from 1 to the next binary32 number: the largest relative error of an addition.
_ROUNDING = 2.0**-24


def tree_sum(x: ArrayLike, lanes: int) -> Float32:
    """The sum along the last axis of `x` (..., n), binary32, as a unit of `lanes` lanes adds it: shape (...).

    An example with 2 lanes: (a + b), then + (c + d), then + (e + 0). Raises AccelsimError for an empty row or no lane.
    """
    values = np.asarray(x, np.float32)
    if lanes < 1 or not values.ndim or not values.shape[-1]:
        raise AccelsimError(f"a sum of rows of shape {values.shape} in {lanes} lanes: at least one number and one lane")
    passes = -(-values.shape[-1] // lanes)
    padded = np.zeros((*values.shape[:-1], passes * lanes), np.float32)
    padded[..., : values.shape[-1]] = values
    level = padded.reshape(*values.shape[:-1], passes, lanes)
    with np.errstate(over="ignore", invalid="ignore"):
        while level.shape[-1] > 1:
            pairs = level.shape[-1] // 2
            sums = level[..., : 2 * pairs : 2] + level[..., 1 : 2 * pairs : 2]
            level = np.concatenate([sums, level[..., 2 * pairs :]], axis=-1)
        return f32(np.add.accumulate(level[..., 0], axis=-1, dtype=np.float32)[..., -1])


def additions(count: int, lanes: int) -> int:
    """The most roundings that one of `count` numbers goes through: levels of the tree, passes after the first."""
    return (lanes - 1).bit_length() + -(-count // lanes) - 1


def explains_sum(ours: ArrayLike, theirs: ArrayLike, x: ArrayLike, lanes: int) -> NDArray[np.bool_]:
    """Whether the difference of two sums of the rows of `x` (..., n) is the order's alone: shape (...).

    True where both have the same bits or are NaN, and where the exact sum lies within `k u / (1 - k u) sum |x|` of both
    (Higham, Accuracy and Stability of Numerical Algorithms, chapter 4), u = 2**-24, k = `additions` for ours, n - 1 for
    theirs, whatever its order. The exact sum is binary64's, whose own error is 2**-29 of that.
    """
    first, second = np.asarray(ours, np.float32), np.asarray(theirs, np.float32)
    wide = np.asarray(x, np.float32).astype(np.float64)
    count = wide.shape[-1]
    with np.errstate(invalid="ignore"):
        true, size = wide.sum(axis=-1), np.abs(wide).sum(axis=-1)
        near = [
            np.abs(result.astype(np.float64) - true) <= k * _ROUNDING / (1 - k * _ROUNDING) * size
            for result, k in ((first, additions(count, lanes)), (second, count - 1))
        ]
    same = (first == second) | (np.isnan(first) & np.isnan(second))
    return np.asarray(same | (near[0] & near[1]))
