"""The sizes of a matrix operation, and how what it works on lies on the chip."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from accelsim.compiler.operations import Matrix, TensorWeights, Window
from accelsim.hardware import Accelerator
from accelsim.hardware.configuration import MacArray
from accelsim.hardware.folds import weights_by_output

from .mapping import WeightLayout, Work, accumulator_gap, best_line, best_pixel, weight_layout


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Sizes of a matrix operation that the tiling needs; equal ones are cut alike.

    `passes` over the weights of a tile. `by_output`: how weights lie that an operation before computed; None for those
    that the compiler lays out. `result_bytes` of an output.
    """

    images: int
    out_depth: int
    out_lines: int
    out_pixels: int
    outputs: int
    depth: int
    lines: int
    pixels: int
    channels: int
    groups: int
    window: Window
    planes: int
    passes: int = 1
    by_output: bool | None = None
    result_bytes: int = 1
    array: MacArray
    banks: int
    weight_banks: int
    accumulator_banks: int

    @classmethod
    def of(cls, operation: Matrix, accelerator: Accelerator) -> Shape:
        """The sizes of an operation."""
        images, out_depth, out_lines, out_pixels, outputs = operation.target.sizes
        _, depth, lines, pixels, channels = operation.source.sizes
        weights, buffers = operation.weights, accelerator.buffers
        return cls(
            images=images,
            out_depth=out_depth,
            out_lines=out_lines,
            out_pixels=out_pixels,
            outputs=outputs,
            depth=depth,
            lines=lines,
            pixels=pixels,
            channels=channels,
            groups=operation.groups,
            window=operation.window,
            planes=len(operation.constants),
            passes=2 if operation.zero_source else 1,
            by_output=weights.by_output if isinstance(weights, TensorWeights) else None,
            result_bytes=operation.result_bytes,
            array=accelerator.mac_array,
            banks=buffers.activation.banks,
            weight_banks=buffers.weight.banks,
            accumulator_banks=buffers.accumulator.banks,
        )

    @property
    def kernel(self) -> tuple[int, int, int]:
        """Taps along depth, lines and pixels."""
        return self.window.kernel

    @property
    def stride(self) -> tuple[int, int, int]:
        """Of the window."""
        return self.window.stride

    @property
    def dilation(self) -> tuple[int, int, int]:
        """Of the window."""
        return self.window.dilation

    @property
    def group_outputs(self) -> int:
        """Output channels of a group."""
        return self.outputs // self.groups

    @property
    def group_channels(self) -> int:
        """Input channels of a group."""
        return self.channels // self.groups

    @property
    def taps(self) -> int:
        """Taps of one depth."""
        return self.kernel[1] * self.kernel[2]

    def output_blocks(self, outputs: int, groups: int) -> int:
        """Blocks of `outputs` output channels: those of `groups` whole groups, or part of one."""
        return -(-self.groups // groups) if groups > 1 else self.groups * -(-self.group_outputs // outputs)

    def tiles(self, images: int, lines: int, pixels: int) -> int:
        """Tiles of so many images, lines and pixels of output positions."""
        across = -(-self.images // images) * -(-self.out_lines // lines) * -(-self.out_pixels // pixels)
        return self.out_depth * across

    def steps(self, channels: int) -> int:
        """Parts that a sum is cut into: planes of depth, and `channels` input channels each."""
        return self.kernel[0] * -(-self.group_channels // channels)

    def input_lines(self, lines: int) -> int:
        """The most input lines under `lines` output lines."""
        return most_under(self.window, 1, self.out_lines, lines, self.lines)

    def pitches(self, held: int, pixels: int, channels: int, unroll_pixels: int, unroll_groups: int) -> tuple[int, int]:
        """Bytes from pixel to pixel and from line to line of a tile of the input on the chip, `pixels` wide of `held`
        channels each: the fewest with which no vector asks one bank for two, or as few as can be.

        A vector takes `channels` of each of `unroll_groups` groups, or the rest of those held, of as many taps as the
        array has rows for.
        """
        reads = [size for size in (channels, held % channels) if size]
        if unroll_pixels == 1 and self.groups == 1:
            # What a vector takes of a multiple of the rows is one run of bytes.
            reads = [size for size in reads if size % self.array.rows]
        pixel = next(
            pixel
            for wanted in (reads, reads[:1])
            for pixel in range(held, held + self.banks)
            if self._best(pixel, wanted, unroll_pixels, unroll_groups)
        )
        return pixel, self.line_pitch(
            pixels, pixel, reads[0], unroll_pixels, unroll_groups
        ) if reads else pixels * pixel

    def _best(self, pixel: int, reads: Sequence[int], unroll_pixels: int, unroll_groups: int) -> bool:
        """Whether each of the numbers of channels is read in the fewest cycles with this pitch of the pixels."""
        return all(best_pixel(pixel, *self._reduction(channels, unroll_pixels, unroll_groups)) for channels in reads)

    def line_pitch(self, pixels: int, pixel: int, channels: int, unroll_pixels: int, unroll_groups: int) -> int:
        """Bytes from line to line where those from pixel to pixel are known."""
        row = pixels * pixel
        line = best_line(pixel, *self._reduction(channels, unroll_pixels, unroll_groups))
        return row if line is None else row + (line - row) % (self.banks // math.gcd(self.dilation[1], self.banks))

    def _reduction(
        self, channels: int, unroll_pixels: int, unroll_groups: int
    ) -> tuple[tuple[int, int], tuple[int, int], int, int, int]:
        """Taps and dilation (down, across), the channels of a tap, the array's rows and the banks."""
        taps = self.kernel[1], self.kernel[2] + (unroll_pixels - 1) * self.stride[2]
        return taps, self.dilation[1:], unroll_groups * channels, self.array.rows, self.banks

    def weights_by_output(self, unroll_pixels: int) -> bool:
        """Whether the weights of one output lie side by side, rather than one of each output."""
        if self.by_output is not None:
            return self.by_output
        return weights_by_output(self.array, unroll_pixels, self.kernel[2], self.stride[2])

    def weight_layout(self, channels: int, outputs: int, groups: int, unroll_pixels: int) -> WeightLayout:
        """How the weights of so many channels of a group, and outputs of `groups`, lie."""
        work = self.work(1, 1, channels, outputs, groups, None)
        return weight_layout(self.array, self.weight_banks, work, unroll_pixels)

    def accumulator_gap(self, outputs: int, groups: int, unroll_pixels: int, unroll_groups: int) -> int:
        """Words to leave free after the `outputs` of a pixel."""
        return accumulator_gap(self.accumulator_banks, outputs, groups, unroll_pixels, unroll_groups)

    def input_pixels(self, pixels: int) -> int:
        """The most input pixels under `pixels` output pixels of a line."""
        return most_under(self.window, 2, self.out_pixels, pixels, self.pixels)

    def work(
        self, lines: int, pixels: int, channels: int, outputs: int, groups: int, pitches: tuple[int, int] | None
    ) -> Work:
        """The sizes of a MAC instruction for `lines` of `pixels` and so many channels and outputs of `groups`."""
        kernel, dilation = self.kernel[1:], self.dilation[1:]
        return Work(lines, pixels, kernel, self.stride[2], dilation, channels, outputs, groups, pitches, self.by_output)


def blocks(total: int, size: int) -> list[tuple[int, int]]:
    """0..total cut into pieces of `size`: (start, stop)."""
    return [(start, min(start + size, total)) for start in range(0, total, size)]


@lru_cache(maxsize=1 << 12)
def most_under(window: Window, axis: int, outputs: int, tile: int, size: int) -> int:
    """The most of an axis of `size` that lies under a tile of the outputs."""
    return max(window.under(axis, outputs_of_tile, size).length for outputs_of_tile in blocks(outputs, tile))
