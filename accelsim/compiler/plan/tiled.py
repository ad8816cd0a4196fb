"""Operations with their tiles, and the slots of the buffers in which these lie: all that emission goes by."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from accelsim.compiler.operations import Copy, Elementwise, Matrix, Pool, Span, Vector
from accelsim.hardware.folds import groups_that_fit

from .fusion import Fusion
from .matrix import MatrixPlan
from .shape import Shape
from .slots import Slots
from .streams import VectorTile


class PixelTile(NamedTuple):
    """A tile of output positions: one depth, and ranges of images, lines and pixels; `under_lines` and `under_pixels`
    of the input lie under it."""

    depth: int
    images: tuple[int, int]
    lines: tuple[int, int]
    pixels: tuple[int, int]
    under_lines: Span
    under_pixels: Span

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Images, lines, pixels."""
        (a, b), (c, d), (e, f) = self.images, self.lines, self.pixels
        return b - a, d - c, f - e


class ChannelTile(NamedTuple):
    """Output channels `first..first + outputs - 1`: `groups` whole groups from `group` on, or part of that one."""

    group: int
    groups: int
    first: int
    outputs: int


class ReductionTile(NamedTuple):
    """Input channels `first`..`last` - 1 of a group, under plane `tap` of the window; `accumulate`: not the first.

    The weights of neighbouring outputs, or of neighbouring terms of the sum, lie `weight_pitch` bytes apart (0: as many
    as there are outputs).
    """

    tap: int
    first: int
    last: int
    weight_pitch: int
    accumulate: bool


@dataclass(frozen=True, kw_only=True)
class TiledMatrix:
    """A matrix operation as its `plan` cuts it, and the element-wise operation that works on its tiles, if one does.

    `interleave`: accumulator tiles that go through a reduction tile in turn, all of which have a slot at once.
    `result`: bytes of the results of a tile, where they pass through the activation buffer; a slot of `results` has
    room for the other operands of the fused operation, too.
    """

    operation: Matrix
    shape: Shape
    plan: MatrixPlan
    fusion: Fusion | None
    pixel_tiles: tuple[PixelTile, ...]
    channel_tiles: tuple[ChannelTile, ...]
    reduction_tiles: tuple[ReductionTile, ...]
    interleave: int
    result: int
    inputs: Slots
    results: Slots
    weights: Slots
    constants: Slots
    tables: Slots
    accumulators: Slots

    def unrolling(self, tile: PixelTile, outputs: ChannelTile, terms: ReductionTile) -> tuple[int, int]:
        """Pixels and groups that the array takes in one fold: a tile of fewer pixels leaves room for more groups."""
        shape, pixels = self.shape, min(self.plan.unroll_pixels, tile.sizes[2])
        across = shape.kernel[2] + (pixels - 1) * shape.stride[2]
        reduction = shape.kernel[1] * across * (terms.last - terms.first)
        per_group = outputs.outputs // outputs.groups
        return pixels, groups_that_fit(shape.array, pixels, reduction, per_group, outputs.groups)

    def rounds(self) -> Iterator[list[tuple[PixelTile, int]]]:
        """The pixel tiles, each with the number of a channel tile, in the order of the loops.

        Those of a list go through each reduction tile in turn.
        """
        numbers = range(len(self.channel_tiles))
        if self.plan.pixels_outer:
            loops = [[(tile, number) for number in numbers] for tile in self.pixel_tiles]
        else:
            loops = [[(tile, number) for tile in self.pixel_tiles] for number in numbers]
        for inner in loops:
            for first in range(0, len(inner), self.interleave):
                yield inner[first : first + self.interleave]


@dataclass(frozen=True, kw_only=True)
class TiledPool:
    """A pool in tiles of output `lines` and `channels`; a tile has a slot of `inputs` and one of `results`."""

    operation: Pool
    lines: int
    channels: int
    inputs: Slots
    results: Slots


@dataclass(frozen=True, kw_only=True)
class TiledElementwise:
    """Element-wise work in tiles of so many `elements`; operands that pass through the buffer take `slots` in turn."""

    operation: Elementwise
    elements: int
    slots: Slots
    tables: Slots


@dataclass(frozen=True, kw_only=True)
class TiledCopy:
    """A copy; from DRAM to DRAM in tiles of its last `inner` loops, of the one around them `split` turns at a time (0:
    there is none)."""

    operation: Copy
    inner: int = 0
    split: int = 0
    slots: Slots


@dataclass(frozen=True, kw_only=True)
class TiledVector:
    """A vector operation in tiles; each of its streams (sources, then target) has `slots` of its own, of which those
    that do not pass through the buffer take none. Its program has a slot of `programs`."""

    operation: Vector
    tile: VectorTile
    slots: tuple[Slots, ...]
    programs: Slots


Tiled = TiledMatrix | TiledPool | TiledElementwise | TiledCopy | TiledVector
