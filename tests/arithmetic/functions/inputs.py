"""Numbers on which functions are tried: special ones, the edges of all binades, random words, and the range of use."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SPECIAL = np.array(
    [0x00000000, 0x00000001, 0x007FFFFF, 0x00800000, 0x3F800000, 0x7F7FFFFF, 0x7F800000, 0x7FC00000, 0x7F812345],
    np.uint32,
)


def edges() -> NDArray[np.float32]:
    """Special numbers, and the first three and the last three of every binade, with both signs."""
    first = np.arange(256, dtype=np.uint32) << np.uint32(23)
    offsets = np.array([0, 1, 2, 0x7FFFFD, 0x7FFFFE, 0x7FFFFF], np.uint32)
    words = np.concatenate([SPECIAL, (first[:, None] | offsets).ravel()])
    return np.concatenate([words, words | np.uint32(0x80000000)]).view(np.float32)


def random(count: int, seed: int) -> NDArray[np.float32]:
    """As many random words and as many normally distributed numbers of deviation 4."""
    rng = np.random.default_rng(seed)
    words = rng.integers(0, 2**32, count, dtype=np.uint32).view(np.float32)
    return np.concatenate([words, (rng.standard_normal(count) * 4).astype(np.float32)])


def inputs(count: int = 40_000, seed: int = 20) -> NDArray[np.float32]:
    """All of these."""
    return np.concatenate([edges(), random(count, seed)])
