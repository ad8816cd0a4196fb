"""How an instruction's tile lies on the MAC array: groups, passes, chunks of the reduction."""

from __future__ import annotations

from dataclasses import dataclass

from accelsim.hardware.banks import Chunk, chunks
from accelsim.hardware.folds import pieces, preloads
from accelsim.isa import Mac


@dataclass(frozen=True)
class GroupSet:
    """`groups` groups side by side on the array, block-diagonally; `count` such sets follow one another.

    `chunks` cut their common reduction (tap of any unrolled pixel, then channel of all the groups), `outputs` is that
    of all the groups for one pixel. `preloads`: accesses that fill the array with each chunk's weights.
    """

    count: int
    groups: int
    chunks: tuple[Chunk, ...]
    outputs: int
    preloads: tuple[int, ...]


def group_sets(mac: Mac, groups_in_a_fold: int, rows: int, banks: int) -> tuple[GroupSet, ...]:
    """The sets that the groups form when `side_by_side` of them fit next to one another."""
    taps = mac.kernel_height, mac.unrolled_width
    kernel = mac.kernel_height, mac.kernel_width
    pitches = mac.dilation_y * mac.line_pitch, mac.dilation_x * mac.pixel_pitch
    return tuple(
        GroupSet(
            count,
            groups,
            chunks(taps, pitches, groups * mac.channels // mac.groups, rows, banks),
            groups * mac.outputs // mac.groups,
            preloads(kernel, mac.stride_x, mac.channels // mac.groups, mac.unroll_pixels, groups, rows),
        )
        for count, groups in pieces(mac.groups, groups_in_a_fold)
    )
