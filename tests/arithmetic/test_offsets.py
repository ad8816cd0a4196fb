"""Offsets are those that trying every B of a range against the definition of a threshold finds."""

from __future__ import annotations

import numpy as np
import pytest

from accelsim.arithmetic.offsets import meeting, meeting_most, middle
from accelsim.arithmetic.separation import Points

CHANNELS, AROUND = 150, 40


class Line:
    """One channel's conditions, and whether `first * M + B` and its neighbour stand on their sides of the codes."""

    def __init__(self, conditions: Points, channel: int, multiplier: int, shift: int) -> None:
        self.lower, self.upper = conditions.is_lower[channel].tolist(), conditions.is_upper[channel].tolist()
        self.first, self.codes = conditions.first[channel].tolist(), conditions.codes.tolist()
        self.multiplier, self.shift = multiplier, shift
        ends = [(code << shift) - multiplier * at for code, at in zip(self.codes, self.first, strict=True)]
        self.smallest, self.largest = min(ends), max(ends) + multiplier - 1

    def met(self, offset: int) -> list[bool]:
        return [
            (not lower or (at * self.multiplier + offset) >> self.shift >= code)
            and (not upper or ((at - 1) * self.multiplier + offset) >> self.shift < code)
            for at, code, lower, upper in zip(self.first, self.codes, self.lower, self.upper, strict=True)
        ]


def lines(thresholds: int) -> tuple[Points, np.ndarray, np.ndarray, list[Line]]:
    """Thresholds near to a line and far from one; some channels have only lower or only upper conditions."""
    rng = np.random.default_rng(thresholds)
    multiplier, shift = rng.integers(1, 12, CHANNELS), rng.integers(0, 4, CHANNELS)
    codes = np.arange(thresholds) - 1
    near = -((-(codes << shift[:, None])) // multiplier[:, None])
    first = np.sort(near + rng.integers(-1, 2, near.shape) * rng.integers(0, 2, (CHANNELS, 1)), axis=1) - 3
    inside = rng.integers(0, thresholds + 1, (CHANNELS, 2))
    place = np.arange(thresholds)
    is_lower = place < inside.max(axis=1)[:, None]
    is_upper = (place >= inside.min(axis=1)[:, None]) | ~is_lower  # every threshold is a condition of some kind
    conditions = Points(codes, first, is_lower, is_upper)
    each = [Line(conditions, c, int(multiplier[c]), int(shift[c])) for c in range(CHANNELS)]
    return conditions, multiplier, shift, each


@pytest.mark.parametrize("thresholds", [1, 2, 3, 6])
def test_each_threshold_is_met_with_the_offsets_of_its_range_and_no_others(thresholds: int) -> None:
    conditions, multiplier, shift, each = lines(thresholds)
    least, most = (end.tolist() for end in meeting(conditions, multiplier, shift))
    for channel, line in enumerate(each):
        for offset in range(line.smallest, line.largest + 1):
            within = [low <= offset <= high for low, high in zip(least[channel], most[channel], strict=True)]
            assert within == line.met(offset)
        assert line.smallest == min(least[channel])
        assert line.largest == max(most[channel])


@pytest.mark.parametrize("thresholds", [1, 2, 3, 6])
def test_the_middle_is_that_of_all_offsets_that_meet_every_threshold(thresholds: int) -> None:
    conditions, multiplier, shift, each = lines(thresholds)
    found = middle(conditions, multiplier, shift).tolist()
    lengths = set()
    for channel, line in enumerate(each):
        meeting_all = [b for b in range(line.smallest, line.largest + 1) if all(line.met(b))]
        lengths.add(len(meeting_all))
        if meeting_all:
            assert found[channel] == (meeting_all[0] + meeting_all[-1]) // 2
    assert {0, 1, 2, 3, 4, 5} <= lengths or thresholds == 1


def test_where_there_is_no_threshold_the_offset_is_none() -> None:
    nothing = np.zeros((3, 0))
    conditions = Points(np.zeros(0, np.int64), nothing.astype(np.int64), nothing.astype(bool), nothing.astype(bool))
    assert middle(conditions, np.arange(1, 4), np.zeros(3, np.int64)).tolist() == [0, 0, 0]


@pytest.mark.parametrize("thresholds", [1, 2, 3, 6])
def test_no_offset_meets_more_thresholds_and_no_smaller_one_as_many(thresholds: int) -> None:
    conditions, multiplier, shift, each = lines(thresholds)
    for line, found in zip(each, meeting_most(conditions, multiplier, shift).tolist(), strict=True):
        count = {b: sum(line.met(b)) for b in range(line.smallest - AROUND, line.largest + AROUND)}
        most = max(count.values())
        assert found == min(b for b, met in count.items() if met == most and b >= line.smallest)
