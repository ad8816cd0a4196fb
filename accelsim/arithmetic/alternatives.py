"""Requantisations that people build in place of an engine's: integer bias, and one multiplication or shift."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .affine import Affine
from .fixed_point import FixedPoint
from .words import Words, joined, pair, signed, word

_INT32 = np.iinfo(np.int32)

#: A real multiplier's significand has 53 bits, of which the lower product takes 26: both products fit 64 bits.
_SIGNIFICAND_BITS = 53
_LOW_BITS = 26


@dataclass(frozen=True)
class LayerScales:
    """What the alternatives are made of: the real numbers of a layer.

    `weight_scale`: float64 of length 1 or channels; `bias`: float32 of length channels in real units, or None;
    `offset`: int32 added to each accumulator first (what the zero points leave of a sum of raw codes), or None.
    """

    input: Affine
    weight_scale: NDArray[np.float64]
    output: Affine
    bias: NDArray[np.float32] | None
    relu: bool
    channels: int
    offset: NDArray[np.int32] | None = None

    @property
    def unit(self) -> NDArray[np.float64]:
        """The real value of one step of the accumulator: `sx * sw`."""
        return np.broadcast_to(self.input.scale * np.asarray(self.weight_scale, np.float64), self.channels)

    @property
    def factor(self) -> NDArray[np.float64]:
        """Output steps in one step of the accumulator: `sx * sw / so`."""
        return self.unit / self.output.scale

    @property
    def minimum(self) -> int:
        """The lower clamp."""
        return max(self.output.zero_point, self.output.minimum) if self.relu else self.output.minimum

    def integer_bias(self, *, half_away: bool = False) -> NDArray[np.int64]:
        """`bias / (sx * sw)` rounded to an int32, half to even or half away from zero, plus the offset; int64."""
        total = np.zeros(self.channels, np.int64) if self.offset is None else self.offset.astype(np.int64)
        if self.bias is None:
            return total
        steps = self.bias.astype(np.float64) / self.unit
        rounded = np.copysign(np.floor(np.abs(steps) + 0.5), steps) if half_away else np.rint(steps)
        return total + np.clip(rounded, _INT32.min, _INT32.max).astype(np.int64)


@dataclass(frozen=True)
class Textbook:
    """`clamp(rne((acc + bq) * m) + zo)`: integer bias, real multiplier, one rounding (Jacob et al. 2018, 2.2 to 2.4).

    m is a binary64 number, `significand / 2**shift` with a significand of 53 bits; the product is exact.
    """

    bias: NDArray[np.int64]
    significand: NDArray[np.int64]
    shift: NDArray[np.int64]
    zero_point: int
    minimum: int
    maximum: int

    #: With less every product that is not 0 is past all clamps, with more every one is below a half.
    SHIFTS = (27, 88)

    @classmethod
    def of(cls, layer: LayerScales) -> Textbook:
        """The textbook form of a layer."""
        fraction, exponent = np.frexp(layer.factor)
        significand = np.ldexp(fraction, _SIGNIFICAND_BITS).astype(np.int64)
        shift = np.clip(_SIGNIFICAND_BITS - exponent.astype(np.int64), *cls.SHIFTS)
        out = layer.output
        return cls(layer.integer_bias(), significand, shift, out.zero_point, layer.minimum, out.maximum)

    def apply(self, accumulator: NDArray[np.int32]) -> NDArray[np.int32]:
        """Requantise int32 accumulators; channels are the last axis. Codes in `minimum..maximum`."""
        total = np.asarray(accumulator, np.int64) + self.bias
        # The product is high * 2**26 + low, 0 <= low < 2**26.
        mask = (1 << _LOW_BITS) - 1
        part = total * (self.significand & mask)
        high, low = total * (self.significand >> _LOW_BITS) + (part >> _LOW_BITS), part & mask
        right = self.shift - _LOW_BITS
        steps = high >> right
        rest, half = high - (steps << right), np.int64(1) << (right - 1)
        steps = steps + ((rest > half) | ((rest == half) & ((low > 0) | (steps & 1 == 1))))
        return np.clip(steps + self.zero_point, self.minimum, self.maximum).astype(np.int32)

    def after(self, offset: NDArray[np.int64]) -> Textbook:
        """The same codes of accumulators that lack `offset` (a channel)."""
        return replace(self, bias=self.bias + offset)

    def planes(self) -> Words:
        """The constants in the parameter buffer, (4, channels): bias, the significand's low and high word, shift."""
        return np.stack([word(self.bias), *pair(self.significand), word(self.shift)])

    @classmethod
    def from_planes(cls, planes: Words, *, zero_point: int, minimum: int, maximum: int) -> Textbook:
        """The inverse of `planes`."""
        bias, low, high, shift = planes
        return cls(signed(bias), joined(low, high), signed(shift), zero_point, minimum, maximum)


@dataclass(frozen=True)
class PowerOfTwo:
    """`clamp(((acc + bq) >> n, rounded half up) + zo)`: the factor is the power of two nearest on a logarithmic scale.

    A negative `shift` goes to the left.
    """

    bias: NDArray[np.int64]
    shift: NDArray[np.int64]
    zero_point: int
    minimum: int
    maximum: int

    @classmethod
    def of(cls, layer: LayerScales) -> PowerOfTwo:
        """The form of a layer whose factor is replaced by a shift."""
        significand, exponent = np.frexp(layer.factor)
        # Below the square root of a half, the next lower power of two is nearer.
        shift = np.clip(np.where(significand < np.sqrt(0.5), 1, 0) - exponent, -24, 40).astype(np.int64)
        out = layer.output
        return cls(layer.integer_bias(), shift, out.zero_point, layer.minimum, out.maximum)

    def apply(self, accumulator: NDArray[np.int32]) -> NDArray[np.int32]:
        """Requantise int32 accumulators; channels are the last axis. Codes in `minimum..maximum`."""
        total = (np.asarray(accumulator, np.int64) + self.bias) << np.maximum(-self.shift, 0)
        right = np.maximum(self.shift, 0)
        steps = (total + ((np.int64(1) << right) >> 1)) >> right
        return np.clip(steps + self.zero_point, self.minimum, self.maximum).astype(np.int32)

    def fixed_point(self) -> FixedPoint:
        """The same function as `(acc * M + B) >> S`: M a power of two, and bias, half and zero point in B."""
        left, right = np.maximum(-self.shift, 0), np.maximum(self.shift, 0)
        offset = (self.bias << left) + ((np.int64(1) << right) >> 1) + (np.int64(self.zero_point) << right)
        return FixedPoint(np.int64(1) << left, offset, right, self.minimum, self.maximum)


@dataclass(frozen=True)
class Gemmlowp:
    """`clamp(RoundingDivideByPOT(SaturatingRoundingDoublingHighMul(acc + bq, M), n) + zo)`, with M in Q0.31.

    gemmlowp `fixedpoint.h`; TFLite `MultiplyByQuantizedMultiplier` and `QuantizeMultiplier`, which rounds M half
    away from zero, as TFLite's converter does the bias. It rounds twice: to 32 bits after the product, half up, and in
    the shift, half away from zero.
    """

    bias: NDArray[np.int64]
    multiplier: NDArray[np.int64]
    shift: NDArray[np.int64]
    zero_point: int
    minimum: int
    maximum: int

    #: A product of 32 bits moved further to the right is 0, a sum moved further to the left saturates.
    SHIFTS = (-30, 31)

    @classmethod
    def of(cls, layer: LayerScales) -> Gemmlowp:
        """The form of a layer: factor = multiplier / 2**(31 + shift); negative shifts go left, before the product."""
        significand, exponent = np.frexp(layer.factor)
        multiplier = np.floor(np.ldexp(significand, 31) + 0.5).astype(np.int64)
        carried = multiplier == 1 << 31
        multiplier = np.where(carried, multiplier >> 1, multiplier)
        shift = -(exponent.astype(np.int64) + carried)
        vanishes = shift > cls.SHIFTS[1]
        multiplier = np.where(vanishes, 0, multiplier)
        shift = np.where(vanishes, 0, np.maximum(shift, cls.SHIFTS[0]))
        out = layer.output
        bias = layer.integer_bias(half_away=True)
        return cls(bias, multiplier, shift, out.zero_point, layer.minimum, out.maximum)

    def apply(self, accumulator: NDArray[np.int32]) -> NDArray[np.int32]:
        """Requantise int32 accumulators; channels are the last axis. Codes in `minimum..maximum`."""
        total = (np.asarray(accumulator, np.int64) + self.bias) << np.maximum(-self.shift, 0)
        product = np.clip(total, _INT32.min, _INT32.max) * self.multiplier
        # The nudge and C's division towards zero.
        nudged = product + np.where(product >= 0, 1 << 30, 1 - (1 << 30))
        high = np.where(nudged >= 0, nudged >> 31, -(-nudged >> 31))
        right = np.maximum(self.shift, 0)
        mask = (np.int64(1) << right) - 1
        steps = (high >> right) + ((high & mask) > (mask >> 1) + (high < 0))
        return np.clip(steps + self.zero_point, self.minimum, self.maximum).astype(np.int32)

    def after(self, offset: NDArray[np.int64]) -> Gemmlowp:
        """The same codes of accumulators that lack `offset` (a channel)."""
        return replace(self, bias=self.bias + offset)

    def planes(self) -> Words:
        """The constants as they stand in the parameter buffer, (3, channels): bias, multiplier, shift."""
        return np.stack([word(self.bias), word(self.multiplier), word(self.shift)])

    @classmethod
    def from_planes(cls, planes: Words, *, zero_point: int, minimum: int, maximum: int) -> Gemmlowp:
        """The inverse of `planes`."""
        bias, multiplier, shift = planes
        return cls(signed(bias), multiplier.astype(np.int64), signed(shift), zero_point, minimum, maximum)
