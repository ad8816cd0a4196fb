"""Requantisations that people build in place of an engine's: integer bias, and one multiplication or shift."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .affine import Affine

_INT32 = np.iinfo(np.int32)


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

    The real numbers are binary64's, whose own rounding is 2**-29 of binary32's.
    """

    bias: NDArray[np.int64]
    factor: NDArray[np.float64]
    zero_point: int
    minimum: int
    maximum: int

    @classmethod
    def of(cls, layer: LayerScales) -> Textbook:
        """The textbook form of a layer."""
        out = layer.output
        return cls(layer.integer_bias(), layer.factor, out.zero_point, layer.minimum, out.maximum)

    def apply(self, accumulator: NDArray[np.int32]) -> NDArray[np.int32]:
        """Requantise int32 accumulators; channels are the last axis. Codes in `minimum..maximum`."""
        steps = np.rint((np.asarray(accumulator, np.int64) + self.bias) * self.factor)
        return np.clip(steps + self.zero_point, self.minimum, self.maximum).astype(np.int32)


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

    @classmethod
    def of(cls, layer: LayerScales) -> Gemmlowp:
        """The form of a layer: factor = multiplier / 2**(31 + shift); negative shifts go left, before the product."""
        significand, exponent = np.frexp(layer.factor)
        multiplier = np.floor(np.ldexp(significand, 31) + 0.5).astype(np.int64)
        carried = multiplier == 1 << 31
        multiplier = np.where(carried, multiplier >> 1, multiplier)
        shift = -(exponent.astype(np.int64) + carried)
        vanishes = shift > 31
        multiplier, shift = np.where(vanishes, 0, multiplier), np.where(vanishes, 0, np.maximum(shift, -30))
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
