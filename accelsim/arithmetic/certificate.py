"""Whether fixed point equals an engine's pipeline: decided for every reachable accumulator, not sampled.

Both sides only ever rise with the accumulator, so each is described by the accumulators at which it reaches each code.
`(acc * M + B) >> S` has code c from t on, and not before, if and only if, with m = M / 2**S and b = B / 2**S,

    m * t + b >= c        and        m * (t - 1) + b < c

so (m, b) is a line above some points of the plane and below others. The slopes of all such lines are an open interval
between two fractions, found exactly; a certificate is a fraction M / 2**S strictly inside, and every such one has a B.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import ConfigurationError

from .fixed_point import MOST_MULTIPLIER_BITS, MOST_SHIFT, FixedPoint
from .reachable import Reachable
from .requantize import Requantization
from .separation import Points, Slopes, points, separating_slopes
from .thresholds import Thresholds, find_thresholds

_CHANNELS_AT_ONCE = 128  # what is worked on at once then stays in a processor's caches
_Row = NDArray[np.int64] | slice
_Intervals = tuple[NDArray[np.int64], NDArray[np.int64]]


@dataclass(frozen=True)
class Certificate:
    """The fixed-point constants of all channels of a layer, and what is proved of them.

    `certified[channel]`: `constants` give the engine's code for every accumulator of `reach`. Where not, no multiplier
    of `multiplier_bits` bits does (with a shift of at most 54), and `constants` are the best pair found: another code
    for `differing` accumulators, by `worst` at most. `bits` is the least width of a multiplier that has a certificate,
    0 where none of up to 31 bits has.
    """

    multiplier_bits: int
    constants: FixedPoint
    reach: Reachable
    exact: Thresholds
    certified: NDArray[np.bool_]
    bits: NDArray[np.int64]
    differing: NDArray[np.int64]
    worst: NDArray[np.int64]

    def intervals(self, channel: int) -> list[tuple[int, int]]:
        """The accumulators whose codes differ, as half-open ranges in order."""
        rows = slice(channel, channel + 1)
        starts, stops = _differing(self.exact, _thresholds_of(self.constants, self.exact, rows), rows)
        ranges = [(int(start), int(stop)) for start, stop in zip(starts[0], stops[0], strict=True)]
        reach, inside = self.reach, self.exact.monotone
        ranges = [
            (int(reach.low[channel]), int(inside.low[channel])),
            *ranges,
            (int(inside.high[channel]) + 1, int(reach.high[channel]) + 1),
        ]
        joined: list[tuple[int, int]] = []
        for start, stop in ranges:
            if start < stop and joined and start <= joined[-1][1]:
                joined[-1] = (joined[-1][0], max(joined[-1][1], stop))
            elif start < stop:
                joined.append((start, stop))
        return joined


def prove(rule: Requantization, reach: Reachable, multiplier_bits: int = MOST_MULTIPLIER_BITS) -> Certificate:
    """Find fixed-point constants for a layer's pipeline, with multipliers of at most `multiplier_bits` bits.

    `reach`: the reachable accumulators of each channel, of the sums that `rule` takes. Raises ConfigurationError for a
    width outside 1..31.
    """
    if not 1 <= multiplier_bits <= MOST_MULTIPLIER_BITS:
        raise ConfigurationError(f"multiplier_bits: 1 to {MOST_MULTIPLIER_BITS} are possible, not {multiplier_bits}")
    exact = find_thresholds(rule, reach)
    conditions = points(exact)
    slopes = separating_slopes(conditions)
    multiplier, shift, bits = _narrowest(slopes)
    bits = np.where((exact.monotone.low == reach.low) & (exact.monotone.high == reach.high), bits, 0)
    offset = _offset(conditions, rule, multiplier, shift)
    bits = np.where(_fits(multiplier, offset, reach), bits, 0)
    certified = (bits > 0) & (bits <= multiplier_bits)
    nominal = _nominal(rule, reach.channels)
    others = np.flatnonzero(~certified)
    for start in range(0, len(others), _CHANNELS_AT_ONCE):
        rows = others[start : start + _CHANNELS_AT_ONCE]
        multiplier[rows], offset[rows], shift[rows] = _best(
            rule, exact, conditions.rows(rows), slopes, nominal[rows], rows, multiplier_bits
        )
    constants = FixedPoint(multiplier, offset, shift, rule.minimum, rule.maximum)
    differing, worst = np.zeros(reach.channels, np.int64), np.zeros(reach.channels, np.int64)
    for start in range(0, reach.channels, _CHANNELS_AT_ONCE):
        rows = np.arange(start, min(start + _CHANNELS_AT_ONCE, reach.channels))
        wrong = _differing(exact, _thresholds_of(constants, exact, rows), rows)
        differing[rows], worst[rows] = _size(wrong), _depth(wrong)
    if np.any(certified & (differing > 0)):
        raise AssertionError("a certificate is contradicted by its own thresholds")
    lost = reach.count - exact.monotone.count
    worst = np.where(lost > 0, rule.maximum - rule.minimum, worst)
    return Certificate(multiplier_bits, constants, reach, exact, certified, bits, differing + lost, worst)


def _narrowest(slopes: Slopes) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The fraction M / 2**S inside each interval with the least M, and the bits of M; all 0 where there is none.

    If M / 2**S lies inside, so does 2M / 2**(S + 1): the smallest S has the smallest M.
    """
    places = np.arange(MOST_SHIFT + 1, dtype=np.int64)
    a, b, c, d = (
        end[:, None]
        for end in (slopes.low_numerator, slopes.low_denominator, slopes.high_numerator, slopes.high_denominator)
    )
    # A numerator is 256 at most in magnitude and a denominator below 2**32: with an M that fits, all stay in int64.
    least = np.maximum((a << places) // b + 1, 0)
    fits = slopes.feasible[:, None] & (least < 1 << MOST_MULTIPLIER_BITS)
    inside = fits & (np.where(fits, least, 0) * d < c << places)
    shift = np.where(inside.any(axis=1), inside.argmax(axis=1), 0)
    multiplier = np.where(inside.any(axis=1), least[np.arange(len(least)), shift], 0)
    bits = np.where(inside.any(axis=1), np.maximum(np.frexp(multiplier.astype(np.float64))[1], 1), 0)
    return multiplier, shift, bits.astype(np.int64)


def _bounds(conditions: Points, multiplier: NDArray[np.int64], shift: NDArray[np.int64]) -> _Intervals:
    """For each threshold the smallest and the largest B with which it is met; below 2**63 in magnitude.

    A condition that is none leaves its end open: the smallest and the largest int64.
    """
    code = conditions.codes << shift[:, None]
    at = code - multiplier[:, None] * conditions.first
    least = np.where(conditions.is_lower, at, np.iinfo(np.int64).min)
    most = np.where(conditions.is_upper, at + multiplier[:, None] - 1, np.iinfo(np.int64).max)
    return least, most


def _offset(
    conditions: Points, rule: Requantization, multiplier: NDArray[np.int64], shift: NDArray[np.int64]
) -> NDArray[np.int64]:
    """B in the middle of the range that all thresholds leave (its only end, if it has one)."""
    least, most = _bounds(conditions, multiplier, shift)
    low = least.max(axis=1, initial=np.iinfo(np.int64).min)
    high = most.min(axis=1, initial=np.iinfo(np.int64).max)
    bounded = (low > np.iinfo(np.int64).min, high < np.iinfo(np.int64).max)
    middle = low + ((high - low) >> 1)
    constant = np.full_like(low, rule.minimum) << shift
    return np.select([bounded[0] & bounded[1], bounded[0], bounded[1]], [middle, low, high], constant)


def _fits(multiplier: NDArray[np.int64], offset: NDArray[np.int64], reach: Reachable) -> list[bool]:
    """Whether `acc * M + B` fits 64 bits over the whole range, which only layers past all proportion miss."""
    columns = (value.tolist() for value in (multiplier, offset, reach.low, reach.high))
    return [low * m + b >= -(2**63) and high * m + b < 2**63 for m, b, low, high in zip(*columns, strict=True)]


def _nominal(rule: Requantization, channels: int) -> NDArray[np.float64]:
    """The real factor from accumulator to code of each channel."""
    factor = np.ones(channels)
    for constant in (rule.scale_1, rule.scale_2, rule.multiplier):
        if constant is not None:
            factor = factor * constant.astype(np.float64)
    return factor if rule.divisor is None else factor / rule.divisor.astype(np.float64)


def _best(
    rule: Requantization,
    exact: Thresholds,
    conditions: Points,
    slopes: Slopes,
    nominal: NDArray[np.float64],
    rows: NDArray[np.int64],
    multiplier_bits: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """M, B and S with few differing accumulators for channels without a certificate.

    The multipliers tried are those next to the nominal factor and to the ends of the slopes' search; for each of them
    B is the one that meets the most thresholds.
    """
    low = slopes.low_numerator[rows] / slopes.low_denominator[rows]
    high = slopes.high_numerator[rows] / slopes.high_denominator[rows]
    best = np.zeros((3, len(rows)), np.int64)
    fewest = np.full(len(rows), np.iinfo(np.int64).max)
    tried: list[NDArray[np.int64]] = []
    for slope in (nominal, low, (low + high) / 2, high):
        positive = np.maximum(slope, 2.0**-MOST_SHIFT)
        shift = np.clip(multiplier_bits - np.frexp(positive)[1], 0, MOST_SHIFT).astype(np.int64)
        scaled = np.minimum(np.ldexp(positive, shift), 2.0**multiplier_bits - 1)
        for rounding in (np.floor, np.ceil):
            multiplier = np.minimum(rounding(scaled), 2.0**multiplier_bits - 1).astype(np.int64)
            slopes_tried = np.stack([multiplier, shift])
            known = [np.all(slopes_tried == other, axis=0) for other in tried]
            new = np.flatnonzero(~np.any(known, axis=0)) if tried else np.arange(len(rows))
            tried.append(slopes_tried)
            m, s = multiplier[new], shift[new]
            least, most = _bounds(conditions.rows(new), m, s)
            offset = _most_met(least, most, np.full(len(new), rule.minimum, np.int64) << s)
            row, place = np.nonzero((offset[:, None] < least) | (offset[:, None] > most))
            count = np.zeros(len(new), np.int64)
            np.add.at(count, row, _missed_by(exact, rows[new][row], place, m[row], offset[row], s[row]))
            better = count < fewest[new]
            fewest[new[better]] = count[better]
            best[:, new[better]] = np.stack([m, offset, s])[:, better]
    return best[0], best[1], best[2]


def _most_met(least: NDArray[np.int64], most: NDArray[np.int64], constant: NDArray[np.int64]) -> NDArray[np.int64]:
    """The B that lies in the most of the ranges `least..most`: one of their ends, or `constant` where all are open.

    Of several it is the smallest `least` that does, if there is one, and else the smallest `most`.
    """
    row = np.arange(len(least))
    if not least.shape[1]:
        return constant
    ends = np.concatenate([np.sort(least, axis=1), np.sort(most, axis=1)], axis=1)
    order = np.argsort(ends, axis=1, kind="stable")  # where a range begins and another ends, the beginning comes first
    begins = order < least.shape[1]
    begun = np.cumsum(begins, axis=1, dtype=np.int16)
    ended = np.arange(ends.shape[1], dtype=np.int16) - begun  # of those before, one too few at a beginning
    met = 2 * (begun - ended) - begins
    open_below = np.count_nonzero(least == np.iinfo(np.int64).min, axis=1)[:, None]
    open_above = np.count_nonzero(most == np.iinfo(np.int64).max, axis=1)[:, None]
    met[(order < open_below) | (order >= ends.shape[1] - open_above)] = -1
    chosen = met.argmax(axis=1)
    return np.where(met[row, chosen] < 0, constant, ends[row, order[row, chosen]])


def _missed_by(
    exact: Thresholds,
    channel: NDArray[np.int64],
    place: NDArray[np.intp],
    multiplier: NDArray[np.int64],
    offset: NDArray[np.int64],
    shift: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Accumulators that differ for each threshold that is not met, `place` of `channel`, in rising order.

    One that differs for several thresholds of a channel counts once. A threshold that is met adds none to the union.
    """
    low, high = exact.monotone.low[channel], exact.monotone.high[channel]
    found = _reached(exact.minimum + 1 + place, multiplier, offset, shift, low, high)
    first = np.clip(exact.first[channel, place], low, high + 1)
    starts, stops = np.minimum(first, found), np.maximum(first, found)
    starts[1:] = np.where(channel[1:] == channel[:-1], np.maximum(starts[1:], stops[:-1]), starts[1:])
    return np.maximum(stops - starts, 0)


def _thresholds_of(constants: FixedPoint, exact: Thresholds, rows: _Row) -> NDArray[np.int64]:
    """The smallest accumulator at which fixed point reaches each code, kept within the range and one above."""
    multiplier, offset, shift = (
        value[rows][:, None] for value in (constants.multiplier, constants.offset, constants.shift)
    )
    low, high = exact.monotone.low[rows][:, None], exact.monotone.high[rows][:, None]
    codes = exact.minimum + 1 + np.arange(exact.first.shape[1], dtype=np.int64)
    return _reached(codes, multiplier, offset, shift, low, high)


def _reached(
    codes: NDArray[np.int64],
    multiplier: NDArray[np.int64],
    offset: NDArray[np.int64],
    shift: NDArray[np.int64],
    low: NDArray[np.int64],
    high: NDArray[np.int64],
) -> NDArray[np.int64]:
    """The smallest accumulator from `low` to `high` with which fixed point reaches each code, or `high + 1`."""
    distance = (codes << shift) - offset
    rising = -(-distance // np.maximum(multiplier, 1))
    return np.clip(np.where(multiplier > 0, rising, np.where(distance <= 0, low, high + 1)), low, high + 1)


def _differing(exact: Thresholds, found: NDArray[np.int64], rows: _Row) -> _Intervals:
    """Starts and stops of the ranges between the two forms' thresholds; both rise with the code."""
    low, high = exact.monotone.low[rows][:, None], exact.monotone.high[rows][:, None]
    first = np.clip(exact.first[rows], low, high + 1)
    return np.minimum(first, found), np.maximum(first, found)


def _size(intervals: _Intervals) -> NDArray[np.int64]:
    """Accumulators in the union of the ranges of each row."""
    starts, stops = intervals
    before = np.concatenate([starts[:, :1], stops[:, :-1]], axis=1)
    return np.maximum(stops - np.maximum(starts, before), 0).sum(axis=1)


def _depth(intervals: _Intervals) -> NDArray[np.int64]:
    """How many ranges cover one accumulator at most: the difference of the codes there."""
    starts, stops = intervals
    depth = np.zeros(len(starts), np.int64)
    for ranges in range(1, starts.shape[1] + 1):
        covered = np.any(stops[:, : starts.shape[1] - ranges + 1] > starts[:, ranges - 1 :], axis=1)
        if not covered.any():
            break
        depth[covered] = ranges
    return depth
