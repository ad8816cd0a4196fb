"""Pass `lower`: nodes become operations on stored tensors, and movements become views of them.

Convolutions and pools want channels next to one another in memory (NHWC), element-wise operations want their operands
one element after the other in the same order. What is stored otherwise is copied first; a reshape, a permutation or a
slice alone costs nothing.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from accelsim.compiler.forms import Form, channels_last, common_loops, dense, order_of
from accelsim.compiler.operations import Copy, Lowered, Operation, View
from accelsim.errors import CompileError
from accelsim.limits import DEFAULT, Limits, over
from accelsim.network import (
    Add,
    AveragePool,
    Bilinear,
    CodeNode,
    Concatenate,
    Constant,
    Convolution,
    Gather,
    GroupNorm,
    LayerNorm,
    Linear,
    Lookup,
    Matmul,
    MaxPool,
    Multiply,
    Network,
    Node,
    Permute,
    Reshape,
    ResidualLayer,
    Slice,
    Softmax,
    Unfold,
    Vector,
)
from accelsim.network.costs import given_bytes
from accelsim.network.substitution import LayerUnit

from .elementwise import lower_lookup, lower_sum
from .matrix import lower_convolution, lower_linear
from .pool import lower_average_pool, lower_max_pool
from .product import lower_product
from .residual import without_residuals
from .vector import lower_vector


class Lowering:
    """What has been lowered so far. `forms[value]` says where a value's elements lie, `units[layer]` how a layer of
    sums is requantised."""

    def __init__(self, network: Network, units: Mapping[str, LayerUnit], limits: Limits) -> None:
        self.network, self.units, self.limits = network, units, limits
        self.operations: list[Operation] = []
        self.layers: dict[str, int] = {}
        self.tensors: dict[str, int] = {}
        self.forms: dict[str, Form] = {}
        self.constants: dict[str, bytes] = {}
        self._consumers: dict[str, list[Node]] = {}
        for node in network.nodes:
            for name in node.inputs:
                self._consumers.setdefault(name, []).append(node)

    def layer(self, name: str) -> int:
        """The number of the layer called `name`, a new one if there is none."""
        return self.layers.setdefault(name, len(self.layers))

    def new_tensor(self, name: str, shape: Sequence[int], order: Sequence[int], width: int = 1) -> Form:
        """A new stored tensor of a value, its axes in memory in `order`, `width` bytes an element."""
        while name in self.tensors:
            name += "'"
        self.tensors[name] = math.prod(shape) * width
        return dense(name, shape, order, width)

    def result(self, node: Node, order: Sequence[int] | None = None) -> Form:
        """The tensor that a node's operation writes; channels last unless `order` says otherwise."""
        value = self.network.values[node.name]
        order = channels_last(len(value.shape)) if order is None else order
        form = self.new_tensor(node.name, value.shape, order, value.affine.bytes)
        self.forms[node.name] = form
        return form

    def copied(self, node: Node, source: Form, order: Sequence[int]) -> Form:
        """`source` copied to a new tensor with its axes in `order`."""
        target = self.new_tensor(f"{source.tensor}.copy", source.shape, order, source.width)
        self.copy(node, source, target)
        return target

    def copy(self, node: Node, source: Form, target: Form) -> None:
        """Emit the copy of the elements of one form to the places of another of the same shape."""
        source, target = source.simplified(), target.simplified()
        # Going through the axes in the target's order makes its runs long.
        order = order_of(target)
        loops = None
        if source.strides_as(source.shape) is not None and target.strides_as(target.shape) is not None:
            loops = common_loops(_in_order(source, order), _in_order(target, order))
        if loops is not None:
            copies = [(source.offset, target.offset, _in_bytes(loops, source.width))]
        else:
            needed = 48 * target.size
            if needed > self.limits.memory:
                raise CompileError(
                    over("memory", needed, self.limits.memory, f"{node.name}: a copy element by element")
                )
            copies = self._element_loops(source, target)
            allowed = self.limits.instructions_for(given_bytes(self.network))
            if len(copies) > allowed:
                raise CompileError(over("instructions", len(copies), allowed, f"{node.name}: a copy"))
        layer = self.layer(node.name)
        for start, into, walk in copies:
            self.operations.append(Copy(layer, (source.tensor, start), (target.tensor, into), walk))

    @staticmethod
    def _element_loops(source: Form, target: Form) -> list[tuple[int, int, tuple[tuple[int, int, int], ...]]]:
        """Copies for two forms that no common loops walk: runs of elements that lie one after the other in both."""
        at, to = source.addresses().reshape(-1), target.addresses().reshape(-1)
        order = np.argsort(to, kind="stable")
        at, to = at[order], to[order]
        width = source.width
        breaks = np.flatnonzero((np.diff(at) != width) | (np.diff(to) != width)) + 1
        edges = [0, *breaks.tolist(), len(at)]
        return [(int(at[a]), int(to[a]), (((b - a) * width, 1, 1),)) for a, b in itertools.pairwise(edges)]

    def image_view(self, node: Node, name: str) -> View:
        """A value (N, C, *spatial) as images whose channels are neighbours; copied to that order where it is not."""
        form = self.forms[name]
        strides = form.strides_as(form.shape)
        channels = form.shape[1]
        if strides is None or (channels > 1 and strides[1] != 1):
            form = self.copied(node, form, channels_last(len(form.shape)))
        return view_of(form)

    def flat(self, node: Node, name: str, like: Form) -> Form:
        """A value whose elements lie one after the other in the order of `like`; copied there where they do not."""
        form = self.forms[name]
        if form.shape != like.shape:
            form = self.broadcast(form, like.shape)
        if form.same_order(like) and form.is_dense():
            return form
        return self.copied(node, form, order_of(like))

    @staticmethod
    def broadcast(form: Form, shape: Sequence[int]) -> Form:
        """`form` repeated to `shape` as numpy broadcasts: steps of 0 along the axes that are repeated."""
        strides = form.strides_as(form.shape)
        assert strides is not None, "a value that is broadcast has been produced by an operation"
        missing = len(shape) - len(form.shape)
        sizes = (*(1 for _ in range(missing)), *form.shape)
        steps = tuple(
            0 if size == 1 else stride
            for size, stride in zip(sizes, (*(0 for _ in range(missing)), *strides), strict=True)
        )
        return Form(form.tensor, tuple(shape), steps, tuple(shape), form.offset, form.width)

    def strided(self, node: Node, name: str) -> Form:
        """A value with one stride an axis, copied where it has none."""
        form = self.forms[name].simplified()
        if form.strides_as(form.shape) is None:
            form = self.copied(node, form, tuple(range(len(form.shape))))
        return form.simplified()

    def wants_channels_last(self, name: str) -> bool:
        """Whether something that reads the value wants its channels next to one another."""
        rank = len(self.network.values[name].shape)
        readers = self._consumers.get(name, [])
        return rank > 2 and not any(isinstance(node, Linear) for node in readers)


def _in_order(form: Form, order: Sequence[int]) -> Form:
    """A form with one stride an axis, its axes in another order."""
    sizes = tuple(form.sizes[axis] for axis in order)
    return Form(form.tensor, sizes, tuple(form.strides[axis] for axis in order), sizes, form.offset, form.width)


def _in_bytes(loops: Sequence[tuple[int, int, int]], width: int) -> tuple[tuple[int, int, int], ...]:
    """Loops over elements of `width` bytes as loops over bytes."""
    if width == 1:
        return tuple(loops)
    if loops and loops[-1][1:] == (width, width):
        return (*loops[:-1], (loops[-1][0] * width, 1, 1))
    return (*loops, (width, 1, 1))


def view_of(form: Form) -> View:
    """A form (N, C, *spatial) of up to three spatial axes, channels neighbours, as a View."""
    strides = form.strides_as(form.shape)
    assert strides is not None
    spatial = len(form.shape) - 2
    sizes = (form.shape[0], *(1,) * (3 - spatial), *form.shape[2:], form.shape[1])
    pitches = (strides[0], *(0,) * (3 - spatial), *strides[2:])
    return View(form.tensor, sizes, pitches, form.offset)  # type: ignore[arg-type]


def lower(network: Network, units: Mapping[str, LayerUnit], limits: Limits = DEFAULT) -> Lowered:
    """The operations of a network; `units`: how each layer of sums is requantised.

    Raises CompileError for a node that there is no operation for, and for a layer whose constants do not fit.
    """
    network = without_residuals(network)
    state = Lowering(network, units, limits)
    for name in network.inputs:
        shape = network.values[name].shape
        order = channels_last(len(shape)) if state.wants_channels_last(name) else tuple(range(len(shape)))
        state.forms[name] = state.new_tensor(name, shape, order, network.values[name].affine.bytes)
    for node in network.nodes:
        rule = next((_RULES[kind] for kind in type(node).__mro__ if kind in _RULES), None)
        if rule is None:
            raise CompileError(
                f"{node.name}: the machine has no instruction for {_ABSENT[type(node)]}; `accelsim compare` and "
                f"`certify` work, and so does Network.run; to simulate the rest, leave this operator out of the model"
            )
        rule(state, node)
    for name in network.outputs:
        if not state.forms[name].is_dense():
            # An output is read out of DRAM as one piece.
            shape, width = state.forms[name].shape, state.forms[name].width
            form = state.new_tensor(f"{name}.output", shape, range(len(shape)), width)
            state.copy(network.node(name), state.forms[name], form)
            state.forms[name] = form
    return Lowered(
        network.name,
        tuple(state.layers),
        tuple(state.operations),
        state.tensors,
        state.forms,
        {name: value.affine for name, value in network.values.items()},
        network.inputs,
        network.outputs,
        state.constants,
    )


def _constant(state: Lowering, node: Constant) -> None:
    form = state.result(node, tuple(range(node.content.ndim)))
    state.constants[form.tensor] = np.ascontiguousarray(node.content).tobytes()


def _reshape(state: Lowering, node: Reshape) -> None:
    state.forms[node.name] = state.forms[node.inputs[0]].reshaped(state.network.values[node.name].shape)


def _permute(state: Lowering, node: Permute) -> None:
    form = state.strided(node, node.inputs[0])
    sizes = tuple(form.shape[axis] for axis in node.axes)
    strides = tuple(form.strides[axis] for axis in node.axes)
    state.forms[node.name] = Form(form.tensor, sizes, strides, sizes, form.offset, form.width)


def _slice(state: Lowering, node: Slice) -> None:
    form = state.strided(node, node.inputs[0])
    sizes, strides = list(form.sizes), list(form.strides)
    offset = form.offset + node.start * strides[node.axis]
    sizes[node.axis] = len(range(node.start, node.stop, node.step))
    strides[node.axis] *= node.step
    state.forms[node.name] = Form(form.tensor, tuple(sizes), tuple(strides), tuple(sizes), offset, form.width)


def _concatenate(state: Lowering, node: Concatenate) -> None:
    first = state.forms[node.inputs[0]]
    target = state.result(node, order_of(first))
    strides = target.strides
    offset = 0
    for name in node.inputs:
        form = state.forms[name]
        into = Form(target.tensor, form.shape, strides, form.shape, offset, form.width)
        state.copy(node, form, into)
        offset += form.shape[node.axis] * strides[node.axis]


def _unfold(state: Lowering, node: Unfold) -> None:
    form = state.strided(node, node.inputs[0])
    shape = state.network.values[node.name].shape
    strides = list(form.strides)
    step = strides[node.axis]
    strides[node.axis] *= node.step
    state.forms[node.name] = Form(form.tensor, shape, (*strides, step), shape, form.offset, form.width)


def _gather(state: Lowering, node: Gather) -> None:
    """A copy for each run of indices that lie at one distance."""
    form = state.strided(node, node.inputs[0])
    target = state.result(node, order_of(form))
    for first, step, place, count in _runs_of(node.indices):
        sizes, strides = list(form.sizes), list(form.strides)
        sizes[node.axis], strides[node.axis] = count, strides[node.axis] * step
        shape = tuple(sizes)
        start, place = first * form.strides[node.axis], place * target.strides[node.axis]
        source = Form(form.tensor, shape, tuple(strides), shape, form.offset + start, form.width)
        into = Form(target.tensor, shape, target.strides, shape, target.offset + place, form.width)
        state.copy(node, source, into)


def _runs_of(indices: Sequence[int]) -> list[tuple[int, int, int, int]]:
    """(first index, step, place of the first, count) of runs with one step, which is not negative."""
    runs: list[tuple[int, int, int, int]] = []
    for place, index in enumerate(indices):
        if runs:
            first, step, at, count = runs[-1]
            new = index - (first + step * (count - 1))
            if new >= 0 and (count == 1 or new == step):
                runs[-1] = (first, new, at, count + 1)
                continue
        runs.append((index, 0, place, 1))
    return runs


#: What has no instruction, and why.
_ABSENT: dict[type[Node], str] = {
    Softmax: "a softmax (it divides by a sum over the data)",
    LayerNorm: "a layer norm (its scale follows from the data)",
    GroupNorm: "a group or instance norm (its scale follows from the data)",
    ResidualLayer: "a residual that is added to a layer's sums before they are rounded",
    Bilinear: "a bilinear resize (it weighs neighbours by binary32 numbers)",
}

_RULES: dict[type[Node], Callable[[Lowering, Any], None]] = {
    Convolution: lower_convolution,
    Linear: lower_linear,
    MaxPool: lower_max_pool,
    AveragePool: lower_average_pool,
    Add: lower_sum,
    Multiply: lower_sum,
    CodeNode: lower_sum,
    Lookup: lower_lookup,
    Reshape: _reshape,
    Permute: _permute,
    Slice: _slice,
    Concatenate: _concatenate,
    Unfold: _unfold,
    Gather: _gather,
    Matmul: lower_product,
    Constant: _constant,
    Vector: lower_vector,
}
