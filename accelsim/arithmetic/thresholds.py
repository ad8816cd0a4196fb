"""Requantisation as thresholds: a code is the number of thresholds that the accumulator has reached."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

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

    def rows(self, chosen: NDArray[np.int64] | slice) -> Thresholds:
        """The thresholds of some channels."""
        monotone = Reachable(self.monotone.low[chosen], self.monotone.high[chosen])
        return replace(self, first=self.first[chosen], monotone=monotone)

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

    Each step with positive factors, and each rounding, rises with its operand or stays: so does the whole pipeline. (A
    NaN, which infinite constants can make, has the least code, and those of smaller accumulators have it too.) Raises
    ModelError where the sum of an accumulator and the offset leaves int32: it wraps round, and so do the codes.
    """
    if rule.offset is not None:
        low, high = reach.low + rule.offset, reach.high + rule.offset
        if low.min(initial=0) < _INT32.min or high.max(initial=0) > _INT32.max:
            raise ModelError(
                "its sums and its integer bias leave int32 together and wrap round, which no thresholds do; its bias "
                "is out of proportion to its scales"
            )
    first = _first(replace(rule, indefinite=False), reach)
    wrapped = rule.maximum if rule.zero_point < 0 else rule.minimum
    monotone, constant = _monotone(rule, reach, first)
    # A channel that leaves int32 everywhere has one code: no threshold is reached, or all are.
    ends = reach.high + 1 if wrapped == rule.minimum else reach.low
    first = np.where(constant[:, None], ends[:, None], first)
    return Thresholds(rule.minimum, first, monotone, wrapped)


def _first(rule: Requantization, reach: Reachable) -> NDArray[np.int64]:
    """The smallest accumulator of each channel that reaches each code above the least, or one above the range.

    The search starts where real numbers put the threshold, goes from there in steps that double, and halves the rest:
    whatever the start is worth, what it ends at is proved by the pipeline on either side.
    """
    codes = np.arange(rule.minimum + 1, rule.maximum + 1)
    result = np.empty((reach.channels, len(codes)), np.int64)
    place = np.arange(result.size)
    channel, column = np.divmod(place, len(codes))
    wanted, guess = codes[column], _guess(rule, reach, codes).ravel()
    left, right = reach.low[channel], reach.high[channel] + 1
    step, probe = 1, guess
    while len(place):
        reached = rule.of_channels(channel).apply(probe.astype(np.int32)) >= wanted
        left, right = np.where(reached, left, probe + 1), np.where(reached, probe, right)
        done = left == right
        result.ravel()[place[done]] = left[done]
        place, channel, wanted, guess, left, right = (
            item[~done] for item in (place, channel, wanted, guess, left, right)
        )
        middle = (left + right) // 2
        probe = np.where(left > guess, np.minimum(left + step - 1, middle), np.maximum(right - step, middle))
        step = min(2 * step, 1 << 32)
    return result


def _guess(rule: Requantization, reach: Reachable, codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """The thresholds in real numbers, each step of the pipeline undone: (channels, codes), near the true ones."""

    def of(constant: NDArray[Any]) -> NDArray[np.float64]:
        return constant.astype(np.float64)[:, None]

    value = np.broadcast_to(codes - 0.5 - rule.zero_point, (reach.channels, len(codes)))
    with np.errstate(all="ignore"):
        if rule.divisor is not None:
            value = value * of(rule.divisor)
        if rule.multiplier is not None:
            value = value / of(rule.multiplier)
        if rule.bias is not None:
            value = value - of(rule.bias) * (1.0 if rule.bias_factor is None else of(rule.bias_factor))
        for scale in (rule.scale_2, rule.scale_1):
            value = value if scale is None else value / of(scale)
    if rule.offset is not None:
        value = value - of(rule.offset)
    low, high = reach.low[:, None], reach.high[:, None]
    return np.clip(np.nan_to_num(np.ceil(value)), low, high).astype(np.int64)


def _monotone(rule: Requantization, reach: Reachable, first: NDArray[np.int64]) -> tuple[Reachable, NDArray[np.bool_]]:
    """The part of the range in which the conversion to int32 does not wrap round; `first` as in Thresholds.

    Also which channels wrap round everywhere; of these all is the part.
    """
    none = np.zeros(reach.channels, np.bool_)
    if not rule.indefinite or rule.minimum == rule.maximum:  # where there is one code, wrapping round shows nowhere
        return reach, none
    plain = replace(rule, indefinite=False)

    def wrapped(accumulator: NDArray[np.int64]) -> NDArray[np.bool_]:
        value = accumulator.astype(np.int32)[None]
        return (rule.apply(value) != plain.apply(value))[0]

    # A code strictly between the clamps cannot have wrapped, and it wraps at one end of the range at most.
    ends = {}
    inner = np.clip(first[:, (rule.maximum - rule.minimum) // 2], reach.low, reach.high)
    constant = wrapped(reach.low) & wrapped(inner) & wrapped(reach.high)
    for end, start in (("low", reach.low), ("high", reach.high)):
        good, bad, broken = inner, start, wrapped(start) & ~constant
        if np.any(broken & wrapped(inner)):
            raise ModelError("its codes leave int32 and come back: its bias or its scales are out of proportion")
        while np.any(broken & (np.abs(bad - good) > 1)):
            middle = good + (bad - good) // 2
            wrong = wrapped(middle)
            good, bad = np.where(wrong, good, middle), np.where(wrong, middle, bad)
        ends[end] = np.where(broken, good, start)
    return Reachable(ends["low"], ends["high"]), constant
