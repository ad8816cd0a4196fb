"""What a program costs the host, from its instructions' fields alone: before anything is made of them.

Bounds, not measurements: nothing here may be below what the run takes.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator

from accelsim.errors import MachineError
from accelsim.hardware import Accelerator
from accelsim.isa import Block, Instruction, Mac, Memory, Program, Units
from accelsim.isa.instructions.transfer import TransferInstruction
from accelsim.isa.instructions.window import WindowInstruction
from accelsim.limits import Limits, over

from .instructions import semantics_of
from .semantics import describe

_PAGE = 4096

#: Of a burst of a banked DRAM: what is kept of it while it is on its way, and the commands decided for it.
_BURST_BYTES, _BURST_OPERATIONS = 64, 5000

#: Of an access of the L2, without those bursts: its piece as long as its request waits, and the looking up.
_PIECE_BYTES, _PIECE_OPERATIONS = 512, 5000

#: Of an index of a reduction: what finding the chunks that it is in takes. Few of them take nothing that counts.
_INDEX_OPERATIONS, _FEW = 500, 1 << 14

#: Of a block that a window reads: bytes that describe it, and operations that make it.
_BLOCK_BYTES, _BLOCK_OPERATIONS, _FEW_BLOCKS = 400, 2000, 64


def given_bytes(program: Program) -> int:
    """Bytes that come with a program: what its own size justifies."""
    return sum(len(segment.content) for segment in program.data) + 64 * len(program.instructions)


def check_timing(program: Program, accelerator: Accelerator, limits: Limits) -> None:
    """Raise MachineError where a run in time alone takes more than the limits."""
    _check(program, _timings(program, accelerator), limits, 0)


def check_data(program: Program, places: dict[Memory, int], limits: Limits) -> None:
    """Raise MachineError where a run with data takes more than the limits. `places`: the size of each memory."""
    every = ((index, item, semantics_of(item).host_cost(item)) for index, item in enumerate(program.instructions))
    _check(program, every, limits, _held(program, places))


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
        if isinstance(instruction, WindowInstruction) and instruction.window_parts > _FEW_BLOCKS:
            parts = instruction.window_parts
            yield index, instruction, (_BLOCK_BYTES * parts, _BLOCK_OPERATIONS * parts)
        if isinstance(instruction, Mac):
            indices = _indices(instruction)
            if indices > _FEW:
                shape = instruction.with_tokens(Units.NONE, Units.NONE)
                yield index, instruction, (32 * indices, 0 if shape in known else _INDEX_OPERATIONS * indices)
                known.add(shape)
        elif isinstance(instruction, TransferInstruction):
            if accelerator.l2 is not None:
                size = accelerator.l2.line_bytes
                pieces = instruction.rows * (instruction.length // size + 2)
                timings = accelerator.dram.timings
                bursts = 0 if timings is None else size // timings.burst_bytes
                work = (_PIECE_OPERATIONS + _BURST_OPERATIONS * bursts) * pieces
                yield index, instruction, (_PIECE_BYTES * pieces, work)
            elif accelerator.dram.timings is not None:
                size = accelerator.dram.timings.burst_bytes
                bursts = instruction.rows * (instruction.length // size + 2)
                yield index, instruction, (_BURST_BYTES * bursts, _BURST_OPERATIONS * -(-instruction.bytes // size))


def _indices(mac: Mac) -> int:
    """Indices of the reduction whose places are worked out, and of those the ones for each pixel and group."""
    each = mac.channels // mac.groups
    reduction = mac.kernel_height * mac.unrolled_width * each
    return mac.unroll_groups * (reduction + mac.taps * each * mac.unroll_pixels)


def _held(program: Program, places: dict[Memory, int]) -> int:
    """Bytes of the host's that the simulated memories take, once a run has touched what it touches."""
    touched = dict.fromkeys(Memory, 0)
    touched[Memory.DRAM] = sum(_PAGE + len(item.content) for item in program.data) + 64 * len(program.instructions)
    for port in (*program.inputs, *program.outputs):
        touched[port.memory] += _PAGE + port.bytes
    for instruction in program.instructions:
        for block in instruction.written_blocks():
            touched[block.memory] += _pages(block)
    # Beside what is held: whether it was written; of an accumulator, the largest sum in 64 bits too.
    each = {memory: 4 + 1 + 8 if memory.ports.sums else 2 for memory in Memory}
    return sum(each[memory] * min(size, touched[memory]) for memory, size in places.items())


def _pages(block: Block) -> int:
    """Bytes of the pages that hold a block, at most."""
    found = block.runs
    rows = found.number * (found.length + 2 * _PAGE)
    return min(rows, block.stop - block.start + 2 * _PAGE)
