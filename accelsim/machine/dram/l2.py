"""A cache between DRAM and all that use it: set associative, least recently used goes, writes go through.

No instruction names it. The rows of a transfer are cut at multiples of `line_bytes`; each piece is one access. A read
that finds its line takes it from there, another has the whole line fetched and kept. A write goes on to DRAM in any
case; it is kept too where its line is there, or where it is a whole line. So DRAM is always as new as the cache.

A piece takes an entry, with the room of a line, when it is granted. In the next cycle its tag is looked up and the
order of its set changed; in the one after that DRAM is asked for what it needs, one request at a time and in order.
What is read leaves in order of grant, and in that order entries and the data array exchange lines. So the tags depend
on the order of grants alone, and whether a line has arrived decides no more than when its piece leaves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from accelsim.hardware import Accelerator
from accelsim.hardware.configuration import L2

from .banks import BankedArbiter
from .bus import Arbiter, Ending, Lines, Requester, Rows, Waiting, parts_of, starts_of
from .grants import Granted, Grants

#: Cycles from a grant until the tag's answer is a register: the request is seen in one, looked up in another.
LOOKUP = 2

#: Pieces of a request that is kept for the next one like it.
_FEW = 1 << 13


class Piece(NamedTuple):
    """`length` bytes at `first` of one line; they take `moving` cycles, of which `beats` are not for want of banks."""

    line: int
    first: int
    length: int
    moving: int
    beats: int


class Tags:
    """Which lines are there: those of each set, the one used last first. A line's set is its number modulo `sets`."""

    def __init__(self, sets: int, ways: int) -> None:
        self._sets, self._ways = sets, ways
        self._held: dict[int, list[int]] = {}

    def access(self, line: int, keep: bool) -> bool:
        """Whether the line is there. It is then the one used last; where it is not, and is to be kept, it comes in."""
        lines = self._held.setdefault(line % self._sets, [])
        hit = line in lines
        if hit:
            lines.remove(line)
        if hit or keep:
            lines.insert(0, line)
            del lines[self._ways :]
        return hit


@dataclass(slots=True)
class CachedTransfer(Granted[Piece]):
    """A request in pieces; of those so far, the waits of its requester by cause, the hits, and the bytes kept."""

    full: int = 0
    miss: int = 0
    latency: int = 0
    hits: int = 0
    kept: int = 0


class Cache(Grants[CachedTransfer]):
    """The L2 with DRAM behind it. A read takes a cycle of the way there, a write its beats; the way back takes beats.

    `below` has one request at a time, the next one seen as soon as it takes one; what is read of it is there `latency`
    cycles after its last beat.
    """

    def __init__(self, l2: L2, below: Waiting, width: int, latency: int, burst_beats: int) -> None:
        super().__init__(max(1, burst_beats * l2.bytes_per_cycle // l2.line_bytes))
        self._l2, self._below, self._below_width, self._below_latency = l2, below, width, latency
        self._below_free = 0
        self._tags = Tags(l2.sets, l2.ways)

    def ask(self, requester: Requester, rows: Rows, part: int, seen: int) -> None:
        l2 = self._l2
        self._wait(CachedTransfer(requester, pieces_of(*rows, l2.line_bytes, l2.bytes_per_cycle, part), seen))

    def _serve(self, item: CachedTransfer, granted: int) -> int:
        piece, write, size = item.pieces[item.next], item.requester == Requester.STORE, self._l2.line_bytes
        charged = self._charged[item.requester]
        item.full += max(0, granted - max(charged, item.asked, self._way))
        self._way = item.asked = granted + (piece.moving if write else 1)
        looked_up = granted + LOOKUP
        hit = self._tags.access(piece.line, keep=not write or piece.length == size)
        item.hits += hit
        if write:
            end = self._way
            left = self._ask_below(Requester.STORE, piece.first, piece.length, max(looked_up, end))
            item.kept += piece.length if hit or piece.length == size else 0
        else:
            there = looked_up
            if not hit:
                there = self._ask_below(Requester.LOAD, piece.line * size, size, looked_up) + self._below_latency
            waited = max(0, there - max(charged, granted))
            item.latency += waited if hit else 0
            item.miss += 0 if hit else waited
            end = left = self._back = max(self._back, there) + piece.moving
        self._charged[item.requester] = end
        self._entries.append(left)
        return end

    def _ask_below(self, requester: Requester, address: int, length: int, ready: int) -> int:
        """Have DRAM read or write, a request that is seen in `ready` or later; returns the end of its last beat."""
        width = self._below_width
        self._below.ask(requester, (address, length, ()), width, max(ready, self._below_free))
        ending = self._below.advance()
        assert ending is not None
        self._below_free = ending.free
        return ending.end

    def _ending(self, item: CachedTransfer, granted: int, end: int) -> Ending:
        beats = sum(piece.beats for piece in item.pieces)
        conflicts = sum(piece.moving for piece in item.pieces) - beats
        found = item.hits, len(item.pieces) - item.hits
        write = item.requester == Requester.STORE
        lines = Lines(0, 0, *found, item.kept) if write else Lines(*found)
        waits = (("l2_full", item.full), ("l2_miss", item.miss), ("l2_latency", item.latency))
        return Ending(item.requester, granted, self._way, end, beats, conflicts, waits, lines)


def arbiter_of(accelerator: Accelerator) -> Waiting:
    """What the units' requests go to: the L2, or else DRAM with banks, or else the bus alone."""
    dram, l2 = accelerator.dram, accelerator.l2
    below = BankedArbiter.of(accelerator) or Arbiter(dram.bytes_per_cycle, dram.burst_beats)
    return below if l2 is None else Cache(l2, below, dram.bytes_per_cycle, dram.latency, dram.burst_beats)


def pieces_of(
    address: int, length: int, loops: tuple[tuple[int, int], ...], size: int, width: int, part: int
) -> tuple[Piece, ...]:
    """The rows cut at multiples of `size`, in order. A unit takes `part` bytes of a beat of `width` in a cycle."""
    loops = tuple((count, pitch) for count, pitch in loops if count > 1)
    few = math.prod(count for count, _ in loops) * (length // size + 2) <= _FEW
    return (_kept_pieces if few else _pieces)(address, length, loops, size, width, min(part, width))


def _pieces(
    address: int, length: int, loops: tuple[tuple[int, int], ...], size: int, width: int, part: int
) -> tuple[Piece, ...]:
    starts = starts_of(address, loops)
    first = starts // size
    counts = (starts + length - 1) // size - first + 1
    offsets = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    lines, starts = np.repeat(first, counts) + offsets, np.repeat(starts, counts)
    begin = np.maximum(starts, lines * size)
    lengths = np.minimum(starts + length, (lines + 1) * size) - begin
    moving = parts_of(begin % width, lengths, width, part)
    beats = parts_of(begin % width, lengths, width, width)
    columns = (lines, begin, lengths, moving, beats)
    return tuple(map(Piece, *(column.tolist() for column in columns)))


_kept_pieces = lru_cache(maxsize=256)(_pieces)
