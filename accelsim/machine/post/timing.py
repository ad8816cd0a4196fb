"""How long the post unit takes for one instruction: the closed forms of docs/architecture.md.

A vector is up to `lanes` elements; the result of one is written `latency` cycles after its slot. The unit has two sets
of registers for constants, so the constants of one chunk of channels are read while the chunk before passes; what is
the last chunk of one instruction and the first of the next makes no difference.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

from accelsim.arithmetic.vector import PARTIALS, STEP_BYTES
from accelsim.hardware import Accelerator
from accelsim.hardware.banks import access_cycles
from accelsim.hardware.folds import pieces
from accelsim.isa import Units
from accelsim.machine.occupancy import Occupancy, Times
from accelsim.machine.semantics import Timing

#: The unit whose tokens an instruction needs only when its vectors are read, not for its constants.
LATE = Units.MAC


class Work(NamedTuple):
    """What an instruction has to do, on its memories and on ones without conflicts.

    Cycles: `lead` reads the first chunk's constants (a table), `stream` goes from the first vector's slot to the last
    one's end, the last chunk's vectors take `last` of them. `vectors` are slots without conflicts. `ahead`: the
    constants go to the spare set of registers, so they are read while the instruction before still passes. `tree`:
    cycles from the last vector to what is made of a row, before it takes the way of every result.
    """

    lead: int
    stream: int
    last: int
    vectors: int
    ideal_lead: int
    ideal_stream: int
    ahead: bool
    tree: int = 0


def occupancy_of(work_of: Callable[[Any, Accelerator], Work]) -> Timing:
    """How an instruction that has this work to do fills the cycles of the post unit."""

    def occupancy(instruction: Any, accelerator: Accelerator, before: Times = (), opened: int = 0, /) -> Occupancy:
        work = work_of(instruction, accelerator)
        return _occupancy(work, work.tree + accelerator.requant_unit.latency, before, opened)

    return occupancy


def _occupancy(work: Work, latency: int, before: Times, opened: int) -> Occupancy:
    """`before`: when the last vector of the instruction before had its slot, and when its last result was written.

    The next instruction may start in the cycle after the last chunk began to pass.
    """
    passed, written = (max(time, 0) for time in before or (0, 0))
    # Without a spare set (there is one table), or where the activation buffer is read, all of the instruction before is
    # waited for: what is read may be what it is still about to write.
    begin, free = (0, passed) if work.ahead else (passed, written)
    first, ideal, unhindered = (
        max(begin + work.lead, free, opened),
        max(begin + work.ideal_lead, free, opened),
        max(begin + work.ideal_lead, free),
    )
    issue = first + work.stream
    return Occupancy(
        cycles=issue + latency,
        lead=ideal,
        busy=work.vectors,
        conflict=issue - ideal - work.ideal_stream,
        drain=latency,
        overlap=work.last - 1 + latency,
        shared=passed,
        held=ideal - unhindered,
        state=(issue, issue + latency),
    )


def requantization_cycles(
    accelerator: Accelerator,
    *,
    lines: int,
    pixels: int,
    channels: int,
    planes: int,
    accumulator_pitch: int,
    pixel_pitch: int,
    element_bytes: int = 1,
) -> int:
    """Cycles of a requantisation that has the unit to itself, of `lines` lines of `pixels` pixels.

    `planes` of constants a channel; neighbouring pixels lie `accumulator_pitch` words and `pixel_pitch` bytes apart, a
    result has `element_bytes`.
    """
    tile = Pixels(lines, pixels, accumulator_pitch, pixel_pitch, element_bytes)
    work = requantization(tile, channels, planes, accelerator)
    return work.lead + work.stream + accelerator.requant_unit.latency


class Pixels(NamedTuple):
    """`lines` of `pixels` each, with words (`accumulator`) and bytes (`out`) from one pixel to the next.

    `bytes` of a result.
    """

    lines: int
    pixels: int
    accumulator: int
    out: int
    bytes: int = 1


def requantization(tile: Pixels, channels: int, planes: int, accelerator: Accelerator) -> Work:
    """Chunks of channels, each with `planes` constants; pixels unrolled where there is room on the lanes."""
    buffers = accelerator.buffers
    memories = (buffers.accumulator.banks, buffers.activation.banks, buffers.parameter.banks)
    return _requantize(tile, channels, planes, accelerator.requant_unit.lanes, memories)


def vectors(rows: int, length: int, reads: int, accelerator: Accelerator, table: int = 0) -> Work:
    """Rows of `length` elements, of which each vector takes `reads` accesses to the activation buffer.

    `table`: bytes that are read from the parameter buffer first.
    """
    buffers = accelerator.buffers
    constants = -(-table // buffers.parameter.banks)
    return _vectors(rows, length, reads, accelerator.vector_unit.lanes, buffers.activation.banks, constants)


class Stream(NamedTuple):
    """Elements of `bytes` each in the activation buffer, `pitch` bytes from one to the next; 0: one for all."""

    bytes: int
    pitch: int

    def cycles(self, width: int, banks: int) -> int:
        """Cycles of an access to `width` of them."""
        return access_cycles(self.bytes, 1, banks, width if self.pitch else 1, self.pitch)


class ProgramRows(NamedTuple):
    """`rows` of `length` elements through a program of so many `steps` and `cycles`; what it reads, and its result.

    `statistic`: one element of a row is the result.
    """

    rows: int
    length: int
    operands: tuple[Stream, ...]
    result: Stream
    steps: int
    cycles: int
    statistic: bool


def program(work: ProgramRows, accelerator: Accelerator) -> Work:
    """The work of a program: a slot for each cycle of a vector's steps, and for each operand; the last one writes.

    Vectors take turns, `latency` at a time, so that no step waits for the one before it: what is missing of a whole
    number of turns is empty slots. With a `statistic` partial sums (64 of a row) are added to once in `latency` cycles
    at most, and a tree of six levels of adders makes one number of them.
    """
    unit, buffers = accelerator.vector_unit, accelerator.buffers
    return _program(work, unit.lanes, unit.latency, buffers.activation.banks, buffers.parameter.banks)


@lru_cache(maxsize=16384)
def _program(work: ProgramRows, lanes: int, latency: int, activation: int, parameter: int) -> Work:
    rows, length, operands, result, steps, cycles, statistic = work
    slots = max(cycles, len(operands))
    if statistic:
        lanes = min(lanes, PARTIALS)
        slots = max(slots, -(-latency * lanes // PARTIALS))

    def vector(width: int, written: int) -> int:
        """Cycles of the slots of one vector that writes so many elements."""
        reads = [stream.cycles(width, activation) for stream in operands]
        each = [*reads, *(1 for _ in range(slots - len(reads)))]
        each[-1] = max(each[-1], result.cycles(written, activation) if written else 1)
        return sum(each)

    widths = pieces(length, lanes)
    row = sum(count * vector(width, 0 if statistic else width) for count, width in widths)
    if statistic:
        last = widths[-1][1]
        row += vector(last, 1) - vector(last, 0)
    vectors = rows * sum(count for count, _ in widths)
    empty = -vectors % latency * slots
    lead = -(-STEP_BYTES * steps // parameter)
    stream, busy = rows * row + empty, vectors * slots + empty
    tree = latency * (PARTIALS - 1).bit_length() if statistic else 0
    return Work(lead, stream, stream, busy, lead, busy, ahead=False, tree=tree)


@lru_cache(maxsize=16384)
def _requantize(tile: Pixels, channels: int, planes: int, lanes: int, memories: tuple[int, int, int]) -> Work:
    """Chunks of channels; as many neighbouring pixels as have room on the lanes pass abreast."""
    groups = pieces(tile.pixels, max(lanes // channels, 1))
    accumulator, activation, parameter = memories

    def constants(width: int) -> int:
        return planes * -(-4 * width // parameter)

    def stream(width: int) -> int:
        return tile.lines * sum(
            count
            * max(
                access_cycles(width, 1, accumulator, size, tile.accumulator),
                access_cycles(width * tile.bytes, 1, activation, size, tile.out),
            )
            for count, size in groups
        )

    vectors = tile.lines * sum(count for count, _ in groups)
    widths = pieces(channels, lanes)
    chunks = sum(count for count, _ in widths)
    lead, passing, total = constants(widths[0][1]), 0, 0
    for count, width in widths:
        # While the chunk before passes, if there is one, this one's constants are read.
        total += max(passing, constants(width)) if passing else 0
        passing = stream(width)
        total += (count - 1) * max(passing, constants(width))
    # With banks enough each vector takes one cycle, and each plane of constants.
    ideal = (chunks - 1) * max(vectors, planes) + vectors
    return Work(lead, total + passing, passing, chunks * vectors, planes, ideal, ahead=True)


@lru_cache(maxsize=16384)
def _vectors(rows: int, length: int, reads: int, lanes: int, activation: int, table: int) -> Work:
    """Rows of elements: each vector of a row takes `reads` accesses through the one read port."""
    accesses = sum(count * -(-width // activation) for count, width in pieces(length, lanes))
    stream, busy = rows * reads * accesses, rows * reads * -(-length // lanes)
    return Work(table, stream, stream, busy, table, busy, ahead=False)
