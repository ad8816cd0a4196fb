"""The instructions that turn accumulators into codes: one for each form of arithmetic that a requant unit can have."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from accelsim.arithmetic.requantize import CONSTANTS, Step
from accelsim.errors import AssemblyError
from accelsim.isa.blocks import Block, line
from accelsim.isa.fields import choice, signed, unsigned
from accelsim.isa.units import Memory, Unit

from .base import Instruction, check_clamps, check_positive, check_steps

#: Steps that leave a number in real units.
_REAL_STEPS = Step.OFFSET | Step.SCALE_1 | Step.SCALE_2 | Step.BIAS | Step.FUSED_BIAS


@dataclass(frozen=True, kw_only=True)
class RequantInstruction(Instruction):
    """Turn a tile of accumulators into 8-bit codes in the activation buffer.

    The code of the word acc at accumulator + m * (channels + accumulator_gap) + c, m = (image, oy, ox), goes to out +
    image * image_pitch + oy * line_pitch + ox * pixel_pitch + c. The constants lie in the parameter buffer from
    `parameters` on, each as a plane of `channels` 32-bit words, plane after plane.
    """

    unit = Unit.POST

    accumulator: int = unsigned(24, "accumulator address, in words")
    accumulator_gap: int = unsigned(16, "words between the channels of one pixel and those of the next", 0)
    out: int = unsigned(32, "activation buffer address of the result")
    image_pitch: int = unsigned(32, "bytes from image to image", 0)
    line_pitch: int = unsigned(24, "bytes from line to line", 0)
    pixel_pitch: int = unsigned(16, "bytes from pixel to pixel", 0)
    images: int = unsigned(12, "images", 1)
    out_height: int = unsigned(16, "lines", 1)
    out_width: int = unsigned(16, "pixels of a line", 1)
    channels: int = unsigned(16, "channels")
    parameters: int = unsigned(32, "parameter buffer address of the constants")
    minimum: int = signed(9, "smallest code")
    maximum: int = signed(9, "largest code")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "images", "out_height", "out_width", "channels")
        check_clamps(self, self.minimum, self.maximum)

    @property
    def pixels(self) -> int:
        """Output positions."""
        return self.images * self.out_height * self.out_width

    @property
    def accumulator_pitch(self) -> int:
        """Words from pixel to pixel."""
        return self.channels + self.accumulator_gap

    @property
    def planes(self) -> int:
        """32-bit constants a channel."""
        raise NotImplementedError

    @property
    def element_bytes(self) -> int:
        """Bytes of a result."""
        return 1

    def sum_block(self) -> Block:
        """(pixels, channels)."""
        sizes, pitches = (self.pixels, self.channels), (self.accumulator_pitch, 1)
        return Block(Memory.ACCUMULATOR, self.accumulator, sizes, pitches)

    def constant_block(self) -> Block:
        """The bytes of the planes."""
        return line(Memory.PARAMETER, self.parameters, 4 * self.planes * self.channels)

    def read_blocks(self) -> tuple[Block, ...]:
        return (self.sum_block(), self.constant_block()) if self.planes else (self.sum_block(),)

    def written_blocks(self) -> tuple[Block, ...]:
        """(images, lines, pixels, bytes of the channels)."""
        sizes = (self.images, self.out_height, self.out_width, self.channels * self.element_bytes)
        pitches = (self.image_pitch, self.line_pitch, self.pixel_pitch, 1)
        return (Block(Memory.ACTIVATION, self.out, sizes, pitches),)


@dataclass(frozen=True, kw_only=True)
class Requantize(RequantInstruction):
    """In binary32: acc goes through the `steps` of the requantisation pipeline.

    Planes: one for each step that reads a constant, in the order of the pipeline. With `real` the numbers before the
    multiplier are the result, four bytes each, channels side by side.
    """

    opcode = 4
    mnemonic = "requantize"

    steps: Step = choice(Step, 10, "steps of the pipeline that act")
    zero_point: int = signed(9, "output zero point")
    real: int = unsigned(1, "1: binary32 numbers, not codes", 0)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_steps(self, self.steps)
        surplus = self.steps & ~_REAL_STEPS
        if self.real and surplus:
            raise AssemblyError(
                f"requantize: steps={str(surplus.name).lower().replace('|', '+')} with real=1; they make codes"
            )

    @property
    def element_bytes(self) -> int:
        return 4 if self.real else 1

    @property
    def planes(self) -> int:
        return _planes(self.steps)


@dataclass(frozen=True, kw_only=True)
class RequantFixed(RequantInstruction):
    """In fixed point: clamp((acc * M + B) >> S), the shift towards minus infinity; zero point and rounding are in B.

    Planes: M (0 to 2^31 - 1), the low and the high word of B (a 64-bit integer), S (0 to 54). acc * M + B fits 64 bits.
    """

    opcode = 10
    mnemonic = "requant_fixed"

    @property
    def planes(self) -> int:
        return 4


@dataclass(frozen=True, kw_only=True)
class RequantThresholds(RequantInstruction):
    """By comparison: `minimum` plus the number of thresholds T with acc >= T.

    Planes: maximum - minimum thresholds, 32-bit integers that never fall from one plane to the next.
    """

    opcode = 11
    mnemonic = "requant_thresholds"

    @property
    def planes(self) -> int:
        return self.maximum - self.minimum


@dataclass(frozen=True, kw_only=True)
class RequantGemmlowp(RequantInstruction):
    """As gemmlowp does: a doubling high product that rounds, and a shift that rounds.

    x = acc + bias, shifted left by -shift where the shift is negative, saturated to 32 bits; h = x * multiplier / 2^31
    to the nearest integer, halves up; the code is h / 2^max(shift, 0) to the nearest, halves away from zero, plus the
    zero point, clamped. Planes: bias (a 32-bit integer), multiplier (0 to 2^31 - 1), shift (-30 to 31).
    """

    opcode = 12
    mnemonic = "requant_gemmlowp"

    zero_point: int = signed(9, "output zero point")

    @property
    def planes(self) -> int:
        return 3


@dataclass(frozen=True, kw_only=True)
class RequantTextbook(RequantInstruction):
    """With a real multiplier, the significand of a binary64 number, and one rounding.

    (acc + bias) * significand / 2^shift to the nearest integer, halves to even, plus the zero point, clamped. Planes:
    bias (a 32-bit integer), the low and the high word of the significand (below 2^53), shift (27 to 88).
    """

    opcode = 13
    mnemonic = "requant_textbook"

    zero_point: int = signed(9, "output zero point")

    @property
    def planes(self) -> int:
        return 4


#: The one instruction of this kind that a machine runs, by the `requant_unit.arithmetic` of its configuration.
REQUANTIZATIONS: dict[str, type[RequantInstruction]] = {
    "float32_exact": Requantize,
    "fixed_point": RequantFixed,
    "thresholds": RequantThresholds,
    "power_of_two": RequantFixed,
    "gemmlowp": RequantGemmlowp,
    "textbook": RequantTextbook,
}


@cache
def _planes(steps: Step) -> int:
    return sum(1 for _, step in CONSTANTS if steps & step)


INSTRUCTIONS: tuple[type[Instruction], ...] = (
    Requantize,
    RequantFixed,
    RequantThresholds,
    RequantGemmlowp,
    RequantTextbook,
)
