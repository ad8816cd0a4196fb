"""Pools as operations: each part of the outputs whose windows are alike and are rounded alike is one part.

The machine pools over two axes. A largest element over three is found in two passes, planes first, then depths. A sum
is rounded once, so that its windows' planes are first copied below one another: then each is a window of two axes.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from accelsim.compiler.forms import Form
from accelsim.compiler.operations import Pool, PoolPart, View
from accelsim.isa import Reduction
from accelsim.network import AveragePool, MaxPool, rounding

if TYPE_CHECKING:
    from .network import Lowering


def _two(sizes: Sequence[int], fill: int) -> tuple[int, int]:
    """The last two of one to three spatial sizes."""
    return (fill, sizes[0]) if len(sizes) == 1 else (sizes[-2], sizes[-1])


def lower_max_pool(state: Lowering, node: MaxPool) -> None:
    """One part: padding never wins, and nothing is rounded."""
    from .network import view_of

    source = state.image_view(node, node.inputs[0])
    target = view_of(state.result(node))
    if len(node.kernel) < 3:
        _largest(state, node, source, target, slice(None))
        return
    images, depth, _, _, channels = source.sizes
    lines, pixels = target.sizes[2:4]
    row, plane = pixels * channels, lines * pixels * channels
    planes = state.new_tensor(f"{node.name}.planes", (images, depth, lines, pixels, channels), range(5)).tensor
    for image in range(images):
        below = View(
            source.tensor,
            (depth, 1, *source.sizes[2:]),
            (source.pitches[1], 0, *source.pitches[2:]),
            source.offset + image * source.pitches[0],
        )
        above = View(planes, (depth, 1, lines, pixels, channels), (plane, 0, row, channels), image * depth * plane)
        _largest(state, node, below, above, slice(1, 3))
    stacked = View(planes, (images, 1, depth, lines * pixels, channels), (depth * plane, 0, plane, channels))
    sizes = (images, 1, target.sizes[1], lines * pixels, channels)
    result = View(target.tensor, sizes, (target.pitches[0], 0, target.pitches[1], target.pitches[3]), target.offset)
    _largest(state, node, stacked, result, slice(0, 1), across=False)


def _largest(state: Lowering, node: MaxPool, source: View, target: View, axes: slice, *, across: bool = True) -> None:
    """A pass of a max pool over some of its axes: the last two, or (not `across`) one, along lines."""

    def pair(values: Sequence[int], fill: int) -> tuple[int, int]:
        return _two(values[axes], fill) if across else (values[axes][0], fill)

    before = pair([pad[0] for pad in node.padding], 0)
    part = PoolPart(
        (0, 0),
        (target.sizes[2], target.sizes[3]),
        (-before[0], -before[1]),
        pair(node.kernel, 1),
        pair(node.stride, 1),
        pair(node.dilation, 1),
        (0, target.sizes[4]),
    )
    signed = state.network.values[node.name].affine.dtype == "int8"
    state.operations.append(Pool(state.layer(node.name), source, target, Reduction.MAX, (part,), signed))


def lower_average_pool(state: Lowering, node: AveragePool) -> None:
    """Runs of equal windows along both axes, and for each the engine's rules over the channels."""
    from .network import view_of

    source = state.image_view(node, node.inputs[0])
    target = view_of(state.result(node))
    windows = rounding.axis_windows(state.network, node)
    axes = [_runs(axis) for axis in windows]
    if len(axes) < 3:
        down = axes[0] if len(axes) == 2 else [_Run(0, 1, 0, 1, 1, 1)]
        _sums(state, node, source, target, None, down, axes[-1])
        return
    for place, window in enumerate(windows[0]):
        tall, stacked = _stacked(state, node, source, window, axes[1])
        sizes, pitches = target.sizes, target.pitches
        level = View(
            target.tensor,
            (sizes[0], 1, *sizes[2:]),
            (pitches[0], 0, *pitches[2:]),
            target.offset + place * pitches[1],
        )
        _sums(state, node, stacked, level, window, tall, axes[2])


def _stacked(
    state: Lowering, node: AveragePool, source: View, window: rounding.AxisWindow, down: Sequence[_Run]
) -> tuple[list[_Run], View]:
    """The planes of a window along the depth, for each run of windows along the lines, copied below one another.

    Returns the runs with windows of all these lines, and the tensor they are in.
    """
    depth = window.stop - window.start
    images, _, _, width, channels = source.sizes
    lines = sum(run.outputs * depth * run.size for run in down)
    row = width * channels
    name = state.new_tensor(f"{node.name}.stacked", (images, lines, width, channels), range(4)).tensor
    tall, at = [], 0
    for run in down:
        sizes = (images, run.outputs, depth, run.size, width, channels)
        image, plane, line, pixel = source.pitches
        start = source.offset + window.start * plane + run.start * line
        taken = Form(source.tensor, sizes, (image, run.stride * line, plane, line, pixel, 1), sizes, start)
        strides = (lines * row, depth * run.size * row, run.size * row, row, channels, 1)
        state.copy(node, taken, Form(name, sizes, strides, sizes, at * row))
        height = depth * run.size
        tall.append(_Run(run.first, run.outputs, at, height, height, run.count, run.size))
        at += run.outputs * height
    return tall, View(name, (images, 1, lines, width, channels), (lines * row, 0, row, channels))


def _sums(
    state: Lowering,
    node: AveragePool,
    source: View,
    target: View,
    depth: rounding.AxisWindow | None,
    rows: Sequence[_Run],
    columns: Sequence[_Run],
) -> None:
    """One average pool over two axes; `depth` is the window along the third, where there is one."""
    network = state.network
    parts = []
    for down, across in itertools.product(rows, columns):
        sizes = (down.own, across.own)[2 - min(len(node.padding), 2) :]
        divisor = node.divisor if node.divisor is not None else down.count * across.count
        if depth is not None:
            sizes = (depth.stop - depth.start, *sizes)
            divisor = node.divisor if node.divisor is not None else divisor * depth.count
        for span in rounding.pool_rules(network, node, sizes, divisor):
            parts.append(
                PoolPart(
                    (down.first, across.first),
                    (down.outputs, across.outputs),
                    (down.start, across.start),
                    (down.size, across.size),
                    (down.stride, across.stride),
                    (1, 1),
                    (span.start, span.stop),
                    span.rule.subtract,
                    span.rule.requantization,
                )
            )
    signed = network.values[node.name].affine.dtype == "int8"
    state.operations.append(Pool(state.layer(node.name), source, target, Reduction.SUM, tuple(parts), signed))


class _Run:
    """Outputs first..first + outputs - 1 along an axis: windows of `size` inputs, `stride` apart.

    `own` of the inputs are the window's along this axis, where others are stacked between them.
    """

    def __init__(
        self, first: int, outputs: int, start: int, size: int, stride: int, count: int, own: int | None = None
    ) -> None:
        self.first, self.outputs, self.start, self.size = first, outputs, start, size
        self.stride, self.count, self.own = stride, count, size if own is None else own


def _runs(windows: Sequence[rounding.AxisWindow]) -> list[_Run]:
    runs: list[_Run] = []
    for index, window in enumerate(windows):
        size = window.stop - window.start
        last = runs[-1] if runs else None
        if last is not None and last.size == size and last.count == window.count:
            step = window.start - windows[index - 1].start
            if last.outputs == 1 or last.stride == step:
                last.outputs, last.stride = last.outputs + 1, step
                continue
        runs.append(_Run(index, 1, window.start, size, 1, window.count))
    return runs
