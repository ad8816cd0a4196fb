"""How long the post unit takes for one instruction. A vector is up to `lanes` elements; the result of one leaves
`latency` cycles after its slot."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from accelsim.hardware import Accelerator
from accelsim.hardware.banks import access_cycles
from accelsim.hardware.folds import pieces
from accelsim.isa import Instruction, Lookup, Pool
from accelsim.isa.instructions import _Binary
from accelsim.isa.requantization import _Requantization

from .occupancy import Occupancy, Times


def post_occupancy(
    instruction: Instruction, accelerator: Accelerator, before: Times = (), opened: int = 0
) -> Occupancy:
    """How an instruction fills the cycles of the post unit; nothing is left of the one `before`, and it starts with all
    of its tokens."""
    banks, latency = accelerator.buffers, accelerator.requant_unit.latency
    activation, parameter = banks.activation.banks, banks.parameter.banks
    lanes = accelerator.vector_unit.lanes
    match instruction:
        case _Requantization():
            width = accelerator.requant_unit.lanes
            lines = instruction.images * instruction.out_height
            pixels = _Pixels(lines, instruction.out_width, instruction.accumulator_pitch, instruction.pixel_pitch)
            memories = (banks.accumulator.banks, activation, parameter)
            return _requantize(pixels, instruction.channels, instruction.planes, width, memories, latency)
        case _Binary():
            return _vectors(instruction.lines, instruction.length, 2, lanes, activation, (), parameter, latency)
        case Lookup():
            return _vectors(instruction.lines, instruction.length, 1, lanes, activation, (256,), parameter, latency)
        case Pool():
            taps = instruction.taps
            return _vectors(instruction.pixels, instruction.channels, taps, lanes, activation, (), parameter, latency)
    raise AssertionError(f"{instruction.mnemonic} is no instruction of the post unit")


class _Pixels(NamedTuple):
    """`lines` of `pixels` each, with words (`accumulator`) and bytes (`out`) from one pixel to the next."""

    lines: int
    pixels: int
    accumulator: int
    out: int


@lru_cache(maxsize=16384)
def _requantize(
    tile: _Pixels, channels: int, planes: int, lanes: int, memories: tuple[int, int, int], latency: int
) -> Occupancy:
    """Chunks of channels; the next one's constants are read while this one's pixels pass (ping-pong registers).

    As many neighbouring pixels as have room on the lanes pass abreast.
    """
    abreast = max(lanes // channels, 1)
    groups = pieces(tile.pixels, abreast)

    def cycles(accumulator: int, activation: int, parameter: int) -> int:
        full, rest = divmod(channels, lanes)

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

        if not full:
            return constants(rest) + stream(rest) + latency
        total = constants(lanes) + (full - 1) * max(stream(lanes), constants(lanes)) + latency
        if rest:
            return total + max(stream(lanes), constants(rest)) + stream(rest)
        return total + stream(lanes)

    vectors = tile.lines * sum(count for count, _ in groups) * -(-channels // lanes)
    total = cycles(*memories)
    # With banks enough each vector takes one cycle, and each plane of constants.
    full, rest = divmod(channels, lanes)
    one = vectors // (full + bool(rest))
    ideal = planes + (full + bool(rest) - 1) * max(one, planes) + one + latency
    return Occupancy(total, planes, vectors, total - ideal)


@lru_cache(maxsize=16384)
def _vectors(
    rows: int,
    length: int,
    reads: int,
    lanes: int,
    activation: int,
    table: tuple[int, ...],
    parameter: int,
    latency: int,
) -> Occupancy:
    """Rows of elements: each vector of a row takes `reads` accesses through the one read port, after the table's."""
    lead = sum(-(-size // parameter) for size in table)
    full, rest = divmod(length, lanes)
    accesses = full * -(-lanes // activation) + (-(-rest // activation) if rest else 0)
    busy = rows * reads * -(-length // lanes)
    stream = rows * reads * accesses
    return Occupancy(lead + stream + latency, lead, busy, stream - busy)
