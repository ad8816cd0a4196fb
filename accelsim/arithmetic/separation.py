"""Lines above some points of the plane and below others: the open interval of their slopes, in exact fractions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .thresholds import Thresholds

#: Steeper than any line between two thresholds: there are at most 255 codes to climb, by one accumulator at least.
STEEPEST = 256
_BEYOND = np.int64(2) ** 60


@dataclass(frozen=True)
class Slopes:
    """For each channel the slopes m with `low < m < high` that a separating line can have, as fractions of int64.

    `feasible` says whether there are any. Where there are none, the fractions are where the search from each side
    came to an end, near the slope of the line that misses the points by least.
    """

    low_numerator: NDArray[np.int64]
    low_denominator: NDArray[np.int64]
    high_numerator: NDArray[np.int64]
    high_denominator: NDArray[np.int64]
    feasible: NDArray[np.bool_]

    @property
    def low(self) -> NDArray[np.float64]:
        """The lower end as the nearest binary64 number."""
        return self.low_numerator / self.low_denominator

    @property
    def high(self) -> NDArray[np.float64]:
        """The upper end as the nearest binary64 number."""
        return self.high_numerator / self.high_denominator


@dataclass(frozen=True)
class Points:
    """A line must be at or above each `lower` point and strictly below each `upper` one.

    The points of code `codes[i]` have x = `first[channel, i]` and `first[channel, i] - 1`; those outside the
    reachable range are no conditions (`is_lower`, `is_upper` False).
    """

    codes: NDArray[np.int64]
    first: NDArray[np.int64]
    is_lower: NDArray[np.bool_]
    is_upper: NDArray[np.bool_]

    def rows(self, chosen: NDArray[np.int64] | slice) -> Points:
        """The points of some channels."""
        return Points(self.codes, self.first[chosen], self.is_lower[chosen], self.is_upper[chosen])


def points(exact: Thresholds) -> Points:
    """The conditions that thresholds put on a line `m * acc + b` whose floor is the code."""
    codes = exact.minimum + 1 + np.arange(exact.first.shape[1], dtype=np.int64)
    low, high = exact.monotone.low[:, None], exact.monotone.high[:, None]
    return Points(codes, exact.first, exact.first <= high, exact.first > low)


def separating_slopes(conditions: Points) -> Slopes:
    """The slopes of all lines that meet the conditions.

    With a given slope the points leave a gap `min(y - m x over upper) - max(y - m x over lower)` for the line, a
    concave function of m made of straight pieces. Newton's method from either side lands on its zeros exactly, in a
    handful of steps, each in integers. Where there are none, either side goes past the widest gap, and they cross.
    """
    low = _newton(conditions, rising=True)
    high = _newton(conditions, rising=False)
    return Slopes(*low, *high, feasible=low[0] * high[1] < high[0] * low[1])


def _newton(conditions: Points, *, rising: bool) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The zero at which the gap opens (`rising`) or closes, as numerator and denominator."""
    channels = conditions.first.shape[0]
    numerator = np.full(channels, -STEEPEST if rising else STEEPEST, np.int64)
    denominator = np.ones(channels, np.int64)
    if not len(conditions.codes):
        return numerator, denominator
    active = np.arange(channels)
    y = conditions.codes - conditions.codes.min()
    while len(active):
        part = conditions.rows(active)
        p, q = numerator[active], denominator[active]
        height = q[:, None] * y - p[:, None] * part.first
        lower = np.where(part.is_lower, height, -_BEYOND)
        upper = np.where(part.is_upper, height + p[:, None], _BEYOND)
        i, j = lower.argmax(axis=1), upper.argmin(axis=1)
        row = np.arange(len(active))
        gap = upper[row, j] - lower[row, i]
        run = part.first[row, i] - (part.first[row, j] - 1)
        rise = y[i] - y[j]
        sign = 1 if rising else -1
        go_on = (gap < 0) & (sign * run > 0)
        active, rise, run = active[go_on], rise[go_on], run[go_on]
        numerator[active], denominator[active] = sign * rise, sign * run
    return numerator, denominator
