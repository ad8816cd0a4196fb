"""Nodes of the vector unit: element-wise work in binary32, statistics of rows, and constants that it reads."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import numpy as np

from accelsim.arithmetic import vector
from accelsim.arithmetic.functions.bounds import PYTORCH, Bound
from accelsim.arithmetic.vector import Program, Statistic
from accelsim.arithmetic.vector_bounds import Bounds, bounds_of_statistic, evaluate_bounds

from .graph import Concatenate, Gather, Node, Permute, Reshape, Slice, Unfold

#: The operator of an exponential that ATen computes by `exp_u20`, as its flash attention does: within 20 ulp
#: (`aten/src/ATen/cpu/vec`), where its other exponentials are within one.
EXP_U20 = "exp_u20"
_EXP_U20 = Bound(ulps=20.0)


@dataclass(frozen=True)
class Constant(Node):
    """A value that the model brings along, of the value's dtype and shape; `inputs` is empty."""

    content: np.ndarray


@dataclass(frozen=True)
class Vector(Node):
    """A program of binary32 steps, element by element, over up to three values, broadcast as numpy does.

    Values in codes are taken as the numbers that the codes are; the program dequantises them. Its result is in
    binary32, or codes where it ends in a quantisation. `words`: the program, uint32 (steps, 4), as `vector.encode`
    makes it. With a `statistic` that of the results along `axes`, which keep one element each, is the value instead.

    `operator`: what the model calls it, or the part of it that this is.
    """

    operator: str
    words: np.ndarray
    statistic: Statistic = Statistic.NONE
    axes: tuple[int, ...] = ()

    @property
    def program(self) -> Program:
        """The steps."""
        return vector.decode(self.words)


def vector_node(
    name: str,
    inputs: tuple[str, ...],
    operator: str,
    program: Program,
    statistic: Statistic = Statistic.NONE,
    axes: tuple[int, ...] = (),
) -> Vector:
    """A `Vector` of a program."""
    return Vector(name, inputs, operator, vector.encode(program), statistic, axes)


def compute(node: Vector, inputs: list[np.ndarray], dtype: str) -> np.ndarray:
    """The value of a node: float32, or codes of `dtype`. Axes of a statistic have size 1."""
    made = vector.evaluate(node.program, inputs, dtype)
    if node.statistic == Statistic.NONE:
        return made
    return np.expand_dims(vector.statistic(_rows(node, made), node.statistic), node.axes)


def vector_bounds(node: Vector, inputs: list[Bounds], dtype: str) -> Bounds:
    """Between what the elements of a node's value lie, if those of its inputs do so."""
    theirs = PYTORCH | {"exp": _EXP_U20} if node.operator == EXP_U20 else PYTORCH
    made = evaluate_bounds(node.program, inputs, dtype, theirs)
    if node.statistic == Statistic.NONE:
        return made
    found = bounds_of_statistic(made.moved(lambda part: _rows(node, part)), node.statistic)
    return found.moved(lambda part: np.expand_dims(part, node.axes))


def _rows(node: Vector, made: np.ndarray) -> np.ndarray:
    """The axes of a statistic as one, the last."""
    rest = tuple(axis for axis in range(made.ndim) if axis not in node.axes)
    return made.transpose(*rest, *node.axes).reshape(*(made.shape[axis] for axis in rest), -1)


def shape_of(shapes: Iterable[tuple[int, ...]], axes: Collection[int]) -> tuple[int, ...]:
    """The shape of a node's value: that of its inputs broadcast, the `axes` of a statistic of size 1."""
    return tuple(1 if axis in axes else size for axis, size in enumerate(np.broadcast_shapes(*shapes)))


#: Nodes that compute in binary32, and those that move numbers as they do codes.
IN_BINARY32 = (Vector, Reshape, Permute, Slice, Concatenate, Unfold, Gather)
