"""What holds of the instructions that the compiler makes: no sum is lost, and each is requantised once."""

from __future__ import annotations

from collections.abc import Iterable

from accelsim.errors import InternalError
from accelsim.isa import Instruction, Mac
from accelsim.isa.instructions.requantization import RequantInstruction

#: First and last word, outputs of a pixel and pixels: what a mac adds up and a requantisation reads.
_Sums = tuple[int, int, int, int]


def verify_sums(instructions: Iterable[Instruction]) -> None:
    """Each mac that begins sums finds room that nobody waits for, each other one the sums that it goes on with, and
    each requantisation those that it reads. Raises InternalError with the number of the instruction."""
    pending: dict[int, _Sums] = {}
    for number, instruction in enumerate(instructions):
        if isinstance(instruction, Mac):
            sums = _sums(instruction, instruction.outputs)
            if instruction.accumulate and pending.get(sums[0]) != sums:
                raise _fault(number, "goes on with sums that are not there")
            if not instruction.accumulate:
                if any(first <= sums[1] and sums[0] <= last for first, last, _, _ in pending.values()):
                    raise _fault(number, "begins sums where others wait to be requantised")
                pending[sums[0]] = sums
        elif isinstance(instruction, RequantInstruction):
            sums = _sums(instruction, instruction.channels)
            if pending.pop(sums[0], None) != sums:
                raise _fault(number, "requantises sums that are not there")
    if pending:
        raise InternalError(f"{len(pending)} tiles of sums are never requantised; this is a fault of the compiler")


def _sums(instruction: Mac | RequantInstruction, outputs: int) -> _Sums:
    pixels = instruction.images * instruction.out_height * instruction.out_width
    last = instruction.accumulator + (pixels - 1) * (outputs + instruction.accumulator_gap) + outputs - 1
    return instruction.accumulator, last, outputs, pixels


def _fault(number: int, what: str) -> InternalError:
    return InternalError(f"instruction {number} {what}; this is a fault of the compiler, please report it")
