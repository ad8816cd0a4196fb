"""Where the elements of a value lie: a strided view of a stored tensor, so that a reshape or permutation is free."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

Sizes = tuple[int, ...]


@dataclass(frozen=True)
class Form:
    """The elements `(sizes, strides)` of `tensor`, row by row, seen as `shape`; each has `width` bytes.

    Strides and the `offset` of the first one are in bytes.
    """

    tensor: str
    sizes: Sizes
    strides: Sizes
    shape: Sizes
    offset: int = 0
    width: int = 1

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.sizes)

    def strides_as(self, shape: Sequence[int]) -> Sizes | None:
        """The strides of the axes of `shape` (0 for an axis of one element), or None where no stride does."""
        return restride(self.sizes, self.strides, shape)

    def reshaped(self, shape: Sequence[int]) -> Form:
        """The same elements in row-major order under another shape; that is always possible."""
        return replace(self, shape=tuple(shape))

    def simplified(self) -> Form:
        """The same form with one stride for each axis of the shape, where that is possible."""
        strides = self.strides_as(self.shape)
        return self if strides is None else replace(self, sizes=self.shape, strides=strides)

    def is_dense(self) -> bool:
        """Whether the elements lie without gaps, in whatever order."""
        expected = self.width
        for stride, size in sorted((t, s) for s, t in zip(self.sizes, self.strides, strict=True) if s > 1):
            if stride != expected:
                return False
            expected *= size
        return True

    def same_order(self, other: Form) -> bool:
        """Whether element i of either lies at the same distance from the form's start."""
        if self.shape != other.shape:
            return False
        a, b = self.simplified(), other.simplified()
        return _merged(a.sizes, a.strides) == _merged(b.sizes, b.strides)

    def stored(self) -> tuple[Sizes, Sizes]:
        """`stored` and `axes` of a `Port`: the sizes in the order of memory, and the permutation back to `sizes`."""
        order = sorted(range(len(self.sizes)), key=lambda axis: (-self.strides[axis], axis))
        return tuple(self.sizes[axis] for axis in order), tuple(order.index(axis) for axis in range(len(order)))

    def addresses(self) -> np.ndarray:
        """The byte of each element, int64, of the form's shape."""
        total = np.full((), self.offset, np.int64)
        for size, stride in zip(self.sizes, self.strides, strict=True):
            total = total[..., None] + np.arange(size, dtype=np.int64) * stride
        return total.reshape(self.shape)


def dense(tensor: str, shape: Sequence[int], order: Sequence[int], width: int = 1) -> Form:
    """A dense form whose axes lie in memory in `order`, from slowest to fastest, of elements of `width` bytes."""
    strides = [0] * len(shape)
    stride = width
    for axis in reversed(order):
        strides[axis] = stride
        stride *= shape[axis]
    return Form(tensor, tuple(shape), tuple(strides), tuple(shape), width=width)


def channels_last(rank: int) -> Sizes:
    """The order of axes (N, *spatial, C) for a logical shape (N, C, *spatial)."""
    return (0, *range(2, rank), 1) if rank > 1 else tuple(range(rank))


def order_of(form: Form) -> Sizes:
    """The axes of the form's shape from slowest to fastest in memory; as they are, where no strides tell."""
    strides = form.strides_as(form.shape)
    if strides is None:
        return tuple(range(len(form.shape)))
    return tuple(sorted(range(len(strides)), key=lambda axis: (form.shape[axis] == 1, -strides[axis], axis)))


def restride(sizes: Sequence[int], strides: Sequence[int], shape: Sequence[int]) -> Sizes | None:
    """The strides that give the row-major elements of (sizes, strides) the shape `shape`, or None."""
    old = [(size, stride) for size, stride in zip(sizes, strides, strict=True) if size != 1]
    axes = [axis for axis, size in enumerate(shape) if size != 1]
    result = [0] * len(shape)
    first_old = first_new = 0
    while first_old < len(old) and first_new < len(axes):
        stop_old, stop_new = first_old + 1, first_new + 1
        count, wanted = old[first_old][0], shape[axes[first_new]]
        while count != wanted:
            if count < wanted:
                count *= old[stop_old][0]
                stop_old += 1
            else:
                wanted *= shape[axes[stop_new]]
                stop_new += 1
        for at in range(first_old, stop_old - 1):
            if old[at][1] != old[at + 1][1] * old[at + 1][0]:
                return None
        stride = old[stop_old - 1][1]
        for at in reversed(range(first_new, stop_new)):
            result[axes[at]] = stride
            stride *= shape[axes[at]]
        first_old, first_new = stop_old, stop_new
    return tuple(result)


def _merged(sizes: Sizes, strides: Sizes) -> list[tuple[int, int]]:
    """The loops over the elements with those that one loop can stand for made one."""
    result: list[tuple[int, int]] = []
    for size, stride in zip(sizes, strides, strict=True):
        if size == 1:
            continue
        if result and result[-1][1] == size * stride:
            result[-1] = (result[-1][0] * size, stride)
        else:
            result.append((size, stride))
    return result


def common_loops(source: Form, target: Form) -> list[tuple[int, int, int]] | None:
    """Nested loops (count, source stride, target stride) over the elements of both in row-major order.

    None where the two cut the elements at places that no common loops have, as (2, 3) and (3, 2) do.
    """
    left, right = _merged(source.sizes, source.strides), _merged(target.sizes, target.strides)
    loops: list[tuple[int, int, int]] = []
    while left and right:
        (a, stride_a), (b, stride_b) = left.pop(), right.pop()
        count = math.gcd(a, b)
        if count not in (a, b):
            return None
        loops.append((count, stride_a, stride_b))
        if a > count:
            left.append((a // count, stride_a * count))
        if b > count:
            right.append((b // count, stride_b * count))
    return loops[::-1]
