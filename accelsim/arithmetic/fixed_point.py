"""Requantisation in fixed point: `q = clamp((acc * M + B) >> S)`, one multiplication, one addition, one shift."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .words import Words, joined, pair, signed, word

#: With it the largest code still stands below 2**62, so that sums fit 64 bits.
MOST_SHIFT = 54
MOST_MULTIPLIER_BITS = 31


@dataclass(frozen=True)
class FixedPoint:
    """`multiplier` M, `offset` B and `shift` S of each channel, int64; the zero point and the rounding are in B.

    M has at most 31 bits and no sign, S is 0 to 54, and `acc * M + B` fits 64 bits for the accumulators that the
    constants were found for.
    """

    multiplier: NDArray[np.int64]
    offset: NDArray[np.int64]
    shift: NDArray[np.int64]
    minimum: int
    maximum: int

    def apply(self, accumulator: NDArray[np.int32]) -> NDArray[np.int32]:
        """Requantise int32 accumulators; channels are the last axis. Codes in `minimum..maximum`."""
        total = np.asarray(accumulator, np.int64) * self.multiplier + self.offset
        return np.clip(total >> self.shift, self.minimum, self.maximum).astype(np.int32)

    def after(self, offset: NDArray[np.int64]) -> FixedPoint:
        """The same codes of accumulators that lack `offset` (a channel): the product with it goes into B."""
        return replace(self, offset=self.offset + self.multiplier * offset)

    def planes(self) -> Words:
        """The constants as they stand in the parameter buffer, (4, channels): M, B's low and high word, S."""
        return np.stack([word(self.multiplier), *pair(self.offset), word(self.shift)])

    @classmethod
    def from_planes(cls, planes: Words, minimum: int, maximum: int) -> FixedPoint:
        """The inverse of `planes`."""
        multiplier, low, high, shift = planes
        return cls(multiplier.astype(np.int64), joined(low, high), signed(shift), minimum, maximum)
