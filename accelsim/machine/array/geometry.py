"""How an instruction's tile lies on the MAC array: sets of groups, and the chunks that their reduction is cut into."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import groupby
from typing import NamedTuple

from accelsim.hardware.banks import Chunk, chunks
from accelsim.hardware.folds import pieces, preloads
from accelsim.isa import Mac


class Chunks(NamedTuple):
    """`repeats` chunks of the reduction that follow one another and are alike.

    Each has `rows` indices; one access of activations takes `cycles`, and `preload` accesses of weights fill the array.
    """

    repeats: int
    rows: int
    cycles: int
    preload: int


class Transition(NamedTuple):
    """`times` a chunk is followed by another one: what the array's timing looks at."""

    times: int
    rows: int
    cycles: int
    next_cycles: int
    next_preload: int


@dataclass(frozen=True, eq=False)
class GroupSet:
    """`groups` groups side by side on the array, block-diagonally; `count` such sets follow one another.

    Compared by identity, which is quick: each is made once.

    `chunks` cut their common reduction (tap of any unrolled pixel, then channel of all the groups); `outputs` is that
    of all the groups for one pixel.
    """

    count: int
    groups: int
    outputs: int
    chunks: tuple[Chunks, ...]

    @cached_property
    def transitions(self) -> tuple[Transition, ...]:
        """From each chunk to the one that follows it, those together that are alike."""
        found = Counter[tuple[int, int, int, int]]()
        for chunk, after in zip(self.chunks, self.chunks[1:], strict=False):
            found[chunk.rows, chunk.cycles, after.cycles, after.preload] += 1
        for same in self.chunks:
            if same.repeats > 1:
                found[same.rows, same.cycles, same.cycles, same.preload] += same.repeats - 1
        return tuple(Transition(times, *between) for between, times in found.items())

    @cached_property
    def ideal(self) -> GroupSet:
        """The same on a memory in which no access conflicts with itself."""
        return replace(self, chunks=tuple(same._replace(cycles=1) for same in self.chunks))

    @cached_property
    def without_preload(self) -> GroupSet:
        """The same whose weights the array holds already."""
        return replace(self, chunks=tuple(same._replace(preload=0) for same in self.chunks))

    @cached_property
    def folds(self) -> int:
        """Chunks of the reduction."""
        return sum(alike.repeats for alike in self.chunks)

    @cached_property
    def reduction(self) -> int:
        """Indices of the reduction."""
        return sum(alike.repeats * alike.rows for alike in self.chunks)

    @cached_property
    def preloads(self) -> int:
        """Accesses that fill the array with the weights of every chunk."""
        return sum(alike.repeats * alike.preload for alike in self.chunks)


def alike(every: Sequence[Chunk], accesses: Sequence[int]) -> tuple[Chunks, ...]:
    """The chunks in their order, those together that are alike and follow one another; `accesses` fill each."""
    runs = groupby(zip(every, accesses, strict=True))
    return tuple(Chunks(len(list(same)), chunk.rows, chunk.cycles, preload) for (chunk, preload), same in runs)


def group_sets(mac: Mac, rows: int, banks: int) -> tuple[GroupSet, ...]:
    """The sets that the groups of an instruction form on an array of so many rows."""
    pitches = mac.dilation_y * mac.line_pitch % banks, mac.dilation_x * mac.pixel_pitch % banks
    kernel, each = (mac.kernel_height, mac.kernel_width), (mac.channels // mac.groups, mac.outputs // mac.groups)
    return tuple(
        _group_set(count, groups, kernel, mac.stride_x, pitches, *each, mac.unroll_pixels, rows, banks)
        for count, groups in pieces(mac.groups, mac.unroll_groups)
    )


@lru_cache(maxsize=1 << 13)
def _group_set(
    count: int,
    groups: int,
    kernel: tuple[int, int],
    stride: int,
    pitches: tuple[int, int],
    channels: int,
    outputs: int,
    unroll_pixels: int,
    rows: int,
    banks: int,
) -> GroupSet:
    accesses = preloads(kernel, stride, channels, unroll_pixels, groups, rows)
    taps = kernel[0], kernel[1] + (unroll_pixels - 1) * stride
    every = chunks(taps, pitches, groups * channels, rows, banks)
    return GroupSet(count, groups, groups * outputs, alike(every, accesses))
