"""IEEE binary32 with integer gates alone: shifts, additions, comparisons and products of integers on bit patterns.

A number is its 32-bit pattern in an integer array. Every operation is exact up to one rounding, to nearest with ties
to even (IEEE 754-2019, 4.3.1), subnormal numbers, infinities and signed zeros included; a NaN is some NaN. No array
in this file is ever of a floating-point dtype, so each function is a description of the gates that do the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .binary32 import Float32
from .requantize import CONSTANTS, Requantization, Step

Integers = NDArray[np.int64]

_SIGN = 1 << 31
_INFINITY = 0xFF << 23
_NAN = _INFINITY | 1 << 22
_HIDDEN = 1 << 23
_ONE = 127 << 23
#: Of the least significant bit of a subnormal number.
_LEAST_EXPONENT = -149
#: Significands of sums are kept below 2**_ROOM, which leaves int64 a carry and a sign.
_ROOM = 60
_INT32_MIN = -(2**31)
_LARGEST = 1 << 30


@dataclass(frozen=True)
class _Unpacked:
    """`significand * 2**exponent`; the significand of a number that is not 0 has its highest bit at 2**23."""

    negative: NDArray[np.bool_]
    exponent: Integers
    significand: Integers
    infinite: NDArray[np.bool_]
    nan: NDArray[np.bool_]


def bits_of(value: Float32) -> Integers:
    """The patterns of binary32 numbers: how constants that were computed beforehand enter."""
    return np.ascontiguousarray(value, np.float32).view(np.uint32).astype(np.int64)


def from_int(value: NDArray[np.integer]) -> Integers:
    """An integer of magnitude below 2**53 rounded to binary32."""
    integer = np.asarray(value, np.int64)
    return _pack(integer < 0, np.zeros_like(integer), np.abs(integer))


def multiply(a: Integers, b: Integers) -> Integers:
    """`f32(a * b)`; shapes broadcast."""
    x, y = _unpack(a), _unpack(b)
    negative = x.negative ^ y.negative
    product = _pack(negative, x.exponent + y.exponent, x.significand * y.significand)
    zero = (x.significand == 0) & ~x.infinite | (y.significand == 0) & ~y.infinite
    infinite = x.infinite | y.infinite
    product = np.where(infinite, _signed(negative, _INFINITY), product)
    return np.where(x.nan | y.nan | (infinite & zero), _NAN, product)


def divide(a: Integers, b: Integers) -> Integers:
    """`f32(a / b)`; shapes broadcast."""
    x, y = _unpack(a), _unpack(b)
    negative = x.negative ^ y.negative
    places = 36  # a quotient of 36 or 37 bits, the last of which says whether anything is left
    dividend, divisor = x.significand << places, np.where(y.significand == 0, 1, y.significand)
    quotient = dividend // divisor
    quotient |= quotient * divisor != dividend
    result = _pack(negative, x.exponent - y.exponent - places, quotient)
    x_zero, y_zero = (x.significand == 0) & ~x.infinite, (y.significand == 0) & ~y.infinite
    result = np.where(y_zero | x.infinite, _signed(negative, _INFINITY), result)
    result = np.where(y.infinite, _signed(negative, 0), result)
    return np.where(x.nan | y.nan | (x_zero & y_zero) | (x.infinite & y.infinite), _NAN, result)


def fma(a: Integers, b: Integers, c: Integers) -> Integers:
    """`f32(a * b + c)` with one rounding; shapes broadcast."""
    x, y, z = _unpack(a), _unpack(b), _unpack(c)
    x_zero, y_zero = (x.significand == 0) & ~x.infinite, (y.significand == 0) & ~y.infinite
    infinite = x.infinite | y.infinite
    negative = x.negative ^ y.negative
    total = _sum(negative, x.exponent + y.exponent, x.significand * y.significand, z)
    total = np.where(z.infinite, _signed(z.negative, _INFINITY), total)
    total = np.where(infinite, _signed(negative, _INFINITY), total)
    nan = x.nan | y.nan | z.nan | x.infinite & y_zero | y.infinite & x_zero
    return np.where(nan | (infinite & z.infinite & (negative != z.negative)), _NAN, total)


def add(a: Integers, b: Integers) -> Integers:
    """`f32(a + b)`; shapes broadcast."""
    return fma(a, np.array(_ONE, np.int64), b)


def round_to_integer(a: Integers) -> Integers:
    """Half to even; magnitudes of 2**30 and more become 2**30, infinities too. A NaN becomes -2**30."""
    x = _unpack(a)
    shift = np.clip(-x.exponent, 0, _ROOM)
    rounded = _shifted(x.significand, shift) << np.clip(x.exponent, 0, 7)
    magnitude = np.where(x.infinite | (x.exponent >= 7), _LARGEST, np.minimum(rounded, _LARGEST))
    return np.where(x.nan, -_LARGEST, np.where(x.negative, -magnitude, magnitude))


def _unpack(bits: Integers) -> _Unpacked:
    bits = np.asarray(bits, np.int64)
    field, fraction = bits >> 23 & 0xFF, bits & (_HIDDEN - 1)
    special = field == 0xFF
    significand = np.where(field == 0, fraction, fraction | _HIDDEN)
    significand = np.where(special, 0, significand)
    exponent = np.maximum(field, 1) + (_LEAST_EXPONENT - 1)
    shift = np.where(significand == 0, 0, 24 - _bit_length(significand))
    return _Unpacked(
        negative=(bits & _SIGN) != 0,
        exponent=exponent - shift,
        significand=np.left_shift(significand, shift, dtype=np.int64),
        infinite=special & (fraction == 0),
        nan=special & (fraction != 0),
    )


def _pack(negative: NDArray[np.bool_], exponent: Integers, significand: Integers) -> Integers:
    """The pattern of `significand * 2**exponent` (0 <= significand < 2**61), rounded."""
    shift = np.maximum(_bit_length(significand) - 24, _LEAST_EXPONENT - exponent)
    right = np.clip(shift, 0, _ROOM + 2)
    rounded = _shifted(significand, right) << np.clip(-shift, 0, 24)
    # The hidden bit counts as one step of the exponent's field; a carry out of the rounding is another.
    magnitude = ((exponent + shift - _LEAST_EXPONENT) << 23) + rounded
    magnitude = np.where(magnitude >= _INFINITY, _INFINITY, magnitude)
    return _signed(negative, np.where(significand == 0, 0, magnitude))


def _signed(negative: NDArray[np.bool_], magnitude: Integers | int) -> Integers:
    return np.asarray(magnitude, np.int64) | (np.asarray(negative, np.int64) << 31)


def _sum(negative: NDArray[np.bool_], exponent: Integers, significand: Integers, addend: _Unpacked) -> Integers:
    """A product of up to 48 bits plus a number, rounded once."""
    # An operand that is 0 takes the other's exponent, so that it does not push the other out.
    first = np.where(significand == 0, addend.exponent, exponent)
    second = np.where(addend.significand == 0, first, addend.exponent)
    distance = first - second
    # The operand with the higher exponent moves left as far as there is room, the other right for the rest; what falls
    # off leaves a mark in the last bit, which lies far below the place where the sum is rounded.
    left = np.clip(distance, 0, _ROOM - 48)
    up = np.clip(-distance, 0, _ROOM - 24)
    a = _jammed(significand << left, -distance - up)
    b = _jammed(addend.significand << up, distance - left)
    total = np.where(negative, -a, a) + np.where(addend.negative, -b, b)
    below = np.where(distance >= 0, first - left, second - up)
    cancelled = (total == 0) & (negative != addend.negative)
    sign = np.where(total == 0, negative & ~cancelled, total < 0)
    return _pack(sign, below, np.abs(total))


def _jammed(value: Integers, shift: Integers) -> Integers:
    """`value >> shift` with the last bit set if anything was lost; a shift below 0 is none."""
    right = np.clip(shift, 0, _ROOM + 2)
    kept = value >> right
    return kept | (kept << right != value)


def _shifted(value: Integers, shift: Integers) -> Integers:
    """`value / 2**shift` to the nearest integer, half to even; value >= 0."""
    kept = value >> shift
    lost = value - (kept << shift)
    half = (np.int64(1) << shift) >> 1
    return kept + ((shift > 0) & ((lost > half) | ((lost == half) & (kept & 1 == 1))))


def _bit_length(value: Integers) -> Integers:
    """Of non-negative integers below 2**63: what a priority encoder gives."""
    length = np.zeros_like(value)
    for step in (32, 16, 8, 4, 2, 1):
        high = value >> step
        more = high != 0
        length = np.where(more, length + step, length)
        value = np.where(more, high, value)
    return length + value


@dataclass(frozen=True)
class IntegerFloat:
    """An engine's pipeline with each of its binary32 steps done by integers: equal to `rule.apply` in every bit.

    `constants`: by name the bit patterns of the pipeline's constants (`offset` is an int32 itself).
    """

    steps: Step
    constants: dict[str, Integers]
    zero_point: int
    zero_point_bits: Integers
    minimum: int
    maximum: int

    @classmethod
    def of(cls, rule: Requantization) -> IntegerFloat:
        """The same pipeline as `rule`."""
        given = {name: getattr(rule, name) for name, _ in CONSTANTS if getattr(rule, name) is not None}
        constants = {
            name: value.astype(np.int64) if name == "offset" else bits_of(value) for name, value in given.items()
        }
        zero_point = from_int(np.array([rule.zero_point]))
        return cls(rule.steps, constants, rule.zero_point, zero_point, rule.minimum, rule.maximum)

    def apply(self, accumulator: NDArray[np.int32]) -> NDArray[np.int32]:
        """Requantise int32 accumulators; channels are the last axis. Codes in `minimum..maximum`."""
        constants, steps = self.constants, self.steps
        total = np.asarray(accumulator, np.int64)
        if Step.OFFSET in steps:
            total = (total + constants["offset"]).astype(np.int32)  # modulo 2**32
        x = from_int(total)
        for step, name in ((Step.SCALE_1, "scale_1"), (Step.SCALE_2, "scale_2")):
            if step in steps:
                x = multiply(x, constants[name])
        if Step.BIAS in steps:
            x = add(x, constants["bias"])
        if Step.FUSED_BIAS in steps:
            x = fma(constants["bias"], constants["bias_factor"], x)
        if Step.MULTIPLIER in steps and Step.FUSED_ZERO_POINT in steps:
            x = fma(x, constants["multiplier"], self.zero_point_bits)
        elif Step.MULTIPLIER in steps:
            x = multiply(x, constants["multiplier"])
        if Step.DIVISOR in steps:
            x = divide(x, constants["divisor"])
        if Step.ZERO_POINT_FIRST in steps:
            x = add(x, self.zero_point_bits)
        code = round_to_integer(x)
        if Step.INDEFINITE in steps:
            code = np.where(x & (_SIGN - 1) < (127 + 31) << 23, code, _INT32_MIN)
        if not steps & (Step.ZERO_POINT_FIRST | Step.FUSED_ZERO_POINT):
            code = code + self.zero_point
        if Step.INDEFINITE in steps:
            code = np.where(code < _INT32_MIN, self.maximum, code)
        return np.clip(code, self.minimum, self.maximum).astype(np.int32)
