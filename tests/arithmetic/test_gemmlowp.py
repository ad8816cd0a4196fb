"""gemmlowp's requantisation is its published C text's, compiled, and the rational numbers that this text means."""

from __future__ import annotations

import ctypes
import itertools
import math
import shutil
import subprocess
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from accelsim.arithmetic.affine import Affine
from accelsim.arithmetic.alternatives import Gemmlowp, LayerScales

COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")

#: gemmlowp `fixedpoint.h` (the generic versions), TFLite `common.h` and `quantization_util.cc`, two roundings.
PUBLISHED = r"""
#include <limits.h>
#include <math.h>
#include <stdint.h>

static int32_t SaturatingRoundingDoublingHighMul(int32_t a, int32_t b) {
    int overflow = a == b && a == INT32_MIN;
    int64_t a_64 = a, b_64 = b, ab_64 = a_64 * b_64;
    int32_t nudge = ab_64 >= 0 ? (1 << 30) : (1 - (1 << 30));
    int32_t ab_x2_high32 = (int32_t)((ab_64 + nudge) / (1ll << 31));
    return overflow ? INT32_MAX : ab_x2_high32;
}

static int32_t RoundingDivideByPOT(int32_t x, int exponent) {
    int32_t mask = (int32_t)((1ll << exponent) - 1);
    int32_t remainder = x & mask;
    int32_t threshold = (mask >> 1) + (x < 0 ? 1 : 0);
    return (x >> exponent) + (remainder > threshold ? 1 : 0);
}

void QuantizeMultiplier(double multiplier, int32_t *quantized, int *shift) {
    double q = frexp(multiplier, shift);
    int64_t fixed = (int64_t)round(q * (1ll << 31));
    if (fixed == (1ll << 31)) { fixed /= 2; ++*shift; }
    if (*shift < -31) { *shift = 0; fixed = 0; }
    *quantized = (int32_t)fixed;
}

int32_t MultiplyByQuantizedMultiplier(int32_t x, int32_t quantized, int shift) {
    int left = shift > 0 ? shift : 0, right = shift > 0 ? 0 : -shift;
    int64_t shifted = (int64_t)x * (1ll << left); /* the text overflows here; hardware saturates */
    x = shifted > INT32_MAX ? INT32_MAX : shifted < INT32_MIN ? INT32_MIN : (int32_t)shifted;
    return RoundingDivideByPOT(SaturatingRoundingDoublingHighMul(x, quantized), right);
}
"""

#: Multiplies an int32 by a real number.
Multiply = Callable[[int, float], int]


def of_fractions(x: int, real: float) -> int:
    """The meaning of the text: the product to the nearest, halves up, and the quotient, halves away from zero."""
    fraction, exponent = math.frexp(real)
    fixed = math.floor(Fraction(fraction) * 2**31 + Fraction(1, 2))
    if fixed == 2**31:
        fixed, exponent = 2**30, exponent + 1
    if exponent < -31:
        return 0
    x = min(max(x << max(exponent, 0), -(2**31)), 2**31 - 1)
    high = math.floor(Fraction(x * fixed, 2**31) + Fraction(1, 2))
    quotient = abs(Fraction(high, 2 ** max(-exponent, 0)))
    return int(math.copysign(math.floor(quotient + Fraction(1, 2)), high))


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Multiply:
    if COMPILER is None:
        pytest.skip("no C compiler on this machine")
    directory: Path = tmp_path_factory.mktemp("gemmlowp")
    source, library = directory / "published.c", directory / "published.so"
    source.write_text(PUBLISHED)
    subprocess.run([COMPILER, "-O1", "-shared", "-fPIC", "-o", library, source, "-lm"], check=True, capture_output=True)
    text = ctypes.CDLL(str(library))

    def multiply(x: int, real: float) -> int:
        fixed, shift = ctypes.c_int32(), ctypes.c_int()
        text.QuantizeMultiplier(ctypes.c_double(real), ctypes.byref(fixed), ctypes.byref(shift))
        return int(text.MultiplyByQuantizedMultiplier(x, fixed, shift))

    return multiply


#: Real factors: significands at the ends and beside them, those that round up to 1, halves of the last place; exponents
#: from what saturates at once to what vanishes.
SIGNIFICANDS = (0.5, 0.5 + 2**-31, 0.5 + 3 * 2**-32, 0.5 + 2**-32, 0.7, 2 / 3, 1 - 2**-31, 1 - 2**-32, 1 - 2**-34)
EXPONENTS = (-34, -33, -32, -31, -30, -12, -3, -2, -1, 0, 1, 2, 9, 30, 31)


def factors() -> list[float]:
    return [math.ldexp(s, e) for s, e in itertools.product(SIGNIFICANDS, EXPONENTS)]


def sums(real: float) -> np.ndarray:
    """Small ones, the ends of int32, and those next to a half of either rounding."""
    near = [0, 2**30, 2**31 - 1, -(2**30), -(2**31)]
    halves = [int(Fraction(2 * k + 1, 2) / Fraction(real)) for k in range(-3, 3)]
    rng = np.random.default_rng(1)
    places = [place + step for place in near + halves for step in range(-4, 5)]
    values = np.array([p for p in places if -(2**31) <= p < 2**31])
    return np.concatenate([values, rng.integers(-(2**31), 2**31, 20), rng.integers(-300, 300, 20)])


def layer(real: float, *, bias: float | None = None, offset: int | None = None) -> LayerScales:
    """A layer of one channel that multiplies by `real`; its codes show steps of -128 to 127."""
    steps = None if bias is None else np.array([bias], np.float32)
    offsets = None if offset is None else np.array([offset], np.int32)
    return LayerScales(Affine(real, 0, "int8"), np.ones(1), Affine(1.0, 0, "int8"), steps, False, 1, offsets)


def check(multiply: Multiply) -> None:
    count = 0
    for real in factors():
        accumulators = sums(real)
        codes = Gemmlowp.of(layer(real)).apply(accumulators.astype(np.int32)[:, None])[:, 0]
        expected = [min(max(multiply(int(x), real), -128), 127) for x in accumulators.tolist()]
        assert codes.tolist() == expected, real
        count += len(set(expected))
    assert count > 1000


def test_gemmlowp_is_what_its_text_means_in_rational_numbers() -> None:
    check(of_fractions)


def test_gemmlowp_is_its_published_text_compiled(published: Multiply) -> None:
    check(published)


def test_multipliers_are_rounded_half_away_from_zero_and_stay_below_one() -> None:
    for real in factors():
        made, (fraction, exponent) = Gemmlowp.of(layer(real)), math.frexp(real)
        if not -30 <= exponent <= 29:
            continue
        stands_for = Fraction(int(made.multiplier[0])) / Fraction(2) ** (31 + int(made.shift[0]))
        assert 2**30 <= made.multiplier[0] < 2**31
        nearest = math.floor(Fraction(fraction) * 2**31 + Fraction(1, 2))
        assert stands_for == Fraction(nearest) * Fraction(2) ** (exponent - 31)


def test_the_largest_sum_times_the_largest_factor_saturates() -> None:
    made = Gemmlowp.of(layer(2.0**33, bias=2.0**64, offset=2**31 - 1))  # the bias in real units: 2**31 steps
    assert made.apply(np.array([[2**31 - 1]], np.int32)).tolist() == [[127]]
    made = Gemmlowp.of(layer(2.0**33, bias=-(2.0**64), offset=-(2**31)))
    assert made.apply(np.array([[-(2**31)]], np.int32)).tolist() == [[-128]]
