"""Thresholds of small pipelines are where the codes of `round` change, and count back to the same codes."""

from __future__ import annotations

import numpy as np
import pytest

from accelsim.arithmetic import thresholds
from accelsim.arithmetic.reachable import Reachable
from accelsim.arithmetic.requantize import Requantization
from accelsim.arithmetic.thresholds import Thresholds, find_thresholds
from accelsim.errors import ModelError

#: Powers of two: their products are exact, and Python's `round` goes to even as binary32 does.
FACTORS = (0.25, 0.5, 1.0, 8.0, 2.0**-12)
LOW, HIGH = (-300, 5, -7, -40, -9), (900, 5, 300, 31, 9)


def code(channel: int, accumulator: int, minimum: int = 0) -> int:
    return min(max(round(accumulator * FACTORS[channel]) + 3, minimum), 255)


def found(minimum: int = 0) -> Thresholds:
    rule = Requantization(3, minimum, 255, multiplier=np.array(FACTORS, np.float32))
    return find_thresholds(rule, Reachable(np.array(LOW), np.array(HIGH)))


@pytest.mark.parametrize("start", [None, "low", "high", 0])
def test_a_threshold_is_the_first_accumulator_of_its_code_or_one_past_the_range(
    start: int | str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever the search starts."""
    if start is not None:
        places = {"low": np.array(LOW), "high": np.array(HIGH), 0: np.clip(0, LOW, HIGH)}[start]
        monkeypatch.setattr(thresholds, "_guess", lambda *_: np.repeat(places[:, None], 255, axis=1))
    expected = [
        [next((acc for acc in range(low, high + 1) if code(channel, acc) > step), high + 1) for step in range(255)]
        for channel, (low, high) in enumerate(zip(LOW, HIGH, strict=True))
    ]
    assert found().first.tolist() == expected


@pytest.mark.parametrize("minimum", [0, 3])
def test_the_thresholds_reached_are_counted(minimum: int) -> None:
    """Of 255 thresholds halving takes the same steps for every count, of 252 it does not."""
    exact = found(minimum)
    within = [range(low, high + 1) for low, high in zip(LOW, HIGH, strict=True)]
    # Every accumulator of every channel, the shorter ranges over and over.
    accumulators = np.array([[span[row % len(span)] for span in within] for row in range(max(map(len, within)))])
    codes = [[code(channel, acc, minimum) for channel, acc in enumerate(row)] for row in accumulators.tolist()]
    assert exact.apply(accumulators.astype(np.int32)).tolist() == codes
    assert exact.apply(accumulators[7].astype(np.int32)).tolist() == codes[7]


def test_the_way_through_the_parameter_buffer_and_an_offset_leave_the_codes() -> None:
    exact, offset = found(), np.array([4, -5, 0, 1000, -1])
    assert exact.planes().shape == (255, 5)
    assert exact.planes().view(np.int32).T.tolist() == exact.first.tolist()
    again = Thresholds.from_planes(exact.after(offset).planes(), 0)
    assert again.first.shape == (5, 255)
    accumulators = np.array([LOW, HIGH, (0, 5, 0, 0, 0)])
    codes = [[code(channel, acc) for channel, acc in enumerate(row)] for row in accumulators.tolist()]
    assert again.apply((accumulators - offset).astype(np.int32)).tolist() == codes
    assert exact.after(offset).apply((accumulators - offset).astype(np.int32)).tolist() == codes


@pytest.mark.parametrize("zero_point", [-7, -1, 0, 3])
def test_a_conversion_that_wraps_round_ends_the_range(zero_point: int) -> None:
    """4 * 2**29, to which 2**29 - 16 is rounded too, leaves int32 and becomes its least; -4 * 2**29 is the least.

    The least less a zero point of 7 wraps round to the largest code, which is right at the top and wrong at the bottom.
    """
    rule = Requantization(zero_point, -128, 127, multiplier=np.array([4.0, 1.0, 4.0], np.float32), indefinite=True)
    reach = Reachable(np.array([-1000, -5, -(2**29) - 50]), np.array([2**29 + 99, 5, 1000]))
    exact = find_thresholds(rule, reach)
    beyond = 127 if zero_point < 0 else -128
    highest, lowest = (2**29 + 99, -(2**29) + 17) if zero_point < 0 else (2**29 - 17, -(2**29) - 50)
    assert exact.monotone.low.tolist() == [-1000, -5, lowest]
    assert exact.monotone.high.tolist() == [highest, 5, 1000]
    assert exact.wrapped == beyond
    ends = np.array([[2**29 - 17, 0, 0], [2**29 - 16, 1, lowest], [0, -5, lowest - 1]], np.int32)
    assert exact.apply(ends)[:, 0].tolist() == [127, beyond, zero_point]
    assert exact.apply(ends)[:, 1].tolist() == [zero_point, zero_point + 1, zero_point - 5]
    if zero_point < 0:
        assert exact.apply(ends)[:, 2].tolist() == [zero_point, -128, 127]


@pytest.mark.parametrize(("zero_point", "low", "high", "code"), [(0, 0, 255, 0), (7, 7, 255, 7), (-7, -128, 127, 127)])
def test_a_channel_that_wraps_round_everywhere_has_one_code(zero_point: int, low: int, high: int, code: int) -> None:
    """4 * 2**30 leaves int32 and becomes its least; less 7 it leaves int32 once more. The other channel does not."""
    constants = {"multiplier": np.array([4.0, 2.0**-28], np.float32), "indefinite": True}
    rule = Requantization(zero_point, low, high, **constants)
    reach = Reachable(np.array([2**30] * 2), np.array([2**30 + 9] * 2))
    exact = find_thresholds(rule, reach)
    sums = np.array([[2**30] * 2, [2**30 + 9] * 2], np.int32)
    assert exact.apply(sums).tolist() == [[code, max(4 + zero_point, low)]] * 2
    assert np.array_equal(exact.apply(sums), rule.apply(sums))
    assert exact.monotone.count.tolist() == [10, 10]


def test_a_bias_that_takes_sums_out_of_int32_is_refused() -> None:
    rule = Requantization(0, 0, 255, offset=np.array([2**31 - 1], np.int32), multiplier=np.array([0.5], np.float32))
    assert find_thresholds(rule, Reachable(np.array([-5]), np.array([0])))
    with pytest.raises(ModelError, match="wrap round"):
        find_thresholds(rule, Reachable(np.array([-5]), np.array([1])))


@pytest.mark.parametrize("indefinite", [False, True])
def test_a_layer_of_one_code_has_no_thresholds(indefinite: bool) -> None:
    rule = Requantization(255, 255, 255, multiplier=np.array([0.5], np.float32), indefinite=indefinite)
    exact = find_thresholds(rule, Reachable(np.array([-9]), np.array([9])))
    assert exact.first.shape == (1, 0)
    assert exact.apply(np.array([[-9], [9]], np.int32)).tolist() == [[255], [255]]
