"""Rows of bytes between DRAM and the scratchpads."""

from __future__ import annotations

from dataclasses import dataclass

from accelsim.errors import AssemblyError
from accelsim.isa.blocks import Block
from accelsim.isa.fields import choice, unsigned
from accelsim.isa.units import LOADED, Memory, Unit

from .base import Instruction, check_positive


@dataclass(frozen=True, kw_only=True)
class TransferInstruction(Instruction):
    """`length` contiguous bytes, repeated by three nested loops (`count_1` innermost)."""

    dram: int = unsigned(40, "DRAM address")
    address: int = unsigned(32, "scratchpad address")
    length: int = unsigned(24, "contiguous bytes of one row")
    count_1: int = unsigned(16, "rows", 1)
    dram_pitch_1: int = unsigned(32, "DRAM bytes from row to row", 0)
    pitch_1: int = unsigned(24, "scratchpad bytes from row to row", 0)
    count_2: int = unsigned(16, "repetitions of the rows", 1)
    dram_pitch_2: int = unsigned(32, "DRAM bytes between them", 0)
    pitch_2: int = unsigned(24, "scratchpad bytes between them", 0)
    count_3: int = unsigned(16, "repetitions of those", 1)
    dram_pitch_3: int = unsigned(32, "DRAM bytes between them", 0)
    pitch_3: int = unsigned(24, "scratchpad bytes between them", 0)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "length", "count_1", "count_2", "count_3")

    @property
    def rows(self) -> int:
        """How many rows are moved."""
        return self.count_1 * self.count_2 * self.count_3

    @property
    def bytes(self) -> int:
        """How many bytes are moved."""
        return self.rows * self.length

    @property
    def scratchpad(self) -> Memory:
        """The memory on the chip."""
        raise NotImplementedError

    @property
    def loops(self) -> tuple[tuple[int, int], ...]:
        """The loops over rows as (count, DRAM bytes between them), innermost first."""
        return (
            (self.count_1, self.dram_pitch_1),
            (self.count_2, self.dram_pitch_2),
            (self.count_3, self.dram_pitch_3),
        )

    def dram_block(self) -> Block:
        """(count_3, count_2, count_1, length) in DRAM."""
        pitches = (self.dram_pitch_3, self.dram_pitch_2, self.dram_pitch_1, 1)
        return Block(Memory.DRAM, self.dram, self._counts, pitches)

    def local_block(self) -> Block:
        """(count_3, count_2, count_1, length) in the scratchpad."""
        return Block(self.scratchpad, self.address, self._counts, (self.pitch_3, self.pitch_2, self.pitch_1, 1))

    @property
    def _counts(self) -> tuple[int, ...]:
        return (self.count_3, self.count_2, self.count_1, self.length)


@dataclass(frozen=True, kw_only=True)
class Load(TransferInstruction):
    """Copy rows from DRAM into a scratchpad."""

    opcode = 1
    unit = Unit.LOAD
    mnemonic = "load"

    memory: Memory = choice(Memory, 8, "the scratchpad that is filled")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.memory not in LOADED:
            names = ", ".join(memory.label for memory in LOADED)
            raise AssemblyError(f"load: memory={self.memory.label}; a load fills one of {names}")

    @property
    def scratchpad(self) -> Memory:
        return self.memory

    def read_blocks(self) -> tuple[Block, ...]:
        return (self.dram_block(),)

    def written_blocks(self) -> tuple[Block, ...]:
        return (self.local_block(),)


@dataclass(frozen=True, kw_only=True)
class Store(TransferInstruction):
    """Copy rows from the activation buffer into DRAM."""

    opcode = 2
    unit = Unit.STORE
    mnemonic = "store"

    @property
    def scratchpad(self) -> Memory:
        return Memory.ACTIVATION

    def read_blocks(self) -> tuple[Block, ...]:
        return (self.local_block(),)

    def written_blocks(self) -> tuple[Block, ...]:
        return (self.dram_block(),)


INSTRUCTIONS: tuple[type[Instruction], ...] = (Load, Store)
