"""Operators that only move elements, and the constants that say how."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from accelsim.arithmetic import onnxruntime
from accelsim.arithmetic.affine import Affine
from accelsim.errors import ModelError
from accelsim.frontend.onnx.builder import Builder
from accelsim.frontend.onnx.container import MOST_ELEMENTS, Call
from accelsim.frontend.onnx.references import Codes, Constant, Move, Pending, Real, Reference, Shape
from accelsim.network import Concatenate, Gather, Permute, Reshape, Slice

from .table import operator


def reshaped(call: Call, shape: Shape) -> Move:
    """A movement to another shape."""
    return Move(lambda name, inputs: Reshape(name, inputs), tuple(shape), call.name)


def _moving(builder: Builder, call: Call) -> tuple[Reference, Shape]:
    reference = builder.reference(call, 0)
    if reference is None:
        raise ModelError(f"{call.where}: it has no operand")
    return reference, builder.shape_of(reference)


def _axis(call: Call, axis: int, rank: int) -> int:
    if not -rank <= axis < rank:
        raise ModelError(f"{call.where}: axis {axis} of a tensor of {rank} axes")
    return axis % rank


def _integers(builder: Builder, call: Call, place: int, attribute: str = "") -> tuple[int, ...] | None:
    """Integers that an operand or an attribute states."""
    array = builder.constant(call, place)
    if array is None:
        given = call.attribute(attribute) if attribute else None
        return None if given is None else tuple(given)
    if array.dtype.kind not in "iu" or array.ndim > 1:
        raise ModelError(f"{call.where}: operand {call.inputs[place]!r} must be a list of integers")
    return tuple(int(item) for item in array.reshape(-1))


@operator("Identity", "Dropout")
def _(builder: Builder, call: Call) -> None:
    reference = builder.reference(call, 0)
    training = builder.reference(call, 2) if call.operator == "Dropout" else None
    if reference is None or (isinstance(training, Constant) and training.array.any()):
        raise ModelError(f"{call.where}: a Dropout that drops; export the model for inference")
    builder.assign(call, reference)


@operator("Reshape")
def _(builder: Builder, call: Call) -> None:
    reference, shape = _moving(builder, call)
    sizes = list(_integers(builder, call, 1) or ())
    if not call.attribute("allowzero", 0):
        if any(size == 0 and axis >= len(shape) for axis, size in enumerate(sizes)):
            raise ModelError(f"{call.where}: shape {tuple(sizes)} for {shape}")
        sizes = [shape[axis] if size == 0 else size for axis, size in enumerate(sizes)]
    if sizes.count(-1) == 1:
        known = -math.prod(sizes)
        sizes[sizes.index(-1)] = math.prod(shape) // known if known > 0 else 0
    if any(size < 1 for size in sizes) or math.prod(sizes) != math.prod(shape):
        raise ModelError(f"{call.where}: shape {tuple(sizes)} for a tensor of shape {shape}")
    builder.move(call, reference, reshaped(call, tuple(sizes)))


@operator("Flatten")
def _(builder: Builder, call: Call) -> None:
    reference, shape = _moving(builder, call)
    axis = int(call.attribute("axis", 1))
    if not -len(shape) <= axis <= len(shape):
        raise ModelError(f"{call.where}: axis {axis} of a tensor of {len(shape)} axes")
    axis = axis + len(shape) if axis < 0 else axis
    builder.move(call, reference, reshaped(call, (math.prod(shape[:axis]), math.prod(shape[axis:]))))


@operator("Squeeze")
def _(builder: Builder, call: Call) -> None:
    reference, shape = _moving(builder, call)
    given = _integers(builder, call, 1)
    axes = {_axis(call, axis, len(shape)) for axis in given} if given is not None else None
    taken = {axis for axis, size in enumerate(shape) if size == 1} if axes is None else axes
    if any(shape[axis] != 1 for axis in taken):
        raise ModelError(f"{call.where}: axes {given} of a tensor of shape {shape}")
    sizes = tuple(size for axis, size in enumerate(shape) if axis not in taken)
    builder.move(call, reference, reshaped(call, sizes))


@operator("Unsqueeze")
def _(builder: Builder, call: Call) -> None:
    reference, shape = _moving(builder, call)
    given = _integers(builder, call, 1) or ()
    rank = len(shape) + len(given)
    axes = {_axis(call, axis, rank) for axis in given}
    if len(axes) != len(given):
        raise ModelError(f"{call.where}: axes {given} name one twice")
    rest = iter(shape)
    sizes = tuple(1 if axis in axes else next(rest) for axis in range(rank))
    builder.move(call, reference, reshaped(call, sizes))


@operator("Transpose")
def _(builder: Builder, call: Call) -> None:
    reference, shape = _moving(builder, call)
    axes = tuple(call.attribute("perm", tuple(reversed(range(len(shape))))))
    if sorted(axes) != list(range(len(shape))):
        raise ModelError(f"{call.where}: perm {axes} of a tensor of {len(shape)} axes")
    moved = tuple(shape[axis] for axis in axes)
    builder.move(call, reference, Move(lambda name, inputs: Permute(name, inputs, axes), moved, call.name))


@operator("Slice")
def _(builder: Builder, call: Call) -> None:
    reference, shape = _moving(builder, call)
    starts, stops = (_integers(builder, call, place) or () for place in (1, 2))
    given, steps = _integers(builder, call, 3), _integers(builder, call, 4) or (1,) * len(starts)
    axes = tuple(range(len(starts))) if given is None else given
    if not len(starts) == len(stops) == len(axes) == len(steps):
        raise ModelError(f"{call.where}: {len(starts)} starts, {len(stops)} ends, {len(axes)} axes")
    name: Reference = reference
    for start, stop, axis, step in zip(starts, stops, axes, steps, strict=True):
        axis = _axis(call, axis, len(shape))
        taken = range(*slice(start, stop, step).indices(shape[axis])) if step > 0 else range(0)
        if not taken:
            raise ModelError(f"{call.where}: {start}:{stop}:{step} of an axis of {shape[axis]}; steps are above 0")
        shape = (*shape[:axis], len(taken), *shape[axis + 1 :])
        builder.move(call, name, _sliced(call, axis, taken, shape))
        name = builder.result(call)
    if not starts:
        builder.assign(call, reference)


def _sliced(call: Call, axis: int, taken: range, shape: Shape) -> Move:
    first, last, step = taken.start, taken[-1] + 1, taken.step
    return Move(lambda name, inputs: Slice(name, inputs, axis, first, last, step), shape, call.name)


@operator("Split")
def _(builder: Builder, call: Call) -> None:
    reference, shape = _moving(builder, call)
    axis, count = _axis(call, int(call.attribute("axis", 0)), len(shape)), len(call.outputs)
    sizes = _integers(builder, call, 1)
    if sizes is None:
        part = -(-shape[axis] // max(count, 1))
        sizes = tuple(min(part, shape[axis] - start) for start in range(0, shape[axis], part))
    if len(sizes) != count or sum(sizes) != shape[axis] or min(sizes, default=0) < 1:
        raise ModelError(f"{call.where}: parts {sizes} of an axis of {shape[axis]} for {count} results")
    start = 0
    for which, size in enumerate(sizes):
        moved = (*shape[:axis], size, *shape[axis + 1 :])
        builder.move(call, reference, _sliced(call, axis, range(start, start + size), moved), which)
        start += size


@operator("Gather")
def _(builder: Builder, call: Call) -> None:
    reference, shape = _moving(builder, call)
    axis, indices = _axis(call, int(call.attribute("axis", 0)), len(shape)), builder.constant(call, 1)
    if indices is None or indices.dtype.kind not in "iu" or indices.ndim > 1 or not 1 <= indices.size <= 1 << 20:
        raise ModelError(f"{call.where}: its indices must be one integer, or a list of them")
    places = tuple(int(item) for item in indices.reshape(-1))
    if min(places) < -shape[axis] or max(places) >= shape[axis]:
        raise ModelError(f"{call.where}: indices leave an axis of {shape[axis]}")
    places = tuple(item % shape[axis] for item in places)
    taken = (*shape[:axis], len(places), *shape[axis + 1 :])
    builder.move(call, reference, Move(lambda name, inputs: Gather(name, inputs, axis, places), taken, call.name))
    if indices.ndim == 0:
        builder.move(call, builder.result(call), reshaped(call, (*shape[:axis], *shape[axis + 1 :])))


@operator("Concat")
def _(builder: Builder, call: Call) -> None:
    parts = [builder.reference(call, place) for place in range(len(call.inputs))]
    if parts and all(isinstance(part, Codes) for part in parts):
        names = [part.name for part in parts if isinstance(part, Codes)]
        affines = {builder.values[name].affine for name in names}
        if len(affines) > 1:
            raise ModelError(f"{call.where}: it puts codes of several scales side by side")
        pending = concatenated(builder, call, names)
        return builder.assign(call, Codes(pending.emit(builder, call.name, affines.pop(), False)))
    if not parts or not all(isinstance(part, Real) and part.plain for part in parts):
        raise ModelError(f"{call.where}: one of its operands is not quantised; put a QuantizeLinear before it")
    names = [part.name for part in parts if isinstance(part, Real)]
    return builder.assign(call, concatenated(builder, call, names))


def concatenated(builder: Builder, call: Call, names: list[str]) -> Pending:
    """Values side by side, each brought to the result's affine map."""
    shapes = [builder.values[name].shape for name in names]
    axis = _axis(call, int(call.attribute("axis", 0)), len(shapes[0]))
    if len({len(shape) for shape in shapes}) > 1 or len({(*s[:axis], *s[axis + 1 :]) for s in shapes}) > 1:
        raise ModelError(f"{call.where}: shapes {shapes} side by side along axis {axis}")
    shape = (*shapes[0][:axis], sum(shape[axis] for shape in shapes), *shapes[0][axis + 1 :])

    def emit(builder: Builder, made: str, affine: Affine, relu: bool) -> str:
        if relu:
            raise ModelError(f"{call.where}: a ReLU behind a Concat; quantise its result first")
        parts = []
        for name in names:
            table = onnxruntime.table(builder.real(name).values, affine)
            parts.append(builder.look_up(call, name, table, affine, "requantize", f"{made}.requantize"))
        return builder.add(Concatenate(builder.unique(made), tuple(parts), axis), shape, affine)

    return Pending(call.name, call.operator, shape, emit)


@operator("Shape")
def _(builder: Builder, call: Call) -> None:
    reference = builder.reference(call, 0)
    if reference is None:
        raise ModelError(f"{call.where}: it has no operand")
    shape = builder.shape_of(reference)
    part = slice(call.attribute("start", 0), call.attribute("end"))
    builder.assign(call, Constant(np.array(shape[part], np.int64)))


@operator("Constant")
def _(builder: Builder, call: Call) -> None:
    kinds: dict[str, Any] = {"value_float": np.float32, "value_floats": np.float32}
    kinds |= {"value_int": np.int64, "value_ints": np.int64}
    for name, value in call.attributes.items():
        if name == "value" and isinstance(value, np.ndarray):
            return builder.assign(call, Constant(value))
        if name in kinds:
            return builder.assign(call, Constant(np.array(value, kinds[name])))
    raise ModelError(f"{call.where}: a constant of another kind than numbers")


@operator("ConstantOfShape")
def _(builder: Builder, call: Call) -> None:
    shape = _integers(builder, call, 0) or ()
    value = call.attribute("value", np.zeros(1, np.float32))
    if any(size < 0 for size in shape) or math.prod(shape) > min(1 << 16, MOST_ELEMENTS) or value.size != 1:
        raise ModelError(f"{call.where}: a constant of shape {shape}; up to {1 << 16} elements are supported")
    builder.assign(call, Constant(np.full(shape, value.reshape(-1)[0])))
