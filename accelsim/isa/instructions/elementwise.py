"""The instructions that compute each byte of a result from the bytes in the same place of the operands."""

from __future__ import annotations

from dataclasses import dataclass

from accelsim.arithmetic.requantize import Step
from accelsim.isa.blocks import Block, line
from accelsim.isa.fields import binary32, choice, signed, unsigned
from accelsim.isa.units import Memory, Unit

from .base import Instruction, check_clamps, check_positive, check_steps


@dataclass(frozen=True, kw_only=True)
class LinesInstruction(Instruction):
    """`lines` rows of `length` bytes, element by element."""

    lines: int = unsigned(20, "rows", 1)
    length: int = unsigned(24, "elements of a row")
    out: int = unsigned(32, "activation buffer address of the result")
    out_pitch: int = unsigned(24, "bytes from row to row of the result", 0)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "lines", "length")

    @property
    def elements(self) -> int:
        """Elements of the result."""
        return self.lines * self.length

    def operand_block(self, start: int, pitch: int) -> Block:
        """(lines, length) of the activation buffer from `start` on, rows `pitch` apart."""
        return Block(Memory.ACTIVATION, start, (self.lines, self.length), (pitch, 1))

    def written_blocks(self) -> tuple[Block, ...]:
        return (self.operand_block(self.out, self.out_pitch),)


@dataclass(frozen=True, kw_only=True)
class BinaryInstruction(LinesInstruction):
    """Two operands from the activation buffer."""

    a: int = unsigned(32, "activation buffer address of the first operand")
    a_pitch: int = unsigned(24, "bytes from row to row", 0)
    signed_a: int = unsigned(1, "1: its codes are int8", 0)
    b: int = unsigned(32, "activation buffer address of the second operand")
    b_pitch: int = unsigned(24, "bytes from row to row", 0)
    signed_b: int = unsigned(1, "1: its codes are int8", 0)

    def read_blocks(self) -> tuple[Block, ...]:
        return (self.operand_block(self.a, self.a_pitch), self.operand_block(self.b, self.b_pitch))


@dataclass(frozen=True, kw_only=True)
class Add(BinaryInstruction):
    """Add in binary32: f(q) = fma(q - subtract, scale, offset) of each operand, f32(f(a) + f(b)), then `steps`.

    With `fused` the sum is fma(a - subtract_a, scale_a, f(b)), one rounding less, and offset_a has no part in it.

    Of the steps only `multiplier` or `divisor` (whose constant is the field `multiplier`), `zero_point_first` and
    `fused_zero_point`.
    """

    opcode = 5
    unit = Unit.POST
    mnemonic = "add"

    subtract_a: int = signed(9, "integer taken from a's code first", 0)
    scale_a: float = binary32("factor of a")
    offset_a: float = binary32("added to a in the same rounding", 0.0)
    subtract_b: int = signed(9, "integer taken from b's code first", 0)
    scale_b: float = binary32("factor of b")
    offset_b: float = binary32("added to b in the same rounding", 0.0)
    steps: Step = choice(Step, 10, "steps of the requantisation")
    multiplier: float = binary32("constant of the multiplier or the divisor step")
    zero_point: int = signed(9, "output zero point")
    minimum: int = signed(9, "lower clamp")
    maximum: int = signed(9, "upper clamp")
    fused: int = unsigned(1, "1: a's product and the sum are rounded once", 0)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_clamps(self, self.minimum, self.maximum)
        check_steps(self, self.steps)


@dataclass(frozen=True, kw_only=True)
class AddFixed(BinaryInstruction):
    """Add in fixed point: (multiplier_a * (a - zero_a) + multiplier_b * (b - zero_b)) / 2^shift rounded to nearest,
    halves away from zero or (`halves_up`) towards plus infinity, plus the zero point, clamped."""

    opcode = 6
    unit = Unit.POST
    mnemonic = "add_fixed"

    multiplier_a: int = signed(32, "factor of a")
    zero_a: int = signed(9, "a's zero point")
    multiplier_b: int = signed(32, "factor of b")
    zero_b: int = signed(9, "b's zero point")
    shift: int = unsigned(6, "binary places of the factors")
    zero_point: int = signed(9, "output zero point")
    minimum: int = signed(9, "lower clamp")
    maximum: int = signed(9, "upper clamp")
    halves_up: int = unsigned(1, "1: halves are rounded towards plus infinity", 0)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_clamps(self, self.minimum, self.maximum)


@dataclass(frozen=True, kw_only=True)
class Multiply(BinaryInstruction):
    """The integer product (a - zero_a) * (b - zero_b), then `steps`, whose constant is `multiplier`."""

    opcode = 7
    unit = Unit.POST
    mnemonic = "multiply"

    zero_a: int = signed(9, "a's zero point")
    zero_b: int = signed(9, "b's zero point")
    steps: Step = choice(Step, 10, "steps of the requantisation")
    multiplier: float = binary32("constant of the multiplier step")
    zero_point: int = signed(9, "output zero point")
    minimum: int = signed(9, "lower clamp")
    maximum: int = signed(9, "upper clamp")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_clamps(self, self.minimum, self.maximum)
        check_steps(self, self.steps)


@dataclass(frozen=True, kw_only=True)
class Maximum(BinaryInstruction):
    """The larger of the two codes (with `smaller` the smaller one): of equal affine maps, that of the larger value."""

    opcode = 14
    unit = Unit.POST
    mnemonic = "maximum"

    smaller: int = unsigned(1, "1: the smaller of the two", 0)


@dataclass(frozen=True, kw_only=True)
class Lookup(LinesInstruction):
    """Replace each byte by the entry of a 256-byte table of the parameter buffer that it indexes."""

    opcode = 8
    unit = Unit.POST
    mnemonic = "lookup"

    source: int = unsigned(32, "activation buffer address of the operand")
    source_pitch: int = unsigned(24, "bytes from row to row", 0)
    table: int = unsigned(32, "parameter buffer address of the table")

    def read_blocks(self) -> tuple[Block, ...]:
        table = line(Memory.PARAMETER, self.table, 256)
        return (self.operand_block(self.source, self.source_pitch), table)


INSTRUCTIONS: tuple[type[Instruction], ...] = (Add, AddFixed, Multiply, Maximum, Lookup)
