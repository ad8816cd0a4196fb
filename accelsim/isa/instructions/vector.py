"""The instruction of the vector unit: a program of binary32 steps for each element of some rows, and statistics."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from accelsim.arithmetic.vector import MOST_OPERANDS, STEP_BYTES, Statistic
from accelsim.errors import AssemblyError
from accelsim.isa.blocks import Block, line
from accelsim.isa.fields import choice, unsigned
from accelsim.isa.units import Memory, Unit

from .base import Instruction, check_positive


class Element(enum.IntEnum):
    """What the elements of an operand or a result are; NONE: there is no such operand."""

    NONE = 0
    UINT8 = 1
    INT8 = 2
    FLOAT32 = 3

    @property
    def bytes(self) -> int:
        """Bytes of an element; FLOAT32 lies with its low byte first."""
        return 4 if self == Element.FLOAT32 else 1

    @property
    def dtype(self) -> str:
        """numpy's name of it."""
        return self.name.lower()


class Rows(NamedTuple):
    """Where the elements of an operand or a result lie: bytes from one turn of each loop to the next."""

    address: int
    outer: int
    inner: int
    pitch: int
    element: Element


@dataclass(frozen=True, kw_only=True)
class Vector(Instruction):
    """`outer` x `inner` rows of `length` elements: a program of `steps` binary32 steps from up to three operands.

    Element i of row (o, r) of an operand lies at its address + o * outer pitch + r * inner pitch + i * pitch; a pitch
    of 0 repeats it. Codes enter as the integers that they are. The steps stand in the parameter buffer from `program`
    on, 16 bytes each; `cycles` is what a lane takes for all of them. With a `statistic` each row leaves one binary32
    number, whose `out_pitch` has no part in it.
    """

    opcode = 15
    unit = Unit.POST
    mnemonic = "vector"

    outer: int = unsigned(16, "turns of the outer loop over rows", 1)
    inner: int = unsigned(16, "turns of the inner loop over rows", 1)
    length: int = unsigned(20, "elements of a row")
    program: int = unsigned(28, "parameter buffer address of the steps")
    steps: int = unsigned(5, "how many steps", 0)
    cycles: int = unsigned(12, "cycles that a lane takes for the steps", 0)
    statistic: Statistic = choice(Statistic, 2, "what is made of each row", Statistic.NONE)
    out: int = unsigned(28, "activation buffer address of the result")
    out_outer: int = unsigned(24, "bytes from turn to turn of the outer loop", 0)
    out_inner: int = unsigned(24, "bytes from turn to turn of the inner loop", 0)
    out_pitch: int = unsigned(16, "bytes from element to element", 0)
    out_element: Element = choice(Element, 2, "what the elements of the result are")
    a: int = unsigned(28, "activation buffer address of the first operand")
    a_outer: int = unsigned(24, "bytes from turn to turn of the outer loop", 0)
    a_inner: int = unsigned(24, "bytes from turn to turn of the inner loop", 0)
    a_pitch: int = unsigned(16, "bytes from element to element", 0)
    a_element: Element = choice(Element, 2, "what its elements are")
    b: int = unsigned(28, "activation buffer address of the second operand", 0)
    b_outer: int = unsigned(24, "bytes from turn to turn of the outer loop", 0)
    b_inner: int = unsigned(24, "bytes from turn to turn of the inner loop", 0)
    b_pitch: int = unsigned(16, "bytes from element to element", 0)
    b_element: Element = choice(Element, 2, "what its elements are", Element.NONE)
    c: int = unsigned(28, "activation buffer address of the third operand", 0)
    c_outer: int = unsigned(24, "bytes from turn to turn of the outer loop", 0)
    c_inner: int = unsigned(24, "bytes from turn to turn of the inner loop", 0)
    c_pitch: int = unsigned(16, "bytes from element to element", 0)
    c_element: Element = choice(Element, 2, "what its elements are", Element.NONE)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "outer", "inner", "length")
        for name in ("out_element", "a_element"):
            if getattr(self, name) == Element.NONE:
                raise AssemblyError(f"vector: {name}=none; it takes uint8, int8 or float32")
        if self.b_element == Element.NONE != self.c_element:
            raise AssemblyError("vector: c_element without b_element; operands are used in order")
        if self.statistic != Statistic.NONE and self.out_element != Element.FLOAT32:
            raise AssemblyError(f"vector: out_element={self.out_element.dtype}; a statistic is float32")

    @property
    def operands(self) -> tuple[Rows, ...]:
        """The operands that there are."""
        return tuple(self._operands())

    def _operands(self) -> Iterator[Rows]:
        for name in "abc"[:MOST_OPERANDS]:
            fields = (getattr(self, name + suffix) for suffix in ("", "_outer", "_inner", "_pitch", "_element"))
            rows = Rows(*fields)
            if rows.element != Element.NONE:
                yield rows

    @property
    def result(self) -> Rows:
        """Where the results lie."""
        return Rows(self.out, self.out_outer, self.out_inner, self.out_pitch, self.out_element)

    @property
    def elements(self) -> int:
        """Elements of all rows."""
        return self.outer * self.inner * self.length

    def program_block(self) -> Block:
        """The bytes of the steps."""
        return line(Memory.PARAMETER, self.program, STEP_BYTES * self.steps)

    def read_blocks(self) -> tuple[Block, ...]:
        """(outer, inner, length, bytes) of each operand, then the steps."""
        operands = tuple(self._block(rows, self.length) for rows in self.operands)
        return (*operands, self.program_block()) if self.steps else operands

    def written_blocks(self) -> tuple[Block, ...]:
        return (self._block(self.result, self.length if self.statistic == Statistic.NONE else 1),)

    def _block(self, rows: Rows, length: int) -> Block:
        sizes = (self.outer, self.inner, length, rows.element.bytes)
        return Block(Memory.ACTIVATION, rows.address, sizes, (rows.outer, rows.inner, rows.pitch, 1))


INSTRUCTIONS: tuple[type[Instruction], ...] = (Vector,)
