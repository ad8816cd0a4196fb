"""Bytes by memory and operand: what the instructions of a program move, and for which of them."""

from __future__ import annotations

from accelsim.hardware import Accelerator
from accelsim.isa import INSTRUCTION_BYTES, Instruction, Memory, Program
from accelsim.isa.instructions.transfer import TransferInstruction
from accelsim.machine.traffic import Traffic, traffic_of

#: What DRAM's bytes are, by the scratchpad on the other side.
_OPERANDS = {
    Memory.ACTIVATION: "activations",
    Memory.WEIGHT: "weights",
    Memory.PARAMETER: "constants",
    Memory.ACCUMULATOR: "sums",
}
INSTRUCTIONS = "instructions"


def operand_traffic(program: Program, accelerator: Accelerator) -> dict[str, dict[str, Traffic]]:
    """Bytes read and written in each memory: DRAM's by operand, those of the memories on the chip by unit.

    The operands of a memory add up to the memory's traffic of `Result`.
    """
    found: dict[str, dict[str, Traffic]] = {memory.label: {} for memory in Memory}

    def add(memory: Memory, operand: str, read: int, written: int) -> None:
        operands = found[memory.label]
        operands[operand] = operands.get(operand, Traffic()) + Traffic(read, written)

    for instruction in program.instructions:
        fetched, *moves = traffic_of(instruction, accelerator)
        add(fetched[0], INSTRUCTIONS, INSTRUCTION_BYTES, 0)
        for memory, read, written in moves:
            add(memory, _operand(instruction, memory), read, written)
    return found


def _operand(instruction: Instruction, memory: Memory) -> str:
    if memory == Memory.DRAM and isinstance(instruction, TransferInstruction):
        return _OPERANDS[instruction.scratchpad]
    assert instruction.unit is not None
    return f"{instruction.unit.label} unit"
