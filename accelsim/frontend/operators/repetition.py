"""Operators that repeat elements or set constants between them: resizes to nearest neighbours, expand, pad.

Where every element is repeated alike it is a concatenation of an axis of one element with itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from accelsim.arithmetic.affine import quantize
from accelsim.arithmetic.interpolation import nearest_indices
from accelsim.errors import ModelError
from accelsim.frontend.builder import Builder
from accelsim.frontend.calls import Call
from accelsim.network import Concatenate, Gather, Lookup, Reshape, Slice

from .table import operator


@operator(
    *(f"aten.{name}upsample_nearest{exact}{rank}d" for name, exact in (("", ""), ("_", "_exact")) for rank in (1, 2, 3))
)
def _(builder: Builder, call: Call) -> None:
    source, result = call.tensors[0], call.results[0]
    scales = [call.argument(f"scales_{axis}") for axis in "dhw"[-source.dim() + 2 :]]
    indices = nearest_indices(source.shape[2:], result.shape[2:], scales, exact="exact" in call.operator)
    expected = source.int_repr()
    for axis, chosen in enumerate(indices, 2):
        expected = expected.index_select(axis, torch.from_numpy(chosen))
    if not torch.equal(expected, result.int_repr()):
        raise ModelError(
            f"{builder.where(call)}: {call.operator} from {tuple(source.shape[2:])} to {tuple(result.shape[2:])}: "
            f"PyTorch returns other elements than its rule names, in the wrong order; make the tensor channels_last"
        )
    name = builder.codes(call, source)
    factors = [out // size for size, out in zip(source.shape[2:], result.shape[2:], strict=True)]
    if any(
        not np.array_equal(chosen, np.repeat(np.arange(size), factor))
        for chosen, size, factor in zip(indices, source.shape[2:], factors, strict=True)
    ):
        for axis, chosen in enumerate(indices, 2):
            name = _gathered(builder, call, name, axis, chosen)
        builder.emit(call, lambda own: Reshape(own, (name,)), result)
        return
    split = [*source.shape[:2], *(n for size in source.shape[2:] for n in (size, 1))]
    name = _reshaped(builder, call, name, split)
    for place, factor in enumerate(factors):
        name = _repeated(builder, call, name, 3 + 2 * place, factor)
    builder.emit(call, lambda own: Reshape(own, (name,)), result)


@operator("aten.expand", "aten.repeat")
def _(builder: Builder, call: Call) -> None:
    source, result = call.tensors[0], call.results[0]
    name = builder.codes(call, source)
    shape = [1] * (result.dim() - source.dim()) + list(source.shape)
    name = _reshaped(builder, call, name, shape)
    for axis, (size, wanted) in enumerate(zip(shape, result.shape, strict=True)):
        name = _repeated(builder, call, name, axis, wanted // size)
    builder.emit(call, lambda own: Reshape(own, (name,)), result)


@operator("aten.constant_pad_nd")
def _(builder: Builder, call: Call) -> None:
    source, result = call.tensors[0], call.results[0]
    name = builder.codes(call, source)
    code = int(quantize(np.float32(call.argument("value", 0)), builder.value(name).affine))
    pads = list(call.argument("pad"))
    for place in range(len(pads) // 2):
        name = padded(builder, call, name, source.dim() - 1 - place, (pads[2 * place], pads[2 * place + 1]), code)
    builder.emit(call, lambda own: Reshape(own, (name,)), result)


def padded(builder: Builder, call: Call, name: str, axis: int, pads: tuple[int, int], code: int) -> str:
    """The value `name` with so many elements of `code` before and after it along an axis; negative: cut off."""
    value = builder.value(name)
    table = np.full((1, 256), np.array(code, value.affine.dtype).view(np.uint8), np.uint8)
    name = _cut(builder, call, name, axis, max(-pads[0], 0), value.shape[axis] - max(-pads[1], 0))
    around = [_constant(builder, call, name, axis, size, table) if size > 0 else None for size in pads]
    parts = [part for part in (around[0], name, around[1]) if part is not None]
    return _side_by_side(builder, call, parts, axis)


def _gathered(builder: Builder, call: Call, name: str, axis: int, indices: np.ndarray) -> str:
    value = builder.value(name)
    if np.array_equal(indices, np.arange(value.shape[axis])):
        return name
    shape = (*value.shape[:axis], len(indices), *value.shape[axis + 1 :])
    node = Gather(builder.unused(call, "gather"), (name,), axis, tuple(indices.tolist()))
    return builder.internal(node, shape, value.affine)


def _constant(builder: Builder, call: Call, like: str, axis: int, size: int, table: np.ndarray) -> str:
    """A value of the shape of `like` but for `size` along the axis, whose elements are all what `table` says."""
    whole, rest = divmod(size, builder.value(like).shape[axis])
    parts = [like] * whole + ([_cut(builder, call, like, axis, 0, rest)] if rest else [])
    source = _side_by_side(builder, call, parts, axis)
    value = builder.value(source)
    lookup = Lookup(builder.unused(call, "constant"), (source,), "constant", table, ((0, value.size, 0),))
    return builder.internal(lookup, value.shape, value.affine)


def _cut(builder: Builder, call: Call, name: str, axis: int, start: int, stop: int) -> str:
    value = builder.value(name)
    if (start, stop) == (0, value.shape[axis]):
        return name
    shape = (*value.shape[:axis], stop - start, *value.shape[axis + 1 :])
    return builder.internal(Slice(builder.unused(call, "slice"), (name,), axis, start, stop), shape, value.affine)


def _repeated(builder: Builder, call: Call, name: str, axis: int, times: int) -> str:
    return _side_by_side(builder, call, [name] * times, axis)


def _side_by_side(builder: Builder, call: Call, names: Sequence[str], axis: int) -> str:
    if len(names) == 1:
        return names[0]
    first = builder.value(names[0])
    size = sum(builder.value(name).shape[axis] for name in names)
    shape = (*first.shape[:axis], size, *first.shape[axis + 1 :])
    return builder.internal(Concatenate(builder.unused(call, "repeat"), tuple(names), axis), shape, first.affine)


def _reshaped(builder: Builder, call: Call, name: str, shape: Sequence[int]) -> str:
    value = builder.value(name)
    assert math.prod(shape) == value.size
    if tuple(shape) == value.shape:
        return name
    return builder.internal(Reshape(builder.unused(call, "reshape"), (name,)), tuple(shape), value.affine)
