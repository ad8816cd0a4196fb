"""The forms that people build, against the definitions of their sources in Python's integers and fractions."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from accelsim.arithmetic.affine import Affine
from accelsim.arithmetic.alternatives import Gemmlowp, LayerScales, PowerOfTwo, Textbook
from accelsim.arithmetic.engines import KernelSet
from accelsim.arithmetic.matrix import requantization
from accelsim.arithmetic.reachable import reachable
from accelsim.arithmetic.units import ARITHMETICS, requantizer
from accelsim.errors import ConfigurationError

INT32 = (-(2**31), 2**31 - 1)
CHANNELS = 6


def layer(rng: np.random.Generator, *, ties: bool = False, large: bool = False, folded: bool = False) -> LayerScales:
    sw = 2.0 ** rng.integers(-9, -5, CHANNELS) if ties else rng.uniform(0.001, 0.02, CHANNELS)
    output = Affine(2.0**-6 if ties else float(rng.uniform(0.01, 0.1)), int(rng.integers(0, 256)), "uint8")
    if large:
        output = Affine(1e-5, 3, "uint8")
    source = Affine(2.0**-5 if ties else 0.0213, int(rng.integers(0, 256)), "uint8")
    bias = (rng.integers(-300, 300, CHANNELS) / 2 * source.scale * sw).astype(np.float32)
    offset = rng.integers(-50_000, 50_000, CHANNELS).astype(np.int32) if folded else None
    return LayerScales(source, sw.astype(np.float64), output, bias, bool(rng.integers(0, 2)), CHANNELS, offset)


def each(rng: np.random.Generator) -> np.ndarray:
    parts = [rng.integers(-(2**bits), 2**bits, (120, CHANNELS)) for bits in (5, 9, 14, 20, 31)]
    return np.concatenate(parts).astype(np.int32)


def clamp(value: int, scales: LayerScales) -> int:
    low = scales.output.zero_point if scales.relu else 0
    return min(max(value + scales.output.zero_point, low), 255)


def half_away(value: Fraction) -> int:
    return int(math.copysign(math.floor(abs(value) + Fraction(1, 2)), value))


def real_factor(scales: LayerScales, channel: int) -> Fraction:
    # As the sources have it: the scales are real numbers, their product and quotient are doubles.
    return Fraction(scales.input.scale * float(scales.weight_scale[channel]) / scales.output.scale)


def bias_steps(scales: LayerScales, channel: int) -> Fraction:
    assert scales.bias is not None
    return Fraction(float(scales.bias[channel]) / (scales.input.scale * float(scales.weight_scale[channel])))


def compare(found: np.ndarray, accumulators: np.ndarray, expected: Any) -> None:
    for row, codes in zip(accumulators.tolist(), found.tolist(), strict=True):
        assert codes == [expected(acc, channel) for channel, acc in enumerate(row)]


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("folded", [False, True])
def test_the_textbook_rounds_once_half_to_even(ties: bool, folded: bool) -> None:
    rng = np.random.default_rng(1)
    scales = layer(rng, ties=ties, folded=folded)
    accumulators = each(rng)

    def expected(acc: int, channel: int) -> int:
        offset = 0 if scales.offset is None else int(scales.offset[channel])
        total = acc + offset + round(bias_steps(scales, channel))  # Python rounds fractions half to even
        return clamp(round(total * real_factor(scales, channel)), scales)

    compare(Textbook.of(scales).apply(accumulators), accumulators, expected)


def test_the_textbooks_significand_has_53_bits_and_loses_nothing_of_the_factor() -> None:
    scales = layer(np.random.default_rng(6))
    form = Textbook.of(scales)
    for channel, (significand, shift) in enumerate(zip(form.significand.tolist(), form.shift.tolist(), strict=True)):
        assert significand.bit_length() == 53
        assert Fraction(significand, 2**shift) == real_factor(scales, channel)


def test_a_textbook_product_is_rounded_by_all_of_its_bits() -> None:
    """Significands that put the product one unit of its 2**shift to either side of a half, or on it."""
    rng = np.random.default_rng(7)
    for shift, away in itertools.product((30, 44, 52), (-(2**26), -1, 0, 1, 2**26 - 1, 2**26)):
        sums = 2 * rng.integers(-(2**9), 2**9, CHANNELS) + 1
        rest = [(2 ** (shift - 1) + away) * pow(total, -1, 2**shift) % 2**shift for total in sums.tolist()]
        significand = np.array([2**52 + value for value in rest])
        form = Textbook(np.zeros(CHANNELS, np.int64), significand, np.full(CHANNELS, shift), 0, *INT32)
        products = [Fraction(a * b, 2**shift) for a, b in zip(sums.tolist(), significand.tolist(), strict=True)]
        assert all(value % 1 == Fraction(1, 2) + Fraction(away, 2**shift) for value in products)
        assert form.apply(sums.astype(np.int32)).tolist() == [min(max(round(v), INT32[0]), INT32[1]) for v in products]


@pytest.mark.parametrize("large", [False, True])
def test_a_power_of_two_is_the_nearest_and_its_shift_rounds_half_up(large: bool) -> None:
    rng = np.random.default_rng(2)
    scales = layer(rng, large=large)
    accumulators = each(rng)

    def expected(acc: int, channel: int) -> int:
        m = real_factor(scales, channel)
        n = min(range(-30, 40), key=lambda n: abs(math.log2(m) + n))
        total = acc + round(bias_steps(scales, channel))
        return clamp(math.floor(total * Fraction(2) ** -n + Fraction(1, 2)), scales)

    form = PowerOfTwo.of(scales)
    compare(form.apply(accumulators), accumulators, expected)
    compare(form.fixed_point().apply(accumulators), accumulators, expected)


def test_a_factor_next_to_the_middle_of_two_powers_gets_the_nearer_on_a_logarithmic_scale() -> None:
    for real in np.nextafter(math.sqrt(0.5), [0.0, 0.5, 1.0]) * 2.0 ** np.arange(-3, 3)[:, None]:
        for factor in (*real.tolist(), math.sqrt(0.5)):
            scales = LayerScales(Affine(factor, 0, "uint8"), np.ones(1), Affine(1.0, 0, "uint8"), None, False, 1)
            fraction, exponent = math.frexp(factor)
            nearer_above = Fraction(fraction) ** 2 > Fraction(1, 2)  # log2 rises with the square
            assert PowerOfTwo.of(scales).shift.tolist() == [-exponent if nearer_above else 1 - exponent]


@pytest.mark.parametrize(("ties", "large"), [(False, False), (True, False), (False, True)])
def test_gemmlowp_is_its_two_steps(ties: bool, large: bool) -> None:
    rng = np.random.default_rng(3)
    scales = layer(rng, ties=ties, large=large)
    accumulators = each(rng)

    def expected(acc: int, channel: int) -> int:
        fraction, exponent = math.frexp(float(real_factor(scales, channel)))
        fixed = half_away(Fraction(fraction) * 2**31)
        if fixed == 2**31:
            fixed, exponent = fixed // 2, exponent + 1
        left, right = max(exponent, 0), max(-exponent, 0)
        total = (acc + half_away(bias_steps(scales, channel))) << left
        total = min(max(total, INT32[0]), INT32[1])
        # SaturatingRoundingDoublingHighMul: add the nudge, divide as C does.
        nudged = total * fixed + (2**30 if total * fixed >= 0 else 1 - 2**30)
        high = int(Fraction(nudged, 2**31))
        # RoundingDivideByPOT: to nearest, half away from zero.
        return clamp(half_away(Fraction(high, 2**right)), scales)

    compare(Gemmlowp.of(scales).apply(accumulators), accumulators, expected)


@pytest.mark.parametrize("name", ARITHMETICS)
@pytest.mark.parametrize("engine", ["fbgemm", "qnnpack", "onednn"])
def test_every_named_arithmetic_computes_codes_of_the_same_shape(name: str, engine: str) -> None:
    rng = np.random.default_rng(4)
    scales = layer(rng)
    weights = rng.integers(-127, 128, (CHANNELS, 20))
    rule = requantization(
        engine,
        KernelSet("avx2", "avx2"),
        kind="linear",
        input=scales.input,
        weight_scale=scales.weight_scale,
        weight_zero_point=np.zeros(CHANNELS, np.int32),
        per_channel=True,
        output=scales.output,
        bias=scales.bias,
        relu=scales.relu,
        channels=CHANNELS,
    )
    source = scales.input
    reach = reachable(weights, source.minimum - source.zero_point, source.maximum - source.zero_point)
    accumulators = rng.integers(reach.low, reach.high + 1, (500, 3, CHANNELS)).astype(np.int32)
    codes = requantizer(name, rule, scales, reach, 31).apply(accumulators)
    assert codes.shape == accumulators.shape
    difference = np.abs(codes - rule.apply(accumulators))
    if name in ("float32_exact", "thresholds", "fixed_point"):
        assert not difference.any()
    elif name != "power_of_two":
        assert difference.max() <= 1


def test_an_arithmetic_that_there_is_not_is_refused() -> None:
    scales = layer(np.random.default_rng(5))
    with pytest.raises(ConfigurationError, match="float32_exact, fixed_point"):
        requantizer("guesswork", None, scales, None)  # type: ignore[arg-type]
