"""Programs of the vector unit as operations over nested loops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from accelsim.arithmetic import vector
from accelsim.arithmetic.vector import Statistic
from accelsim.compiler.forms import Form, order_of
from accelsim.compiler.operations import Stream
from accelsim.compiler.operations import Vector as Operation
from accelsim.isa.instructions.vector import Vector as Instruction
from accelsim.network import Vector

if TYPE_CHECKING:
    from .network import Lowering

#: Sizes and strides of the streams along one loop.
_Loop = tuple[int, tuple[int, ...]]


def lower_vector(state: Lowering, node: Vector) -> None:
    """The result is stored in the order of the first operand that has its shape; a statistic's row is the last loop."""
    values = state.network.values
    whole = np.broadcast_shapes(*(values[name].shape for name in node.inputs))
    forms = [state.forms[name] for name in node.inputs]
    like = next((form for form in forms if form.shape == whole), None)
    target = state.result(node, None if like is None or not like.is_dense() else order_of(like))
    sources = [state.broadcast(state.strided(node, name), whole) for name in node.inputs]
    loops = _loops(node, whole, sources, target)
    if loops is None:
        # What a row is made of lies at several distances.
        rest = [axis for axis in range(len(whole)) if axis not in node.axes]
        sources = [state.copied(node, form, (*rest, *node.axes)) for form in sources]
        loops = _loops(node, whole, sources, target)
        assert loops is not None, "dense rows have one stride"
    sizes = tuple(size for size, _ in loops)
    strides = list(zip(*(steps for _, steps in loops), strict=True))
    dtypes = [values[name].affine.dtype for name in (*node.inputs, node.name)]
    streams = [
        Stream(form.tensor, form.offset, along, dtype)
        for form, along, dtype in zip((*sources, target), strides, dtypes, strict=True)
    ]
    state.operations.append(
        Operation(
            layer=state.layer(node.name),
            loops=sizes,
            sources=tuple(streams[:-1]),
            target=streams[-1],
            words=node.words,
            cycles=vector.cycles(node.program),
            statistic=node.statistic,
        )
    )


def _loops(node: Vector, whole: Sequence[int], sources: Sequence[Form], target: Form) -> list[_Loop] | None:
    """The loops over the elements, those that one loop can stand for made one; None where a row is more than one.

    `sources`: broadcast to `whole`.
    """
    out = tuple(0 if size == 1 else stride for size, stride in zip(target.shape, target.strides, strict=True))
    steps = [(*(form.strides[axis] for form in sources), out[axis]) for axis in range(len(whole))]
    rows = set(node.axes)
    # A sum is made in the logical order of its row, whatever the order in memory.
    order = sorted(range(len(whole)), key=lambda axis: (axis in rows, 0 if axis in rows else -steps[axis][-1], axis))
    outer = _merged([(whole[axis], steps[axis]) for axis in order if axis not in rows])
    inner = _merged([(whole[axis], steps[axis]) for axis in order if axis in rows])
    none = (0,) * (len(sources) + 1)
    if node.statistic == Statistic.NONE:
        return outer or [(1, none)]
    if len(inner) > 1 or any(max(along) > Instruction.most("a_pitch") for _, along in inner):
        return None
    return [*outer, *(inner or [(1, none)])]


def _merged(loops: Sequence[_Loop]) -> list[_Loop]:
    merged: list[_Loop] = []
    for size, steps in loops:
        if size == 1:
            continue
        if merged and all(far == near * size for far, near in zip(merged[-1][1], steps, strict=True)):
            merged[-1] = (merged[-1][0] * size, steps)
        else:
            merged.append((size, steps))
    return merged
