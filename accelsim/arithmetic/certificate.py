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

from .deviation import deviation
from .fixed_point import MOST_MULTIPLIER_BITS, FixedPoint
from .multipliers import most_bits, narrowest, next_to
from .offsets import meeting_most, middle
from .reachable import Reachable
from .requantize import Requantization
from .separation import points, separating_slopes
from .thresholds import Thresholds, find_thresholds

_CHANNELS_AT_ONCE = 32  # what is worked on at once then stays in a processor's caches


@dataclass(frozen=True)
class Certificate:
    """The fixed-point constants of all channels of a layer, and what is proved of them.

    `bits` is the least width of a multiplier with which `constants` can give the engine's code for every accumulator of
    `reach` (M from 1 on, a shift of at most 54, `count * M` below 2**62), 0 where none of up to 31 bits can. Where
    `multiplier_bits` are fewer, or none will do, `constants` are the best pair found: another code for `differing`
    accumulators, by `worst` at most.
    """

    multiplier_bits: int
    constants: FixedPoint
    reach: Reachable
    exact: Thresholds
    bits: NDArray[np.int64]
    differing: NDArray[np.int64]
    worst: NDArray[np.int64]

    @property
    def certified(self) -> NDArray[np.bool_]:
        """The channels whose constants give the engine's code for every accumulator of `reach`."""
        return self.differing == 0

    def intervals(self, channel: int) -> list[tuple[int, int]]:
        """The accumulators whose codes differ, as half-open ranges in order of which none touch."""
        row = np.array([channel])
        constants, inside = self.constants, self.exact.monotone
        wrong = deviation(self.exact.rows(row), constants.multiplier[row], constants.offset[row], constants.shift[row])
        wrapped_below = (self.reach.low[channel], inside.low[channel])
        wrapped_above = (inside.high[channel] + 1, self.reach.high[channel] + 1)
        joined: list[tuple[int, int]] = []
        for start, stop in (wrapped_below, *zip(wrong.starts.ravel(), wrong.stops.ravel(), strict=True), wrapped_above):
            if start == stop:
                continue
            if joined and start <= joined[-1][1]:
                start = joined.pop()[0]
            joined.append((int(start), int(stop)))
        return joined


def prove(rule: Requantization, reach: Reachable, multiplier_bits: int = MOST_MULTIPLIER_BITS) -> Certificate:
    """Find fixed-point constants for a layer's pipeline, with multipliers of at most `multiplier_bits` bits.

    `reach`: the reachable accumulators of each channel, of the sums that `rule` takes. Raises ConfigurationError for a
    width outside 1..31.
    """
    if not 1 <= multiplier_bits <= MOST_MULTIPLIER_BITS:
        raise ConfigurationError(f"multiplier_bits: 1 to {MOST_MULTIPLIER_BITS} are possible, not {multiplier_bits}")
    exact = find_thresholds(rule, reach)
    factor, room = real_factor(rule, reach.channels), most_bits(reach)
    chunks = [slice(start, start + _CHANNELS_AT_ONCE) for start in range(0, reach.channels, _CHANNELS_AT_ONCE)]
    parts = [_constants(exact.rows(rows), factor[rows], room[rows], multiplier_bits) for rows in chunks]
    multiplier, offset, shift, bits, differing, worst = np.concatenate(parts, axis=1)
    wrapped = reach.count - exact.monotone.count
    return Certificate(
        multiplier_bits,
        FixedPoint(multiplier, offset, shift, rule.minimum, rule.maximum),
        reach,
        exact,
        np.where(wrapped == 0, bits, 0),
        differing + wrapped,
        np.where(wrapped > 0, rule.maximum - rule.minimum, worst),
    )


def real_factor(rule: Requantization, channels: int) -> NDArray[np.float64]:
    """Output steps in one step of the accumulator, for each channel: the product of the pipeline's factors, finite."""
    factor = np.ones(channels)
    for constant in (rule.scale_1, rule.scale_2, rule.multiplier):
        if constant is not None:
            with np.errstate(all="ignore"):
                factor = factor * constant.astype(np.float64)
    if rule.divisor is not None:
        with np.errstate(all="ignore"):
            factor = factor / rule.divisor.astype(np.float64)
    return np.nan_to_num(factor)


def _constants(
    exact: Thresholds, factor: NDArray[np.float64], room: NDArray[np.int64], multiplier_bits: int
) -> NDArray[np.int64]:
    """M, B, S, the bits of the narrowest M, differing accumulators and worst difference of each channel.

    M has at most `multiplier_bits` bits and at most `room`, the narrowest has at most `room`. These are the
    rows of what is returned; the channels are its columns.
    """
    conditions = points(exact)
    slopes = separating_slopes(conditions)
    multiplier, shift, least_bits = narrowest(slopes, room)
    offset = middle(conditions, multiplier, shift)
    others = np.flatnonzero((least_bits == 0) | (least_bits > multiplier_bits))
    if len(others):
        bits = np.minimum(room[others], multiplier_bits)
        near = np.stack([factor, slopes.low, (slopes.low + slopes.high) / 2, slopes.high])[:, others]
        multiplier[others], offset[others], shift[others] = _best(exact.rows(others), near, bits)
    wrong = deviation(exact, multiplier, offset, shift)
    return np.stack([multiplier, offset, shift, least_bits, wrong.count, wrong.worst])


def _best(exact: Thresholds, near: NDArray[np.float64], bits: NDArray[np.int64]) -> NDArray[np.int64]:
    """M, B and S (the rows) of each channel with the fewest differing accumulators among some; of several the least M.

    The multipliers tried have at most `bits` bits and are those next to each of the slopes `near` (slopes, channels);
    B is the one that meets the most thresholds (`offsets.meeting_most`).
    """
    tried = np.broadcast_arrays(np.arange(len(bits)), *next_to(near, bits))
    channel, multiplier, shift = np.unique([each.ravel() for each in tried], axis=1)
    rows = exact.rows(channel)
    offset = meeting_most(points(rows), multiplier, shift)
    count = deviation(rows, multiplier, offset, shift).count
    order = np.lexsort((multiplier, count, channel))
    _, first = np.unique(channel[order], return_index=True)
    return np.stack([multiplier, offset, shift])[:, order[first]]
