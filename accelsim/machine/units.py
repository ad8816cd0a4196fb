"""The units as processes: each reads as its own story. The machine's clock starts at 0 with empty queues."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import simpy

from accelsim.errors import MachineError
from accelsim.hardware import Accelerator
from accelsim.isa import INSTRUCTION_BYTES, Instruction, Unit, Units
from accelsim.isa.instructions.transfer import TransferInstruction
from accelsim.isa.units import ON_CHIP, buffer_of
from accelsim.limits import over
from accelsim.machine.array.timing import late_tokens
from accelsim.machine.dram.bus import Bus, Ending, Lines, Requester, Rows
from accelsim.machine.dram.l2 import arbiter_of
from accelsim.machine.post.timing import LATE

from .clock import Ledger, Process, Queue, Tokens
from .instructions import occupancy, semantics_of
from .occupancy import Occupancy

#: The units as results call them.
NAMES = {unit: unit.label for unit in Unit}
#: Sets of units are plain numbers here: Python takes long to intersect flags.
_members = cache(lambda units: Units(units).members())
_LEDGERS = {requester: requester.name.lower() for requester in Requester}
_ROOM = {unit: f"room in the queue of {name}" for unit, name in NAMES.items()}

#: What a semaphore's register holds at most.
SEMAPHORE_LIMIT = (1 << 16) - 1


@dataclass(frozen=True)
class Span:
    """One instruction's run: its unit worked on it in cycles start..end - 1."""

    index: int
    unit: str
    layer: str
    start: int
    end: int


class Machine:
    """The state that the processes share, and the processes. `instructions` are the decoded words at `code`.

    Running them raises MachineError for a run of more than `most_cycles`.
    """

    def __init__(
        self,
        env: simpy.Environment,
        accelerator: Accelerator,
        instructions: tuple[Instruction, ...],
        code: int,
        most_cycles: int,
    ) -> None:
        self.env = env
        self.most_cycles = most_cycles
        self.accelerator = accelerator
        self.instructions = instructions
        self.code = code
        depth = accelerator.queues.depth
        self.beyond = accelerator.beyond
        self.latency_cause = "dram_latency" if accelerator.l2 is None else "l2_latency"
        self.bus = Bus(env, arbiter_of(accelerator))
        self.words = Queue(env, depth)
        self.queues = {unit: Queue(env, depth) for unit in Unit}
        self.semaphores = {(a, b): Tokens(env) for a in Unit for b in Unit}
        self.banks = {memory: buffer_of(memory, accelerator).banks for memory in ON_CHIP}
        self.ledgers = {name: Ledger() for name in ("fetch", *(NAMES[unit] for unit in Unit))}
        self.spans: dict[int, tuple[int, int]] = {}
        self.issued: dict[int, int] = {}  # when the last vector of a compute instruction has entered its unit
        self.opened: dict[int, int] = {}  # when a compute instruction had all of its tokens
        self.lines: dict[int, Lines] = {}  # what an instruction, its own word included, found in the L2
        self.waiting: dict[str, tuple[int, str]] = {}  # unit: (instruction, what it waits for)
        self.blocked: list[tuple[int, int]] = []  # when the dispatcher found a queue full
        self.halted = False

    def processes(self) -> tuple[Process[None], ...]:
        """Everything that runs at once."""
        units: Mapping[Unit, Process[None]] = {
            Unit.LOAD: self.load(),
            Unit.MAC: self.compute(Unit.MAC, late_tokens(self.accelerator)),
            Unit.POST: self.compute(Unit.POST, LATE),
            Unit.STORE: self.store(),
        }
        return (self.prefetch(), self.dispatch(), *(units[unit] for unit in Unit))

    # The fetcher: one process asks for the words, one hands them out.

    def prefetch(self) -> Process[None]:
        """Ask for the words in order, while the buffer has room for what is on its way."""
        beyond, space, now = self.beyond, self.words.space, 0
        for index in range(len(self.instructions)):
            if space.is_empty():
                yield space.next_put()
            now = space.take(now)
            self._charge_fetcher(now)
            address = self.code + index * INSTRUCTION_BYTES
            word = (address, INSTRUCTION_BYTES, ())
            moved = yield from self._move(Requester.FETCH, index, now, word, beyond.bytes_per_cycle)
            self.words.put(index, moved.end + beyond.latency)
            now = moved.free - 1

    def _charge_fetcher(self, now: int) -> None:
        """The fetcher asked for nothing since it was charged last: a queue had no room, or DRAM still owed words."""
        ledger = self.ledgers["fetch"]
        full = 0
        for start, stop in reversed(self.blocked):
            if stop <= ledger.charged_until:
                break
            full += max(0, min(stop, now) - max(start, ledger.charged_until))
        ledger.charge(self.latency_cause, now - full)
        ledger.charge("queue_full", now)

    def dispatch(self) -> Process[None]:
        """Hand the words to the units' queues, one a cycle and in order, until `halt`."""
        now = 0
        while True:
            if self.words.is_empty():
                yield self.words.next_put()
            index, now = self.words.head(now)
            unit = self.instructions[index].unit
            if unit is None:
                self._charge_fetcher(now)
                self.ledgers["fetch"].charge("busy", now + 1)
                self.spans[index] = (now, now + 1)
                self.halted = True
                return
            queue = self.queues[unit]
            if queue.space.is_empty():
                self.waiting["fetch"] = (index, _ROOM[unit])
                yield queue.space.next_put()
                del self.waiting["fetch"]
            start = queue.space.take(now)
            if start > now:
                self.blocked.append((now, start))
            queue.put(index, start + 1)
            self.words.free(start)
            now = start + 1

    # The units that work for a time which the instruction alone decides.

    def compute(self, unit: Unit, late: Units) -> Process[None]:
        """MAC or post: take an instruction, wait for its tokens, work, signal; the next may start while it drains.

        Tokens of the unit `late`, if any, are waited for after the start.
        """
        ledger = self.ledgers[NAMES[unit]]
        held = "wait_" + "".join(NAMES[other] for other in _members(int(late)))
        now, begun, before, later = 0, 0, Occupancy(0, 0, 0, 0), int(late)
        while True:
            index, instruction, start = yield from self._next(unit, now, late=later)
            opened = start
            if sources := int(instruction.wait) & later:
                opened = yield from self._tokens(unit, index, sources, start, charged=False)
            self.opened[index] = opened
            work = occupancy(instruction, self.accelerator, before.since(start - begun), opened - start)
            for cause, cycles in work.phases(held):
                ledger.charge(cause, ledger.charged_until + cycles)
            self.issued[index] = start + work.issue
            self._complete(index, instruction, start, start + work.cycles)
            now, begun, before = start + work.free, start, work

    # The units that move rows between DRAM and the scratchpads.

    def load(self) -> Process[None]:
        """Ask for an instruction's bursts; its data land a latency later, while the next one asks for its own."""
        latency = self.beyond.latency
        flying = Tokens(self.env, self.accelerator.queues.depth)
        now = 0
        while True:
            index, instruction, start = yield from self._next(Unit.LOAD, now, flying)
            moved = yield from self._move(Requester.LOAD, index, start, *self._rows(instruction))
            flying.put(moved.end + latency)
            self._complete(index, instruction, start, moved.end + latency)
            now = moved.free - 1

    def store(self) -> Process[None]:
        """Ask for an instruction's bursts; it is complete with the last beat."""
        now = 0
        while True:
            index, instruction, start = yield from self._next(Unit.STORE, now)
            moved = yield from self._move(Requester.STORE, index, start, *self._rows(instruction))
            self._complete(index, instruction, start, moved.end)
            now = moved.free - 1

    def _rows(self, instruction: Instruction) -> tuple[Rows, int]:
        """Rows of a transfer, and how many bytes of a beat the scratchpad's banks take in a cycle."""
        rows = semantics_of(instruction).rows
        assert rows is not None
        assert isinstance(instruction, TransferInstruction)
        return rows(instruction), self.banks[instruction.scratchpad]

    def _move(self, requester: Requester, index: int, now: int, rows: Rows, part: int) -> Process[Ending]:
        """Ask in cycle `now` for the bus for `rows` of an instruction; returns how that ends, charged up to there.

        The unit asks again in the cycle before `free` at the earliest, so that the request is seen in that one.
        """
        ledger = self.ledgers[_LEDGERS[requester]]
        ledger.charge("request", now + 1)
        moved: Ending = yield self.bus.transfer(requester, rows, part, now)
        if self.accelerator.l2 is not None:
            self.lines[index] = self.lines.get(index, Lines()).plus(moved.lines)
        for cause, cycles in moved.waits:
            ledger.charge(cause, ledger.charged_until + cycles)
        ledger.charge("dram_contention", moved.end - moved.conflicts - moved.beats)
        ledger.charge("bank_conflict", moved.end - moved.beats)
        ledger.charge("busy", moved.end)
        return moved

    # What all units do around their work.

    def _next(
        self, unit: Unit, now: int, flying: Tokens | None = None, late: int = 0
    ) -> Process[tuple[int, Instruction, int]]:
        """The next instruction of the queue, and the cycle in which it starts: from `now` on, as soon as its tokens
        but the `late` ones (and a place among the loads in flight) are there."""
        queue, ledger = self.queues[unit], self.ledgers[NAMES[unit]]
        if queue.is_empty():
            yield queue.next_put()
        index, now = queue.head(now)
        instruction = self.instructions[index]
        ledger.charge("fetch", now)
        if sources := int(instruction.wait) & ~late:
            now = yield from self._tokens(unit, index, sources, now)
        if flying is not None:
            if flying.is_empty():
                yield flying.next_put()
            now = flying.take(now)
            ledger.charge(self.latency_cause, now)
        queue.free(now)
        return index, instruction, now

    def _tokens(self, unit: Unit, index: int, sources: int, now: int, charged: bool = True) -> Process[int]:
        """Take a token of each of the units `sources`, in order; returns the cycle in which all are taken."""
        name = NAMES[unit]
        for source in _members(sources):
            other = NAMES[source]
            self.waiting[name] = (index, other)
            tokens = self.semaphores[source, unit]
            if tokens.is_empty():
                yield tokens.next_put()
            now = tokens.take(now)
            if charged:
                self.ledgers[name].charge("wait_" + other, now)
        self.waiting.pop(name, None)
        return now

    def _complete(self, index: int, instruction: Instruction, start: int, end: int) -> None:
        """Write down when the instruction ran, and put its tokens, to be seen when it has ended."""
        assert instruction.unit is not None
        if end > self.most_cycles:
            raise MachineError(over("cycles", end, self.most_cycles, f"the run up to the end of instruction {index}"))
        self.spans[index] = (start, end)
        for target in _members(int(instruction.signal)):
            self.semaphores[instruction.unit, target].put(end)
