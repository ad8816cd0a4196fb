"""The steps of a requantisation at the ends of int32 and halfway between codes, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from accelsim.arithmetic.requantize import CONSTANTS, Requantization, Step

ONE = np.ones(1, np.float32)
#: binary32 numbers around the ends of int32: 2**31 has no int32, -2**31 has one.
ABOVE, BELOW = np.float32(2.0**31), np.nextafter(np.float32(2.0**31), np.float32(0))


def test_the_steps_are_single_bits_that_instructions_can_carry() -> None:
    values = [step.value for step in Step]
    assert values == [1 << place for place in range(len(values))]
    assert Requantization(0, 0, 255).steps == Step(0)


@pytest.mark.parametrize("zero_point", [-7, -1, 0, 1, 9])
def test_what_leaves_int32_becomes_the_least_int32_and_wraps_round_with_the_zero_point(zero_point: int) -> None:
    rule = Requantization(zero_point, -128, 127, multiplier=ONE, indefinite=True)
    values = np.array([ABOVE, BELOW, -ABOVE, -BELOW, 2 * ABOVE, -2 * ABOVE, np.inf, -np.inf, 0], np.float32)
    converted = [-(2**31), int(BELOW), -(2**31), -int(BELOW), *[-(2**31)] * 4, 0]
    wrapped = [(value + zero_point + 2**31) % 2**32 - 2**31 for value in converted]
    expected = [min(max(value, -128), 127) for value in wrapped]
    assert rule.apply(values[:, None])[:, 0].tolist() == expected


@pytest.mark.parametrize("zero_point", [-7, 9])
def test_without_that_what_leaves_int32_saturates(zero_point: int) -> None:
    rule = Requantization(zero_point, -128, 127, multiplier=ONE)
    values = np.array([2 * ABOVE, BELOW, 1000, -1000, -BELOW, -2 * ABOVE], np.float32)
    assert rule.apply(values[:, None])[:, 0].tolist() == [127] * 3 + [-128] * 3


def test_halves_go_to_even_before_or_after_the_zero_point() -> None:
    halves = np.arange(-7, 8, 2)
    half = np.full(1, 0.5, np.float32)
    late = Requantization(3, -128, 127, multiplier=half)
    early = Requantization(3, -128, 127, multiplier=half, zero_point_first=True)
    fused = Requantization(3, -128, 127, multiplier=half, fused_zero_point=True)
    # round() of Python goes to even too.
    assert late.apply(halves[:, None])[:, 0].tolist() == [round(v / 2) + 3 for v in halves.tolist()]
    assert early.apply(halves[:, None])[:, 0].tolist() == [round(v / 2 + 3) for v in halves.tolist()]
    assert fused.apply(halves[:, None])[:, 0].tolist() == [round(v / 2 + 3) for v in halves.tolist()]
    # A product that is rounded on its own loses what a fused one keeps: (1 + 2**-23) * (1 - 2**-23) + 1/2 < 3/2.
    a, b = np.float32(1 + 2.0**-23), np.full(1, 1 - 2.0**-23, np.float32)
    tail = np.full(1, -1.0, np.float32)
    apart = Requantization(0, -128, 127, scale_1=b, bias=tail, multiplier=np.full(1, 2.0**46, np.float32))
    joint = Requantization(0, -128, 127, bias=b, bias_factor=np.full(1, a), multiplier=np.full(1, 2.0**46, np.float32))
    assert apart.apply(np.full((1, 1), a)).tolist() == [[0]]
    assert joint.apply(np.full((1, 1), -1.0, np.float32)).tolist() == [[-1]]


def test_constants_survive_the_way_through_the_parameter_buffer() -> None:
    assert Requantization(0, 0, 255).planes().shape == (0, 1)
    assert Requantization(0, 0, 255).planes(5).shape == (0, 5)
    rng = np.random.default_rng(1)
    for names in (("multiplier",), ("offset", "bias", "bias_factor"), ("scale_1", "scale_2", "bias", "divisor")):
        made = {name: rng.normal(size=4).astype(np.float32) for name in names}
        if "offset" in made:
            made["offset"] = np.array([-5, 0, 7, 2**31 - 1], np.int32)
        rule = Requantization(2, 0, 255, **made, zero_point_first=True)  # type: ignore[arg-type]
        planes = rule.planes()
        assert planes.shape == (len(names), 4)
        order = [name for name, _ in CONSTANTS if name in names]
        assert all(np.array_equal(planes[row], made[name].view(np.uint32)) for row, name in enumerate(order))
        again = Requantization.from_planes(rule.steps, planes, zero_point=2, minimum=0, maximum=255)
        assert again.steps == rule.steps
        assert all(np.array_equal(getattr(again, name), made[name]) for name in names)
    one = Requantization(2, 0, 255, multiplier=ONE, offset=np.arange(3, dtype=np.int32))
    assert one.planes().tolist() == [[0, 1, 2], [0x3F800000] * 3]
    assert Step.FUSED_BIAS in Requantization(0, 0, 255, bias=ONE, bias_factor=ONE).steps


def test_chosen_channels_keep_what_all_have_in_common() -> None:
    two = np.array([0.5, 0.25], np.float32)
    rule = Requantization(3, 0, 255, multiplier=ONE, scale_1=two, zero_point_first=True)
    chosen = rule.of_channels(np.array([1, 0, 1]))
    assert chosen.multiplier is not None
    assert chosen.scale_1 is not None
    assert chosen.multiplier.tolist() == [1]
    assert chosen.scale_1.tolist() == [0.25, 0.5, 0.25]
    assert (chosen.steps, chosen.zero_point) == (Step.SCALE_1 | Step.MULTIPLIER | Step.ZERO_POINT_FIRST, 3)
