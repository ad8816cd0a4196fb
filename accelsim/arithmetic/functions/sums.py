"""Which differences of two sums of a row stem from the order of the additions."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

#: Half of the distance from 1 to the next binary32 number: the largest relative error of an addition.
_ROUNDING = 2.0**-24


def additions(count: int, partials: int) -> int:
    """The most additions that one of `count` numbers goes through: those of its partial sum, then levels of a tree."""
    return -(-count // partials) - 1 + (min(count, partials) - 1).bit_length()


def rounding_error(additions: int, size: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far a sum of binary32 numbers may be from the exact one, `k u / (1 - k u) sum |x|` with u = 2**-24 (Higham,
    Accuracy and Stability of Numerical Algorithms, chapter 4). `additions`: the k that a number goes through, in any
    order n - 1 at most; `size`: the sum of the magnitudes."""
    return additions * _ROUNDING / (1 - additions * _ROUNDING) * size


def explains_sum(ours: ArrayLike, theirs: ArrayLike, x: ArrayLike, partials: int) -> NDArray[np.bool_]:
    """Whether the difference of two binary32 sums of the rows of `x` (..., n) is the order's alone: shape (...).

    Ours adds every `partials`-th number one after the other, then the partial sums in a tree (`vector.statistic`).
    True where both have the same bits or are NaN, and where the exact sum lies within the `rounding_error` of both: of
    `additions` for ours, of n - 1 for theirs, whatever its order. The exact sum is binary64's, whose own error is
    2**-29 of that.
    """
    first, second = np.asarray(ours, np.float32), np.asarray(theirs, np.float32)
    wide = np.asarray(x, np.float32).astype(np.float64)
    count = wide.shape[-1]
    with np.errstate(invalid="ignore"):
        true, size = wide.sum(axis=-1), np.abs(wide).sum(axis=-1)
        near = [
            np.abs(result.astype(np.float64) - true) <= rounding_error(k, size)
            for result, k in ((first, additions(count, partials)), (second, count - 1))
        ]
    same = (first == second) | (np.isnan(first) & np.isnan(second))
    return np.asarray(same | (near[0] & near[1]))
