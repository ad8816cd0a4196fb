"""The L2 cycle by cycle, with the data: each register looked at in each cycle, each byte read compared with the last
one written. Tags, ages, the array of lines, the entries and the queue to DRAM are what hardware would have."""

from __future__ import annotations

from dataclasses import dataclass, field

from accelsim.hardware import Accelerator
from accelsim.machine.dram.grants import ENTRIES

from . import dram_model

#: Of each byte, the number of the store that wrote it last.
Versions = dict[int, int]


def pieces(address: int, length: int, loops: list[tuple[int, int]], size: int) -> list[list[int]]:
    """The bytes of each access: a row is cut wherever a line ends."""
    result = []
    for start in dram_model.starts(address, loops):
        for byte in range(start, start + length):
            if byte == start or byte % size == 0:
                result.append([])
            result[-1].append(byte)
    return result


@dataclass
class Way:
    """A line's place: its number, -1 for none, when it was used last, and its data."""

    line: int = -1
    used: int = -1
    data: Versions = field(default_factory=dict)


@dataclass
class Entry:
    name: str
    bytes: list[int]
    versions: Versions  # of a store what it writes, of a read what it has to find
    moving: int
    last: bool
    granted: int
    complete: int  # a store's last beat is there
    way: Way | None = None
    hit: bool = False
    fetched: Versions | None = None
    there: int = 1 << 60
    free: int = 1 << 60

    @property
    def write(self) -> bool:
        return self.name == "store"


class Below:
    """DRAM behind the L2: one request open at a time; those that are ready take it in order."""

    def __init__(self, accelerator: Accelerator) -> None:
        dram = accelerator.dram
        self.width, self.latency = dram.bytes_per_cycle, dram.latency
        self.queue: list[tuple[Entry, list[int], int]] = []  # whose, which bytes, seen from
        self.free = 0
        self.banked = None
        if dram.timings is not None:
            self.banked = dram_model.Dram(dram.timings, accelerator.clock_mhz, self.width, dram.burst_beats)
        self.open: Entry | None = None
        self.on_their_way: list[Entry] = []
        self.memory: Versions = {}
        self.read = self.written = 0

    def step(self, cycle: int) -> None:
        if self.banked is None:
            if self.queue and self.queue[0][2] <= cycle and self.free <= cycle:
                entry, wanted, _ = self.queue.pop(0)
                self._exchange(entry, wanted)
                self.free = cycle + len({byte // self.width for byte in wanted})
                self._end(entry, self.free)
            return
        if self.queue and self.open is None:
            entry, wanted, seen = self.queue.pop(0)
            self._exchange(entry, wanted)
            self.open = entry
            name = "store" if entry.write else "load"
            self.banked.ask(name, wanted[0], len(wanted), [], self.width, max(seen, self.free))
            self.on_their_way.append(entry)
        taken, done = self.banked.step(cycle)
        for _, way in taken:
            self.free, self.open = way, None
        for name, end in done:
            entry = next(item for item in self.on_their_way if item.write == (name == "store"))
            self.on_their_way.remove(entry)
            self._end(entry, end)

    def _end(self, entry: Entry, end: int) -> None:
        if entry.write:
            entry.free = end
        else:
            entry.there = end + self.latency

    def _exchange(self, entry: Entry, wanted: list[int]) -> None:
        if entry.write:
            self.memory.update(entry.versions)
            self.written += len(wanted)
        else:
            entry.fetched = {byte: self.memory.get(byte, 0) for byte in wanted}
            self.read += len(wanted)


class Cache:
    """`step` runs one cycle; `ask` and what `step` returns are those of `dram_model.Dram`."""

    def __init__(self, accelerator: Accelerator) -> None:
        l2 = accelerator.l2
        assert l2 is not None
        self.size, self.width = l2.line_bytes, l2.bytes_per_cycle
        self.sets = [[Way() for _ in range(l2.ways)] for _ in range(l2.bytes // l2.line_bytes // l2.ways)]
        self.below = Below(accelerator)
        self.turn = max(1, accelerator.dram.burst_beats * self.width // self.size)
        self.requests: dict[str, tuple[list[list[int]], int, int]] = {}  # pieces left, bytes a cycle, seen from
        self.holder, self.left = "", 0
        self.way = self.back = 0
        self.entries: list[Entry] = []
        self.looking: list[Entry] = []
        self.leaving: list[Entry] = []
        self.now = 0
        self.newest: Versions = {}
        self.stores = 0
        self.counts = dict.fromkeys(("read_hits", "read_misses", "write_hits", "write_misses", "kept"), 0)

    def ask(self, name: str, address: int, length: int, loops: list[tuple[int, int]], banks: int, seen: int) -> None:
        self.requests[name] = (pieces(address, length, loops, self.size), banks, seen)

    def step(self, cycle: int) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
        self.now = cycle
        while self.entries and self.entries[0].free <= cycle:
            self.entries.pop(0)
        for entry in self.looking:
            if entry.granted == cycle - 1:
                self._look_up(entry, cycle)
        self.looking = [entry for entry in self.looking if entry.granted >= cycle]
        taken, done = self._grant(cycle)
        self.below.step(cycle)
        done += self._leave(cycle)
        return taken, done

    def drain(self) -> None:
        """Go on from the last cycle until nothing is on its way any more."""
        while self.entries:
            self.step(self.now + 1)

    def _grant(self, cycle: int) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
        names = [name for name in ("fetch", "load", "store") if name in self.requests]
        names = [name for name in names if self.requests[name][2] <= cycle and (not self.left or name == self.holder)]
        if not names or self.way > cycle or len(self.entries) == ENTRIES:
            return [], []
        name = min(names, key=lambda name: self.requests[name][2])
        left, banks, _ = self.requests.pop(name)
        if not self.left:
            self.holder, self.left = name, self.turn
        self.left -= 1
        wanted, write = left[0], name == "store"
        moving = len({(byte // self.width, byte % self.width // banks) for byte in wanted})
        self.way = cycle + (moving if write else 1)
        if write:
            self.stores += 1
            self.newest.update(dict.fromkeys(wanted, self.stores))
        versions = {byte: self.newest.get(byte, 0) for byte in wanted}
        entry = Entry(name, wanted, versions, moving, len(left) == 1, cycle, self.way)
        self.entries.append(entry)
        self.looking.append(entry)
        self.leaving.append(entry)
        if not entry.last:
            self.requests[name] = (left[1:], banks, self.way)
            return [], []
        self.left = 0
        return [(name, self.way)], [(name, self.way)] if write else []

    def _look_up(self, entry: Entry, cycle: int) -> None:
        """The tags, in the cycle after the grant; what comes of it is seen in the next."""
        line = entry.bytes[0] // self.size
        ways = self.sets[line % len(self.sets)]
        whole = len(entry.bytes) == self.size
        found = [way for way in ways if way.line == line]
        entry.hit = bool(found)
        kind = "write" if entry.write else "read"
        self.counts[f"{kind}_{'hits' if found else 'misses'}"] += 1
        if found or not entry.write or whole:
            entry.way = found[0] if found else min(ways, key=lambda way: way.used)
            entry.way.line, entry.way.used = line, cycle
        if entry.write:
            self.counts["kept"] += len(entry.bytes) if entry.way else 0
            self.below.queue.append((entry, entry.bytes, max(cycle + 1, entry.complete)))
        elif found:
            entry.there = cycle + 1
        else:
            first = line * self.size
            self.below.queue.append((entry, list(range(first, first + self.size)), cycle + 1))

    def _leave(self, cycle: int) -> list[tuple[str, int]]:
        """In order of grant: stores go into the array, lines that were fetched too; what is read is on the way back."""
        done = []
        while self.leaving:
            entry = self.leaving[0]
            if entry.write:
                if entry.granted == cycle or entry.complete > cycle:
                    break
                if entry.way is not None:
                    entry.way.data = (entry.way.data if entry.hit else {}) | entry.versions
                self.leaving.pop(0)
                continue
            if entry.there > cycle or self.back > cycle:
                break
            assert entry.way is not None
            if not entry.hit:
                assert entry.fetched is not None
                entry.way.data = entry.fetched
            assert {byte: entry.way.data[byte] for byte in entry.bytes} == entry.versions, (
                "reads what is not the newest"
            )
            self.leaving.pop(0)
            entry.free = self.back = cycle + entry.moving
            if entry.last:
                done.append((entry.name, self.back))
        return done
