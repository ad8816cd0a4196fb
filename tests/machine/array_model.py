"""The MAC array, clocked: every register an array element, every cycle a step. The witness of the closed forms.

What is decided in a cycle goes into registers at its end. The control at the edge knows only what its own registers
and counters hold: lanes that still have to be read, weights that are in place, words that a port still owes. What it
sends into the array carries everything that is needed later (addresses, flags); it never looks back.

Cycle by cycle at the edge: the exit control sends its command; the stream control reads for the next vector and, when
that is complete and allowed, puts it into the edge register; the preload control reads; a new instruction starts as
soon as the preload registers are free.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from accelsim.isa import Mac

from .array_cells import NOTHING, AccumulatorPort, Line, OutputCells, Reader, StationaryCells, Turns
from .array_loops import PHASES, Access, Addresses, Machine, Phase, Vector, Write

__all__ = ["Machine", "Run", "run"]


@dataclass
class Run:
    """When each instruction did what, and what it left in the accumulators."""

    start: list[int]
    first: list[int] = field(default_factory=list)
    issue: list[int] = field(default_factory=list)
    free: list[int] = field(default_factory=list)
    end: dict[int, int] = field(default_factory=dict)
    vectors: list[int] = field(default_factory=list)


# What leaves the array: one exit control for each dataflow, deciding at the edge.


class PortExit:
    """Weight stationary: each vector has its results written; the next may enter when the port will have done so."""

    def __init__(self, banks: int) -> None:
        self.owed = Turns(banks)

    def tick(self) -> None:
        self.owed.tick()

    def command(self) -> object:
        return None

    def allows(self, vector: Vector) -> bool:
        return not self.owed

    def entered(self, vector: Vector) -> None:
        assert vector.write is not None
        self.owed.ask(vector.write.addresses)


class QueueExit:
    """A finished fold (or block) waits in `pending` until the one before has sent all of its commands."""

    def __init__(self, banks: int) -> None:
        self.owed = Turns(banks)
        self.sending: deque[tuple[int, Write]] = deque()
        self.pending: tuple[Write, ...] = ()

    def tick(self) -> None:
        self.owed.tick()

    def command(self) -> tuple[int, Write] | None:
        if self.owed:
            return None
        if not self.sending:
            self.sending.extend(enumerate(self.pending))
            self.pending = ()
        if not self.sending:
            return None
        command = self.sending.popleft()
        self.owed.ask(command[1].addresses)
        return command


class TokenExit(QueueExit):
    """Output stationary: the last vector of a fold may enter together with the last token of the fold before."""

    def allows(self, vector: Vector) -> bool:
        return not vector.tokens or not (self.sending or self.pending)

    def entered(self, vector: Vector) -> None:
        self.pending = vector.tokens or self.pending


class TransposerExit(QueueExit):
    """Input stationary: a block may enter once the block before it has its first row on the way out."""

    def allows(self, vector: Vector) -> bool:
        return not vector.first_of_block or not self.pending

    def entered(self, vector: Vector) -> None:
        self.pending = vector.commands or self.pending


# The machine.


def run(
    machine: Machine,
    macs: Sequence[Mac],
    arrivals: Sequence[int],
    opened: Sequence[int],
    activations: np.ndarray,
    weights: np.ndarray,
    accumulators: np.ndarray,
) -> Run:
    """Run instructions that arrive in the given cycles and whose vectors may be read from the cycles `opened` on;
    `accumulators` is written. Memories are arrays of integers."""
    array = Array(machine, activations, weights, accumulators)
    array.opened = opened
    log = Run([])
    limit = 2000 + max(*arrivals, *opened) + 200 * sum(mac.macs for mac in macs)
    while len(log.end) < len(macs):
        array.step(macs, arrivals, log)
        assert array.cycle < limit, "the array does not come to an end"
    assert array.quiet()
    return log


class Array:
    """Edge control, cells, exit. One `step` is one cycle."""

    def __init__(
        self, machine: Machine, activations: np.ndarray, weights: np.ndarray, accumulators: np.ndarray
    ) -> None:
        rows, columns = machine.rows, machine.columns
        self.machine, self.cycle = machine, 0
        self.opened: Sequence[int] = ()
        self.output_stationary = machine.dataflow == "output_stationary"
        self.input_stationary = machine.dataflow == "input_stationary"
        activation_read = Reader(activations, machine.activation_banks, rows)
        weight_read = Reader(weights, machine.weight_banks, rows if self.input_stationary else columns)
        weight_stationary = machine.dataflow == "weight_stationary"
        self.streaming, self.preloading = (
            (activation_read, weight_read) if weight_stationary else (weight_read, activation_read)
        )
        self.port = AccumulatorPort(accumulators, machine.accumulator_banks)
        exits = {"weight_stationary": PortExit, "output_stationary": TokenExit, "input_stationary": TransposerExit}
        self.exit = exits[machine.dataflow](machine.accumulator_banks)
        self.cells = OutputCells(machine) if self.output_stationary else StationaryCells(machine, weight_stationary)
        # Preload control: accesses still to read of the phase at hand, phases that follow it, whether it is all read.
        self.reads: deque[Access] = deque()
        self.number = 0
        self.phases: deque[Phase] = deque()
        self.phase: Phase | None = None
        self.loaded = False
        # Stream control: vectors still to enter.
        self.vectors: deque[tuple[int, Vector, bool]] = deque()
        self.asked = False
        self.complete = False
        # Edge registers.
        self.edge: Vector | None = None
        self.edge_values = np.zeros(self.streaming.width, np.int64)
        self.edge_preload: tuple[int, int | np.ndarray, np.ndarray] | None = None
        self.edge_command: tuple[int, Write] | None = None
        # Transposers: of activations before the array (output stationary), of results behind it (input stationary).
        self.inward = np.zeros((2, rows, rows), np.int64)
        self.filling, self.emptying = 0, 0
        self.outward = np.zeros((2, columns, columns), np.int64)
        self.collecting, self.draining = 1, 1
        # As long as the way through the cells.
        stages = -(-rows // machine.rows_per_stage) + -(-columns // machine.columns_per_stage)
        self.tags = Line(stages - 1)
        self.commands = Line(stages)

    def quiet(self) -> bool:
        """Nothing left in a register that would still do something."""
        return self.edge is None and not self.port.pending and self.tags.empty() and self.commands.empty()

    def step(self, macs: Sequence[Mac], arrivals: Sequence[int], log: Run) -> None:
        edge, values, preload, command = self.edge, self.edge_values, self.edge_preload, self.edge_command
        if edge is not None and edge.first_of_phase and self.output_stationary:
            self.emptying ^= 1
        self._control(macs, arrivals, log)
        done = self._data(edge, values, preload, command)
        if done is not None:
            log.end[done] = self.cycle + 1
        self.cycle += 1

    # Control: decides what the edge registers hold in the next cycle.

    def _control(self, macs: Sequence[Mac], arrivals: Sequence[int], log: Run) -> None:
        self.exit.tick()
        self.edge_command = self.exit.command()
        self.edge = None
        idle = not self.vectors
        self._stream(log)
        if self.phase is None and not self.phases:
            index = len(log.start)
            if index and len(log.free) < index:
                log.free.append(self.cycle)
            if index < len(macs) and arrivals[index] <= self.cycle:
                log.start.append(self.cycle)
                log.vectors.append(0)
                self._accept(macs[index], index)
                if idle:
                    self._stream(log)
        if self.edge_command is None:
            self.edge_command = self.exit.command() if self.input_stationary else None
        self._preload()

    def _accept(self, mac: Mac, index: int) -> None:
        self.phases.extend(PHASES[self.machine.dataflow](Addresses(mac, self.machine), index))
        for phase in self.phases:
            phase.vectors[0].first_of_phase = True
            self.vectors.extend((index, vector, False) for vector in phase.vectors)
        last = self.vectors.pop()
        self.vectors.append((*last[:2], True))

    def _stream(self, log: Run) -> None:
        """Read for the vector at the head; when it is complete and may enter, put it into the edge register."""
        if not self.vectors:
            return
        index, vector, last = self.vectors[0]
        assert vector.access is not None
        if self.cycle < self.opened[index]:
            return
        if not self.asked:
            self.streaming.ask(vector.access)
            self.asked, self.complete = True, False
        self.complete = self.complete or self.streaming.serve()
        if not self.complete or (vector.first_of_phase and not self.loaded) or not self.exit.allows(vector):
            return
        self.edge, self.edge_values = vector, self.streaming.register
        self.exit.entered(vector)
        self.vectors.popleft()
        self.asked = False
        if log.vectors[index] == 0:
            log.first.append(self.cycle + 1)
        log.vectors[index] += 1
        if last:
            log.issue.append(self.cycle + 2)
        if vector.first_of_phase:  # what was preloaded is in use: its place may be filled again
            self.phase, self.loaded = None, False

    def _preload(self) -> None:
        """Read the next access of the phase; what is complete goes to the edge and passes by without waiting."""
        self.edge_preload = None
        if self.phase is None and self.phases:
            self.phase = self.phases.popleft()
            if not self.phase.preload:  # the cycle of an access, without one
                self.loaded = True
                return
            self.reads.extend(self.phase.preload)
            self.number = 0
            self.filling ^= 1
            self.preloading.ask(self.reads.popleft())
        if self.phase is None or self.loaded:
            return
        if self.preloading.serve():
            self.edge_preload = self.filling, self.keepers(), self.preloading.register
            self.number += 1
            if self.reads:
                self.preloading.ask(self.reads.popleft())
            else:
                self.loaded = True

    def keepers(self) -> int | np.ndarray:
        """Who keeps what was read last: the row (column) with the number of the access, or for each lane one row."""
        assert self.preloading.access is not None
        rows = self.preloading.access.rows
        if rows is None:
            return self.number
        kept = np.full(self.preloading.width, NOTHING)
        kept[: len(rows)] = [NOTHING if row is None else row for row in rows]
        return kept

    # Data: one clock of the array with what the edge registers held.

    def _data(
        self,
        edge: Vector | None,
        values: np.ndarray,
        preload: tuple[int, int | np.ndarray, np.ndarray] | None,
        command: tuple[int, Write] | None,
    ) -> int | None:
        if self.output_stationary:
            return self._output_stationary(edge, values, preload, command)
        stream = np.zeros((2, self.machine.rows), np.int64)
        if edge is not None:
            stream[0], stream[1] = values, edge.swap
        passing = np.full((2, self.preloading.width), NOTHING, np.int64)
        if preload is not None:
            _, passing[1], passing[0] = preload
        assert isinstance(self.cells, StationaryCells)
        results = self.cells.step(stream, passing)
        arrived = self.tags.step(edge)
        if not self.input_stationary:
            assert arrived is None or isinstance(arrived, Vector)
            return self.port.step(None if arrived is None else (arrived.write, results))
        leaving = self.commands.step(command)
        work = None
        if leaving is not None:
            pixel, write = leaving
            self.draining ^= pixel == 0
            work = write, self.outward[self.draining, :, pixel]
        done = self.port.step(work)
        if arrived is not None:
            self.collecting ^= arrived.first_of_block
            self.outward[self.collecting, arrived.slot] = results
        return done

    def _output_stationary(
        self,
        edge: Vector | None,
        values: np.ndarray,
        preload: tuple[int, int | np.ndarray, np.ndarray] | None,
        command: tuple[int, Write] | None,
    ) -> int | None:
        stream = np.zeros((3, self.machine.rows), np.int64)
        weights = np.zeros(self.machine.columns, np.int64)
        if edge is not None:
            stream[0] = self.inward[self.emptying, :, edge.column]
            stream[1], stream[2] = edge.clear, bool(edge.tokens)
            weights = values
        assert isinstance(self.cells, OutputCells)
        results = self.cells.step(stream, weights, NOTHING if command is None else command[0])
        arrived = self.tags.step(command)
        if preload is not None:
            transposer, row, elements = preload
            self.inward[transposer, row] = elements
        return self.port.step(None if arrived is None else (arrived[1], results))
