"""Pools as operations: each part of the outputs whose windows are alike and are rounded alike is one part."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from accelsim.errors import CompileError
from accelsim.isa import Reduction
from accelsim.network import AveragePool, MaxPool, rounding

from .operations import Pool, PoolPart

if TYPE_CHECKING:
    from .lowering import Lowering


def _two(name: str, sizes: Sequence[int], fill: int) -> tuple[int, int]:
    if len(sizes) > 2:
        raise CompileError(f"{name}: the machine pools over two axes, not over {len(sizes)}")
    return (fill, sizes[0]) if len(sizes) == 1 else (sizes[0], sizes[1])


def lower_max_pool(state: Lowering, node: MaxPool) -> None:
    """One part: padding never wins, and nothing is rounded."""
    from .lowering import view_of

    source = state.image_view(node, node.inputs[0])
    target = view_of(state.result(node))
    before = _two(node.name, [pad[0] for pad in node.padding], 0)
    part = PoolPart(
        (0, 0),
        (target.sizes[2], target.sizes[3]),
        (-before[0], -before[1]),
        _two(node.name, node.kernel, 1),
        _two(node.name, node.stride, 1),
        _two(node.name, node.dilation, 1),
        (0, target.sizes[4]),
    )
    signed = state.network.values[node.name].affine.dtype == "int8"
    state.operations.append(Pool(state.layer(node.name), source, target, Reduction.MAX, (part,), signed))


def lower_average_pool(state: Lowering, node: AveragePool) -> None:
    """Runs of equal windows along both axes, and for each the engine's rules over the channels."""
    from .lowering import view_of

    network = state.network
    source = state.image_view(node, node.inputs[0])
    target = view_of(state.result(node))
    windows = rounding.axis_windows(network, node)
    _two(node.name, [len(axis) for axis in windows], 1)
    axes = [_runs(axis) for axis in windows]
    if len(axes) == 1:
        axes.insert(0, [_Run(0, 1, 0, 1, 1, 1)])
    parts = []
    for down, across in itertools.product(*axes):
        sizes = (down.size, across.size)[2 - len(windows) :]
        divisor = node.divisor if node.divisor is not None else down.count * across.count
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
    """Outputs first..first + outputs - 1 along an axis: windows of `size` inputs, `stride` apart."""

    def __init__(self, first: int, outputs: int, start: int, size: int, stride: int, count: int) -> None:
        self.first, self.outputs, self.start, self.size = first, outputs, start, size
        self.stride, self.count = stride, count


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
