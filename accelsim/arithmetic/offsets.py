"""Offsets B of fixed point: with which B a given multiplier and shift meet which thresholds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .separation import Points

_Ranges = tuple[NDArray[np.int64], NDArray[np.int64]]


def meeting(conditions: Points, multiplier: NDArray[np.int64], shift: NDArray[np.int64]) -> _Ranges:
    """For each threshold the smallest and the largest B with which it is met, (channels, thresholds). M is 1 at least.

    All are below 2**63. An end that no condition sets is the outermost that any threshold of the channel would have: a
    B beyond these meets no threshold that the nearer of them does not meet.
    """
    least = (conditions.codes << shift[:, None]) - multiplier[:, None] * conditions.first
    most = least + multiplier[:, None] - 1
    return (
        np.where(conditions.is_lower, least, least.min(axis=1, keepdims=True)),
        np.where(conditions.is_upper, most, most.max(axis=1, keepdims=True)),
    )


def middle(conditions: Points, multiplier: NDArray[np.int64], shift: NDArray[np.int64]) -> NDArray[np.int64]:
    """B in the middle of those that meet all thresholds, the smaller of two; 0 where there is no threshold."""
    if not len(conditions.codes):
        return np.zeros_like(multiplier)
    least, most = meeting(conditions, multiplier, shift)
    low, high = least.max(axis=1), most.min(axis=1)
    return low + ((high - low) >> 1)


def meeting_most(conditions: Points, multiplier: NDArray[np.int64], shift: NDArray[np.int64]) -> NDArray[np.int64]:
    """The smallest B from the first end of `meeting` on that meets as many thresholds as any B does."""
    least, most = meeting(conditions, multiplier, shift)
    ends = np.concatenate([np.sort(least, axis=1), np.sort(most, axis=1)], axis=1)
    order = np.argsort(ends, axis=1, kind="stable")  # where a range begins and another ends, the beginning comes first
    met = np.cumsum(np.where(order < least.shape[1], 1, -1), axis=1)
    row = np.arange(len(least))
    return ends[row, order[row, met.argmax(axis=1)]]
