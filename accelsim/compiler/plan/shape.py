"""The sizes of a matrix operation, and how what it works on lies on the chip."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from accelsim.compiler.operations import Matrix
from accelsim.hardware import Accelerator
from accelsim.hardware.configuration import MacArray
from accelsim.hardware.folds import weight_runs

from .mapping import Work, accumulator_gap, best_line, best_pixel, weight_pitch


@dataclass(frozen=True)
class Shape:
    """Sizes of a matrix operation that the tiling needs; equal ones are cut alike."""

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
    kernel: tuple[int, int, int]
    stride: tuple[int, int, int]
    dilation: tuple[int, int, int]
    planes: int
    array: MacArray
    banks: int
    weight_banks: int
    accumulator_banks: int

    @classmethod
    def of(cls, operation: Matrix, accelerator: Accelerator) -> Shape:
        """The sizes of an operation."""
        window = operation.window
        return cls(
            *operation.target.sizes,
            *operation.source.sizes[1:],
            operation.groups,
            window.kernel,
            window.stride,
            window.dilation,
            len(operation.constants),
            accelerator.mac_array,
            accelerator.buffers.activation.banks,
            accelerator.buffers.weight.banks,
            accelerator.buffers.accumulator.banks,
        )

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
        """Input lines under `lines` output lines."""
        span = (lines - 1) * self.stride[1] + (self.kernel[1] - 1) * self.dilation[1] + 1
        return min(span, self.lines)

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

    def weight_pitch(self, channels: int, outputs: int, unroll_pixels: int) -> int:
        """Bytes from the weights of one of a group's `outputs` to those of the next; `channels` of the sum."""
        runs = weight_runs(self.array, unroll_pixels, self.kernel[2], self.stride[2])
        return weight_pitch(self.weight_banks, self.kernel[1:], self.stride[2], channels, outputs, runs)

    def accumulator_gap(self, outputs: int, groups: int, unroll_pixels: int, unroll_groups: int) -> int:
        """Words to leave free after the `outputs` of a pixel."""
        return accumulator_gap(self.accumulator_banks, outputs, groups, unroll_pixels, unroll_groups)

    def input_pixels(self, pixels: int) -> int:
        """Input pixels under `pixels` output pixels."""
        span = (pixels - 1) * self.stride[2] + (self.kernel[2] - 1) * self.dilation[2] + 1
        return min(span, self.pixels)

    def work(
        self, lines: int, pixels: int, channels: int, outputs: int, groups: int, pitches: tuple[int, int] | None
    ) -> Work:
        """The sizes of a MAC instruction for `lines` of `pixels` and so many channels and outputs of `groups`."""
        kernel, dilation = self.kernel[1:], self.dilation[1:]
        return Work(lines, pixels, kernel, self.stride[2], dilation, channels, outputs, groups, pitches)


def blocks(total: int, size: int) -> list[tuple[int, int]]:
    """0..total cut into pieces of `size`: (start, stop)."""
    return [(start, min(start + size, total)) for start in range(0, total, size)]
