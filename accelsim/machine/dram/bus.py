"""The DRAM data bus: who has it in which cycle.

Three requesters (fetch, load, store) share it in grants of at most `burst_beats` cycles. A requester has one grant
outstanding; it asks for the next one when a grant ends. The bus goes to the request that came first, of those that
came in the same cycle to the first in the order fetch, load, store, and never idles while one waits.

A beat takes a cycle. Before a scratchpad of fewer banks than the bus has bytes it takes one for each part of `banks`
bytes that something is wanted of.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, Protocol

import numpy as np
import simpy
from numpy.typing import NDArray

#: Rows whose places are worked out one by one: faster up to some thousands, and no more than the widest bus has bytes.
_FEW_ROWS = 4096

#: Rows of `length` bytes at a DRAM address, repeated by (count, pitch) loops: (address, length, loops).
Rows = tuple[int, int, tuple[tuple[int, int], ...]]


class Requester(enum.IntEnum):
    """Who uses the bus, in order of priority."""

    FETCH = 0
    LOAD = 1
    STORE = 2


@dataclass(slots=True)
class Transfer:
    """`cycles` of the bus are still to come; `asked` is the cycle in which the next request is seen.

    Of all its cycles `beats` move data and `conflicts` repeat a beat.
    """

    requester: Requester
    cycles: int
    asked: int
    beats: int
    conflicts: int


class Lines(NamedTuple):
    """Accesses of the L2 that found their line there and that did not, and the bytes that stores wrote into it."""

    read_hits: int = 0
    read_misses: int = 0
    write_hits: int = 0
    write_misses: int = 0
    kept: int = 0

    def plus(self, other: Lines) -> Lines:
        """The sum of both, field by field."""
        return Lines(*(a + b for a, b in zip(self, other, strict=True)))


NO_LINES = Lines()


class Ending(NamedTuple):
    """The end of a transfer, certain from cycle `start` on: the cycle after its last beat (`end`) and the one from
    which its requester may have the next request seen (`free`).

    Of the requester's cycles up to `end`, `beats` move data, `conflicts` repeat them for want of scratchpad banks, and
    `waits` go to (cause, cycles) in that order; the others wait while another has the bus. `lines`: the L2's accesses.
    """

    requester: Requester
    start: int
    free: int
    end: int
    beats: int
    conflicts: int
    waits: tuple[tuple[str, int], ...] = ()
    lines: Lines = NO_LINES


def _order(item: Transfer) -> tuple[int, int]:
    return item.asked, item.requester


class Arbiter:
    """The bus without a clock of its own: `advance` decides grants, runs of equal rounds at once."""

    def __init__(self, width: int, burst_beats: int) -> None:
        self.width = width
        self.burst_beats = burst_beats
        self.free = 0
        self.waiting: list[Transfer] = []

    def ask(self, requester: Requester, rows: Rows, part: int, seen: int) -> None:
        """A request that is seen from cycle `seen` on, of a unit that takes `part` bytes of a beat in a cycle."""
        cycles = cycles_of(*rows, self.width, part)
        beats = cycles if part >= self.width else cycles_of(*rows, self.width, self.width)
        self.waiting.append(Transfer(requester, cycles, seen, beats, cycles - beats))

    def advance(self) -> Ending | None:
        """Decide grants in order, until one of them ends its transfer.

        Returns that grant, or None when nobody waits.
        """
        waiting, most = self.waiting, self.burst_beats
        while waiting:
            waiting.sort(key=_order)
            first = waiting[0]
            start = max(first.asked, self.free)
            last = start + (first.cycles - 1) // most * most
            if len(waiting) == 1 or last < waiting[1].asked:
                # Nobody asks before its last grant.
                del waiting[0]
                self.free = end = start + first.cycles
                return Ending(first.requester, last, end, end, first.beats, first.conflicts)
            if first.cycles > most and self._skip_rounds(start):
                continue
            cycles = min(most, first.cycles)
            first.cycles -= cycles
            self.free = first.asked = start + cycles
            if first.cycles == 0:
                waiting.remove(first)
                return Ending(first.requester, start, self.free, self.free, first.beats, first.conflicts)
        return None

    def _skip_rounds(self, start: int) -> bool:
        """Give every request in the queue the same number of whole grants, as many as change neither order nor ends.

        Returns whether that was at least one. `waiting` is in the order of the queue.
        """
        queue = [item for item in self.waiting if item.asked <= start]
        length = self.burst_beats * len(queue)
        rounds = min([(item.cycles - 1) // self.burst_beats for item in queue])
        if len(queue) < len(self.waiting):
            rounds = min(rounds, (self.waiting[len(queue)].asked - start) // length)
        if rounds < 1:
            return False
        now = start + (rounds - 1) * length
        for item in queue:
            item.cycles -= rounds * self.burst_beats
            now += self.burst_beats
            item.asked = now
        self.free = now
        return True


class Waiting(Protocol):
    """What the bus asks of an arbiter: see `Arbiter`."""

    def ask(self, requester: Requester, rows: Rows, part: int, seen: int) -> None: ...
    def advance(self) -> Ending | None: ...


#: Of events at one time simpy takes those of a lower number first; processes are resumed by events of number 1.
_AFTER_ALL_OTHERS = 2


class Bus:
    """An arbiter among processes that each keep a time of their own.

    It decides when no process can go on: each waits for the bus, or for a message that, in the end, one will send that
    waits for the bus. The transfer that ends first then has its last grant in a cycle s; whatever anyone asks for later
    is seen after s, since it comes of that end or a later one. So that end is final, and its process goes on.
    """

    def __init__(self, env: simpy.Environment, arbiter: Waiting) -> None:
        self._env = env
        self._arbiter = arbiter
        self._done: dict[Requester, simpy.Event] = {}

    def transfer(self, requester: Requester, rows: Rows, part: int, now: int) -> simpy.Event:
        """Ask for the rows in cycle `now`; the arbiter sees it in the next. A beat's parts are of `part` bytes.

        The event's value is the Ending.
        """
        self._arbiter.ask(requester, rows, part, now + 1)
        if not self._done:
            self._decide_later()
        done = self._done[requester] = self._env.event()
        return done

    def _decide_later(self) -> None:
        event = simpy.Event(self._env)
        event._ok = True
        event.callbacks.append(self._decide)
        self._env.schedule(event, priority=_AFTER_ALL_OTHERS)

    def _decide(self, event: simpy.Event) -> None:
        """Find the transfer that ends first; `event` takes the place of the one that its process waits for."""
        ending = self._arbiter.advance()
        assert ending is not None
        event._value = ending
        resumed = self._done.pop(ending.requester).callbacks
        if self._done:
            self._decide_later()
        for callback in resumed:
            callback(event)


def cycles_of(dram: int, length: int, loops: tuple[tuple[int, int], ...], width: int, part: int) -> int:
    """Cycles on a bus `width` bytes wide for rows of `length` bytes at `dram`, repeated by (count, pitch) loops.

    The first byte of each beat begins a part, and so does every `part` bytes on; a row takes as many cycles as it lies
    in parts. Where `part` is `width` or more these are the beats.
    """
    return _cycles(dram % width, length, loops, width, min(part, width))


@lru_cache(maxsize=1 << 14)
def _cycles(offset: int, length: int, loops: tuple[tuple[int, int], ...], width: int, part: int) -> int:
    loops = tuple((count, pitch % width) for count, pitch in loops if count > 1)
    counts = [count for count, _ in loops]
    if math.prod(counts) <= _FEW_ROWS:
        return int(parts_of(starts_of(offset, loops) % width, length, width, part).sum())
    # How many rows begin at each place of a beat: there are more rows than places.
    begins = np.zeros(width, np.int64)
    begins[offset] = 1
    for count, pitch in loops:
        begins = _repeated(begins, count, pitch)
    return int((parts_of(np.arange(width), length, width, part) * begins).sum())


@lru_cache(maxsize=1 << 14)
def mean_cycles(length: int, pitch: int, width: int) -> float:
    """Cycles that a row of `length` bytes takes on average, of many that begin `pitch` apart, the first one where a
    beat of `width` bytes does: those begin at every multiple of what the pitch and the width have in common."""
    return float(parts_of(np.arange(0, width, math.gcd(pitch, width)), length, width, width).mean())


def starts_of(address: int, loops: tuple[tuple[int, int], ...]) -> NDArray[np.int64]:
    """Where each row begins, in the order in which they are moved."""
    starts = np.array([address], np.int64)
    for count, pitch in loops:
        # `loops` are innermost first: an outer one repeats all that is within it.
        starts = (np.arange(count, dtype=np.int64)[:, None] * pitch + starts).ravel()
    return starts


def parts_of(starts: NDArray[np.int64], length: int | NDArray[np.int64], width: int, part: int) -> NDArray[np.int64]:
    """Cycles of a row of `length` bytes, 1 or more, that begins at each of these places of a beat."""
    beat, place = np.divmod(starts + length - 1, width)
    parts: NDArray[np.int64] = beat * -(-width // part) + place // part - starts // part + 1
    return parts


def _repeated(starts: NDArray[np.int64], count: int, pitch: int) -> NDArray[np.int64]:
    """How many rows begin at each place, when `count` turns, `pitch` apart, repeat those of `starts`."""
    width = len(starts)
    period = width // math.gcd(pitch, width)
    # Along a cycle of places `pitch` apart, whole rounds come to each of them, and the rest to those in a window.
    rounds, rest = divmod(count, period)
    cycle = (np.arange(width // period)[:, None] + np.arange(period) * pitch) % width
    along = starts[cycle]
    before = np.cumsum(np.concatenate([along[:, period - rest :], along], axis=1), axis=1)
    window = before[:, rest:] - before[:, :period] if rest else 0
    result = np.empty_like(starts)
    result[cycle] = along.sum(axis=1, keepdims=True) * rounds + window
    return result
