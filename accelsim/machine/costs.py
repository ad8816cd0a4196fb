"""What a program costs the host, from its instructions' fields alone: before anything is made of them.

Bounds, not measurements: nothing here may be below what the run takes.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator

from accelsim.errors import MachineError
from accelsim.hardware import Accelerator
from accelsim.isa import Instruction, Load, Mac, Memory, Program, Store, Units
from accelsim.isa.instructions import _Lines, _Transfer, _Window
from accelsim.isa.requantization import _Requantization
from accelsim.limits import Limits, over
from accelsim.machine.array.products import gathered_elements

from .memory import footprint
from .timing import describe

_PAGE = 4096

#: Of a burst of a banked DRAM: what is kept of it while it is on its way, and the commands decided for it.
_BURST_BYTES, _BURST_OPERATIONS = 64, 5000


#: Of an index of a reduction: what finding the chunks that it is in takes. Few of them take nothing that counts.
_INDEX_OPERATIONS, _FEW = 500, 1 << 14


def given_bytes(program: Program) -> int:
    """Bytes that come with a program: what its own size justifies."""
    return sum(len(segment.content) for segment in program.data) + 64 * len(program.instructions)


def check_timing(program: Program, accelerator: Accelerator, limits: Limits) -> None:
    """Raise MachineError where a run in time alone takes more than the limits."""
    _check(program, _timings(program, accelerator), limits, 0)


def check_data(program: Program, places: dict[Memory, int], limits: Limits) -> None:
    """Raise MachineError where a run with data takes more than the limits. `places`: the size of each memory."""
    held = _held(program, places)
    _check(program, ((index, item, _working(item)) for index, item in enumerate(program.instructions)), limits, held)


def _check(
    program: Program, every: Iterable[tuple[int, Instruction, tuple[int, int]]], limits: Limits, held: int
) -> None:
    given, operations = given_bytes(program), 0
    memory_allowed, operations_allowed = limits.memory_for(given), limits.operations_for(given)
    if held > memory_allowed:
        raise MachineError(
            over("memory", held, memory_allowed, f"{program.name}: what its instructions write and read")
        )
    for index, instruction, (memory, work) in every:
        if held + memory > memory_allowed:
            raise MachineError(over("memory", held + memory, memory_allowed, describe(index, instruction)))
        operations += work
        if operations > operations_allowed:
            what = f"{program.name}: all up to {describe(index, instruction)}"
            raise MachineError(over("operations", operations, operations_allowed, what))


def _timings(program: Program, accelerator: Accelerator) -> Iterator[tuple[int, Instruction, tuple[int, int]]]:
    """Bytes and operations of the instructions' run in time; what is worked out of one serves all that are alike."""
    known: set[Hashable] = set()
    for index, instruction in enumerate(program.instructions):
        if isinstance(instruction, Mac):
            indices = _indices(instruction)
            if indices > _FEW:
                shape = instruction.with_tokens(Units.NONE, Units.NONE)
                yield index, instruction, (32 * indices, 0 if shape in known else _INDEX_OPERATIONS * indices)
                known.add(shape)
        elif isinstance(instruction, _Transfer) and accelerator.dram.timings is not None:
            size = accelerator.dram.timings.burst_bytes
            bursts = instruction.rows * (instruction.length // size + 2)
            yield index, instruction, (_BURST_BYTES * bursts, _BURST_OPERATIONS * -(-instruction.bytes // size))


def _indices(mac: Mac) -> int:
    """Indices of the reduction whose places are worked out, and of those the ones for each pixel and group."""
    each = mac.channels // mac.groups
    reduction = mac.kernel_height * mac.unrolled_width * each
    return mac.unroll_groups * (reduction + mac.taps * each * mac.unroll_pixels)


def _working(instruction: Instruction) -> tuple[int, int]:
    """Bytes and operations of an instruction's work on data."""
    match instruction:
        case Mac():
            gathered, sums = gathered_elements(instruction), instruction.pixels * instruction.outputs
            weights = instruction.reduction * instruction.outputs
            return 8 * (gathered + weights) + 24 * sums, gathered + weights + 8 * sums + instruction.macs // 16
        case _Window():
            elements = instruction.pixels * instruction.channels
            return 24 * elements, (instruction.taps + 16) * elements
        case _Requantization():
            elements = instruction.pixels * instruction.channels
            return 40 * elements + 16 * instruction.planes * instruction.channels, (instruction.planes + 16) * elements
        case _Lines():
            return 40 * instruction.elements, 16 * instruction.elements
        case _Transfer():
            return 0, instruction.bytes
    return 0, 0


def _held(program: Program, places: dict[Memory, int]) -> int:
    """Bytes of the host's that the simulated memories take, once a run has touched what it touches."""
    touched = dict.fromkeys(Memory, 0)
    touched[Memory.DRAM] = sum(_PAGE + len(item.content) for item in program.data) + 64 * len(program.instructions)
    for port in (*program.inputs, *program.outputs):
        touched[port.memory] += _PAGE + port.bytes
    for instruction in program.instructions:
        match instruction:
            case Store():
                touched[Memory.DRAM] += _pages(footprint.dram_rows(instruction))
            case Load():
                touched[instruction.memory] += _pages(footprint.local_rows(instruction, instruction.memory))
            case Mac():
                touched[Memory.ACCUMULATOR] += instruction.pixels * instruction.accumulator_pitch
            case _:
                touched[Memory.ACTIVATION] += sum(_pages(block) for block in footprint.writes(instruction))
    # Beside what is held: whether it was written; of an accumulator, the largest sum in 64 bits too.
    each = dict.fromkeys(Memory, 2) | {Memory.ACCUMULATOR: 4 + 1 + 8}
    return sum(each[memory] * min(size, touched[memory]) for memory, size in places.items())


def _pages(block: footprint.Block) -> int:
    """Bytes of the pages that hold a block, at most."""
    found = block.runs
    rows = found.number * (found.length + 2 * _PAGE)
    return min(rows, block.stop - block.start + 2 * _PAGE)
