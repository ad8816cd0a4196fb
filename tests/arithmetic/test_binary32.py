"""The fused multiply-add rounds once: checked with exact fractions."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest

from accelsim.arithmetic.binary32 import f32, fma, inverse, reciprocal


def rounded(value: Fraction) -> np.float32:
    """The nearest binary32 number, ties to the even one, by comparing exact distances with its neighbours'."""
    guess = np.float32(float(value))
    near = [np.nextafter(guess, np.float32(-np.inf)), guess, np.nextafter(guess, np.float32(np.inf))]
    distance = [abs(Fraction(float(candidate)) - value) for candidate in near]
    best = [candidate for candidate, far in zip(near, distance, strict=True) if far == min(distance)]
    return min(best, key=lambda candidate: int(candidate.view(np.int32)) & 1)


def test_a_product_and_sum_is_rounded_once_ties_broken_by_the_least_bit_included() -> None:
    rng = np.random.default_rng(25)
    a, b, c = [], [], []
    for _ in range(4000):
        # The product lies on a tie of binary32, or an ulp of binary64 beside one, and a tiny addend decides.
        x, y = (np.float32(int(value) * 2 + 1) for value in rng.integers(2**11, 2**12, 2))
        a.append(x * np.float32(rng.choice([-1, 1])))
        b.append(y)
        c.append(np.float32(rng.choice([-1, 1]) * 2.0 ** rng.integers(-70, 30) * rng.choice([0, 1, 1.5])))
    # A large addend that takes the product's last places, exactly in the middle of two numbers or not.
    for _ in range(4000):
        big = np.float32(rng.choice([-1, 1]) * (2.0**24 + int(rng.integers(0, 2**20)) * 2))
        a.append(np.float32(1 + 2.0**-23 * int(rng.choice([-1, 0, 1]))))
        b.append(np.float32(rng.choice([-1, 1, 3, -3])))
        c.append(big)
    # Sums that lose bits beyond binary64: rounding to nearest there, and again to binary32, would be wrong.
    for sign in (-1, 1):
        for exponent in range(-80, -20):
            for lower in (-1, 1):
                a.append(np.float32(sign * (1 + 2.0**-12)))
                b.append(np.float32(1 + 2.0**-12))
                c.append(np.float32(lower * 2.0**exponent))
                a.append(np.float32(lower * 2.0**exponent))
                b.append(np.float32(1))
                c.append(np.float32(sign * (1 + 2.0**-23)))
                a.append(np.float32(2.0 ** (exponent // 2) * (1 + 2.0**-12)))
                b.append(np.float32(lower * 2.0 ** (exponent // 2)))
                c.append(np.float32(sign * (1 + 2.0**-22)))
    ours = fma(np.array(a), np.array(b), np.array(c))
    for x, y, z, result in zip(a, b, c, ours, strict=True):
        exact = Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z))
        assert result == rounded(exact), (x, y, z)


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("beyond", [-1, 1])
@pytest.mark.parametrize("odd", [0, 1])
def test_what_binary64_rounds_away_decides_a_tie_of_binary32(sign: int, beyond: int, odd: int) -> None:
    # a * b is exactly 1 + odd * 2**-23 + 2**-24, halfway between two binary32 numbers; c is lost in binary64.
    factor, other = ((97, 172961), (1549, 10831))[odd]
    a, b = np.float32(sign * factor), np.float32(other * 2.0**-24)
    assert float(a) * float(b) == sign * (1 + odd * 2.0**-23 + 2.0**-24)
    c = np.float32(beyond * 2.0**-100)
    lower, upper = 1 + odd * 2.0**-23, 1 + (odd + 1) * 2.0**-23
    expected = sign * (upper if sign * beyond > 0 else lower)
    assert float(fma(a, b, c)) == expected


@pytest.mark.parametrize("scale", [2.0**-40, 2.0**-3, 1.0, 2.0**40])
def test_what_is_rounded_away_counts_at_every_magnitude(scale: float) -> None:
    for sign, beyond, (factor, other) in itertools.product((-1, 1), (-1, 1), ((97, 172961), (1549, 10831))):
        a, b, c = np.float32(sign * factor), np.float32(other * 2.0**-24 * scale), np.float32(beyond * 2.0**-60 * scale)
        assert fma(a, b, c) == rounded(Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c)))


def test_an_infinite_sum_stays_infinite() -> None:
    with np.errstate(over="ignore"):
        assert np.array_equal(
            fma(f32([3e38, 1, -np.inf]), f32([10, np.inf, 2]), f32([1, 1, 1])), [np.inf, np.inf, -np.inf]
        )


def test_an_inverse_divides_in_binary64_and_a_reciprocal_in_binary32() -> None:
    value = 0.1
    assert Fraction(float(inverse(value))) == Fraction(float(rounded(1 / Fraction(value))))
    assert Fraction(float(reciprocal(value))) == Fraction(float(rounded(1 / Fraction(float(np.float32(value))))))
    different = [v for v in np.linspace(0.1, 0.2, 500) if inverse(v) != reciprocal(v)]
    assert different


def test_subnormal_and_the_largest_results_of_an_fma_are_rounded_once() -> None:
    """Where binary32's ties do not lie in the middle of binary64's last bits, and where they decide on infinity."""
    rng = np.random.default_rng(32)
    count = 3000
    a = (rng.integers(1, 2**24, count) * 2.0 ** rng.integers(-100, -60, count)).astype(np.float32)
    b = (rng.integers(1, 2**24, count) * 2.0 ** rng.integers(-90, -70, count)).astype(np.float32)
    c = (rng.integers(-(2**24), 2**24, count) * 2.0**-149).astype(np.float32)
    for x, y, z, result in zip(a, b, c, fma(a, b, c), strict=True):
        exact = Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z))
        assert result == rounded(exact), (x, y, z)
    largest = np.finfo(np.float32).max
    half = np.float32(2.0**103)  # half of the last place of the largest number: a tie, which goes to infinity
    assert fma(1, largest, half) == np.inf
    assert fma(1, largest, np.nextafter(half, np.float32(0))) == largest
    assert fma(-1, largest, -half) == -np.inf
    assert fma(largest, 2, -largest) == largest
