"""The integer reference executor: each node's meaning on whole numpy arrays, in PyTorch's shapes and order.

It shares the roundings with the machine (`accelsim.arithmetic`) and nothing else: no tiles, no address generators, no
folded zero points.
"""

from __future__ import annotations

from functools import singledispatch
from typing import Any

import numpy as np

from accelsim.errors import ModelError

from . import rounding
from .graph import (
    Add,
    AveragePool,
    Concatenate,
    Convolution,
    Linear,
    Lookup,
    MaxPool,
    Multiply,
    Network,
    Node,
    Permute,
    Reshape,
    Slice,
)
from .inputs import Slot, prepare
from .output import Output


def slots(network: Network) -> list[Slot]:
    """The declared inputs."""
    return [Slot(name, network.values[name].shape, network.values[name].affine) for name in network.inputs]


def trace(network: Network, x: Any) -> dict[str, np.ndarray]:
    """Codes of every value, batches concatenated along the first axis. Raises InputError."""
    inputs, runs = prepare(x, slots(network))
    parts: list[dict[str, np.ndarray]] = []
    for run in range(runs):
        values = dict(zip(network.inputs, (codes[run] for codes in inputs), strict=True))
        for node in network.nodes:
            values[node.name] = apply(network, node, [values[name] for name in node.inputs])
        parts.append(values)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def run(network: Network, x: Any) -> list[Output]:
    """The outputs for `x`: floats (quantised on the way in) or codes; a tuple for several inputs."""
    values = trace(network, x)
    return [_output(network, name, values[name]) for name in network.outputs]


def apply_in_batches(network: Network, name: str, values: dict[str, np.ndarray]) -> np.ndarray:
    """One node on given inputs, which may hold several of the network's batches along the first axis."""
    node = network.node(name)
    batch = network.values[name].shape[0]
    runs = values[name].shape[0] // batch
    inputs = [np.split(values[source], runs) for source in node.inputs]
    return np.concatenate([apply(network, node, [part[run] for part in inputs]) for run in range(runs)])


def apply(network: Network, node: Node, inputs: list[np.ndarray]) -> np.ndarray:
    """One node on one batch: codes in, codes out, of the dtype and shape of the node's value."""
    value = network.values[node.name]
    result = _apply(node, network, inputs)
    return np.asarray(result).astype(value.affine.dtype).reshape(value.shape)


def _output(network: Network, name: str, codes: np.ndarray) -> Output:
    affine = network.values[name].affine
    return Output(name, codes, affine.scale, affine.zero_point)


@singledispatch
def _apply(node: Node, network: Network, inputs: list[np.ndarray]) -> np.ndarray:
    raise ModelError(f"{node.name}: the reference executor knows no {type(node).__name__}")


@_apply.register
def _(node: Convolution, network: Network, inputs: list[np.ndarray]) -> np.ndarray:
    source = network.values[node.inputs[0]].affine
    x = inputs[0].astype(np.int32) - source.zero_point
    weights = rounding.centred_weights(node)
    accumulators = _transposed(node, x, weights) if node.transposed else _convolve(node, x, weights)
    rule = rounding.matrix_rounding(network, node, folded=False)
    return np.moveaxis(rule.apply(np.moveaxis(accumulators, 1, -1)), -1, 1)


def _convolve(node: Convolution, x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Exact sums, int32 (N, O, *spatial); products and sums of codes are exact in binary64."""
    padded = np.pad(x, ((0, 0), (0, 0), *node.padding)).astype(np.float64)
    kernel = weights.shape[2:]
    spans = tuple((size - 1) * dilation + 1 for size, dilation in zip(kernel, node.dilation, strict=True))
    axes = tuple(range(2, x.ndim))
    windows = np.lib.stride_tricks.sliding_window_view(padded, spans, axis=axes)
    steps = (slice(None), slice(None), *(slice(None, None, stride) for stride in node.stride))
    taps = tuple(slice(None, None, dilation) for dilation in node.dilation)
    windows = windows[(*steps, *taps)]
    n, channels, *rest = windows.shape
    out = rest[: len(kernel)]
    grouped = windows.reshape(n, node.groups, channels // node.groups, *rest)
    # (groups, n * positions, channels of a group * taps)
    order = (1, 0, *range(3, 3 + len(kernel)), 2, *range(3 + len(kernel), 3 + 2 * len(kernel)))
    gathered = grouped.transpose(order).reshape(node.groups, n * int(np.prod(out)), -1)
    matrix = weights.reshape(node.groups, weights.shape[0] // node.groups, -1).astype(np.float64)
    sums = gathered @ matrix.transpose(0, 2, 1)
    result = sums.reshape(node.groups, n, *out, -1)
    channels_first = (1, 0, result.ndim - 1, *range(2, result.ndim - 1))
    return result.transpose(channels_first).reshape(n, weights.shape[0], *out).astype(np.int32)


def _transposed(node: Convolution, x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """A transposed convolution as the convolution of the input spread by the stride with the mirrored kernel."""
    n, channels, *size = x.shape
    spread = np.zeros((n, channels, *((s - 1) * t + 1 for s, t in zip(size, node.stride, strict=True))), np.int32)
    spread[(slice(None), slice(None), *(slice(None, None, stride) for stride in node.stride))] = x
    grouped = weights.reshape(node.groups, channels // node.groups, *weights.shape[1:])
    mirrored = np.flip(grouped, axis=tuple(range(3, grouped.ndim))).swapaxes(1, 2)
    kernel = mirrored.reshape(-1, channels // node.groups, *weights.shape[2:])
    padding = tuple(
        (dilation * (size - 1) - before, dilation * (size - 1) - after + extra)
        for size, dilation, (before, after), extra in zip(
            weights.shape[2:], node.dilation, node.padding, node.output_padding, strict=True
        )
    )
    cut = (slice(None), slice(None), *(slice(max(-b, 0), -max(-a, 0) or None) for b, a in padding))
    plain = Convolution(
        node.name,
        node.inputs,
        node.weights,
        tuple(1 for _ in node.stride),
        tuple((max(before, 0), max(after, 0)) for before, after in padding),
        node.dilation,
        node.groups,
    )
    return _convolve(plain, spread[cut], kernel)


@_apply.register
def _(node: Linear, network: Network, inputs: list[np.ndarray]) -> np.ndarray:
    source = network.values[node.inputs[0]].affine
    x = inputs[0].astype(np.float64) - source.zero_point
    sums = (x @ rounding.centred_weights(node).T.astype(np.float64)).astype(np.int32)
    return rounding.matrix_rounding(network, node, folded=False).apply(sums)


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
    return rounding.product_rule(network, node).apply(*inputs)


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
    source = network.values[node.inputs[0]].affine
    x = inputs[0].astype(np.int32) - source.zero_point
    if node.kind == "adaptive":
        return _adaptive(node, network, x)
    ones = tuple(1 for _ in node.kernel)
    sums = _windows(x, node.kernel, node.stride, node.padding, ones, 0).sum(axis=-1, dtype=np.int32)
    counts = np.broadcast_to(_counts(node, x.shape), sums.shape)
    result = np.zeros(sums.shape, np.int32)
    for count in np.unique(counts):
        rule = rounding.pool_rounding(network, node, int(count))
        result = np.where(counts == count, rule.apply(sums), result)
    return result


def _counts(node: AveragePool, shape: tuple[int, ...]) -> np.ndarray:
    """The divisor at each output position."""
    if node.divisor is not None:
        return np.array(node.divisor)
    inside = np.ones(shape[2:], np.int32)
    # Ceil mode lets a window reach past the padding; that part never counts.
    padded = np.ones([s + b + a for s, (b, a) in zip(shape[2:], node.padding, strict=True)], np.int32)
    ones = tuple(1 for _ in node.kernel)
    none = tuple((0, 0) for _ in node.kernel)
    if node.count_include_pad:
        return _windows(padded[None, None], node.kernel, node.stride, none, ones, 0).sum(axis=-1)[0, 0]
    return _windows(inside[None, None], node.kernel, node.stride, node.padding, ones, 0).sum(axis=-1)[0, 0]


def adaptive_windows(size: int, outputs: int) -> list[tuple[int, int]]:
    """Start and stop of each window of an adaptive pool along one axis (ATen `AdaptivePooling.h`)."""
    return [(i * size // outputs, -(-(i + 1) * size // outputs)) for i in range(outputs)]


def _adaptive(node: AveragePool, network: Network, x: np.ndarray) -> np.ndarray:
    value = network.values[node.name]
    result = np.zeros(value.shape, np.int32)
    height, width = value.shape[-2:]
    for i, (top, bottom) in enumerate(adaptive_windows(x.shape[-2], height)):
        for j, (left, right) in enumerate(adaptive_windows(x.shape[-1], width)):
            sums = x[..., top:bottom, left:right].sum(axis=(-2, -1), dtype=np.int32)
            rule = rounding.pool_rounding(network, node, (bottom - top) * (right - left))
            result[..., i, j] = rule.apply(sums[..., None])[..., 0]
    return result


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
