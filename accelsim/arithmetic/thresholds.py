"""Requantisation as thresholds: a code is the number of thresholds that the accumulator has reached."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import ModelError

from .reachable import Reachable
from .requantize import Requantization
from .words import Words, signed, word

_INT32 = np.iinfo(np.int32)


@dataclass(frozen=True)
class Thresholds:
    """`first[channel, i]` (int64) is the smallest accumulator whose code is above `minimum + i`, at most 255 of them.

    One that no reachable accumulator reaches stands one above the reachable range. Outside `monotone` (which is the
    whole of the reachable range in all but freak layers) the conversion of the pipeline leaves int32 and wraps round:
    every code there is `wrapped`.
    """

    minimum: int
    first: NDArray[np.int64]
    monotone: Reachable
    wrapped: int

    def apply(self, accumulator: NDArray[np.int32]) -> NDArray[np.int32]:
        """Requantise int32 accumulators; channels are the last axis. All comparisons are counted by bisection."""
        value = np.asarray(accumulator, np.int64)
        channel = np.broadcast_to(np.arange(self.first.shape[0]), value.shape)
        count = self.first.shape[1]
        reached, left = np.zeros(value.shape, np.int64), np.full(value.shape, count)
        while np.any(reached < left):
            middle = (reached + left) // 2
            above = (reached < left) & (value >= self.first[channel, np.minimum(middle, count - 1)])
            reached, left = np.where(above, middle + 1, reached), np.where(above, left, np.minimum(left, middle))
        inside = (value >= self.monotone.low) & (value <= self.monotone.high)
        return np.where(inside, self.minimum + reached, self.wrapped).astype(np.int32)

    def after(self, offset: NDArray[np.int64]) -> Thresholds:
        """The same codes of accumulators that lack `offset` (a channel)."""
        monotone = Reachable(self.monotone.low - offset, self.monotone.high - offset)
        return replace(self, first=self.first - offset[:, None], monotone=monotone)

    def planes(self) -> Words:
        """The thresholds as they stand in the parameter buffer, (thresholds, channels); each fits 32 bits."""
        return np.ascontiguousarray(word(self.first).T)

    @classmethod
    def from_planes(cls, planes: Words, minimum: int) -> Thresholds:
        """The inverse of `planes`, for accumulators of which none wraps round."""
        channels = planes.shape[1]
        every = Reachable(np.full(channels, _INT32.min, np.int64), np.full(channels, _INT32.max, np.int64))
        return cls(minimum, signed(planes).T, every, minimum)


def find_thresholds(rule: Requantization, reach: Reachable) -> Thresholds:
    """The thresholds of a pipeline over the reachable accumulators, by bisection for all channels at once.

    Each step with positive factors, and each rounding, rises with its operand or stays: so does the whole pipeline.
    """
    monotone = _monotone(rule, reach)
    first = _bisect(replace(rule, indefinite=False), reach)
    return Thresholds(rule.minimum, first, monotone, rule.maximum if rule.zero_point < 0 else rule.minimum)


def _bisect(rule: Requantization, reach: Reachable) -> NDArray[np.int64]:
    wanted = np.arange(rule.minimum + 1, rule.maximum + 1)
    left = np.repeat(reach.low[:, None], len(wanted), axis=1)
    right = np.repeat(reach.high[:, None] + 1, len(wanted), axis=1)
    while np.any(left < right):
        middle = (left + right) >> 1
        # A finished search may stand one above the range; it is not looked at again.
        probe = np.minimum(middle, reach.high[:, None]).astype(np.int32)
        codes = rule.apply(probe.T).T
        reached = codes >= wanted
        open_ = left < right
        right = np.where(open_ & reached, middle, right)
        left = np.where(open_ & ~reached, middle + 1, left)
    return left


def _monotone(rule: Requantization, reach: Reachable) -> Reachable:
    """The part of the range in which the conversion to int32 does not wrap round."""
    if not rule.indefinite or rule.minimum == rule.maximum:  # where there is one code, wrapping round shows nowhere
        return reach
    plain = replace(rule, indefinite=False)

    def wrapped(accumulator: NDArray[np.int64]) -> NDArray[np.bool_]:
        value = accumulator.astype(np.int32)[None]
        return (rule.apply(value) != plain.apply(value))[0]

    # A code strictly between the clamps cannot have wrapped, and it wraps at one end of the range at most.
    ends = {}
    inner = np.clip(_bisect(plain, reach)[:, (rule.maximum - rule.minimum) // 2], reach.low, reach.high)
    for end, start in (("low", reach.low), ("high", reach.high)):
        good, bad, broken = inner, start, wrapped(start)
        if np.any(broken & wrapped(inner)):
            raise ModelError("a layer leaves int32 for every accumulator: its bias or its scales are out of proportion")
        while np.any(broken & (np.abs(bad - good) > 1)):
            middle = good + (bad - good) // 2
            wrong = wrapped(middle)
            good, bad = np.where(wrong, good, middle), np.where(wrong, middle, bad)
        ends[end] = np.where(broken, good, start)
    return Reachable(ends["low"], ends["high"])
