"""A window that slides over images: what a convolution and a pool read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from accelsim.isa.blocks import Block
from accelsim.isa.fields import signed, unsigned
from accelsim.isa.units import Memory

from .base import Instruction, check_positive


class Tap(NamedTuple):
    """One tap of a window: the outputs for which it is no padding (ranges of lines and pixels), and what it reads for
    them, of sizes (images, lines, pixels, channels)."""

    ky: int
    kx: int
    down: slice
    across: slice
    block: Block


@dataclass(frozen=True, kw_only=True)
class WindowInstruction(Instruction):
    """A window that slides over a tile of images stored line by line, pixel by pixel, channels innermost.

    The element for image i, output (oy, ox), tap (ky, kx) and channel c lies at line y = top + oy * stride_y +
    ky * dilation_y and pixel x = left + ox * stride_x + kx * dilation_x, at the address activation + i * image_pitch +
    y * line_pitch + x * pixel_pitch + c. Where y is outside 0..height - 1 or x outside 0..width - 1 it is padding and
    nothing is read.
    """

    activation: int = unsigned(32, "address of line 0, pixel 0")
    image_pitch: int = unsigned(32, "bytes from image to image", 0)
    line_pitch: int = unsigned(24, "bytes from line to line", 0)
    pixel_pitch: int = unsigned(16, "bytes from pixel to pixel", 0)
    images: int = unsigned(12, "images", 1)
    out_height: int = unsigned(16, "output lines", 1)
    out_width: int = unsigned(16, "output pixels of a line", 1)
    kernel_height: int = unsigned(8, "taps down", 1)
    kernel_width: int = unsigned(8, "taps across", 1)
    channels: int = unsigned(16, "channels")
    top: int = signed(16, "line of the first tap of the first output", 0)
    left: int = signed(16, "pixel of the first tap of the first output", 0)
    height: int = unsigned(16, "lines that exist", 1)
    width: int = unsigned(16, "pixels of a line that exist", 1)
    stride_y: int = unsigned(8, "lines from output to output", 1)
    stride_x: int = unsigned(8, "pixels from output to output", 1)
    dilation_y: int = unsigned(8, "lines from tap to tap", 1)
    dilation_x: int = unsigned(8, "pixels from tap to tap", 1)
    signed_activation: int = unsigned(1, "1: codes are int8, 0: uint8", 0)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "images", "out_height", "out_width", "kernel_height", "kernel_width", "channels")

    @property
    def pixels(self) -> int:
        """Output positions."""
        return self.images * self.out_height * self.out_width

    @property
    def taps(self) -> int:
        """Positions of the window."""
        return self.kernel_height * self.kernel_width

    def inside_taps(self) -> Iterator[Tap]:
        """Every tap that is not padding everywhere."""
        pitches = (self.image_pitch, self.stride_y * self.line_pitch, self.stride_x * self.pixel_pitch, 1)
        across = inside(*self._across)
        for ky, (top, bottom) in enumerate(inside(*self._down)):
            for kx, (left, right) in enumerate(across):
                if top < bottom and left < right:
                    line = self.top + ky * self.dilation_y + top * self.stride_y
                    pixel = self.left + kx * self.dilation_x + left * self.stride_x
                    start = self.activation + line * self.line_pitch + pixel * self.pixel_pitch
                    sizes = (self.images, bottom - top, right - left, self.channels)
                    block = Block(Memory.ACTIVATION, start, sizes, pitches)
                    yield Tap(ky, kx, slice(top, bottom), slice(left, right), block)

    def window_blocks(self) -> tuple[Block, ...]:
        """What the window reads: as few blocks as its strides allow, of sizes (images, lines, pixels, channels)."""
        return tuple(
            [
                Block(
                    Memory.ACTIVATION,
                    self.activation + line * self.line_pitch + pixel * self.pixel_pitch,
                    (self.images, lines, pixels, self.channels),
                    (self.image_pitch, line_step * self.line_pitch, pixel_step * self.pixel_pitch, 1),
                )
                for line, lines, line_step in _progressions(*self._down)
                for pixel, pixels, pixel_step in _progressions(*self._across)
            ]
        )

    def gathered_bytes(self, across: tuple[tuple[int, int], ...] | None = None) -> int:
        """Bytes that are gathered, each output position for itself, padding left out.

        `across`: for each tap along a line the outputs (first, one past the last) that it is inside for.
        """
        across = inside(*self._across) if across is None else across
        down = inside(*self._down)
        inside_taps = sum(stop - first for first, stop in down) * sum(stop - first for first, stop in across)
        return inside_taps * self.images * self.channels

    @property
    def window_parts(self) -> int:
        """How many blocks `window_blocks` are."""
        return len(_progressions(*self._down)) * len(_progressions(*self._across))

    @property
    def _down(self) -> tuple[int, int, int, int, int, int]:
        return self.top, self.out_height, self.stride_y, self.kernel_height, self.dilation_y, self.height

    @property
    def _across(self) -> tuple[int, int, int, int, int, int]:
        return self.left, self.out_width, self.stride_x, self.kernel_width, self.dilation_x, self.width


@lru_cache(maxsize=1 << 14)
def inside(start: int, outputs: int, stride: int, taps: int, dilation: int, limit: int) -> tuple[tuple[int, int], ...]:
    """For each tap along one axis, the outputs (first, one past the last) whose coordinate is in 0..limit - 1.

    The coordinate of output o and tap t is start + o * stride + t * dilation. (0, 0) where there is none.
    """
    ranges = []
    for tap in range(taps):
        low = start + tap * dilation
        if stride == 0:
            first, stop = 0, outputs if 0 <= low < limit else 0
        else:
            first, stop = max(0, -(low // stride)), min(outputs, (limit - 1 - low) // stride + 1)
        ranges.append((first, stop) if first < stop else (0, 0))
    return tuple(ranges)


@lru_cache(maxsize=1 << 14)
def _progressions(
    start: int, outputs: int, stride: int, taps: int, dilation: int, limit: int
) -> tuple[tuple[int, int, int], ...]:
    """The coordinates that the window touches along an axis, as progressions (first, how many, step)."""
    ranges = enumerate(inside(start, outputs, stride, taps, dilation, limit))
    single = tuple(
        (start + tap * dilation + first * stride, stop - first, stride) for tap, (first, stop) in ranges if stop
    )
    if not single:
        return ()
    # Coordinates are below `limit`, a field of 16 bits.
    marks = np.zeros(limit, bool)
    for first, count, step in single:
        marks[first : first + (count - 1) * step + 1 : step or 1] = True
    every = np.flatnonzero(marks)
    steps = np.diff(every)
    if len(every) == 1 or (steps == steps[0]).all():
        return ((int(every[0]), len(every), int(steps[0]) if len(every) > 1 else 0),)
    return single
