"""Which accumulators a layer can reach at all: from its weights and the codes that its input can hold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Reachable:
    """For each channel the smallest and the largest accumulator, int64; between them every one counts as reachable."""

    low: NDArray[np.int64]
    high: NDArray[np.int64]

    @property
    def channels(self) -> int:
        """Number of channels."""
        return len(self.low)

    @property
    def count(self) -> NDArray[np.int64]:
        """Accumulators of each channel."""
        return self.high - self.low + 1


def reachable(weights: NDArray[np.integer], minimum: int, maximum: int) -> Reachable:
    """The range of `sum(x * w)` over inputs in `minimum..maximum`.

    `weights`: (channels, terms), less their zero points. For exact sums the inputs are codes less the zero point, and
    padding is 0; for folded sums they are raw codes, and padding is the zero point: in both, padding is one of the
    inputs that count, so a window at the border reaches nothing else.
    """
    terms = np.asarray(weights)
    rising = np.maximum(terms, 0).sum(axis=1, dtype=np.int64)
    falling = np.minimum(terms, 0).sum(axis=1, dtype=np.int64)
    return Reachable(rising * minimum + falling * maximum, rising * maximum + falling * minimum)
