"""DRAM with banks clock by clock: every entry of the queue looked at in every clock, every pair of commands checked."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from accelsim.hardware.dram_timings import DramTimings
from accelsim.machine.dram.banks import ENTRIES, Command

#: (first, second, whether they must share bank or bank group for the rule to hold)
Rule = tuple[str, str, str, int]


def rules(t: DramTimings) -> list[Rule]:
    """The least clocks from one command to another, as the standards tabulate them."""
    data = t.burst
    return [
        ("ACT", "RD", "bank", t.rcd),
        ("ACT", "WR", "bank", t.rcd),
        ("ACT", "PRE", "bank", t.ras),
        ("ACT", "PREA", "any", t.ras),
        ("ACT", "ACT", "bank", t.ras + t.rp),
        ("ACT", "ACT", "group", t.rrd_l),
        ("ACT", "ACT", "any", t.rrd_s),
        ("PRE", "ACT", "bank", t.rp),
        ("PRE", "REF", "any", t.rp),
        ("PREA", "ACT", "any", t.rp),
        ("PREA", "REF", "any", t.rp),
        ("REF", "ACT", "any", t.rfc),
        ("REF", "REF", "any", t.rfc),
        ("RD", "RD", "group", t.ccd_l),
        ("RD", "RD", "any", max(t.ccd_s, data)),
        ("WR", "WR", "group", t.ccd_l),
        ("WR", "WR", "any", max(t.ccd_s, data)),
        ("RD", "WR", "any", t.read_to_write),
        ("WR", "RD", "group", t.cwl + data + t.wtr_l),
        ("WR", "RD", "any", t.cwl + data + t.wtr_s),
        ("RD", "PRE", "bank", t.rtp),
        ("RD", "PREA", "any", t.rtp),
        ("WR", "PRE", "bank", t.cwl + data + t.wr),
        ("WR", "PREA", "any", t.cwl + data + t.wr),
    ]


def allowed(command: Command, before: Iterable[Command], t: DramTimings) -> bool:
    """Whether no earlier command is too near, and no more than three activates lie in the window."""
    before = [item for item in before if command.clock - item.clock < 2 * t.rfc]
    for first, second, scope, distance in rules(t):
        if second != command.name:
            continue
        for item in before:
            near = item.name == first and command.clock - item.clock < distance
            if scope == "bank":
                near = near and item.bank == command.bank
            elif scope == "group":
                near = near and item.bank % t.bank_groups == command.bank % t.bank_groups
            if near:
                return False
    window = [item for item in before if item.name == "ACT" and command.clock - item.clock < t.faw]
    return not (command.name == "ACT" and len(window) >= 4) and all(item.clock != command.clock for item in before)


def open_rows(commands: Iterable[Command]) -> dict[int, int]:
    """The open row of each bank after the commands, in order."""
    rows: dict[int, int] = {}
    for command in commands:
        if command.name == "ACT":
            assert command.bank not in rows, "activates a bank that has an open row"
            rows[command.bank] = command.row
        elif command.name == "PRE":
            del rows[command.bank]
        elif command.name == "PREA":
            rows.clear()
        elif command.name == "REF":
            assert not rows, "refreshes while a row is open"
        else:
            assert rows.get(command.bank) == command.row, "reads or writes a row that is not open"
    return rows


def starts(address: int, loops: list[tuple[int, int]]) -> list[int]:
    """Where each row begins, in the order in which they are moved: `loops` are innermost first."""
    found = [address]
    for count, pitch in loops:
        found = [start + i * pitch for i in range(count) for start in found]
    return found


def bursts(address: int, length: int, loops: list[tuple[int, int]], size: int) -> list[int]:
    """Byte by byte; what two rows after another share is moved once."""
    result: list[int] = []
    for start in starts(address, loops):
        for byte in range(start, start + length):
            if not result or (result[-1] != byte // size):
                result.append(byte // size)
    return result


@dataclass
class Entry:
    """A burst in the queue, or (burst -1) a refresh."""

    name: str
    burst: int
    write: bool = False
    seen: int = 0
    ready: int = 0
    moving: int = 0
    last: bool = False
    accessed: bool = False
    arrives: int = 1 << 60
    free: int = 1 << 60


class Dram:
    """`step` runs one cycle of the accelerator, the DRAM's clocks in it included."""

    def __init__(self, timings: DramTimings, clock_mhz: float, width: int, burst_beats: int) -> None:
        self.t, self.ratio = timings, Fraction(timings.mhz) / Fraction(clock_mhz)
        self.width = width
        self.grant = max(1, burst_beats * width // timings.burst_bytes)
        self.requests: dict[str, tuple[list[int], int, int]] = {}  # bursts left, cycles of each, seen
        self.holder, self.left = "", 0
        self.way = self.back = self.clock = 0
        self.entries: list[Entry] = []
        self.arriving: list[Entry] = []
        self.queue: list[Entry] = []
        self.returning: list[Entry] = []
        self.log: list[Command] = []

    def ask(self, name: str, address: int, length: int, loops: list[tuple[int, int]], banks: int, seen: int) -> None:
        """Each burst's words of the bus are moved as often as banks take them."""
        moving = len({(byte // self.width, byte % self.width // banks) for byte in range(self.t.burst_bytes)})
        self.requests[name] = (bursts(address, length, loops, self.t.burst_bytes), moving, seen)

    def step(self, cycle: int) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
        """(whose request was granted whole, from which cycle the next may be seen), (whose data are through, when)."""
        taken, done = [], []
        while self.entries and self.entries[0].free <= cycle:
            self.entries.pop(0)
        asking = [name for name in ("fetch", "load", "store") if name in self.requests]
        asking = [name for name in asking if self.requests[name][2] <= cycle]
        if self.left:
            asking = [name for name in asking if name == self.holder]
        if asking and self.way <= cycle and len(self.entries) < ENTRIES:
            name = min(asking, key=lambda name: self.requests[name][2])
            left, moving, _ = self.requests.pop(name)
            if not self.left:
                self.holder, self.left = name, self.grant
            self.left -= 1
            write = name == "store"
            self.way = cycle + (moving if write else 1)
            seen = math.ceil((cycle + 1) * self.ratio)
            entry = Entry(name, left[0], write, seen, math.ceil(self.way * self.ratio), moving, len(left) == 1)
            self.entries.append(entry)
            self.arriving.append(entry)
            if len(left) > 1:
                self.requests[name] = (left[1:], moving, self.way)
            else:
                self.left = 0
                taken.append((name, self.way))
                if write:
                    done.append((name, self.way))
        while self.clock < (cycle + 1) * self.ratio:
            self.tick(self.clock)
            self.clock += 1
        while self.returning and self.back <= cycle and self.returning[0].arrives <= cycle:
            entry = self.returning.pop(0)
            entry.free = self.back = cycle + entry.moving
            if entry.last:
                done.append((entry.name, self.back))
        return taken, done

    def tick(self, clock: int) -> None:
        """One clock of the DRAM: at most one command."""
        if clock and clock % self.t.refi == 0:
            self.queue.append(Entry("refresh", -1))
        self.queue += [entry for entry in self.arriving if entry.seen == clock]
        self.arriving = [entry for entry in self.arriving if entry.seen > clock]
        rows = open_rows(self.log)
        recent = self.log[-64:]
        activating, later = False, dict(rows)  # the rows that will be open when the older entries have been served
        busy: set[int] = set()
        for number, entry in enumerate(self.queue):
            if entry.burst < 0:
                if number == 0:
                    command = Command(clock, "PREA" if rows else "REF", -1, -1)
                    if allowed(command, recent, self.t):
                        self.log.append(command)
                        if command.name == "REF":
                            self.queue.pop(0)
                return
            group = entry.burst % self.t.bank_groups
            line = entry.burst // self.t.bank_groups // (self.t.row_bytes // self.t.burst_bytes)
            row, inner = divmod(line, self.t.banks_per_group)
            bank = group + self.t.bank_groups * (inner ^ row % self.t.banks_per_group)
            command = None
            if bank not in busy:
                if rows.get(bank) == row:
                    if number == 0 and (not entry.write or clock >= entry.ready):
                        command = Command(clock, "WR" if entry.write else "RD", bank, row)
                elif bank in rows:
                    command = Command(clock, "PRE", bank, rows[bank])
                elif not activating:
                    command = Command(clock, "ACT", bank, row)
            if later.get(bank) != row:
                activating = True
            later[bank] = row
            busy.add(bank)
            if command is not None and allowed(command, recent, self.t):
                self.log.append(command)
                if command.name in ("RD", "WR"):
                    self.queue.pop(0)
                    pins = clock + (self.t.cwl if entry.write else self.t.cl) + self.t.burst
                    entry.arrives = math.ceil(pins / self.ratio)
                    if entry.write:
                        entry.free = entry.arrives
                    else:
                        self.returning.append(entry)
                return
