"""How long the post unit takes for one instruction: the closed forms of docs/architecture.md.

A vector is up to `lanes` elements; the result of one is written `latency` cycles after its slot. The unit has two sets
of registers for constants, so the constants of one chunk of channels are read while the chunk before passes; what is
the last chunk of one instruction and the first of the next makes no difference.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from accelsim.hardware import Accelerator
from accelsim.hardware.banks import access_cycles
from accelsim.hardware.folds import pieces
from accelsim.isa import Instruction, Lookup, Pool, Units
from accelsim.isa.instructions import _Binary
from accelsim.isa.requantization import _Requantization
from accelsim.machine.occupancy import Occupancy, Times

#: The unit whose tokens an instruction needs only when its vectors are read, not for its constants.
LATE = Units.MAC


class _Work(NamedTuple):
    """What an instruction has to do, on its memories and on ones without conflicts.

    Cycles: `lead` reads the first chunk's constants (a table), `stream` goes from the first vector's slot to the last
    one's end, the last chunk's vectors take `last` of them. `vectors` are slots without conflicts.
    """

    lead: int
    stream: int
    last: int
    vectors: int
    ideal_lead: int
    ideal_stream: int


def post_occupancy(
    instruction: Instruction, accelerator: Accelerator, before: Times = (), opened: int = 0
) -> Occupancy:
    """How an instruction fills the cycles of the post unit.

    `before` is what the instruction before it leaves behind, its `Occupancy.since(start - its start)`: when its last
    vector had its slot, and when the last result was written. Empty for a unit that has nothing in it. `opened`: the
    cycle in which it has all of its tokens and may read more than constants. The next instruction may start in the
    cycle after the last chunk began to pass.
    """
    passed, written = (max(time, 0) for time in before or (0, 0))
    work, latency = _work(instruction, accelerator), accelerator.requant_unit.latency
    if isinstance(instruction, _Requantization):
        begin, free = 0, passed
    else:
        # There is one table. What is read may be what the instruction before is still about to write.
        begin, free = passed, written
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
    work = _requantization(accelerator, _Pixels(lines, pixels, accumulator_pitch, pixel_pitch), channels, planes)
    return work.lead + work.stream + accelerator.requant_unit.latency


def _requantization(accelerator: Accelerator, tile: _Pixels, channels: int, planes: int) -> _Work:
    buffers = accelerator.buffers
    memories = (buffers.accumulator.banks, buffers.activation.banks, buffers.parameter.banks)
    return _requantize(tile, channels, planes, accelerator.requant_unit.lanes, memories)


def _work(instruction: Instruction, accelerator: Accelerator) -> _Work:
    banks, lanes = accelerator.buffers, accelerator.vector_unit.lanes
    activation, parameter = banks.activation.banks, banks.parameter.banks
    match instruction:
        case _Requantization():
            lines = instruction.images * instruction.out_height
            pixels = _Pixels(lines, instruction.out_width, instruction.accumulator_pitch, instruction.pixel_pitch)
            return _requantization(accelerator, pixels, instruction.channels, instruction.planes)
        case _Binary():
            return _vectors(instruction.lines, instruction.length, 2, lanes, activation, 0)
        case Lookup():
            table = -(-256 // parameter)
            return _vectors(instruction.lines, instruction.length, 1, lanes, activation, table)
        case Pool():
            return _vectors(instruction.pixels, instruction.channels, instruction.taps, lanes, activation, 0)
    raise AssertionError(f"{instruction.mnemonic} is no instruction of the post unit")


class _Pixels(NamedTuple):
    """`lines` of `pixels` each, with words (`accumulator`) and bytes (`out`) from one pixel to the next."""

    lines: int
    pixels: int
    accumulator: int
    out: int


@lru_cache(maxsize=16384)
def _requantize(tile: _Pixels, channels: int, planes: int, lanes: int, memories: tuple[int, int, int]) -> _Work:
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
    return _Work(lead, total + passing, passing, chunks * vectors, planes, ideal)


@lru_cache(maxsize=16384)
def _vectors(rows: int, length: int, reads: int, lanes: int, activation: int, table: int) -> _Work:
    """Rows of elements: each vector of a row takes `reads` accesses through the one read port."""
    accesses = sum(count * -(-width // activation) for count, width in pieces(length, lanes))
    stream, busy = rows * reads * accesses, rows * reads * -(-length // lanes)
    return _Work(table, stream, stream, busy, table, busy)
