"""Where fixed point gives another code than an engine: between the accumulators at which the two reach each code."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .thresholds import Thresholds


@dataclass(frozen=True)
class Deviation:
    """From `starts` until `stops`, (channels, thresholds), fixed point is on the wrong side of a threshold.

    Both rise along each row, or stay.
    """

    starts: NDArray[np.int64]
    stops: NDArray[np.int64]

    @property
    def count(self) -> NDArray[np.int64]:
        """Accumulators of each channel whose codes differ."""
        before = np.concatenate([self.starts[:, :1], self.stops[:, :-1]], axis=1)
        return (self.stops - np.maximum(self.starts, before)).sum(axis=1)

    @property
    def worst(self) -> NDArray[np.int64]:
        """The largest difference of two codes of each channel: how many ranges cover one accumulator."""
        worst = np.zeros(len(self.starts), np.int64)
        thresholds = self.starts.shape[1]
        for apart in range(thresholds):
            covered = np.any(self.stops[:, : thresholds - apart] > self.starts[:, apart:], axis=1)
            if not covered.any():
                break
            worst += covered
        return worst


def deviation(
    exact: Thresholds, multiplier: NDArray[np.int64], offset: NDArray[np.int64], shift: NDArray[np.int64]
) -> Deviation:
    """Of `(acc * M + B) >> S`, M from 1 on, clamped as `exact` is, over the accumulators that do not wrap round."""
    low, above = exact.monotone.low[:, None], exact.monotone.high[:, None] + 1
    codes = exact.minimum + 1 + np.arange(exact.first.shape[1], dtype=np.int64)
    distance = (codes << shift[:, None]) - offset[:, None]
    found = np.clip(-(-distance // multiplier[:, None]), low, above)
    first = np.clip(exact.first, low, above)
    return Deviation(np.minimum(first, found), np.maximum(first, found))
