"""How a MAC instruction is cut to fit the array: facts that the machine's timing and the compiler's estimate share."""

from __future__ import annotations

from .configuration import MacArray


def pieces(total: int, size: int) -> list[tuple[int, int]]:
    """`total` cut into pieces of `size` and a rest: (how many, how large)."""
    full, rest = divmod(total, size)
    return [(count, piece) for count, piece in ((full, size), (1, rest)) if count and piece]


def side_by_side(array: MacArray, abreast: int, reduction: int, outputs: int, groups: int) -> int:
    """Groups that the array takes next to one another, at least one.

    Each has `outputs` for each of the pixels `abreast`, whose windows together have `reduction` terms.
    """
    fitting = array.columns // (abreast * outputs)
    if array.dataflow == "input_stationary":
        fitting = min(array.rows // reduction, fitting if abreast > 1 else groups)
    return min(max(fitting, 1), groups)


def weight_runs(abreast: int, kernel_width: int, stride: int) -> int:
    """Weights of one output that a row of the array reads.

    An input pixel meets the taps x, x + stride, ... of the pixels abreast, the last pixel first.
    """
    return min(abreast, -(-kernel_width // stride))
