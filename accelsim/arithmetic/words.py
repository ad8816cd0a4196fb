"""Integer constants as the 32-bit words of the parameter buffer, and back."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint32]


def word(value: NDArray[np.int64]) -> Words:
    """The low 32 bits of each integer."""
    return value.astype(np.uint32)


def pair(value: NDArray[np.int64]) -> tuple[Words, Words]:
    """The low and the high word of each 64-bit integer."""
    return word(value), word(value >> 32)


def signed(words: Words) -> NDArray[np.int64]:
    """Words as two's complement integers."""
    return np.ascontiguousarray(words).view(np.int32).astype(np.int64)


def joined(low: Words, high: Words) -> NDArray[np.int64]:
    """The two's complement integers of low and high words."""
    return signed(high) << 32 | low.astype(np.int64)
