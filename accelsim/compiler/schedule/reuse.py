"""Pass `reuse`: a mac that takes the weights of the mac before it is told so.

An array that holds all the weights of a tile need not read them again for the next tile of positions, so small tiles
cost no more than large ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from accelsim.isa import Instruction, Load, Mac, meet


def reuse(instructions: Sequence[Instruction]) -> tuple[Instruction, ...]:
    """The same instructions, with `same_weights` where no load has written the weights since the mac before."""
    result: list[Instruction] = []
    before: Mac | None = None
    for instruction in instructions:
        if isinstance(instruction, Mac):
            same = before is not None and before.stationary == instruction.stationary
            before = instruction
            instruction = replace(instruction, same_weights=1) if same else instruction
        elif before is not None and isinstance(instruction, Load) and meet(before.reads(), instruction.writes()):
            before = None
        result.append(instruction)
    return tuple(result)
