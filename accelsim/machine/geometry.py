"""How an instruction's tile lies on the MAC array: groups, passes, chunks of the reduction, and their bank conflicts.

A bank serves one access a cycle. The bytes of one access lie in different banks (bank = address mod banks) or take as
many cycles as the fullest bank has of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from accelsim.isa import Mac


def access_cycles(count: int, pitch: int, banks: int, runs: int = 1, step: int = 0) -> int:
    """Cycles to access `runs` runs, `step` from one to the next, of `count` elements `pitch` apart."""
    return _fullest_bank(count, pitch % banks, runs, step % banks, banks)


@lru_cache(maxsize=4096)
def _fullest_bank(count: int, pitch: int, runs: int, step: int, banks: int) -> int:
    run, element = np.ogrid[:runs, :count]
    return int(np.bincount(((run * step + element * pitch) % banks).ravel()).max())


@dataclass(frozen=True)
class Chunk:
    """Up to R consecutive reduction indices: the `rows` they take and the `cycles` of one activation access."""

    rows: int
    cycles: int


@dataclass(frozen=True)
class GroupSet:
    """`groups` groups side by side on the array, block-diagonally; `count` such sets follow one another.

    `chunks` cut their common reduction (tap of any pixel abreast, then channel of all the groups), `outputs` is that of
    all the groups for one pixel.
    """

    count: int
    groups: int
    chunks: tuple[Chunk, ...]
    outputs: int


def group_sets(mac: Mac, side_by_side: int, rows: int, banks: int) -> tuple[GroupSet, ...]:
    """The sets that the groups form when `side_by_side` of them fit next to one another."""
    full, rest = divmod(mac.groups, side_by_side)
    parts = ((full, side_by_side), (1 if rest else 0, rest))
    return tuple(
        GroupSet(
            count,
            groups,
            _chunks(
                mac.kernel_height,
                mac.taps_abreast,
                mac.dilation_y * mac.line_pitch % banks,
                mac.dilation_x * mac.pixel_pitch % banks,
                groups * mac.channels // mac.groups,
                rows,
                banks,
            ),
            groups * mac.outputs // mac.groups,
        )
        for count, groups in parts
        if count
    )


@lru_cache(maxsize=4096)
def _chunks(height: int, width: int, line: int, pixel: int, channels: int, rows: int, banks: int) -> tuple[Chunk, ...]:
    tap_y, tap_x, channel = np.ogrid[:height, :width, :channels]
    bank = ((tap_y * line + tap_x * pixel + channel) % banks).ravel()
    return tuple(
        Chunk(len(part), int(np.bincount(part).max()))
        for part in (bank[start : start + rows] for start in range(0, len(bank), rows))
    )
