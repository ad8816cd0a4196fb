"""Pools: each window of the activation buffer becomes one code a channel."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from accelsim.arithmetic.requantize import Step
from accelsim.errors import AssemblyError
from accelsim.isa.blocks import Block
from accelsim.isa.fields import binary32, choice, signed, unsigned
from accelsim.isa.units import Memory, Unit

from .base import Instruction, check_clamps, check_steps
from .window import WindowInstruction


class Reduction(enum.IntEnum):
    """What a pool does with its window."""

    MAX = 0
    SUM = 1


@dataclass(frozen=True, kw_only=True)
class Pool(WindowInstruction):
    """Reduce each window, channel by channel; padding takes no part.

    `max`: the largest code. `sum`: the sum of code - subtract, then `steps`, whose constant (multiplier or divisor) is
    `factor`.
    """

    opcode = 9
    unit = Unit.POST
    mnemonic = "pool"

    reduction: Reduction = choice(Reduction, 1, "max or sum")
    out: int = unsigned(32, "activation buffer address of the result")
    out_image_pitch: int = unsigned(24, "bytes from image to image of the result", 0)
    out_line_pitch: int = unsigned(20, "bytes from line to line of the result", 0)
    out_pixel_pitch: int = unsigned(16, "bytes from pixel to pixel of the result", 0)
    subtract: int = signed(9, "input zero point, taken from each code of a sum", 0)
    steps: Step = choice(Step, 10, "steps of the requantisation of a sum", Step(0))
    factor: float = binary32("constant of the multiplier or the divisor step", 1.0)
    zero_point: int = signed(9, "output zero point", 0)
    minimum: int = signed(9, "lower clamp", 0)
    maximum: int = signed(9, "upper clamp", 255)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.reduction == Reduction.SUM:
            check_clamps(self, self.minimum, self.maximum)
            check_steps(self, self.steps)
            if self.steps & Step.DIVISOR and not self.factor:
                raise AssemblyError(
                    "pool: factor=0 is the divisor of every sum; give the number of a window's elements"
                )

    def read_blocks(self) -> tuple[Block, ...]:
        return self.window_blocks()

    def written_blocks(self) -> tuple[Block, ...]:
        """(images, lines, pixels, channels)."""
        sizes = (self.images, self.out_height, self.out_width, self.channels)
        pitches = (self.out_image_pitch, self.out_line_pitch, self.out_pixel_pitch, 1)
        return (Block(Memory.ACTIVATION, self.out, sizes, pitches),)


INSTRUCTIONS: tuple[type[Instruction], ...] = (Pool,)
