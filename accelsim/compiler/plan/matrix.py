"""How a matrix operation is cut, and what it has to do so with."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, kw_only=True)
class Tiling:
    """Sizes of one way to cut a matrix operation.

    A pixel tile has `images` x `lines` x `pixels` outputs, a channel tile `outputs` channels: those of `groups` groups,
    or a part of one. A reduction tile has `channels` input channels of a group. The array takes `unroll_groups` groups
    in one fold, and `unroll_pixels` neighbouring pixels of each.
    `pixels_outer`: the loop over pixel tiles is the outer one; else that over channel tiles is. `interleaved`: as many
    accumulator tiles as there is room for go through a reduction tile, one after the other, before the next reduction
    tile, so that what they share is loaded once.
    """

    images: int
    lines: int
    pixels: int
    outputs: int
    groups: int
    channels: int
    unroll_pixels: int
    unroll_groups: int
    pixels_outer: bool
    interleaved: bool


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """How the tiles of a tiling lie in the buffers: bytes (of the accumulators: words) of a slot, and how many slots
    there is room for.

    `whole_input`: input tiles hold all channels, even where the reduction is cut. `gather`: a pixel tile is stored, or
    goes to the fused epilogue, when all its channel tiles are there. `held`: channels of an input tile, whose pixels
    lie `pixel_pitch` bytes apart and its lines `line_pitch`. `accumulator_pitch`: words from the sums of one pixel to
    those of the next. `interleave`: accumulator tiles that go through a reduction tile in turn.
    """

    whole_input: bool
    gather: bool
    held: int
    pixel_pitch: int
    line_pitch: int
    input: int
    inputs: int
    result: int
    results: int
    weight: int
    weights: int
    constant: int
    constants: int
    accumulator_pitch: int
    accumulator: int
    accumulators: int
    interleave: int


@dataclass(frozen=True, kw_only=True)
class MatrixPlan(Tiling):
    """A tiling, how its tiles lie in the buffers, and what that is estimated to take.

    `cost`: the estimate in cycles, `dram` in bytes; `bound`: what most of the time is spent on.
    """

    footprint: Footprint
    cost: float
    dram: int
    bound: str

    def decided(self) -> MatrixPlan:
        """The same for all plans that decide the same, whatever their estimates."""
        return replace(self, cost=0.0, dram=0, bound="")


@dataclass(frozen=True)
class Epilogue:
    """Element-wise work on each tile: `streamed_in` operands and `streamed_out` results pass through the buffer.

    `in_place`: its results take the place of the tile. `operands`: how many it has, the tile among them. `by_block`: it
    can work on one channel tile before the others are there. `dense`: none of its tensors is resident, so that what it
    works on lies row after row.
    """

    streamed_in: int
    streamed_out: int
    in_place: bool
    operands: int
    by_block: bool
    dense: bool

    @property
    def tiles(self) -> int:
        """Places of a tile's size that a tile needs: its own, its other operands' and its results'."""
        return 1 + self.streamed_in + (0 if self.in_place else self.streamed_out)


@dataclass(frozen=True)
class Allocation:
    """What an operation has: bytes of `staging` in the activation buffer, and which operands need none of it.

    `pitches`: bytes from line to line and from pixel to pixel of a resident source; `out_pitch`: from pixel to pixel of
    a resident target. With a `tail` the results go to it, tile by tile. `cold`: nothing runs before it during which its
    first weights could be loaded.
    """

    staging: int
    source_resident: bool
    target_resident: bool
    pitches: tuple[int, int] | None = None
    cold: bool = False
    epilogue: Epilogue | None = None
    out_pitch: int = 0


def interleave_of(sums: int, accumulators: int) -> int:
    """How many of so many sums are interleaved: as few as make the fewest rounds of what accumulators hold."""
    return -(-sums // -(-sums // min(accumulators, sums)))


def result_slots(staging: int, in_tile: int, out_tile: int) -> int:
    """Slots for the results of a tile: two, if that leaves as many for its input, or one."""
    if not out_tile:
        return 1
    if not in_tile:
        return 2 if 2 * out_tile <= staging else 1
    left = [(staging - slots * out_tile) // in_tile for slots in (1, 2)]
    return 2 if left[1] >= min(left[0], 2) else 1
