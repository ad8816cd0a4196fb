"""Edges of XNNPACK's rules that stored outputs hardly show: by hand, in fractions, or as ExecuTorch 1.5.1 answered."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from accelsim.arithmetic import xnnpack as rules
from accelsim.arithmetic.affine import Affine, quantize
from accelsim.errors import ModelError


def grid(scale: float, zero: int = 0) -> Affine:
    return Affine(scale, zero, "int8")


def test_a_bias_is_rounded_half_to_even_and_what_leaves_int32_is_the_least() -> None:
    half = grid(0.5)
    bias = np.array([0.5, 1.5, 2.5, -0.5, 2.0**31 - 128, 2.0**31, -(2.0**31), 2.0**33, math.nan, math.inf], np.float32)
    for per_channel in (True, False):
        made = rules.quantized_bias(bias * np.float32(0.125), half, np.array([0.25]), per_channel=per_channel)
        assert made.tolist() == [0, 2, 2, 0, 2**31 - 128, *[-(2**31)] * 5]


def test_a_bias_is_multiplied_by_a_reciprocal_of_a_binary32_product_where_channels_have_their_own_scales() -> None:
    """Scales whose product binary32 cannot hold; the expected steps are worked out in fractions."""
    random = np.random.default_rng(1)
    for _ in range(200):
        sx, sw = (float(np.float32(random.uniform(0.01, 0.1))) for _ in range(2))
        value = float(np.float32(random.integers(-4000, 4000) * sx * sw + sx * sw / 2))
        for per_channel in (True, False):
            exact = Fraction(sx) * Fraction(sw)
            product = Fraction(float(np.float32(float(exact)))) if per_channel else Fraction(float(exact))
            factor = Fraction(float(np.float32(float(1 / product))))
            steps = round(Fraction(float(np.float32(float(Fraction(value) * factor)))))
            got = rules.quantized_bias(np.array([value], np.float32), grid(sx), np.array([sw]), per_channel=per_channel)
            assert got.tolist() == [steps]


def test_the_sums_are_added_to_modulo_two_to_the_32() -> None:
    def offset(bias: int | None, more: int | None) -> list[int] | None:
        parts = [None if part is None else np.array([part], np.int32) for part in (bias, more)]
        rule = rules.matrix_rule(
            source=grid(0.5),
            weight_scale=np.array([0.5]),
            output=grid(1.0),
            bias=parts[0],
            relu=False,
            channels=1,
            offset=parts[1],
        )
        return None if rule.offset is None else rule.offset.tolist()

    assert offset(None, None) is None
    assert (offset(7, None), offset(None, -9), offset(2**31 - 1, 5)) == ([7], [-9], [-(2**31) + 4])


def test_a_factor_from_256_on_is_refused() -> None:
    def factor(value: float) -> float:
        rule = rules.matrix_rule(
            source=grid(1.0),
            weight_scale=np.array([value]),
            output=grid(1.0),
            bias=None,
            relu=False,
            channels=1,
            offset=None,
        )
        assert rule.multiplier is not None
        return float(rule.multiplier[0])

    assert factor(255.5) == 255.5
    assert factor(2.0**-126) == 2.0**-126
    for value in (256.0, 2.0**-127):  # ExecuTorch does not load the first
        with pytest.raises(ModelError, match="factor"):
            factor(value)


@pytest.mark.parametrize("subtract", [False, True])
def test_a_sum_rounds_halves_up_on_factors_of_twenty_places(subtract: bool) -> None:
    a, b, out = grid(0.0371, -3), grid(0.0293, 11), grid(0.0417, 5)
    sides = [
        Fraction(float(np.float32(float(np.float32(side.scale)) / float(np.float32(out.scale))))) for side in (a, b)
    ]
    shift = 21  # the larger ratio is 0.89: 20 + 1 places
    first, second = (round(side * 2**shift) for side in sides)
    second = -second if subtract else second
    codes, rule = np.arange(-128, 128), rules.add_rule(a, b, out, False, subtract=subtract)
    assert (rule.multiplier_a, rule.multiplier_b, rule.shift) == (first, second, shift)
    got = rule.apply(codes[:, None], codes[None])
    for qa in range(-128, 128, 5):
        for qb in range(-128, 128, 3):
            total = Fraction(first * (qa + 3) + second * (qb - 11), 2**shift)
            code = math.floor(total + Fraction(1, 2)) + 5
            assert got[qa + 128, qb + 128] == max(-128, min(127, code)), (qa, qb)


def test_a_tie_below_zero_is_rounded_up() -> None:
    half = rules.add_rule(grid(0.5), grid(0.5), grid(1.0), False)
    ones = np.array([-3, -1, 1, 3], np.int8)
    zeros = np.zeros(4, np.int8)
    assert half.apply(ones, zeros).tolist() == [-1, 0, 1, 2]


def test_ratios_that_were_not_measured_are_refused() -> None:
    for ratio in (2.0**-11, 2.0**8):
        with pytest.raises(ModelError, match="only from 2"):
            rules.add_rule(grid(ratio), grid(1.0), grid(1.0), False)
    for factor in (2.0**-17, 2.0**8):
        with pytest.raises(ModelError, match="only from 2"):
            rules.multiply_rule(grid(factor), grid(1.0), grid(1.0))


def test_ratios_at_the_ends_of_what_was_measured_are_taken() -> None:
    assert rules.add_rule(grid(2.0**-10), grid(255.0), grid(1.0), False).shift == 13
    for factor in (2.0**-16, 255.0):
        multiplier = rules.multiply_rule(grid(factor), grid(1.0), grid(1.0)).requantization.multiplier
        assert multiplier is not None
        assert multiplier.tolist() == [factor]
    scale = rules.mean_rule(grid(2.0**-126), grid(1.0), 1, 1, None).scale_1
    assert scale is not None
    assert scale.tolist() == [2.0**-126]


@pytest.mark.parametrize(("units", "near"), [(-5.0, False), (-3.0, True), (0.0, True), (3.0, True), (5.0, False)])
def test_a_value_is_near_the_middle_within_four_units_in_the_last_place(units: float, near: bool) -> None:
    values = np.full(256, 1.0)
    values[7] = 1.5 * (1 + units * 2.0**-23)
    table, codes = rules.table_within(values, rules.POLYNOMIAL, grid(1.0), grid(1.0))
    assert table.shape == (1, 256)
    assert len(rules.every_code(grid(1.0))) == 256
    assert codes == ([7] if near else [])


def test_a_mean_has_a_zero_point_that_is_no_integer() -> None:
    """Of nine codes: 8 * 20 + 19 = 179, 179 * f32(1 / 9) + f32(9 - f32(63 * f32(1 / 9))) = 21.9 with zi = 7, zo = 9."""
    rule = rules.mean_rule(grid(0.5, 7), grid(0.5, 9), 9, 1, None)
    assert rule.apply(np.array([[179 - 63]], np.int32)).tolist() == [[22]]
    assert rule.bias is not None
    assert rule.bias.tolist() == [float(np.float32(9) - np.float32(63) * np.float32(1 / 9))]


def test_a_clamp_keeps_codes_on_its_own_scale_and_adds_the_zero_point_first_on_another() -> None:
    source, other = grid(0.5, -3), grid(0.25, 2)
    codes = rules.clamp_table(-1.25, 2.75, source, source).view(np.int8)[0]
    # -1.25 / 0.5 - 3 = -5.5 and 2.75 / 0.5 - 3 = 2.5: halves to even give -6 and 2.
    assert (int(codes.min()), int(codes.max())) == (-6, 2)
    halves = rules.clamp_table(-math.inf, math.inf, grid(0.25), grid(0.5, 1)).view(np.int8)[0]
    # 1 * 0.25 / 0.5 + 1 = 1.5 gives 2; rounded before the zero point 0.5 would give 0 + 1.
    assert halves[:4].tolist() == [1, 2, 2, 2]
    assert rules.clamp_table(0, math.inf, source, other).view(np.int8)[0].min() == 2


def test_infinities_saturate_and_a_nan_has_the_largest_code() -> None:
    real = np.array([-math.inf, math.inf, math.nan, 1e30, 0.75], np.float32)
    assert quantize(real, grid(0.5, 3), "converted").tolist() == [-128, 127, 127, 127, 5]
