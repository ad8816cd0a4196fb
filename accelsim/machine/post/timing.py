"""How long the post unit takes for one instruction: the closed forms of docs/architecture.md.

A vector is up to `lanes` elements; the result of one is written `latency` cycles after its slot. The unit has two sets
of registers for constants, so the constants of one chunk of channels are read while the chunk before passes; what is
the last chunk of one instruction and the first of the next makes no difference.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

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
    constants go to the spare set of registers, so they are read while the instruction before still passes.
    """

    lead: int
    stream: int
    last: int
    vectors: int
    ideal_lead: int
    ideal_stream: int
    ahead: bool


def occupancy_of(work_of: Callable[[Any, Accelerator], Work]) -> Timing:
    """How an instruction that has this work to do fills the cycles of the post unit."""

    def occupancy(instruction: Any, accelerator: Accelerator, before: Times = (), opened: int = 0, /) -> Occupancy:
        return _occupancy(work_of(instruction, accelerator), accelerator.requant_unit.latency, before, opened)

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
) -> int:
    """Cycles of a requantisation that has the unit to itself, of `lines` lines of `pixels` pixels.

    `planes` of constants a channel; neighbouring pixels lie `accumulator_pitch` words and `pixel_pitch` bytes apart.
    """
    tile = Pixels(lines, pixels, accumulator_pitch, pixel_pitch)
    work = requantization(tile, channels, planes, accelerator)
    return work.lead + work.stream + accelerator.requant_unit.latency


class Pixels(NamedTuple):
    """`lines` of `pixels` each, with words (`accumulator`) and bytes (`out`) from one pixel to the next."""

    lines: int
    pixels: int
    accumulator: int
    out: int


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
                access_cycles(width, 1, activation, size, tile.out),
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
