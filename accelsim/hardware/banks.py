"""The rule of banks: a bank serves one access a cycle and port.

The places of one access lie in different banks (bank = address mod banks) or take as many cycles as the fullest bank
has of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np


def access_cycles(count: int, pitch: int, banks: int, runs: int = 1, step: int = 0) -> int:
    """Cycles to access `runs` runs, `step` from one to the next, of `count` places `pitch` apart."""
    return _fullest_bank(count, pitch % banks, runs, step % banks, banks)


@lru_cache(maxsize=4096)
def _fullest_bank(count: int, pitch: int, runs: int, step: int, banks: int) -> int:
    run, element = np.ogrid[:runs, :count]
    return int(np.bincount(((run * step + element * pitch) % banks).ravel()).max())


_COUNTERS = 1 << 16


@dataclass(frozen=True)
class Chunk:
    """Up to R consecutive reduction indices: the `rows` they take and the `cycles` of one activation access."""

    rows: int
    cycles: int


def chunks(taps: tuple[int, int], pitches: tuple[int, int], channels: int, rows: int, banks: int) -> tuple[Chunk, ...]:
    """A reduction of `taps` (down, across), `pitches` apart, and `channels` side by side, cut into chunks of `rows`."""
    return _chunks(*taps, *(pitch % banks for pitch in pitches), channels, rows, banks)


@lru_cache(maxsize=1024)
def _chunks(height: int, width: int, line: int, pixel: int, channels: int, rows: int, banks: int) -> tuple[Chunk, ...]:
    tap_y, tap_x, channel = np.ogrid[:height, :width, :channels]
    bank = ((tap_y * line + tap_x * pixel + channel) % banks).ravel()
    full, rest = divmod(len(bank), rows)
    made: dict[int, Chunk] = {}
    parts: list[Chunk] = []
    # As many chunks at a time as have few counters: one for each bank.
    step = max(1, _COUNTERS // banks)
    for start in range(0, full, step):
        several = bank[start * rows : min(start + step, full) * rows].reshape(-1, rows)
        counters = np.arange(len(several))[:, None] * banks + several
        fullest = np.bincount(counters.ravel(), minlength=len(several) * banks).reshape(-1, banks).max(axis=1)
        for cycles in fullest.tolist():
            parts.append(made.setdefault(cycles, Chunk(rows, cycles)))
    if rest:
        parts.append(Chunk(rest, int(np.bincount(bank[full * rows :]).max())))
    return tuple(parts)
