"""Exactly which places of which memory an instruction reads and writes.

The regions that an instruction declares are hulls; what lies between the rows of a tile belongs to somebody else.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from accelsim.isa import Add, AddFixed, Instruction, Load, Lookup, Mac, Memory, Multiply, Pool, Store
from accelsim.isa.instructions import _Binary, _Lines, _Transfer, _Window, inside
from accelsim.isa.places import Runs, runs, shared, visited_twice
from accelsim.isa.requantization import _Requantization


class Block(NamedTuple):
    """Places `start + sum of i * pitch` of a memory, i below each of `sizes`: words of the accumulators, else bytes."""

    memory: Memory
    start: int
    sizes: tuple[int, ...]
    pitches: tuple[int, ...]

    @property
    def stop(self) -> int:
        """One past the last place."""
        stop = self.start + 1
        for size, pitch in zip(self.sizes, self.pitches, strict=True):
            stop += (size - 1) * pitch
        return stop

    def view(self, array: np.ndarray, origin: int = 0) -> np.ndarray:
        """These places of `array` (..., places), whose first place is `origin`: a view of shape (..., *sizes)."""
        step = array.itemsize
        pitches = self.pitches if step == 1 else tuple([pitch * step for pitch in self.pitches])
        return np.ndarray(
            array.shape[:-1] + self.sizes,
            array.dtype,
            array,
            (self.start - origin) * step,
            array.strides[:-1] + pitches,
        )

    @property
    def runs(self) -> Runs:
        """The set of these places."""
        return runs(self.start, self.sizes, self.pitches)

    def distinct(self) -> Block:
        """The same places with fewer repetitions: none, where the pitches nest."""
        found = self.runs
        outer = found.axes[::-1]
        sizes, pitches = tuple(size for _, size in outer), tuple(pitch for pitch, _ in outer)
        return Block(self.memory, found.start, (*sizes, found.length), (*pitches, 1))

    def repeats(self) -> int | None:
        """A place that occurs more than once, or None."""
        return visited_twice(self.start, self.sizes, self.pitches)


def share_a_place(a: Block, b: Block) -> int | None:
    """The first place that two blocks have in common, or None."""
    return None if a.memory != b.memory else shared(a.runs, b.runs)


def reads(instruction: Instruction) -> tuple[Block, ...]:
    """What the instruction reads."""
    return tuple(_reads(instruction))


def writes(instruction: Instruction) -> tuple[Block, ...]:
    """What the instruction writes."""
    return tuple(_writes(instruction))


def _reads(instruction: Instruction) -> Iterator[Block]:
    match instruction:
        case Load():
            yield dram_rows(instruction)
        case Store():
            yield local_rows(instruction, Memory.ACTIVATION)
        case Mac():
            yield from window(instruction)
            yield weights(instruction)
            if instruction.accumulate:
                yield sums(instruction)
        case _Requantization():
            yield accumulators(instruction)
            if instruction.planes:
                yield constants(instruction)
        case Add() | AddFixed() | Multiply():
            yield lines(instruction, instruction.a, instruction.a_pitch)
            yield lines(instruction, instruction.b, instruction.b_pitch)
        case Lookup():
            yield lines(instruction, instruction.source, instruction.source_pitch)
            yield table(instruction)
        case Pool():
            yield from window(instruction)


def _writes(instruction: Instruction) -> Iterator[Block]:
    match instruction:
        case Load():
            yield local_rows(instruction, instruction.memory)
        case Store():
            yield dram_rows(instruction)
        case Mac():
            yield sums(instruction)
        case _Requantization():
            yield requantized(instruction)
        case _Binary() | Lookup():
            yield lines(instruction, instruction.out, instruction.out_pitch)
        case Pool():
            yield pooled(instruction)


def dram_rows(transfer: _Transfer) -> Block:
    """The rows of a transfer in DRAM."""
    pitches = (transfer.dram_pitch_3, transfer.dram_pitch_2, transfer.dram_pitch_1, 1)
    return Block(Memory.DRAM, transfer.dram, _counts(transfer), pitches)


def local_rows(transfer: _Transfer, memory: Memory) -> Block:
    """The rows of a transfer in its scratchpad."""
    pitches = (transfer.pitch_3, transfer.pitch_2, transfer.pitch_1, 1)
    return Block(memory, transfer.address, _counts(transfer), pitches)


def _counts(transfer: _Transfer) -> tuple[int, ...]:
    return (transfer.count_3, transfer.count_2, transfer.count_1, transfer.length)


def weights(mac: Mac) -> Block:
    """(reduction, outputs)."""
    pitches = (mac.weight_pitch_k, mac.weight_pitch_n)
    return Block(Memory.WEIGHT, mac.weight, (mac.reduction, mac.outputs), pitches)


def sums(mac: Mac) -> Block:
    """(pixels, outputs)."""
    return Block(Memory.ACCUMULATOR, mac.accumulator, (mac.pixels, mac.outputs), (mac.accumulator_pitch, 1))


def accumulators(tile: _Requantization) -> Block:
    """(pixels, channels)."""
    return Block(Memory.ACCUMULATOR, tile.accumulator, (tile.pixels, tile.channels), (tile.accumulator_pitch, 1))


def constants(tile: _Requantization) -> Block:
    """The bytes of the planes."""
    return Block(Memory.PARAMETER, tile.parameters, (4 * tile.planes * tile.channels,), (1,))


def requantized(tile: _Requantization) -> Block:
    """(images, lines, pixels, channels)."""
    sizes = (tile.images, tile.out_height, tile.out_width, tile.channels)
    return Block(Memory.ACTIVATION, tile.out, sizes, (tile.image_pitch, tile.line_pitch, tile.pixel_pitch, 1))


def lines(instruction: _Lines, start: int, pitch: int) -> Block:
    """(lines, length) of one operand."""
    return Block(Memory.ACTIVATION, start, (instruction.lines, instruction.length), (pitch, 1))


def table(lookup: Lookup) -> Block:
    """The 256 entries."""
    return Block(Memory.PARAMETER, lookup.table, (256,), (1,))


def pooled(pool: Pool) -> Block:
    """(images, lines, pixels, channels) of the result."""
    sizes = (pool.images, pool.out_height, pool.out_width, pool.channels)
    return Block(
        Memory.ACTIVATION, pool.out, sizes, (pool.out_image_pitch, pool.out_line_pitch, pool.out_pixel_pitch, 1)
    )


class Tap(NamedTuple):
    """One tap of a window: the outputs for which it is no padding (ranges of lines and pixels), and what it reads for
    them, of sizes (images, lines, pixels, channels)."""

    ky: int
    kx: int
    down: slice
    across: slice
    block: Block


def taps(tile: _Window) -> Iterator[Tap]:
    """Every tap that is not padding everywhere."""
    down = inside(tile.top, tile.out_height, tile.stride_y, tile.kernel_height, tile.dilation_y, tile.height)
    across = inside(tile.left, tile.out_width, tile.stride_x, tile.kernel_width, tile.dilation_x, tile.width)
    pitches = (tile.image_pitch, tile.stride_y * tile.line_pitch, tile.stride_x * tile.pixel_pitch, 1)
    for ky, (top, bottom) in enumerate(down):
        for kx, (left, right) in enumerate(across):
            if top < bottom and left < right:
                line = tile.top + ky * tile.dilation_y + top * tile.stride_y
                pixel = tile.left + kx * tile.dilation_x + left * tile.stride_x
                start = tile.activation + line * tile.line_pitch + pixel * tile.pixel_pitch
                sizes = (tile.images, bottom - top, right - left, tile.channels)
                block = Block(Memory.ACTIVATION, start, sizes, pitches)
                yield Tap(ky, kx, slice(top, bottom), slice(left, right), block)


def window(tile: _Window) -> Iterator[Block]:
    """What a window reads: as few blocks as its strides allow, of sizes (images, lines, pixels, channels)."""
    down = _touched(tile.top, tile.out_height, tile.stride_y, tile.kernel_height, tile.dilation_y, tile.height)
    across = _touched(tile.left, tile.out_width, tile.stride_x, tile.kernel_width, tile.dilation_x, tile.width)
    for line, lines_, line_step in down:
        for pixel, pixels, pixel_step in across:
            yield Block(
                Memory.ACTIVATION,
                tile.activation + line * tile.line_pitch + pixel * tile.pixel_pitch,
                (tile.images, lines_, pixels, tile.channels),
                (tile.image_pitch, line_step * tile.line_pitch, pixel_step * tile.pixel_pitch, 1),
            )


@lru_cache(maxsize=1 << 14)
def _touched(
    start: int, outputs: int, stride: int, kernel: int, dilation: int, limit: int
) -> tuple[tuple[int, int, int], ...]:
    """The coordinates that the window touches along an axis, as progressions (first, how many, step)."""
    ranges = enumerate(inside(start, outputs, stride, kernel, dilation, limit))
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
