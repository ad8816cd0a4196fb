"""Places of a memory: exactly those that an instruction reads or writes (blocks), and what covers them (regions)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from operator import mul
from typing import NamedTuple

import numpy as np

from .places import Runs, runs, shared, visited_twice
from .units import Memory


class Block(NamedTuple):
    """Places `start + sum of i * pitch` of a memory, i below each of `sizes`: words of the accumulators, else bytes."""

    memory: Memory
    start: int
    sizes: tuple[int, ...]
    pitches: tuple[int, ...]

    @property
    def stop(self) -> int:
        """One past the last place."""
        return self.start + 1 + sum(map(mul, self.sizes, self.pitches)) - sum(self.pitches)

    def view(self, array: np.ndarray, origin: int = 0) -> np.ndarray:
        """These places of `array` (..., places), whose first place is `origin`: a view of shape (..., *sizes)."""
        step = array.itemsize
        pitches = self.pitches if step == 1 else tuple([pitch * step for pitch in self.pitches])
        return np.ndarray(
            array.shape[:-1] + self.sizes,
            array.dtype,
            array,
            (self.start - origin) * step,
            array.strides[:-1] + pitches,
        )

    @property
    def runs(self) -> Runs:
        """The set of these places."""
        return runs(self.start, self.sizes, self.pitches)

    def distinct(self) -> Block:
        """The same places with fewer repetitions: none, where the pitches nest."""
        found = self.runs
        outer = found.axes[::-1]
        sizes, pitches = tuple(size for _, size in outer), tuple(pitch for pitch, _ in outer)
        return Block(self.memory, found.start, (*sizes, found.length), (*pitches, 1))

    def repeats(self) -> int | None:
        """A place that occurs more than once, or None."""
        return visited_twice(self.start, self.sizes, self.pitches)


def line(memory: Memory, start: int, length: int) -> Block:
    """`length` places, one after the other."""
    return Block(memory, start, (length,), (1,))


def share_a_place(a: Block, b: Block) -> int | None:
    """The first place that two blocks have in common, or None."""
    return None if a.memory != b.memory else shared(a.runs, b.runs)


class Region(NamedTuple):
    """Places `start..stop - 1` of a memory that cover what is touched, and may cover more."""

    memory: Memory
    start: int
    stop: int


#: An instruction's rows that lie apart are regions of their own up to so many. More say more exactly what depends on
#: what, and take longer to compare.
_ROWS = 8


def regions(blocks: Sequence[Block]) -> tuple[Region, ...]:
    """What covers the blocks: their rows, or, of many blocks, one region a memory."""
    if len(blocks) > _ROWS:
        ends: dict[Memory, tuple[int, int]] = {}
        for block in blocks:
            start, stop = ends.get(block.memory, (block.start, 0))
            ends[block.memory] = min(start, block.start), max(stop, block.stop)
        return tuple([Region(memory, *span) for memory, span in ends.items()])
    return tuple(
        [
            Region(memory, start + first, start + first + extent)
            for memory, start, sizes, pitches in blocks
            for rows, extent in [_rows(sizes, pitches)]
            for first in rows
        ]
    )


@lru_cache(maxsize=1 << 12)
def _rows(sizes: tuple[int, ...], pitches: tuple[int, ...]) -> tuple[list[int], int]:
    """Where the rows begin, and what each covers: one for each row, where rows lie apart and are few, else one for all.

    The tiles of a layer differ in their start alone, so there are few sizes and pitches.
    """
    starts, extent = [0], 1 + sum(map(mul, sizes, pitches)) - sum(pitches)
    for count, pitch in zip(sizes, pitches, strict=True):
        if count > 1:
            inner = extent - (count - 1) * pitch
            if pitch <= inner or count * len(starts) > _ROWS:
                break
            starts = [first + i * pitch for first in starts for i in range(count)]
            extent = inner
    return starts, extent


def meet(some: Iterable[Region], others: Iterable[Region]) -> bool:
    """Whether any of the one have a place in common with any of the others."""
    return any(a.memory == b.memory and a.start < b.stop and b.start < a.stop for a in some for b in others)
