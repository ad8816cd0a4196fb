"""The instruction of the MAC array."""

from __future__ import annotations

from dataclasses import dataclass

from accelsim.errors import AssemblyError
from accelsim.isa.blocks import Block
from accelsim.isa.fields import signed, unsigned
from accelsim.isa.units import Memory, Unit

from .base import Instruction, check_positive
from .window import WindowInstruction


@dataclass(frozen=True, kw_only=True)
class Mac(WindowInstruction):
    """Multiply and accumulate one tile: a matrix product whose left operand is gathered by the window.

    For m = (image, oy, ox) in order, n < outputs and k = (ky, kx, c) in order: the word at accumulator +
    m * (outputs + accumulator_gap) + n becomes (its old value if `accumulate`, else 0) + sum over k of
    activation(m, k) * (weight(k, n) - weight_zero_point).
    Activations enter as raw codes, padding as the code `pad`; weight(k, n) is the int8 at
    weight + k * weight_pitch_k + n * weight_pitch_n. With `groups` G, c < channels / G, and output n sees only the
    channels of group n // (outputs / G): its activation's channel is (n // (outputs / G)) * channels / G + c.

    `unroll_groups` changes no sum, only how many groups share the array in one fold, block-diagonally; the last fold
    takes what is left of them.

    `unroll_pixels` changes no sum, only how the tile lies on the array: so many neighbouring outputs of a line are
    computed by one vector, each in columns of its own. Taps must then be neighbours (dilation_x = 1) without a gap from
    one output to the next (stride_x <= kernel_width).

    `same_weights` changes no sum either: it says that the mac before has taken the same weights from the same place,
    and that nothing has been written there since. An array that still holds them all does not read them again.
    """

    opcode = 3
    unit = Unit.MAC
    mnemonic = "mac"

    pad: int = signed(9, "code of the padding: the input's zero point", 0)
    outputs: int = unsigned(16, "output channels")
    weight: int = unsigned(32, "weight buffer address")
    weight_pitch_k: int = unsigned(20, "bytes from one reduction index to the next")
    weight_pitch_n: int = unsigned(20, "bytes from one output channel to the next", 1)
    weight_zero_point: int = signed(8, "subtracted from every weight", 0)
    accumulator: int = unsigned(24, "accumulator address, in words")
    accumulator_gap: int = unsigned(16, "words between the outputs of one pixel and those of the next", 0)
    accumulate: int = unsigned(1, "1: add to what the accumulators hold", 0)
    groups: int = unsigned(16, "groups that channels and outputs are divided into", 1)
    unroll_groups: int = unsigned(16, "groups that share the array in one fold", 1)
    unroll_pixels: int = unsigned(8, "neighbouring outputs of a line that one vector computes", 1)
    same_weights: int = unsigned(1, "1: the weights are those of the mac before, laid out alike", 0)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "outputs", "groups", "unroll_groups", "unroll_pixels")
        if self.unroll_groups > self.groups:
            raise AssemblyError(f"mac: unroll_groups={self.unroll_groups} of groups={self.groups}; it has no more")
        if self.unroll_pixels > 1 and (self.dilation_x != 1 or self.stride_x > self.kernel_width):
            raise AssemblyError(
                f"mac: unroll_pixels={self.unroll_pixels} takes dilation_x=1 and no stride_x over kernel_width, not "
                f"dilation_x={self.dilation_x}, stride_x={self.stride_x}, kernel_width={self.kernel_width}"
            )
        if self.unroll_pixels > self.out_width:
            raise AssemblyError(
                f"mac: unroll_pixels={self.unroll_pixels} of a line of out_width={self.out_width}; it has no more"
            )
        if self.channels % self.groups or self.outputs % self.groups:
            raise AssemblyError(
                f"mac: channels={self.channels} and outputs={self.outputs} must be multiples of groups={self.groups}"
            )

    @property
    def reduction(self) -> int:
        """Length K of the sum of one output."""
        return self.taps * self.channels // self.groups

    @property
    def stationary(self) -> tuple[int, ...]:
        """What decides which weight stands in which cell of an array that holds them."""
        place = self.weight, self.weight_pitch_k, self.weight_pitch_n, self.weight_zero_point
        sizes = self.kernel_height, self.kernel_width, self.channels, self.outputs, self.groups
        return *place, *sizes, self.unroll_groups, self.unroll_pixels, self.stride_x if self.unroll_pixels > 1 else 0

    @property
    def vectors(self) -> int:
        """Vectors of activations of a fold: each for `unroll_pixels` outputs of a line, its last one for the rest."""
        return self.images * self.out_height * -(-self.out_width // self.unroll_pixels)

    @property
    def unrolled_width(self) -> int:
        """Input pixels of a line under the outputs of one vector (with one output: its taps across)."""
        return self.kernel_width + (self.unroll_pixels - 1) * self.stride_x

    @property
    def vector_width(self) -> int:
        """Pixels of a line that exist for the address generator: what no output of the line sees is padding too.

        Only the last vector of a line reaches beyond the line's last tap, for columns whose results nobody writes.
        """
        last_tap = self.left + (self.out_width - 1) * self.stride_x + (self.kernel_width - 1) * self.dilation_x
        return max(min(self.width, last_tap + 1), 0)

    @property
    def accumulator_pitch(self) -> int:
        """Words from pixel to pixel."""
        return self.outputs + self.accumulator_gap

    @property
    def macs(self) -> int:
        return self.pixels * self.reduction * self.outputs

    def weight_block(self) -> Block:
        """(reduction, outputs)."""
        pitches = (self.weight_pitch_k, self.weight_pitch_n)
        return Block(Memory.WEIGHT, self.weight, (self.reduction, self.outputs), pitches)

    def sum_block(self) -> Block:
        """(pixels, outputs)."""
        sizes, pitches = (self.pixels, self.outputs), (self.accumulator_pitch, 1)
        return Block(Memory.ACCUMULATOR, self.accumulator, sizes, pitches)

    def read_blocks(self) -> tuple[Block, ...]:
        return (*self.window_blocks(), self.weight_block(), *(self.written_blocks() if self.accumulate else ()))

    def written_blocks(self) -> tuple[Block, ...]:
        return (self.sum_block(),)


INSTRUCTIONS: tuple[type[Instruction], ...] = (Mac,)
