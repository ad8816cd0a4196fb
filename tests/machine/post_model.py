"""The post unit, clocked: ports that serve a bank once a cycle, two sets of constants, a pipeline behind the slots.

The witness of the closed forms of `accelsim/machine/post/timing.py`. The control knows what its registers hold: which
set of constants is full, how far the vectors have come, which results are still on their way.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from accelsim.hardware import Accelerator
from accelsim.isa import REQUANTIZATIONS, Add, AddFixed, Instruction, Lookup, Multiply, Pool
from accelsim.isa.instructions.elementwise import Maximum
from accelsim.isa.instructions.requantization import RequantInstruction
from accelsim.isa.instructions.vector import Vector

from .array_cells import Turns


@dataclass
class Chunk:
    """Accesses that fill a set of constants (or the table), then slots: what each reads and writes at once."""

    constants: list[list[int]]
    slots: list[tuple[list[int], list[int], list[int]]]  # accumulators, activations read, activations written


@dataclass
class Log:
    """By instruction: its start, when its last slot ended, when the next one could start, its last result's cycle."""

    start: list[int] = field(default_factory=list)
    issue: list[int] = field(default_factory=list)
    free: list[int] = field(default_factory=list)
    end: list[int] = field(default_factory=list)
    slots: list[int] = field(default_factory=list)


def chunks_of(instruction: Instruction, accelerator: Accelerator) -> list[Chunk]:
    """The loops of one instruction, address by address."""
    return CHUNKS[type(instruction)](instruction, accelerator)


def _lines(instruction: Any, accelerator: Accelerator, reads: int = 2) -> list[Chunk]:
    """Rows of elements, each vector of which takes `reads` accesses."""
    return [Chunk([], _slots(instruction.lines, instruction.length, reads, accelerator.vector_unit.lanes))]


def _lookup(lookup: Any, accelerator: Accelerator) -> list[Chunk]:
    (chunk,) = _lines(lookup, accelerator, 1)
    return [Chunk([list(range(lookup.table, lookup.table + 256))], chunk.slots)]


def _pool(pool: Any, accelerator: Accelerator) -> list[Chunk]:
    reads = pool.kernel_height * pool.kernel_width
    return [Chunk([], _slots(pool.pixels, pool.channels, reads, accelerator.vector_unit.lanes))]


def _slots(rows: int, length: int, reads: int, lanes: int) -> list[tuple[list[int], list[int], list[int]]]:
    slots: list[tuple[list[int], list[int], list[int]]] = []
    for _ in range(rows):
        for first in range(0, length, lanes):
            taken = list(range(min(lanes, length - first)))
            slots += [([], taken, [])] * (reads - 1) + [([], taken, taken)]
    return slots


def _requantization(tile: RequantInstruction, accelerator: Accelerator) -> list[Chunk]:
    result, lanes = [], accelerator.requant_unit.lanes
    unroll_pixels = max(lanes // tile.channels, 1)
    for first in range(0, tile.channels, lanes):
        channels = range(first, min(first + lanes, tile.channels))
        constants = [
            [tile.parameters + 4 * (plane * tile.channels + c) + byte for c in channels for byte in range(4)]
            for plane in range(tile.planes)
        ]
        slots = []
        for line in range(tile.images * tile.out_height):
            image, y = divmod(line, tile.out_height)
            for left in range(0, tile.out_width, unroll_pixels):
                pixels = range(left, min(left + unroll_pixels, tile.out_width))
                words = [
                    tile.accumulator + (line * tile.out_width + x) * (tile.channels + tile.accumulator_gap) + c
                    for x in pixels
                    for c in channels
                ]
                out = tile.out + image * tile.image_pitch + y * tile.line_pitch
                slots.append((words, [], _bytes(tile, out, pixels, channels)))
        result.append(Chunk(constants, slots))
    return result


def _vector(vector: Vector, accelerator: Accelerator) -> list[Chunk]:
    """A slot a cycle of the program or an operand, and turns of so many vectors as a step has cycles of latency."""
    unit = accelerator.vector_unit
    lanes, slots = unit.lanes, max(vector.cycles, len(vector.operands))
    if vector.statistic:
        lanes = min(lanes, 64)  # partial sums: vectors to the next addition to the same one, of `slots` cycles each
        while 64 * slots < unit.latency * lanes:
            slots += 1
    found: list[tuple[list[int], list[int], list[int]]] = []
    turns = 0
    for outer in range(vector.outer):
        for inner in range(vector.inner):
            for first in range(0, vector.length, lanes):
                taken = range(first, min(first + lanes, vector.length))

                def places(rows: Any, elements: Any, outer: int = outer, inner: int = inner) -> list[int]:
                    start = rows.address + outer * rows.outer + inner * rows.inner
                    every = elements if rows.pitch else elements[:1]
                    return [start + i * rows.pitch + byte for i in every for byte in range(rows.element.bytes)]

                each: list[tuple[list[int], list[int], list[int]]] = [
                    ([], places(rows, taken), []) for rows in vector.operands
                ]
                each += [([], [], [])] * (slots - len(each))
                if not vector.statistic:
                    each[-1] = ([], each[-1][1], places(vector.result, taken))
                elif taken[-1] == vector.length - 1:
                    each[-1] = ([], each[-1][1], places(vector.result._replace(pitch=0), taken))
                found += each
                turns += 1
    while turns % unit.latency:
        found += [([], [], [])] * slots
        turns += 1
    return [Chunk([list(range(vector.program, vector.program + 16 * vector.steps))] if vector.steps else [], found)]


def _bytes(tile: RequantInstruction, out: int, pixels: range, channels: range) -> list[int]:
    """Where the results of a vector go, four bytes each where they are binary32 numbers."""
    each = 4 if getattr(tile, "real", 0) else 1
    return [out + x * tile.pixel_pitch + each * c + i for x in pixels for c in channels for i in range(each)]


#: The loops of each instruction of the post unit.
CHUNKS: dict[type[Instruction], Callable[[Any, Accelerator], list[Chunk]]] = {
    **dict.fromkeys(REQUANTIZATIONS.values(), _requantization),
    **dict.fromkeys((Add, AddFixed, Multiply, Maximum), _lines),
    Lookup: _lookup,
    Pool: _pool,
    Vector: _vector,
}


@dataclass
class Waiting:
    """A chunk of an instruction that has started, whose vectors have not begun to pass."""

    instruction: int
    chunk: Chunk
    last: bool


class Unit:
    """What one cycle after the other does with the registers."""

    def __init__(
        self,
        accelerator: Accelerator,
        instructions: Sequence[Instruction],
        arrivals: Sequence[int],
        opened: Sequence[int],
    ) -> None:
        buffers = accelerator.buffers
        self.accelerator, self.instructions = accelerator, instructions
        self.arrivals, self.opened = arrivals, opened
        self.log = Log()
        self.parameter = Turns(buffers.parameter.banks)
        self.ports = [
            Turns(buffers.accumulator.banks),
            Turns(buffers.activation.banks),
            Turns(buffers.activation.banks),
        ]
        self.ahead: deque[Waiting] = deque()
        self.constants: deque[list[int]] = deque()  # accesses still to ask for
        self.loading = self.full = False  # the spare set of registers
        self.slots: deque[tuple[list[int], list[int], list[int]]] = deque()
        self.busy = self.last = False
        self.began = self.passing = 0  # the instruction whose vectors began to pass last, and whose slot it is
        self.written = 0  # when all results on their way will be in memory

    def step(self, cycle: int) -> None:
        if self.busy and not any(self.ports):
            self._slot_ends(cycle)
        self._accept(cycle)
        self._load()
        if self.full and not self.busy:
            self._begin(cycle)
            self._load()
        if not self.busy and self.slots:
            for port, addresses in zip(self.ports, self.slots.popleft(), strict=True):
                port.ask(addresses)
            self.busy = True
            self.passing = self.began
            self.log.slots[-1] += 1
        for port in (self.parameter, *self.ports):
            port.tick()

    def _slot_ends(self, cycle: int) -> None:
        self.busy = False
        self.written = cycle + self._latency()
        if self.last and not self.slots:
            self.log.issue.append(cycle)
            self.log.end.append(self.written)

    def _latency(self) -> int:
        """Cycles from a slot to what it writes; six levels of adders stand before a statistic."""
        instruction, latency = self.instructions[self.passing], self.accelerator.requant_unit.latency
        summed = isinstance(instruction, Vector) and instruction.statistic
        return latency + (6 * self.accelerator.vector_unit.latency if summed else 0)

    def _accept(self, cycle: int) -> None:
        index = len(self.log.start)
        if index == len(self.instructions) or self.ahead or self.arrivals[index] > cycle:
            return
        if index and self.log.free[-1] > cycle:
            return
        self.log.start.append(cycle)
        chunks = chunks_of(self.instructions[index], self.accelerator)
        self.ahead.extend(Waiting(index, chunk, chunk is chunks[-1]) for chunk in chunks)

    def _load(self) -> None:
        """Fill the spare set of constants. There is but one table: it waits for the vectors that use it."""
        if self.ahead and not self.full and not self.loading:
            item = self.ahead[0]
            if not (isinstance(self.instructions[item.instruction], Lookup | Vector) and (self.busy or self.slots)):
                self.constants.extend(item.chunk.constants)
                self.loading = True
        if self.loading and not self.parameter:
            if self.constants:
                self.parameter.ask(self.constants.popleft())
            else:
                self.loading, self.full = False, True

    def _begin(self, cycle: int) -> None:
        """The next chunk's vectors may pass, if there are no others and what they read is there."""
        item = self.ahead[0]
        reads_activations = not isinstance(self.instructions[item.instruction], RequantInstruction)
        if self.slots or cycle < self.opened[item.instruction] or (reads_activations and cycle < self.written):
            return
        self.ahead.popleft()
        self.slots.extend(item.chunk.slots)
        self.began = item.instruction
        self.last, self.full = item.last, False
        if len(self.log.slots) <= item.instruction:
            self.log.slots.append(0)
        if item.last:
            self.log.free.append(cycle + 1)


def run(
    accelerator: Accelerator, instructions: Sequence[Instruction], arrivals: Sequence[int], opened: Sequence[int]
) -> Log:
    """Run instructions that arrive in the given cycles and may read more than constants from the cycles `opened` on."""
    unit = Unit(accelerator, instructions, arrivals, opened)
    for cycle in range(1_000_000):
        if len(unit.log.end) == len(instructions):
            return unit.log
        unit.step(cycle)
    raise AssertionError("the post unit does not come to an end")
