"""How a MAC instruction is cut to fit the array: facts that the machine's timing and the compiler's estimate share."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from .configuration import MacArray


def pieces(total: int, size: int) -> list[tuple[int, int]]:
    """`total` cut into pieces of `size` and a rest: (how many, how large)."""
    full, rest = divmod(total, size)
    return [(count, piece) for count, piece in ((full, size), (1, rest)) if count and piece]


def groups_in_a_fold(array: MacArray, unroll_pixels: int, reduction: int, outputs: int, groups: int) -> int:
    """Groups that the array takes next to one another, at least one.

    Each has `outputs` for each of the pixels `unroll_pixels`, whose windows together have `reduction` terms.
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
    each takes it into the row in which its pixel and its group have that index, if the chunk has this row. So an index
    is read for every chunk in which a column has its row.
    """
    height, width = kernel
    wide, interleave = width + (unroll_pixels - 1) * stride, groups * channels
    y, x, channel = np.ogrid[:height, :width, :channels]
    first = ((y * wide + x) * interleave + channel).ravel()
    pixel, group = np.ogrid[:unroll_pixels, :groups]
    count = -(-height * wide * interleave // rows)
    # Of one index the chunks rise with the column's offset, so those that differ from the one before are all there are.
    chunk = (first[:, None] + np.sort((pixel * stride * interleave + group * channels).ravel())) // rows
    met = np.ones(chunk.shape, bool)
    np.not_equal(chunk[:, 1:], chunk[:, :-1], out=met[:, 1:])
    return tuple(np.bincount(chunk[met], minlength=count).tolist())


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
