"""How a MAC instruction is cut to fit the array: facts that the machine's timing and the compiler's estimate share."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from .configuration import MacArray


def pieces(total: int, size: int) -> list[tuple[int, int]]:
    """`total` cut into pieces of `size` and a rest: (how many, how large)."""
    full, rest = divmod(total, size)
    return [(count, piece) for count, piece in ((full, size), (1, rest)) if count and piece]


def groups_that_fit(array: MacArray, unroll_pixels: int, reduction: int, outputs: int, groups: int) -> int:
    """Groups that the array takes next to one another, at least one: the most that `mac`'s `unroll_groups` may be.

    Each has `outputs` for each of `unroll_pixels` pixels, whose windows together have `reduction` terms.
    """
    fitting = array.columns // (unroll_pixels * outputs)
    if array.dataflow == "input_stationary":
        fitting = min(array.rows // reduction, fitting if unroll_pixels > 1 else groups)
    return min(max(fitting, 1), groups)


@lru_cache(maxsize=4096)
def preloads(
    kernel: tuple[int, int], stride: int, channels: int, unroll_pixels: int, groups: int, rows: int
) -> tuple[int, ...]:
    """Weight stationary: the accesses that fill the array with each chunk of `rows` of the reduction.

    An access reads one index of a group's reduction (a tap of the `kernel` down and across, a channel) for all columns;
    each takes it into the row in which its pixel and its group have that index, if the chunk has this row. The first
    column (first pixel and group) has it in the lowest row, the last column in the highest. So the generator walks from
    the first index whose highest row has reached the chunk to the last one whose lowest row has not passed it: two
    counters and two comparisons, that look at nothing ahead.
    """
    height, width = kernel
    wide, interleave = width + (unroll_pixels - 1) * stride, groups * channels
    y, x, channel = np.ogrid[:height, :width, :channels]
    lowest = ((y * wide + x) * interleave + channel).ravel()
    highest = lowest + (unroll_pixels - 1) * stride * interleave + (groups - 1) * channels
    starts = np.arange(-(-height * wide * interleave // rows)) * rows
    reached, passed = np.searchsorted(highest, starts), np.searchsorted(lowest, starts + rows)
    return tuple((passed - reached).tolist())


def weight_runs(array: MacArray, unroll_pixels: int, kernel_width: int, stride: int) -> int:
    """Weights of one output that an access reads.

    Where a vector of weights streams past the pixels unrolled (output stationary), its input pixel meets their taps x,
    x + stride, ..., the last pixel first.
    """
    return min(unroll_pixels, -(-kernel_width // stride)) if array.dataflow == "output_stationary" else 1


def weights_by_output(array: MacArray, unroll_pixels: int, kernel_width: int, stride: int) -> bool:
    """Whether an access reads weights of one output, of a reduction or of the taps that pixels unrolled share, rather
    than one of each output."""
    return array.dataflow == "input_stationary" or weight_runs(array, unroll_pixels, kernel_width, stride) > 1
