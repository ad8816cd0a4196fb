"""How long the post unit takes for one instruction. A vector is up to `lanes` elements; the result of one leaves
`latency` cycles after its slot."""

from __future__ import annotations

from functools import lru_cache

from accelsim.hardware import Accelerator
from accelsim.isa import Instruction, Lookup, Pool
from accelsim.isa.instructions import _Binary
from accelsim.isa.requantization import _Requantization

from .occupancy import Occupancy, Times

#: Banks of a memory that never conflicts.
_ENOUGH = 1 << 30


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
            shape = (instruction.pixels, instruction.channels, instruction.planes, accelerator.requant_unit.lanes)
            return _requantize(shape, banks.accumulator.banks, activation, parameter, latency)
        case _Binary():
            return _vectors(instruction.lines, instruction.length, 2, lanes, activation, (), parameter, latency)
        case Lookup():
            return _vectors(instruction.lines, instruction.length, 1, lanes, activation, (256,), parameter, latency)
        case Pool():
            taps = instruction.taps
            return _vectors(instruction.pixels, instruction.channels, taps, lanes, activation, (), parameter, latency)
    raise AssertionError(f"{instruction.mnemonic} is no instruction of the post unit")


@lru_cache(maxsize=16384)
def _requantize(
    shape: tuple[int, int, int, int], accumulator: int, activation: int, parameter: int, latency: int
) -> Occupancy:
    """Chunks of channels; the next one's constants are read while this one's pixels pass (ping-pong registers)."""
    pixels, channels, planes, lanes = shape

    def cycles(accumulator: int, activation: int, parameter: int) -> int:
        full, rest = divmod(channels, lanes)

        def constants(width: int) -> int:
            return planes * -(-4 * width // parameter)

        def stream(width: int) -> int:
            return pixels * max(-(-width // accumulator), -(-width // activation))

        if not full:
            return constants(rest) + stream(rest) + latency
        total = constants(lanes) + (full - 1) * max(stream(lanes), constants(lanes)) + latency
        if rest:
            return total + max(stream(lanes), constants(rest)) + stream(rest)
        return total + stream(lanes)

    total, ideal = cycles(accumulator, activation, parameter), cycles(_ENOUGH, _ENOUGH, _ENOUGH)
    return Occupancy(total, planes, pixels * -(-channels // lanes), total - ideal)


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
