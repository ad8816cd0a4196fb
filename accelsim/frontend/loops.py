"""How long ATen's vector loop over several tensors is: the part of `TensorIterator.cpp` on which roundings depend."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch


def row_length(result: torch.Tensor, *operands: torch.Tensor) -> int | None:
    """Of how many elements of `result`, in memory order, `cpu_kernel_vec` makes one vector loop.

    None: all of them. 0: no vector loop, since an operand is read with steps. At most one operand may be one element
    that is repeated (`Loops.h`, `is_contiguous_scalar`).
    """
    sizes = list(result.shape)
    strides = [_broadcast(tensor, sizes) for tensor in (result, *operands)]
    axes = _sorted_axes(sizes, strides)
    sizes, strides = [sizes[axis] for axis in axes], [[stride[axis] for axis in axes] for stride in strides]
    length, steps = _coalesced(sizes, strides)
    if steps[0] != 1 or any(step not in (0, 1) for step in steps) or steps.count(0) > 1:
        return 0
    return None if length == math.prod(sizes) else length


def _broadcast(tensor: torch.Tensor, sizes: Sequence[int]) -> list[int]:
    """The strides of a tensor as `sizes`, 0 along what is repeated."""
    missing = len(sizes) - tensor.dim()
    own = zip(tensor.shape, tensor.stride(), sizes[missing:], strict=True)
    return [0] * missing + [0 if size == 1 and wanted != 1 else stride for size, stride, wanted in own]


def _sorted_axes(sizes: Sequence[int], strides: Sequence[Sequence[int]]) -> list[int]:
    """The axes from fastest to slowest (`reorder_dimensions`): the result's strides decide, then the operands'."""

    def compare(a: int, b: int) -> int:
        for stride in strides:
            if stride[a] == 0 or stride[b] == 0:
                continue
            if stride[a] != stride[b]:
                return -1 if stride[a] < stride[b] else 1
            if sizes[a] > sizes[b]:
                return 1
        return 0

    axes = list(reversed(range(len(sizes))))
    for i in range(1, len(axes)):
        here = i
        for there in reversed(range(i)):
            order = compare(axes[there], axes[here])
            if order > 0:
                axes[there], axes[here] = axes[here], axes[there]
                here = there
            elif order < 0:
                break
    return axes


def _coalesced(sizes: Sequence[int], strides: Sequence[Sequence[int]]) -> tuple[int, list[int]]:
    """The length and the strides of the fastest axis after those that run on in all tensors are one."""
    length, steps = 1, [1] * len(strides)
    for axis, size in enumerate(sizes):
        here = [stride[axis] for stride in strides]
        if size == 1:
            continue
        if length == 1:
            length, steps = size, here
        elif all(length * step == stride for step, stride in zip(steps, here, strict=True)):
            length *= size
        else:
            break
    return length, steps
