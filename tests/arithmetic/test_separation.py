"""The slopes of separating lines are those that every pair of a lower and an upper point leaves, in fractions."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest

from accelsim.arithmetic.reachable import Reachable
from accelsim.arithmetic.separation import points, separating_slopes
from accelsim.arithmetic.thresholds import Thresholds


def of_pairs(first: list[int], low: int, high: int) -> tuple[Fraction, Fraction]:
    """A line at or above (t, c) and below (u - 1, d) has (t - u + 1) m > c - d; codes are 0, 1, 2, ...

    Slopes end at 256, which is steeper than any line between two thresholds.
    """
    least, most = [Fraction(-256)], [Fraction(256)]
    lower = [(at, code) for code, at in enumerate(first) if at <= high]
    upper = [(at - 1, code) for code, at in enumerate(first) if at > low]
    for (t, c), (u, d) in itertools.product(lower, upper):
        if t > u:
            least.append(Fraction(c - d, t - u))
        elif t < u:
            most.append(Fraction(c - d, t - u))
        else:
            assert c < d
    return max(least), min(most)


@pytest.mark.parametrize("codes", [1, 2, 4, 7])
def test_the_slopes_are_those_that_every_pair_of_points_leaves(codes: int) -> None:
    rng = np.random.default_rng(codes)
    steps = rng.integers(0, rng.integers(2, 6, (400, 1)), (400, codes))
    first = np.cumsum(steps, axis=1) + rng.integers(-20, 20, (400, 1))
    low = first[:, 0] - rng.integers(0, 3, 400)
    high = np.maximum(first[:, -1] + rng.integers(-1, 3, 400), low)
    first = np.minimum(first, high[:, None] + 1)
    exact = Thresholds(9, first, Reachable(low, high), 0)
    found = separating_slopes(points(exact))
    feasible = []
    for channel in range(400):
        least, most = of_pairs(first[channel].tolist(), int(low[channel]), int(high[channel]))
        feasible.append((least < most, least == most))
        assert found.feasible[channel] == (least < most)
        if least < most:
            ends = (found.low_numerator, found.low_denominator, found.high_numerator, found.high_denominator)
            a, b, c, d = (int(end[channel]) for end in ends)
            assert (Fraction(a, b), Fraction(c, d)) == (least, most)
    if codes > 2:
        # Some have no line, some miss theirs by nothing.
        assert {(True, False), (False, False), (False, True)} == set(feasible)


def test_points_are_conditions_within_the_range_alone() -> None:
    exact = Thresholds(3, np.array([[-5, 0, 8], [0, 8, 8]]), Reachable(np.array([-5, 0]), np.array([7, 8])), 3)
    conditions = points(exact)
    assert conditions.codes.tolist() == [4, 5, 6]
    assert conditions.is_lower.tolist() == [[True, True, False], [True, True, True]]
    assert conditions.is_upper.tolist() == [[False, True, True], [False, True, True]]
    assert conditions.rows(np.array([1])).first.tolist() == [[0, 8, 8]]
