"""binary32 by integers alone is IEEE's: numpy's float32 on the same machine is the witness, bit by bit."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from accelsim.arithmetic import integer_float
from accelsim.arithmetic.requantize import Requantization, Step

COUNT = 300_000
SPECIAL = np.array(
    [
        0x80000000,
        0,
        1,
        0x80000001,
        0x7FFFFF,
        0x800000,
        0x7F7FFFFF,
        0x7F800000,
        0xFF800000,
        0x7FC00000,
        0x3F800000,
        0x3F800001,
        0x3F7FFFFF,
        0x3F000000,
        0x4B000000,
        0x4B000001,
        0x4F000000,
    ],
    np.uint32,
)


def patterns(rng: np.random.Generator, count: int) -> np.ndarray:
    """Any pattern, special ones, near 1 with few significant bits (ties), and subnormal or close to it."""
    sign = rng.integers(0, 2, count) << 31
    fraction = rng.integers(0, 1 << 23, count)
    short = fraction & ~((1 << rng.integers(0, 24, count)) - 1)
    near_one = sign | rng.integers(110, 145, count) << 23 | short
    tiny = sign | rng.integers(0, 30, count) << 23 | fraction
    kinds = [rng.integers(0, 1 << 32, count), SPECIAL[rng.integers(0, len(SPECIAL), count)], near_one, near_one, tiny]
    return np.choose(rng.integers(0, len(kinds), count), kinds).astype(np.uint32)


def exact_fma(a: float, b: float, c: float) -> np.float32:
    """One rounding of the exact rational, to nearest even, by the definition: the nearest of the neighbours."""
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    guess = np.float32(float(exact))
    around = [guess, np.nextafter(guess, np.float32(np.inf)), np.nextafter(guess, np.float32(-np.inf))]
    if not np.isfinite(around).all():
        return np.float32(np.nan)  # overflow is another test's
    even = {value: int(value.view(np.uint32)) & 1 for value in around}
    return min(around, key=lambda value: (abs(Fraction(float(value)) - exact), even[value]))


def assert_same(found: np.ndarray, expected: np.ndarray) -> None:
    nan = np.isnan(expected)
    assert np.all(found[nan] & 0x7FFFFFFF > 0x7F800000)
    wrong = np.flatnonzero(~nan & (found != expected.view(np.uint32)))
    assert not len(wrong), (len(wrong), hex(found[wrong[0]]), expected[wrong[0]])


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (integer_float.add, np.add),
        (integer_float.multiply, np.multiply),
        (integer_float.divide, np.divide),
    ],
    ids=["add", "multiply", "divide"],
)
def test_an_operation_has_ieee_s_bits(ours: Callable[..., Any], theirs: Callable[..., Any]) -> None:
    rng = np.random.default_rng(7)
    a, b = patterns(rng, COUNT), patterns(rng, COUNT)
    # Near cancellations: b = -a but for the last bits.
    close = rng.random(COUNT) < 0.2
    b = np.where(close, a ^ np.uint32(1 << 31) ^ rng.integers(0, 8, COUNT).astype(np.uint32), b)
    with np.errstate(all="ignore"):
        expected = theirs(a.view(np.float32), b.view(np.float32))
    assert_same(ours(a.astype(np.int64), b.astype(np.int64)), expected)


def test_the_fused_operation_rounds_once() -> None:
    rng = np.random.default_rng(8)
    a, b, c = (patterns(rng, 30_000) for _ in range(3))
    with np.errstate(all="ignore"):
        product = a.view(np.float32) * b.view(np.float32)
    cancel = rng.random(len(a)) < 0.3
    c = np.where(cancel, product.view(np.uint32) ^ np.uint32(1 << 31) ^ rng.integers(0, 4, len(a)).astype(np.uint32), c)
    values = [pattern.view(np.float32) for pattern in (a, b, c)]
    finite = np.all([np.isfinite(value) for value in (*values, product)], axis=0)
    found = integer_float.fma(*(pattern.astype(np.int64) for pattern in (a, b, c)))
    chosen = np.flatnonzero(finite)[:20_000]
    assert len(chosen) > 10_000
    for i in chosen:
        x, y, z = (float(value[i]) for value in values)
        with np.errstate(all="ignore"):
            expected = exact_fma(x, y, z)
        if np.isnan(expected):
            continue
        # Zeros compare equal here; their sign is that of IEEE 754, 6.3, checked for sums above.
        assert np.uint32(found[i]).view(np.float32) == expected, (x, y, z)


def test_integers_are_converted_as_by_numpy() -> None:
    rng = np.random.default_rng(9)
    near = (1 << rng.integers(0, 31, COUNT)) + rng.integers(-300, 300, COUNT)
    ends = np.array([-(2**31), 2**31 - 1, 2**24 + 1, -(2**24) - 1, 2**24 + 3, 2**25 + 2, 2**25 + 6])
    value = np.concatenate([rng.integers(-(2**31), 2**31, COUNT), near, np.arange(-(2**16), 2**16), ends])
    assert np.array_equal(integer_float.from_int(value), value.astype(np.float32).view(np.uint32))


def test_rounding_to_an_integer_sends_ties_to_even_and_saturates() -> None:
    rng = np.random.default_rng(10)
    halves = (np.arange(-5000, 5000) / 2).astype(np.float32)
    value = np.concatenate([patterns(rng, COUNT).view(np.float32), halves, np.nextafter(halves, np.float32(np.inf))])
    value = value[~np.isnan(value)]
    expected = np.rint(np.clip(value, -(2.0**30), 2.0**30)).astype(np.int64)
    assert np.array_equal(integer_float.round_to_integer(integer_float.bits_of(value)), expected)


PIPELINES: list[tuple[tuple[str, ...], dict[str, bool]]] = [
    (("multiplier",), {}),
    (("offset", "multiplier"), {}),
    (("bias", "multiplier"), {}),
    (("bias", "bias_factor", "multiplier"), {}),
    (("offset", "bias", "bias_factor", "multiplier"), {"indefinite": True}),
    (("scale_1", "scale_2", "bias", "multiplier"), {"zero_point_first": True}),
    (("scale_1", "bias", "multiplier"), {"zero_point_first": True}),
    (("offset", "scale_1", "scale_2", "bias", "divisor"), {"zero_point_first": True}),
    (("divisor",), {}),
    (("multiplier",), {"fused_zero_point": True}),
    (("multiplier",), {"indefinite": True}),
]


@pytest.mark.parametrize(("names", "flags"), PIPELINES, ids=lambda value: "+".join(value))
@pytest.mark.parametrize("style", ["ties", "random", "tiny", "large"])
def test_a_pipeline_by_integers_is_the_pipeline(names: tuple[str, ...], flags: dict[str, bool], style: str) -> None:
    rng = np.random.default_rng(len(names) + len(style))
    channels = 16

    def constant(name: str) -> np.ndarray:
        if name == "offset":
            return rng.integers(-100_000, 100_000, channels).astype(np.int32)
        if name == "bias":
            return (rng.integers(-4000, 4000, channels) / 4).astype(np.float32)
        power = {"ties": -4, "random": -5, "tiny": -60, "large": 3}[style]
        factor = 1.0 if style == "ties" else rng.uniform(0.5, 1, channels)
        value = np.broadcast_to(factor * 2.0 ** rng.integers(power - 2, power + 1, channels), channels)
        return (1 / value if name == "divisor" else value).astype(np.float32)

    zero_point = int(rng.integers(-128, 256))
    low, high = (-128, 127) if zero_point < 0 else (0, 255)
    rule = Requantization(zero_point, low, high, **{name: constant(name) for name in names}, **flags)  # type: ignore[arg-type]
    accumulators = np.concatenate(
        [rng.integers(-(2**bits), 2**bits, (1500, channels)) for bits in (8, 12, 20, 31)]
        + [np.arange(-1600, 1600).reshape(-1, channels), np.full((1, channels), -(2**31))]
    ).astype(np.int32)
    expected = rule.apply(accumulators)
    assert np.array_equal(integer_float.IntegerFloat.of(rule).apply(accumulators), expected)
    if style == "ties":
        assert len(np.unique(expected)) > 20


@pytest.mark.parametrize("zero_point", [3, -7])
def test_exactly_the_end_of_int32_is_beyond_it(zero_point: int) -> None:
    rule = Requantization(zero_point, -128, 127, multiplier=np.array([4.0], np.float32), indefinite=True)
    ends = np.array([2**29 - 17, 2**29 - 16, 2**29, -(2**29) + 17, -(2**29) + 16, -(2**29)], np.int32)
    # 4 * 2**29 has no int32 and becomes -2**31; less 7, that wraps round to the top.
    beyond = -128 if zero_point > 0 else 127
    expected = [127, beyond, beyond, -128, beyond, beyond]
    assert integer_float.IntegerFloat.of(rule).apply(ends[:, None])[:, 0].tolist() == expected


def test_every_step_is_in_a_pipeline_above() -> None:
    named = {name for names, flags in PIPELINES for name in (*names, *flags)}
    assert {step.name.lower() for step in Step if step.name} <= named | {"fused_bias"}


def test_no_array_of_floats_is_made() -> None:
    """The only floating-point dtype in the file is the one whose bit patterns constants come in with."""
    tree = ast.parse(inspect.getsource(integer_float))
    names = [node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and "float" in node.attr]
    assert names == ["float32"]
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Div)]
