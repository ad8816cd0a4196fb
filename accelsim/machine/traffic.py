"""Bytes that an instruction reads and writes in each memory: a function of its fields and the configuration."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from accelsim.hardware import Accelerator
from accelsim.isa import INSTRUCTION_BYTES, Instruction, Memory

from .instructions import semantics_of
from .semantics import Move


@dataclass(frozen=True)
class Traffic:
    """Bytes read from and written to a memory."""

    read: int = 0
    written: int = 0

    def __add__(self, other: Traffic) -> Traffic:
        return Traffic(self.read + other.read, self.written + other.written)


def traffic_of(instruction: Instruction, accelerator: Accelerator) -> tuple[Move, ...]:
    """Bytes that the instruction moves, its own fetch included."""
    return ((Memory.DRAM, INSTRUCTION_BYTES, 0), *semantics_of(instruction).traffic(instruction, accelerator))


def by_memory(moves: Iterable[Move]) -> dict[str, Traffic]:
    """The sum of the moves, one Traffic a memory, in the order of reports."""
    # By number, which is faster than by member.
    read, written = [0] * (max(Memory) + 1), [0] * (max(Memory) + 1)
    for memory, bytes_read, bytes_written in moves:
        read[memory] += bytes_read
        written[memory] += bytes_written
    return {memory.label: Traffic(read[memory], written[memory]) for memory in Memory}
