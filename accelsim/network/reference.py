"""The integer reference executor: each node's meaning on whole numpy arrays, in PyTorch's shapes and order.

It shares the roundings with the machine (`accelsim.arithmetic`) and nothing else: no tiles, no address generators, no
folded zero points.
"""

from __future__ import annotations

import math
from functools import singledispatch
from typing import Any

import numpy as np

from accelsim.arithmetic.affine import quantization_of
from accelsim.arithmetic.interpolation import bilinear
from accelsim.arithmetic.matmul import matmul
from accelsim.arithmetic.normalization import group_norm, layer_norm
from accelsim.arithmetic.softmax import softmax
from accelsim.arithmetic.vector_bounds import Bounds, exactly
from accelsim.errors import ModelError
from accelsim.limits import DEFAULT, Limits

from . import rounding, sums
from .costs import check_run
from .graph import (
    Add,
    AveragePool,
    Bilinear,
    CodeNode,
    Concatenate,
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
)
from .inputs import Slot, prepare
from .output import Output
from .vector import IN_BINARY32, Constant, Vector, compute, vector_bounds


def slots(network: Network) -> list[Slot]:
    """The declared inputs."""
    values, rounding = [network.values[name] for name in network.inputs], quantization_of(network.engine)
    return [Slot(value.name, value.shape, value.affine, rounding) for value in values]


def trace(network: Network, x: Any, limits: Limits = DEFAULT) -> dict[str, np.ndarray]:
    """Codes of every value, batches concatenated along the first axis.

    Raises InputError, and ModelError for a network that takes more than the `limits`.
    """
    check_run(network, limits)
    inputs, runs = prepare(x, slots(network), limits)
    parts: list[dict[str, np.ndarray]] = []
    for run in range(runs):
        values = dict(zip(network.inputs, (codes[run] for codes in inputs), strict=True))
        for node in network.nodes:
            values[node.name] = apply(network, node, [values[name] for name in node.inputs])
        parts.append(values)
    return parts[0] if runs == 1 else {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def run(network: Network, x: Any, limits: Limits = DEFAULT) -> list[Output]:
    """The outputs for `x`: floats (quantised on the way in) or codes; a tuple for several inputs."""
    values = trace(network, x, limits)
    return [_output(network, name, values[name]) for name in network.outputs]


def apply_in_batches(network: Network, name: str, values: dict[str, np.ndarray]) -> np.ndarray:
    """One node on given inputs, which may hold several of the network's batches along the first axis."""
    node = network.node(name)
    if not node.inputs:
        return apply(network, node, [])
    shape = network.values[node.inputs[0]].shape
    runs = values[node.inputs[0]].shape[0] // shape[0] if shape else 1
    if runs == 1:
        return apply(network, node, [values[source] for source in node.inputs])
    inputs = [np.split(values[source], runs) for source in node.inputs]
    return np.concatenate([apply(network, node, [part[run] for part in inputs]) for run in range(runs)])


def apply(network: Network, node: Node, inputs: list[np.ndarray]) -> np.ndarray:
    """One node on one batch: codes in, codes out, of the dtype and shape of the node's value."""
    value = network.values[node.name]
    with rounding.located(node):
        result = _apply(node, network, inputs)
    return np.asarray(result).astype(value.affine.dtype).reshape(value.shape)


def _output(network: Network, name: str, codes: np.ndarray) -> Output:
    affine = network.values[name].affine
    return Output(name, codes, affine.scale, affine.zero_point)


@singledispatch
def _apply(node: Node, network: Network, inputs: list[np.ndarray]) -> np.ndarray:
    raise ModelError(f"{node.name}: the reference executor knows no {type(node).__name__}")


@_apply.register(Convolution)
@_apply.register(Linear)
def _(node: Convolution | Linear, network: Network, inputs: list[np.ndarray]) -> np.ndarray:
    rule = rounding.matrix_rounding(network, node, folded=False)
    # An offset is added modulo 2**32, which binary32 numbers would not do.
    summed = _sums if rule.offset is None else accumulators
    return channels_in_place(node, rule.codes(summed(network, node, inputs[0])))


@_apply.register
def _(node: ResidualLayer, network: Network, inputs: list[np.ndarray]) -> np.ndarray:
    residual = inputs[1] if isinstance(node.layer, Linear) else np.moveaxis(inputs[1], 1, -1)
    totals = accumulators(network, node.layer, inputs[0])
    return channels_in_place(node.layer, rounding.residual_rounding(network, node).apply(totals, residual))


def accumulators(network: Network, node: Convolution | Linear, codes: np.ndarray) -> np.ndarray:
    """The sums of (qx - zx) * (qw - zw) of one batch, int32 (modulo 2**32, as every engine's), channels last."""
    return _sums(network, node, codes).astype(np.int32, copy=False)


def _sums(network: Network, node: Convolution | Linear, codes: np.ndarray) -> sums.Sums:
    zero_point = network.values[node.inputs[0]].affine.zero_point
    weights = rounding.centred_weights(node)
    if isinstance(node, Linear):
        return sums.linear(codes, zero_point, weights)
    if node.transposed:
        return _transposed(node, codes, zero_point, weights)
    return sums.convolution(
        codes,
        zero_point,
        weights,
        stride=node.stride,
        padding=node.padding,
        dilation=node.dilation,
        groups=node.groups,
    )


def channels_in_place(node: Convolution | Linear, codes: np.ndarray) -> np.ndarray:
    """What has its channels last, with the axes of the layer's output."""
    return codes if isinstance(node, Linear) else np.moveaxis(codes, -1, 1)


def _transposed(node: Convolution, codes: np.ndarray, zero_point: int, weights: np.ndarray) -> sums.Sums:
    """A transposed convolution as the convolution of the input spread by the stride with the mirrored kernel."""
    n, channels, *size = codes.shape
    spread = np.full(
        (n, channels, *((s - 1) * t + 1 for s, t in zip(size, node.stride, strict=True))), zero_point, codes.dtype
    )
    spread[(slice(None), slice(None), *(slice(None, None, stride) for stride in node.stride))] = codes
    grouped = weights.reshape(node.groups, channels // node.groups, *weights.shape[1:])
    mirrored = np.flip(grouped, axis=tuple(range(3, grouped.ndim))).swapaxes(1, 2)
    extra_sizes = node.output_padding or (0,) * len(size)
    padding = tuple(
        (dilation * (size - 1) - before, dilation * (size - 1) - after + extra)
        for size, dilation, (before, after), extra in zip(
            weights.shape[2:], node.dilation, node.padding, extra_sizes, strict=True
        )
    )
    cut = (slice(None), slice(None), *(slice(max(-b, 0), -max(-a, 0) or None) for b, a in padding))
    return sums.convolution(
        spread[cut],
        zero_point,
        mirrored.reshape(-1, channels // node.groups, *weights.shape[2:]),
        stride=tuple(1 for _ in node.stride),
        padding=tuple((max(before, 0), max(after, 0)) for before, after in padding),
        dilation=node.dilation,
        groups=node.groups,
    )


@_apply.register
def _(node: Add, network: Network, inputs: list[np.ndarray]) -> np.ndarray:
    value = network.values[node.name]
    a, b = (np.broadcast_to(codes, value.shape).transpose(value.order).reshape(-1) for codes in inputs)
    result = np.concatenate(
        [
            span.rule.apply(a[span.start : span.stop], b[span.start : span.stop])
            for span in rounding.add_spans(network, node)
        ]
    )
    return _from_order(result, value.shape, value.order)


@_apply.register
def _(node: Multiply, network: Network, inputs: list[np.ndarray]) -> np.ndarray:
    value = network.values[node.name]
    a, b = (np.broadcast_to(codes, value.shape).transpose(value.order).reshape(-1) for codes in inputs)
    spans = rounding.product_spans(network, node)
    parts = [span.rule.apply(a[span.start : span.stop], b[span.start : span.stop]) for span in spans]
    return _from_order(np.concatenate(parts), value.shape, value.order)


@_apply.register
def _(node: CodeNode, network: Network, inputs: list[np.ndarray]) -> np.ndarray:
    return node.rule.apply(*np.broadcast_arrays(*inputs))


@_apply.register
def _(node: Lookup, network: Network, inputs: list[np.ndarray]) -> np.ndarray:
    value = network.values[node.name]
    flat = inputs[0].transpose(value.order).reshape(-1).view(np.uint8)
    result = np.concatenate([node.tables[table][flat[start:stop]] for start, stop, table in node.spans])
    return _from_order(result.astype(np.uint8).view(value.affine.dtype), value.shape, value.order)


def _from_order(flat: np.ndarray, shape: tuple[int, ...], order: tuple[int, ...]) -> np.ndarray:
    """Elements in memory order back to logical axes."""
    return flat.reshape([shape[axis] for axis in order]).transpose(np.argsort(order))


@_apply.register
def _(node: MaxPool, network: Network, inputs: list[np.ndarray]) -> np.ndarray:
    low = np.iinfo(inputs[0].dtype).min
    return _windows(inputs[0].astype(np.int32), node.kernel, node.stride, node.padding, node.dilation, low).max(axis=-1)


@_apply.register
def _(node: AveragePool, network: Network, inputs: list[np.ndarray]) -> np.ndarray:
    x = inputs[0].astype(np.int32)
    result = np.zeros(network.values[node.name].shape, np.int32).reshape(*x.shape[:2], *_grid(network, node))
    axes = rounding.axis_windows(network, node)
    for place in np.ndindex(*map(len, axes)):
        windows = [axis[i] for axis, i in zip(axes, place, strict=True)]
        part = x[(slice(None), slice(None), *(slice(w.start, w.stop) for w in windows))].reshape(*x.shape[:2], -1)
        divisor = node.divisor if node.divisor is not None else math.prod(w.count for w in windows)
        for span in rounding.pool_rules(network, node, tuple(w.stop - w.start for w in windows), divisor):
            channels = slice(span.start, span.stop)
            result[(slice(None), channels, *place)] = span.rule.apply(part[:, channels])
    return result


def _grid(network: Network, node: AveragePool) -> tuple[int, ...]:
    return tuple(map(len, rounding.axis_windows(network, node)))


def _windows(
    x: np.ndarray,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[tuple[int, int], ...],
    dilation: tuple[int, ...],
    fill: int,
) -> np.ndarray:
    """(N, C, *out, taps): the elements of each window, `fill` where it is padding."""
    padded = np.pad(x, ((0, 0), (0, 0), *padding), constant_values=fill)
    spans = tuple((size - 1) * step + 1 for size, step in zip(kernel, dilation, strict=True))
    windows = np.lib.stride_tricks.sliding_window_view(padded, spans, axis=tuple(range(2, x.ndim)))
    steps = (slice(None), slice(None), *(slice(None, None, step) for step in stride))
    windows = windows[(*steps, *(slice(None, None, step) for step in dilation))]
    return windows.reshape(*windows.shape[: x.ndim], -1)


@_apply.register
def _(node: Reshape, network: Network, inputs: list[np.ndarray]) -> np.ndarray:
    return inputs[0].reshape(network.values[node.name].shape)


@_apply.register
def _(node: Permute, network: Network, inputs: list[np.ndarray]) -> np.ndarray:
    return inputs[0].transpose(node.axes)


@_apply.register
def _(node: Slice, network: Network, inputs: list[np.ndarray]) -> np.ndarray:
    index = [slice(None)] * inputs[0].ndim
    index[node.axis] = slice(node.start, node.stop, node.step)
    return inputs[0][tuple(index)]


@_apply.register
def _(node: Concatenate, network: Network, inputs: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(inputs, axis=node.axis)


@_apply.register
def _(node: Unfold, network: Network, inputs: list[np.ndarray]) -> np.ndarray:
    windows = np.lib.stride_tricks.sliding_window_view(inputs[0], node.size, axis=node.axis)
    return windows[(*[slice(None)] * node.axis, slice(None, None, node.step))]


@_apply.register
def _(node: Gather, network: Network, inputs: list[np.ndarray]) -> np.ndarray:
    return inputs[0].take(node.indices, axis=node.axis)


@_apply.register
def _(node: Bilinear, network: Network, inputs: list[np.ndarray]) -> np.ndarray:
    source, value = network.values[node.inputs[0]], network.values[node.name]
    return bilinear(
        inputs[0],
        source.affine,
        (value.shape[2], value.shape[3]),
        network.kernels,
        rounding.layout_of(source),
        align_corners=node.align_corners,
        factors=node.factors,
    )


@_apply.register
def _(node: Matmul, network: Network, inputs: list[np.ndarray]) -> np.ndarray:
    a, b, out = (network.values[name].affine for name in (*node.inputs, node.name))
    return matmul(inputs[0], inputs[1], a, b, out)


@_apply.register
def _(node: Softmax, network: Network, inputs: list[np.ndarray]) -> np.ndarray:
    grid, out = (network.values[name].affine for name in (node.inputs[0], node.name))
    last = np.moveaxis(inputs[0], node.axis, -1)
    return np.moveaxis(softmax(network.engine, last, grid, out), -1, node.axis)


@_apply.register
def _(node: LayerNorm, network: Network, inputs: list[np.ndarray]) -> np.ndarray:
    grid, out = (network.values[name].affine for name in (node.inputs[0], node.name))
    rows = inputs[0].reshape(-1, math.prod(inputs[0].shape[-node.axes :]))
    weight, bias = (None if part is None else part.reshape(-1) for part in (node.weight, node.bias))
    return layer_norm(rows, grid, weight, bias, node.epsilon, out, network.kernels)


@_apply.register
def _(node: GroupNorm, network: Network, inputs: list[np.ndarray]) -> np.ndarray:
    source, out = network.values[node.inputs[0]], network.values[node.name].affine
    return group_norm(
        inputs[0],
        source.affine,
        node.groups,
        node.weight,
        node.bias,
        node.epsilon,
        out,
        network.kernels,
        rounding.layout_of(source),
    )


@_apply.register
def _(node: Constant, network: Network, inputs: list[np.ndarray]) -> np.ndarray:
    return node.content


@_apply.register
def _(node: Vector, network: Network, inputs: list[np.ndarray]) -> np.ndarray:
    return compute(node, inputs, network.values[node.name].affine.dtype)


def bounds_of_values(network: Network, values: dict[str, np.ndarray]) -> dict[str, Bounds]:
    """Between what each value lies where the values of integer nodes are those given, which are known."""
    found = {name: exactly(values[name]) for name in network.inputs}
    for node in network.nodes:
        known = not isinstance(node, IN_BINARY32)
        operands = [found[name] for name in node.inputs]
        found[node.name] = exactly(values[node.name]) if known else node_bounds(network, node, operands)
    return found


def node_bounds(network: Network, node: Node, operands: list[Bounds]) -> Bounds:
    """Between what the numbers of a node in binary32 lie, or of one that moves elements, if its operands do so."""
    if isinstance(node, Vector):
        return vector_bounds(node, operands, network.values[node.name].affine.dtype)
    shape = network.values[node.name].shape
    low, high = (np.asarray(_apply(node, network, [end[side] for end in operands])).reshape(shape) for side in (0, 1))
    return Bounds(low, high)
