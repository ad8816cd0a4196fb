"""What no program may do with its memories: touch the same bytes from two units at once, write a byte twice, or take
weights for those that the array holds when they are not.

Time and addresses do not depend on data, so this is found without any.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from itertools import product
from operator import attrgetter

from accelsim.errors import MachineError
from accelsim.isa import Block, Instruction, Load, Mac, Memory, Unit, Units, meet, share_a_place

from .instructions import semantics_of
from .semantics import describe
from .timing import Touched
from .units import Span


def check_writes(instructions: tuple[Instruction, ...], touched: tuple[Touched, ...]) -> None:
    """Raise MachineError for an instruction that writes a byte twice, or one that it reads as another operand.

    What such an instruction leaves behind would depend on the order in which the unit walks its tile. A result may take
    the place of its own operand, element by element.
    """
    for index, instruction in enumerate(instructions):
        for block in instruction.written_blocks():
            place = block.repeats()
            if place is not None:
                raise MachineError(
                    f"{describe(index, instruction)}: writes place {place:#x} of the {block.memory.label} "
                    "memory more than once; make the pitches of the result as large as what they step over"
                )
        if meet(*touched[index]):
            _check_in_place(index, instruction)


def _check_in_place(index: int, instruction: Instruction) -> None:
    in_place = semantics_of(instruction).in_place
    for result in instruction.written_blocks():
        for operand in instruction.read_blocks():
            if in_place and operand == result:
                continue
            place = share_a_place(operand, result)
            if place is not None:
                raise MachineError(
                    f"{describe(index, instruction)}: its result overwrites {result.memory.word} {place:#x} of the "
                    f"{result.memory.label} memory, which it reads for another element; write elsewhere, or exactly "
                    "over an operand of element-wise work"
                )


def check_races(
    instructions: tuple[Instruction, ...],
    touched: tuple[Touched, ...],
    spans: tuple[Span, ...],
    opened: Mapping[int, int],
) -> None:
    """Raise MachineError for two instructions of different units that run at the same time and touch the same place,
    at least one of them writing. Until one of mac or post is `opened` it reads what it preloads, and nothing else."""
    running: list[Span] = []
    for span in sorted(spans, key=lambda span: span.start):
        running = [other for other in running if other.end > span.start]
        reads, writes = touched[span.index]
        for other in running:
            if other.unit == span.unit:
                continue
            other_reads, other_writes = touched[other.index]
            if meet(writes, other_writes) or meet(writes, other_reads) or meet(reads, other_writes):
                _check_pair(instructions, other, span, opened)
        running.append(span)


def _while(
    other: Span, span: Span, opened: Mapping[int, int], instruction: Instruction
) -> tuple[tuple[Block, ...], tuple[Block, ...]]:
    """What the instruction of `span` may read and write before `other` has ended."""
    reads = instruction.read_blocks()
    if other.end > opened.get(span.index, span.start):
        return reads, instruction.written_blocks()
    unit = Units.of(Unit[span.unit.upper()])
    return tuple(block for block in reads if block.memory.ports.preloaded_by & unit), ()


def _check_pair(instructions: tuple[Instruction, ...], first: Span, second: Span, opened: Mapping[int, int]) -> None:
    one, two = instructions[first.index], instructions[second.index]
    reads, writes = _while(second, first, opened, one)
    later_reads, later_writes = _while(first, second, opened, two)
    pairs = (
        (writes, later_writes, "both write"),
        (writes, later_reads, "the first writes and the second reads"),
        (reads, later_writes, "the first reads and the second writes"),
    )
    for blocks, others, how in pairs:
        for a, b in product(blocks, others):
            place = share_a_place(a, b)
            if place is not None:
                at = [f"in cycles {span.start}..{span.end - 1} of {span.unit}" for span in (first, second)]
                raise MachineError(
                    f"race between {describe(first.index, one)} {at[0]} and {describe(second.index, two)} {at[1]}: "
                    f"{how} {a.memory.word} {place:#x} of the {a.memory.label} memory; let one wait for the other"
                )


def check_same_weights(instructions: tuple[Instruction, ...], spans: tuple[Span, ...]) -> None:
    """Raise MachineError for a mac with `same_weights` whose weights are not those of the mac before it, or were
    written between the two (at the same time as one of them is a race). An array would not notice."""
    loads = [span for span in spans if _loads_weights(instructions[span.index])]
    before: tuple[int, Mac] | None = None
    for index, mac in enumerate(instructions):
        if not isinstance(mac, Mac):
            continue
        if mac.same_weights:
            what = f"{describe(index, mac)}: same_weights=1, but "
            remedy = "; leave it 0, and the weights are read"
            if before is None:
                raise MachineError(f"{what}no mac comes before it{remedy}")
            if before[1].stationary != mac.stationary:
                raise MachineError(f"{what}those of {describe(*before)} are others{remedy}")
            if spans[before[0]].end < spans[index].start:
                _check_unwritten(what, instructions, loads, (spans[before[0]].end, spans[index].start), mac)
        before = index, mac


def _loads_weights(instruction: Instruction) -> bool:
    return isinstance(instruction, Load) and instruction.memory == Memory.WEIGHT


def _check_unwritten(
    what: str, instructions: tuple[Instruction, ...], loads: list[Span], between: tuple[int, int], mac: Mac
) -> None:
    for span in loads[bisect_left(loads, between[0], key=attrgetter("start")) :]:
        if span.end > between[1]:
            break  # loads start and end in order
        load = instructions[span.index]
        place = share_a_place(mac.weight_block(), load.written_blocks()[0])
        if place is not None:
            raise MachineError(
                f"{what}{describe(span.index, load)} has written byte {place:#x} of the weight memory since they "
                "were read; leave it 0, and the weights are read again"
            )
