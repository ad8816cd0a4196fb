"""Where two forms differ is where evaluating both for every accumulator says."""

from __future__ import annotations

import numpy as np
import pytest

from accelsim.arithmetic.deviation import deviation
from accelsim.arithmetic.reachable import Reachable
from accelsim.arithmetic.thresholds import Thresholds

CHANNELS = 200


@pytest.mark.parametrize("thresholds", [1, 2, 5, 9])
@pytest.mark.parametrize("minimum", [0, -128, 3])
def test_what_differs_is_what_differs_when_every_accumulator_is_tried(thresholds: int, minimum: int) -> None:
    rng = np.random.default_rng([thresholds, minimum + 128])
    first = np.cumsum(rng.integers(0, rng.integers(1, 9, (CHANNELS, 1)), (CHANNELS, thresholds)), axis=1) - 12
    # Some thresholds stand outside the range that counts.
    low = first[:, 0] + rng.integers(-4, 3, CHANNELS)
    high = np.maximum(first[:, -1] + rng.integers(-4, 5, CHANNELS), low)
    exact = Thresholds(minimum, first, Reachable(low, high), 0)
    multiplier, shift = rng.integers(1, 30, CHANNELS), rng.integers(0, 7, CHANNELS)
    offset = (minimum << shift) + rng.integers(-100, 400, CHANNELS)
    found = deviation(exact, multiplier, offset, shift)
    assert np.all(np.diff(found.starts) >= 0)
    assert np.all(np.diff(found.stops) >= 0)
    counts, worst = [], []
    for channel in range(CHANNELS):
        m, b, s = (int(value[channel]) for value in (multiplier, offset, shift))
        difference = {
            acc: min(max((acc * m + b) >> s, minimum), minimum + thresholds)
            - (minimum + sum(acc >= at for at in first[channel].tolist()))
            for acc in range(int(low[channel]), int(high[channel]) + 1)
        }
        ranges = [range(*ends) for ends in zip(found.starts[channel], found.stops[channel], strict=True)]
        assert {acc for each in ranges for acc in each} == {acc for acc, value in difference.items() if value}
        counts.append(sum(value != 0 for value in difference.values()))
        worst.append(max(map(abs, difference.values())))
    assert found.count.tolist() == counts
    assert found.worst.tolist() == worst
    assert set(range(2, thresholds)) <= set(worst)


def test_without_thresholds_nothing_differs() -> None:
    exact = Thresholds(255, np.zeros((2, 0), np.int64), Reachable(np.array([-3, 4]), np.array([9, 4])), 255)
    one = np.ones(2, np.int64)
    found = deviation(exact, one, one, one)
    assert (found.count.tolist(), found.worst.tolist()) == ([0, 0], [0, 0])
