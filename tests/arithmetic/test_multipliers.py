"""Multipliers and shifts are those that trying them one by one finds, up to the ends of what 64 bits hold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest

from accelsim.arithmetic.multipliers import most_bits, narrowest, next_to
from accelsim.arithmetic.reachable import Reachable
from accelsim.arithmetic.separation import Slopes


def slopes(ends: Sequence[tuple[Fraction, Fraction]]) -> Slopes:
    low, high = ([end[side] for end in ends] for side in (0, 1))
    parts = [np.array([getattr(end, part) for end in side]) for side in (low, high) for part in FRACTION]
    return Slopes(*parts, feasible=np.array([a < b for a, b in ends]))


FRACTION = ("numerator", "denominator")


def test_the_narrowest_multiplier_is_the_first_that_trying_all_finds() -> None:
    rng = np.random.default_rng(1)
    ends = []
    for _ in range(400):
        # Ends of 0 and less, of halves and quarters, near to each other and apart; some are the wrong way round.
        a, b, c, d = (int(value) for value in rng.integers((-3, 1, 1, 1), (40, 33, 40, 33)))
        ends.append((Fraction(a, b), Fraction(c, d)))
    multiplier, shift, bits = (found.tolist() for found in narrowest(slopes(ends), np.full(400, 12)))
    for channel, (low, high) in enumerate(ends):
        tried = ((m, s) for m in range(1, 4096) for s in range(30) if low < Fraction(m, 2**s) < high)
        first = next(tried, None) if low < high else None
        if first is None:
            assert bits[channel] == 0
        else:
            assert (multiplier[channel], shift[channel]) == first
            assert bits[channel] == first[0].bit_length()
    assert {0, 1, 2, 3, 4, 5} <= set(bits)


def closest(slope: Fraction) -> tuple[Fraction, Fraction]:
    """The fractions next to a slope whose numerators are 256 at most and whose denominators are below 2**32."""
    numerators = range(1, min(256, math.floor(slope * 2**32) - 1))
    below = max(Fraction(n, math.floor(n / slope) + 1) for n in numerators)
    above = min(Fraction(n, math.ceil(n / slope) - 1) for n in numerators)
    assert below < slope < above
    assert max(below.denominator, above.denominator) < 2**32
    return below, above


def test_the_narrowest_multiplier_has_the_bits_allowed_and_a_shift_of_54_at_most() -> None:
    """Each of these intervals holds one M / 2**S of up to 32 bits and a shift of up to 55."""
    pairs = [(2**31 - 1, 54), (2**30 + 1, 54), (2**31 + 1, 54), (2**30 + 1, 55)]
    ends = slopes([closest(Fraction(m, 2**s)) for m, s in pairs])
    multiplier, shift, bits = narrowest(ends, np.full(4, 31))
    assert bits.tolist() == [31, 31, 0, 0]
    assert narrowest(ends, np.array([31, 30, 31, 31]))[2].tolist() == [31, 0, 0, 0]
    assert list(zip(multiplier.tolist(), shift.tolist(), strict=True))[:2] == pairs[:2]


@pytest.mark.parametrize("bits", [1, 2, 5, 31])
def test_the_neighbours_of_a_slope_are_its_multiples_rounded(bits: int) -> None:
    rng = np.random.default_rng(2)
    top = 2.0**bits - 1
    values = [*2.0 ** rng.uniform(-60, 9, 200), *2.0 ** np.arange(-56, 9), top, top + 0.25, top / 4 + 1 / 16, 256, -0.3]
    (below, above), shift = (found.tolist() for found in next_to(np.array(values), np.full(len(values), bits)))
    for place, slope in enumerate(values):
        fitting = [s for s in range(55) if abs(Fraction(slope)) * 2**s < 2**bits]
        assert shift[place] == max(fitting, default=0)
        exact = Fraction(slope) * 2 ** shift[place]
        expected = [min(max(value, 1), 2**bits - 1) for value in (math.floor(exact), math.ceil(exact))]
        assert [below[place], above[place]] == expected


def test_every_channel_has_bits_of_its_own() -> None:
    (below, above), shift = next_to(np.array([[0.7, 0.7], [3.0, 0.1]]), np.array([3, 5]))
    assert below.tolist() == [[5, 22], [6, 25]]
    assert above.tolist() == [[6, 23], [6, 26]]
    assert shift.tolist() == [[3, 5], [1, 8]]


def test_the_widest_multiplier_leaves_room_for_every_accumulator() -> None:
    """Of 2**31 accumulators 31 bits fit below 2**62, of one more they do not."""
    counts = [1, 2**20, 2**31 - 1, 2**31, 2**31 + 1, 2**32]
    low = np.array([0, -(2**19), -(2**30), -(2**30), -(2**31), -(2**31)])
    widest = most_bits(Reachable(low, low + counts - 1)).tolist()
    assert widest == [31, 31, 31, 31, 30, 30]
    assert all(count * (2**bits - 1) < 2**62 for count, bits in zip(counts, widest, strict=True))
