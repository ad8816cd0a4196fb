"""Average pools: an integer sum over the window, then one or two binary32 steps and one rounding.

Sources: ATen `AveragePool2d.cpp`, `AveragePool3d.cpp`, `AdaptiveAveragePooling.cpp`, `ReduceOps.cpp` and their vector
kernels in `QuantizedOpKernels.cpp`; QNNPACK `average-pooling.c`, `global-average-pooling.c`. A max pool needs no
arithmetic: it is the largest code of the window, and padding never wins.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import ModelError

from . import lanes
from .affine import Affine
from .binary32 import Float32, f32, reciprocal
from .engines import PT2E, KernelSet, check_engine, check_qnnpack_scale
from .lanes import Layout
from .requantize import Requantization

Kind = Literal["window", "adaptive", "mean"]

#: Channels that one vector of the channels_last kernels takes; avg_pool's alone is compiled for AVX-512.
_LANES, _WIDE_LANES = 8, 16


@dataclass(frozen=True)
class AverageRule:
    """The sum of `code - subtract` over the window, padding left out, requantised."""

    subtract: int
    requantization: Requantization

    def apply(self, windows: NDArray[np.integer]) -> NDArray[np.int32]:
        """Codes of the averages of `windows`, whose last axis runs over the elements of each window."""
        sums = (windows.astype(np.int32) - self.subtract).sum(axis=-1, dtype=np.int32)
        return self.requantization.apply(sums)


def average_rules(
    engine: str,
    kernels: KernelSet,
    kind: Kind,
    grid: Affine,
    kernel: tuple[int, ...],
    channels: int,
    layout: Layout,
    *,
    divisor: int | None = None,
    ceil_mode: bool = False,
) -> tuple[lanes.Span[AverageRule], ...]:
    """The rules of one output pixel as spans over its channels; `grid` is the input's and the output's.

    `kind`: "window" (avg_pool), "adaptive" (adaptive_avg_pool; `kernel` is this pixel's window) or "mean" (over all
    axes that `kernel` covers). `divisor`: what the sum is divided by, the size of `kernel` if None; QNNPACK divides by
    that in any case. `layout` is the input's; a contiguous pool has one rule for all lanes. A mean of a channels_last
    tensor is a sum in binary32 (`float_sum.mean_channels_last`); asking for its rules raises ModelError. A graph of
    torch.export averages in binary32 too, in an order of its own; the rule of "pt2e" is the exact average, rounded once
    (half to even), from which the graph differs in ties.
    """
    check_engine(engine)
    size = int(np.prod(kernel))
    clamp: dict[str, Any] = {"minimum": grid.minimum, "maximum": grid.maximum}

    def one(subtract: int, **steps: Any) -> tuple[lanes.Span[AverageRule], ...]:
        return (lanes.Span(0, channels, AverageRule(subtract, Requantization(**clamp, **steps))),)

    if engine == PT2E:
        return one(grid.zero_point, zero_point=grid.zero_point, divisor=np.atleast_1d(f32(divisor or size)))
    if _is_qnnpacks(engine, kind, grid, kernel, ceil_mode):
        check_qnnpack_scale(grid.scale)
        scale = f32(grid.scale)
        return one(grid.zero_point, zero_point=grid.zero_point, multiplier=np.atleast_1d(scale / (scale * f32(size))))
    if kind == "mean":
        if layout == "channels_last":
            raise ModelError("the mean of a channels_last tensor is summed in binary32; no integer rule is equal to it")
        return one(0, zero_point=0, divisor=np.atleast_1d(f32(size)))
    if kind == "adaptive" and layout == "contiguous":
        return one(0, zero_point=0, multiplier=np.atleast_1d(_reciprocal_by_axes(kernel)))
    factor = np.atleast_1d(reciprocal(divisor or size))
    tail = AverageRule(
        grid.zero_point,
        Requantization(grid.zero_point, **clamp, multiplier=factor, zero_point_first=True),
    )
    if (layout == "contiguous" and not _always_channels_last(kind, kernel)) or kernels.aten == "default":
        return (lanes.Span(0, channels, tail),)
    body = AverageRule(
        grid.zero_point,
        Requantization(grid.zero_point, **clamp, multiplier=factor, fused_zero_point=kind == "adaptive"),
    )
    if kernels.aten == "uniform":
        return (lanes.Span(0, channels, body),)
    width = _WIDE_LANES if kind == "window" and kernels.aten == "avx512" else _LANES
    return lanes.rows(channels, channels, width, body, tail)


def _is_qnnpacks(engine: str, kind: Kind, grid: Affine, kernel: tuple[int, ...], ceil_mode: bool) -> bool:
    """QNNPACK has kernels for two spatial axes and uint8; the rest is ATen's.

    An adaptive pool comes to QNNPACK if its windows have one size and more than one element; the caller's business.
    """
    return engine == "qnnpack" and grid.dtype == "uint8" and len(kernel) == 2 and not (kind == "window" and ceil_mode)


def _always_channels_last(kind: Kind, kernel: tuple[int, ...]) -> bool:
    """avg_pool3d brings its input to channels_last first."""
    return kind == "window" and len(kernel) == 3


def _reciprocal_by_axes(kernel: tuple[int, ...]) -> Float32:
    """`((1 / depth) / height) / width`, each rounded (ATen `adaptive_avg_pool_single_out_frame`)."""
    value = f32(1)
    for size in kernel:
        value = value / f32(size)
    return value
