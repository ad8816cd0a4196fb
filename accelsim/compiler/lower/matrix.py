"""Convolutions, transposed convolutions and linear layers as matrix operations."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from accelsim.compiler.operations import Matrix, Three, View, Window
from accelsim.compiler.requantization import machine_rule
from accelsim.network import Convolution, Linear, rounding

if TYPE_CHECKING:
    from .network import Lowering


def lower_convolution(state: Lowering, node: Convolution) -> None:
    """A convolution is one operation; a transposed one is one for each phase of its stride."""
    from .network import view_of

    source = state.image_view(node, node.inputs[0])
    target = view_of(state.result(node))
    weights = rounding.centred_weights(node)
    if node.transposed:
        grouped = weights.reshape(node.groups, -1, *weights.shape[1:])
        weights = grouped.swapaxes(1, 2).reshape(-1, grouped.shape[1], *weights.shape[2:])
        for phase, window, taps in _phases(node, target):
            part = weights[(slice(None), slice(None), *np.ix_(*taps))] if all(map(len, taps)) else None
            if part is None:  # no weight meets these outputs: one tap of zeros
                part = np.zeros((*weights.shape[:2], *(1 for _ in taps)), np.int32)
            _append(state, node, source, phase, window, part, node.groups)
        return
    before = [pad[0] for pad in node.padding]
    window = Window(_three(weights.shape[2:]), _three(node.stride), _three(before, 0), _three(node.dilation))
    _append(state, node, source, target, window, weights, node.groups)


def lower_linear(state: Lowering, node: Linear) -> None:
    """Rows of features; features stored in another order than the weights' reorder the weights instead."""
    form = state.forms[node.inputs[0]]
    features = form.shape[-1]
    rows = form.size // features
    weights = rounding.centred_weights(node)
    layout = _row_layout(form.addresses().reshape(rows, features))
    if layout is None:
        form = state.copied(node, form, tuple(range(len(form.shape))))
        layout = _row_layout(form.addresses().reshape(rows, features))
        assert layout is not None
    start, pitch, order = layout
    outputs = len(weights)
    target = state.result(node, tuple(range(len(form.shape))))
    _append(
        state,
        node,
        View(form.tensor, (rows, 1, 1, 1, features), (pitch, 0, 0, 0), start),
        View(target.tensor, (rows, 1, 1, 1, outputs), (outputs * target.width, 0, 0, 0), target.offset),
        Window((1, 1, 1), (1, 1, 1), (0, 0, 0), (1, 1, 1)),
        weights[:, order],
        1,
    )


def _row_layout(addresses: np.ndarray) -> tuple[int, int, np.ndarray] | None:
    """First byte, pitch and order of features of rows that each fill consecutive bytes alike; None for other rows."""
    order = np.argsort(addresses[0], kind="stable")
    sorted_rows = addresses[:, order]
    starts = sorted_rows[:, 0]
    if np.any(sorted_rows - starts[:, None] != np.arange(addresses.shape[1])):
        return None
    pitches = np.diff(starts)
    if len(pitches) and (np.any(pitches != pitches[0]) or pitches[0] < 0):
        return None
    return int(starts[0]), int(pitches[0]) if len(pitches) else addresses.shape[1], order


def _three(sizes: Sequence[int], fill: int = 1) -> Three:
    """One to three spatial sizes as (depth, lines, pixels)."""
    padded = (*(fill for _ in range(3 - len(sizes))), *sizes)
    return (int(padded[0]), int(padded[1]), int(padded[2]))


def _phases(node: Convolution, target: View) -> Any:
    """For each residue of the output position by the stride: its outputs, the window over the input, the taps in it.

    Output o = q * stride + p takes input (o + padding - t * dilation) / stride through tap t, where that is whole: over
    q a convolution of stride 1 whose taps are those t, the last first.
    """
    spatial = len(node.stride)
    sizes = node.weights.codes.shape[2:]
    for phase in itertools.product(*map(range, node.stride)):
        taps: list[list[int]] = []
        before: list[int] = []
        dilation: list[int] = []
        for axis, p in enumerate(phase):
            stride, step, pad = node.stride[axis], node.dilation[axis], node.padding[axis][0]
            met = [t for t in reversed(range(sizes[axis])) if (p + pad - t * step) % stride == 0]
            taps.append(met)
            before.append(-((p + pad - met[0] * step) // stride) if met else 0)
            dilation.append(step // math.gcd(step, stride))
        out = target.sizes[4 - spatial : 4]
        counts = [-(-(size - p) // stride) for size, p, stride in zip(out, phase, node.stride, strict=True)]
        if min(counts) < 1:
            continue
        pitches = target.pitches[4 - spatial :]
        offset = target.offset + sum(p * pitch for p, pitch in zip(phase, pitches, strict=True))
        view = View(
            target.tensor,
            (target.sizes[0], *_three(counts), target.sizes[4]),
            (
                target.pitches[0],
                *_three([pitch * stride for pitch, stride in zip(pitches, node.stride, strict=True)], 0),
            ),
            offset,
        )
        kernel = [max(len(met), 1) for met in taps]
        if not all(map(len, taps)):
            kernel, before = [1] * spatial, [0] * spatial
        yield view, Window(_three(kernel), (1, 1, 1), _three(before, 0), _three(dilation)), taps


def _append(
    state: Lowering,
    node: Convolution | Linear,
    source: View,
    target: View,
    window: Window,
    weights: np.ndarray,
    groups: int,
) -> None:
    """`weights`: centred, int32, (outputs, channels of a group, *kernel)."""
    affine = state.network.values[node.inputs[0]].affine
    outputs, channels = weights.shape[:2]
    layout = weights.reshape(outputs, channels, *window.kernel).transpose(0, 2, 3, 4, 1)
    zero_points = np.zeros(outputs, np.int32)
    if layout.min() < -128 or layout.max() > 127:  # only with weights of a zero point of their own
        zero_points = np.broadcast_to(node.weights.zero_point, outputs).astype(np.int32)
        layout = layout + zero_points.reshape(-1, 1, 1, 1, 1)
        if layout.min() < -128 or layout.max() > 127:  # taps of zeros that stand for no weight
            layout = np.clip(layout, -128, 127)
    sums = weights.reshape(outputs, -1).sum(axis=1, dtype=np.int64)
    unit = state.units.get(node.name)  # none has a layer whose value is its sum in binary32
    rule = rounding.matrix_rounding(state.network, node, folded=False) if unit is None else unit.rule
    state.operations.append(
        Matrix(
            state.layer(node.name),
            source,
            target,
            window,
            groups,
            np.ascontiguousarray(layout.astype(np.int8)),
            zero_points,
            machine_rule(state.network, node, rule, rounding.zero_point_offset(affine, sums)),
            affine.zero_point,
            affine.dtype == "int8",
        )
    )
