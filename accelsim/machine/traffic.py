"""Bytes that an instruction reads and writes in each memory: a function of its fields and the configuration."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from accelsim.hardware import Accelerator
from accelsim.isa import INSTRUCTION_BYTES, Instruction, Memory
from accelsim.isa.units import L2
from accelsim.machine.dram.bus import Lines

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


def by_memory(moves: Iterable[Move], accelerator: Accelerator, lines: Iterable[Lines] = ()) -> dict[str, Traffic]:
    """The sum of the moves, one Traffic a memory, in the order of reports; `lines`: what they found in the L2.

    With an L2 that is what units read. DRAM is read for the lines that were not there, which are written into it, as is
    what it keeps of a store. Every byte stored goes on to DRAM.
    """
    # By number, which is faster than by member.
    read, written = [0] * (max(Memory) + 1), [0] * (max(Memory) + 1)
    for memory, bytes_read, bytes_written in moves:
        read[memory] += bytes_read
        written[memory] += bytes_written
    traffic = {memory.label: Traffic(read[memory], written[memory]) for memory in Memory}
    if accelerator.l2 is not None:
        found, dram = total(lines), Memory.DRAM.label
        asked = traffic[dram]
        fetched = found.read_misses * accelerator.l2.line_bytes
        traffic[dram] = Traffic(fetched, asked.written)
        traffic[L2] = Traffic(asked.read, fetched + found.kept)
    return traffic


def total(lines: Iterable[Lines]) -> Lines:
    """The sum of all."""
    return Lines(*(sum(column) for column in zip(Lines(), *lines, strict=True)))
