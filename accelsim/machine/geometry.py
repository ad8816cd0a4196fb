"""How an instruction's tile lies on the MAC array: groups, passes, chunks of the reduction, and their bank conflicts.

A bank serves one access a cycle. The bytes of one access lie in different banks (bank = address mod banks) or take as
many cycles as the fullest bank has of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from accelsim.isa import Mac
from accelsim.isa.instructions import _Window


def strided_cycles(count: int, pitch: int, banks: int) -> int:
    """Cycles to access `count` elements `pitch` apart: they fall on banks / gcd(banks, pitch) banks in turn."""
    return -(-count // (banks // math.gcd(banks, pitch)))


@dataclass(frozen=True)
class Chunk:
    """Up to R consecutive reduction indices: the `rows` they take and the `cycles` of one activation access."""

    rows: int
    cycles: int


@dataclass(frozen=True)
class GroupSet:
    """`groups` groups side by side on the array, block-diagonally; `count` such sets follow one another.

    `chunks` cut their common reduction (tap, then channel of all the groups), `outputs` is that of all the groups.
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
                mac.kernel_width,
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


def inside_taps(window: _Window) -> np.ndarray:
    """For each tap (ky, kx) the number of output positions of one image whose element is no padding."""
    down = _inside(
        window.top, window.out_height, window.stride_y, window.kernel_height, window.dilation_y, window.height
    )
    across = _inside(
        window.left, window.out_width, window.stride_x, window.kernel_width, window.dilation_x, window.width
    )
    return np.outer(down, across)


@lru_cache(maxsize=4096)
def _inside(start: int, outputs: int, stride: int, taps: int, dilation: int, limit: int) -> np.ndarray:
    at = start + np.arange(outputs)[:, None] * stride + np.arange(taps) * dilation
    return ((at >= 0) & (at < limit)).sum(axis=0)
