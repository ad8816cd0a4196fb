"""Pass `schedule`: element-wise work and pools move up to where what they read is there, constants to where they fit.

A matrix operation is emitted before what follows it, tile by tile; what follows it on the first tiles need not wait for
the last. So such an instruction goes up past those that it does not depend on, and none past another of its kind.

The fetcher hands instructions out in order, and stops at one whose unit's queue is full. So loads of weights and
constants that stand behind a layer's whole work come late; they go up, too, but past no other load, and no instruction
has more of them before it than half a queue: while loads wait in a full queue nothing else is handed out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

from accelsim.isa import REQUANTIZATIONS, Instruction, Load, Region, Unit, meet

_REQUANTIZATIONS = tuple(REQUANTIZATIONS.values())


def schedule(instructions: Sequence[Instruction], seen: Mapping[int, Sequence[Region]], depth: int) -> list[int]:
    """The numbers of the instructions in their new order, which is right for units that do not overlap if theirs is.

    `seen`: what is looked at when an instruction has completed. `depth`: instructions that a unit's queue holds.
    """

    @cache
    def touched(number: int) -> tuple[tuple[Region, ...], tuple[Region, ...]]:
        instruction = instructions[number]
        return (*instruction.reads(), *seen.get(number, ())), instruction.writes()

    def tied(one: int, two: int) -> bool:
        reads, writes = touched(one)
        others, written = touched(two)
        return meet(writes, others) or meet(written, reads) or meet(writes, written)

    order: list[int] = []
    passed = [0] * len(instructions)  # how many loads have gone up past each
    for number, instruction in enumerate(instructions):
        at = len(order)
        if _moves(instruction):
            while at and not _moves(instructions[order[at - 1]]) and not tied(order[at - 1], number):
                at -= 1
        elif isinstance(instruction, Load) and instruction.memory.ports.preloaded_by:
            while at and not isinstance(instructions[order[at - 1]], Load) and not tied(order[at - 1], number):
                if passed[order[at - 1]] == depth // 2:
                    break
                at -= 1
                passed[order[at]] += 1
        order.insert(at, number)
    return order


def _moves(instruction: Instruction) -> bool:
    return instruction.unit == Unit.POST and not isinstance(instruction, _REQUANTIZATIONS)
