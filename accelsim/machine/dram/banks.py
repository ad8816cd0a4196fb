"""DRAM with banks: an in-order controller that prepares rows ahead, and the pins behind it.

The controller works by the DRAM's clock, one command a clock. Bursts enter its queue in the order of the arbiter's
grants. The oldest burst that has a command which all timings allow has it sent: precharge and activate for the row that
it needs, as soon as no older burst needs the bank's open row; read and write in the order of the queue, activates too.
A refresh takes its place in the queue when it is due: it waits for the bursts before it, closes all rows and holds up
those behind.

Since a burst's commands depend on older bursts alone, they are decided one burst after the other, without a clock.

Burst b lies in bank group `b mod groups`; what remains is, from the low end, the column, the bank, the row. The bank's
bits are inverted where the row's lowest ones are set (permutation-based page interleaving: Zhang, Zhu and Zhang, MICRO
2000), so that streams which run in step, instructions and what they load, do not meet in bank after bank. A stream
changes bank group with every burst and row once in `groups * row_bytes`.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from accelsim.hardware import Accelerator
from accelsim.hardware.dram_timings import DramTimings

from .bus import Ending, Requester, Rows, cycles_of, starts_of
from .grants import ENTRIES, Granted, Grants

_LONG_AGO = -(1 << 40)

#: Bursts of a request that is kept for the next one like it.
_FEW = 1 << 13


class Command(NamedTuple):
    """A command at a clock of the DRAM. `name`: PRE, ACT, RD, WR, or for all banks (bank -1) PREA, REF."""

    clock: int
    name: str
    bank: int
    row: int


class Controller:
    """Banks, rows and pins. Bank `g + groups * b` is bank b of group g. `log` gets every command, burst by burst."""

    def __init__(self, timings: DramTimings, log: list[Command] | None = None) -> None:
        self.timings, self.log = timings, log
        groups, banks = timings.bank_groups, timings.bank_groups * timings.banks_per_group
        self._columns = timings.row_bytes // timings.burst_bytes
        self._open = [-1] * banks
        self._may_activate = [0] * banks
        self._may_access = [0] * banks
        self._may_precharge = [0] * banks
        self._activates: deque[int] = deque([_LONG_AGO] * 4, 4)
        self._group_activate = [_LONG_AGO] * groups
        # The last column command of each kind: of any group, and of each.
        self._last = {False: _LONG_AGO, True: _LONG_AGO}
        self._group_last = {False: [_LONG_AGO] * groups, True: [_LONG_AGO] * groups}
        self._taken: set[int] = set()
        self._due = timings.refi

    def place(self, burst: int) -> tuple[int, int, int]:
        """(group, bank, row) of a burst."""
        timings = self.timings
        above, group = divmod(burst, timings.bank_groups)
        row, inner = divmod(above // self._columns, timings.banks_per_group)
        return group, group + timings.bank_groups * (inner ^ row % timings.banks_per_group), row

    def serve(self, burst: int, write: bool, seen: int, ready: int) -> tuple[int, int]:
        """Decide the commands of the next burst, in the queue from clock `seen`; written data are there at `ready`.

        Returns the clock after its data on the pins, and the clocks by which its row made that later.
        """
        timings = self.timings
        while self._due <= seen:
            self._refresh()
            if self.log is None:
                # Of the refreshes of a long rest the last ones alone matter: all rows are closed.
                self._due += max(0, (seen - self._due) // timings.refi - 1) * timings.refi
        group, bank, row = self.place(burst)
        if len(self._taken) > 4 * ENTRIES:
            self._taken = {clock for clock in self._taken if clock >= seen}
        if self._open[bank] != row:
            if self._open[bank] >= 0:
                precharge = self._send(max(seen, self._may_precharge[bank]), "PRE", bank, self._open[bank])
                self._may_activate[bank] = precharge + timings.rp
            earliest = max(
                seen,
                self._may_activate[bank],
                self._activates[-1] + timings.rrd_s,
                self._group_activate[group] + timings.rrd_l,
                self._activates[0] + timings.faw,
            )
            activate = self._send(earliest, "ACT", bank, row)
            self._activates.append(activate)
            self._group_activate[group] = activate
            self._open[bank] = row
            self._may_access[bank] = activate + timings.rcd
            self._may_precharge[bank] = activate + timings.ras
        same, same_group = self._last[write], self._group_last[write][group]
        earliest = max(ready, same + max(timings.ccd_s, timings.burst), same_group + timings.ccd_l)
        if write:
            earliest = max(earliest, self._last[False] + timings.read_to_write)
        else:
            written = timings.cwl + timings.burst
            earliest = max(
                earliest,
                self._last[True] + written + timings.wtr_s,
                self._group_last[True][group] + written + timings.wtr_l,
            )
        access = self._send(max(earliest, self._may_access[bank]), "WR" if write else "RD", bank, row)
        self._last[write] = self._group_last[write][group] = access
        end = access + (timings.cwl if write else timings.cl) + timings.burst
        closing = end + timings.wr if write else access + timings.rtp
        self._may_precharge[bank] = max(self._may_precharge[bank], closing)
        return end, access - earliest

    def _refresh(self) -> None:
        """The refresh that is due: all rows closed, all banks held up."""
        timings = self.timings
        last = max(*self._last.values(), self._activates[-1])
        start = max(self._due, last + 1)
        if any(row >= 0 for row in self._open):
            closing = [allowed for allowed, row in zip(self._may_precharge, self._open, strict=True) if row >= 0]
            precharge = self._send(max(start, *closing), "PREA", -1, -1)
            start = precharge + timings.rp
        start = self._send(max(start, *self._may_activate), "REF", -1, -1)
        self._open = [-1] * len(self._open)
        self._may_activate = [start + timings.rfc] * len(self._open)
        self._due += timings.refi

    def _send(self, earliest: int, name: str, bank: int, row: int) -> int:
        """The first clock from `earliest` on in which no older burst has a command."""
        while earliest in self._taken:
            earliest += 1
        self._taken.add(earliest)
        if self.log is not None:
            self.log.append(Command(earliest, name, bank, row))
        return earliest


@dataclass(slots=True)
class BankedTransfer(Granted[int]):
    """The bursts of a request, `moving` cycles each. `row` and `latency`: what its requester has waited so far."""

    moving: int = field(kw_only=True)
    row: int = 0
    latency: int = 0


class BankedArbiter(Grants[BankedTransfer]):
    """The way to the controller and back: grants in order of request, whole bursts, `ENTRIES` of them on their way.

    A read takes one cycle of the way there, a write as long as its data take; read data come back in order of grant, in
    beats of the bus, when all of a burst has arrived from the pins. A burst's entry is free again when its data have
    left and so have those of the bursts before it.
    """

    def __init__(self, controller: Controller, ratio: Fraction, width: int, burst_beats: int) -> None:
        size = controller.timings.burst_bytes
        super().__init__(max(1, burst_beats * width // size))
        self.controller = controller
        self._clocks, self._cycles = ratio.numerator, ratio.denominator
        self._width, self._beats = width, cycles_of(0, size, (), width, width)
        # Of each entry, in order: the cycles that its row cost.
        self._rows: deque[int] = deque([0] * ENTRIES, ENTRIES)
        # Of the last burst: whose it is, when it was granted, when its data had arrived.
        self._before: tuple[Requester | None, int, int] = (None, 0, 0)

    @classmethod
    def of(cls, accelerator: Accelerator) -> BankedArbiter | None:
        """The accelerator's, None where its DRAM is flat."""
        dram = accelerator.dram
        if dram.timings is None:
            return None
        ratio = dram.timings.mhz / Fraction(accelerator.clock_mhz).limit_denominator(1000)
        return cls(Controller(dram.timings), ratio, dram.bytes_per_cycle, dram.burst_beats)

    def ask(self, requester: Requester, rows: Rows, part: int, seen: int) -> None:
        size = self.controller.timings.burst_bytes
        moving = cycles_of(0, size, (), self._width, part)
        self._wait(BankedTransfer(requester, bursts_of(*rows, size), seen, moving=moving))

    def _ending(self, item: BankedTransfer, granted: int, end: int) -> Ending:
        beats = len(item.pieces) * self._beats
        conflicts = len(item.pieces) * item.moving - beats
        waits = (("dram_row", item.row), ("dram_latency", item.latency))
        return Ending(item.requester, granted, self._way, end, beats, conflicts, waits)

    def _serve(self, item: BankedTransfer, granted: int) -> int:
        """One burst, granted in that cycle; returns the cycle after its last beat."""
        write = item.requester == Requester.STORE
        self._way = item.asked = granted + (item.moving if write else 1)
        seen, ready = self._clock(granted + 1), self._clock(self._way)
        pins, late = self.controller.serve(item.pieces[item.next], write, seen, max(seen, ready))
        arrived, row = self._cycle(pins), self._cycle(late)
        owner, _, before = self._before
        if write:
            first, end, held = granted, self._way, self._rows[0]
            before = self._before[1]
        else:
            first = max(self._back, arrived)
            self._back = end = first + item.moving
            held = row
        waited = first - self._charged[item.requester]
        others = 0 if owner == item.requester else min(max(before - self._charged[item.requester], 0), waited)
        rows = min(held, waited - others)
        item.row += rows
        item.latency += waited - others - rows
        self._charged[item.requester] = end
        self._entries.append(arrived if write else end)
        self._rows.append(row)
        self._before = item.requester, self._way, end if not write else arrived
        return end

    def _clock(self, cycle: int) -> int:
        """The DRAM's first clock edge at or after a cycle's."""
        return -(-cycle * self._clocks // self._cycles)

    def _cycle(self, clock: int) -> int:
        """The first cycle's edge at or after a clock's."""
        return -(-clock * self._cycles // self._clocks)


def bursts_of(address: int, length: int, loops: tuple[tuple[int, int], ...], size: int) -> list[int]:
    """The bursts that rows lie in, in order; one that a row ends in and the next begins in counts once."""
    loops = tuple((count, pitch) for count, pitch in loops if count > 1)
    # Only short lists are worth keeping: as many long ones would take all the memory there is.
    few = math.prod(count for count, _ in loops) * (length // size + 2) <= _FEW
    return (_kept_bursts if few else _bursts)(address, length, loops, size)


def _bursts(address: int, length: int, loops: tuple[tuple[int, int], ...], size: int) -> list[int]:
    starts = starts_of(address, loops)
    first, last = starts // size, (starts + length - 1) // size
    first[1:] += first[1:] == last[:-1]
    counts = np.maximum(last - first + 1, 0)
    offsets = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    bursts: list[int] = (np.repeat(first, counts) + offsets).tolist()
    return bursts


_kept_bursts = lru_cache(maxsize=256)(_bursts)
