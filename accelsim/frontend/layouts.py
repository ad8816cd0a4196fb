"""How a tensor lies in memory."""

from __future__ import annotations

import torch


def order_of(tensor: torch.Tensor) -> tuple[int, ...]:
    """The axes from slowest to fastest in memory; axes of size 1 have no say, and keep their place among equals."""
    strides, size = tensor.stride(), tensor.shape
    moving = sorted((axis for axis in range(tensor.dim()) if size[axis] != 1), key=lambda axis: -strides[axis])
    order = list(range(tensor.dim()))
    for place, axis in zip([axis for axis in order if size[axis] != 1], moving, strict=True):
        order[place] = axis
    return tuple(order)


def is_dense(tensor: torch.Tensor) -> bool:
    """Whether no gaps and no overlaps lie between the elements."""
    expected = 1
    for axis in reversed(order_of(tensor)):
        if tensor.shape[axis] != 1 and tensor.stride(axis) != expected:
            return False
        expected *= tensor.shape[axis]
    return True


def copy_of(tensor: torch.Tensor) -> torch.Tensor:
    """The same elements with the same sizes and strides, in memory of their own.

    `clone` would forget strides: of quantised tensors, and of those with gaps.
    """
    if not tensor.numel():
        return tensor.clone()
    reach = sum((size - 1) * step for size, step in zip(tensor.shape, tensor.stride(), strict=True))
    flat = tensor.detach().as_strided((reach + 1,), (1,), tensor.storage_offset()).clone()
    return flat.as_strided(tensor.shape, tensor.stride(), 0)


def own_memory(tensor: torch.Tensor, storage: torch.UntypedStorage) -> None:
    """Let `tensor` lie in `storage` at the place where it lies in its own."""
    tensor.set_(storage, tensor.storage_offset(), tensor.shape, tensor.stride())


def storage_of(tensor: torch.Tensor) -> int:
    """What is the same number for two tensors that share memory."""
    return int(tensor.untyped_storage()._cdata)


def overlap(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether two tensors of one storage have a byte in common."""
    if not a.numel() or not b.numel():
        return False
    (first, end), (start, stop) = _hull(a), _hull(b)
    if end <= start or stop <= first:
        return False
    if is_dense(a) or is_dense(b) or a.element_size() != b.element_size():
        return True
    base = min(a.storage_offset(), b.storage_offset())
    marks = torch.zeros(max(end, stop) // a.element_size() - base, dtype=torch.bool)
    marks.as_strided(a.shape, a.stride(), a.storage_offset() - base).fill_(True)
    return bool(marks.as_strided(b.shape, b.stride(), b.storage_offset() - base).any())


def _hull(tensor: torch.Tensor) -> tuple[int, int]:
    """The first byte of a tensor in its storage, and the one after its last."""
    reach = sum((size - 1) * step for size, step in zip(tensor.shape, tensor.stride(), strict=True))
    first = tensor.storage_offset()
    return first * tensor.element_size(), (first + reach + 1) * tensor.element_size()
