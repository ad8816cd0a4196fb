"""How the tiles of a matrix operation lie in the buffers, and how many of them have room at once."""

from __future__ import annotations

from dataclasses import dataclass

from accelsim.hardware import Accelerator
from accelsim.isa import Lookup

from .matrix import Allocation, Footprint, Tiling, interleave_of, result_slots
from .shape import Shape

#: Rows that an element-wise instruction takes.
_ROWS = Lookup.most("lines")


@dataclass(frozen=True, kw_only=True)
class Counted(Tiling):
    """A cut of an operation whose sizes are known.

    `parts` that the channels of a group are cut into, and `depth_parts` of the sum: those of each plane of depth.
    `tiles` of `positions` each, and `steps`: tiles of positions and outputs. `in_lines` x `in_pixels` of the input lie
    under a tile.
    """

    parts: int
    depth_parts: int
    channel_tiles: int
    tiles: int
    positions: int
    steps: int
    in_lines: int
    in_pixels: int

    @property
    def inner(self) -> int:
        """Sums that the inner loop goes through."""
        return self.channel_tiles if self.pixels_outer else self.tiles

    def rounds(self, cut: Footprint) -> int:
        """Rounds that the inner loop is cut into, each of `interleave` accumulator tiles."""
        return -(-self.inner // cut.interleave)


def footprint(
    shape: Shape, accelerator: Accelerator, allocation: Allocation, tiling: Counted, *, whole_input: bool, gather: bool
) -> Footprint | None:
    """How the tiles lie, None where one does not fit a buffer; `whole_input` and `gather` where either is possible."""
    buffers, epilogue, outputs, count = accelerator.buffers, allocation.epilogue, tiling.outputs, tiling.positions
    if epilogue is not None and not (
        _consecutive(shape, (tiling.images, tiling.lines, tiling.pixels)) and count <= _ROWS
    ):
        return None
    gather = gather and tiling.pixels_outer and not allocation.target_resident and tiling.channel_tiles > 1
    if epilogue is not None and tiling.channel_tiles > 1 and not gather and not epilogue.by_block:
        return None
    held = tiling.groups * shape.group_channels if shape.groups > 1 else shape.channels, tiling.channels
    pitches = [
        shape.pitches(channels, tiling.in_pixels, tiling.channels, tiling.unroll_pixels, tiling.unroll_groups)
        for channels in held
    ]
    whole, part = (tiling.images * tiling.in_lines * line for _, line in pitches)
    out_tile = 0 if allocation.target_resident else count * (shape.outputs if gather else outputs) * shape.result_bytes
    out_tile *= 1 if epilogue is None else epilogue.tiles
    in_tile = 0 if allocation.source_resident else whole if whole_input else part
    if in_tile + out_tile > allocation.staging and tiling.parts > 1 and not allocation.source_resident:
        whole_input, in_tile = False, part
    if in_tile + out_tile > allocation.staging and gather and epilogue is None:
        gather, out_tile = False, count * outputs * shape.result_bytes
    if in_tile + out_tile > allocation.staging:
        return None
    results = result_slots(allocation.staging, in_tile, out_tile)
    weight = shape.weight_layout(tiling.channels, outputs, tiling.groups, tiling.unroll_pixels).size
    weights = buffers.weight.bytes // weight
    accumulator_pitch = outputs + shape.accumulator_gap(
        outputs, tiling.groups, tiling.unroll_pixels, tiling.unroll_groups
    )
    accumulators = buffers.accumulator.words // (count * accumulator_pitch)
    if not weights or not accumulators:
        return None
    inputs = (allocation.staging - results * out_tile) // in_tile if in_tile else 0
    interleave = interleave_of(tiling.inner, accumulators) if tiling.interleaved else 1
    if tiling.interleaved:
        if interleave == 1:
            return None
        if in_tile and whole_input and tiling.parts > 1 and not tiling.pixels_outer and inputs < interleave:
            return None  # every part would load the whole input again
    pixel_pitch, line_pitch = pitches[not whole_input]
    constant = 4 * shape.planes * outputs
    return Footprint(
        whole_input=whole_input,
        gather=gather,
        held=held[not whole_input],
        pixel_pitch=pixel_pitch,
        line_pitch=line_pitch,
        input=in_tile,
        inputs=inputs,
        result=out_tile,
        results=results,
        weight=weight,
        weights=weights,
        constant=constant,
        constants=buffers.parameter.bytes // max(constant, 1),
        accumulator_pitch=accumulator_pitch,
        accumulator=count * accumulator_pitch,
        accumulators=accumulators,
        interleave=interleave,
    )


def _consecutive(shape: Shape, positions: tuple[int, int, int]) -> bool:
    """Whether the positions of a tile follow one another: (a part of) a line, whole lines of one image, or images."""
    images, lines, pixels = positions
    return (images == lines == 1 or pixels == shape.out_pixels) and (images == 1 or shape.out_depth == 1)
