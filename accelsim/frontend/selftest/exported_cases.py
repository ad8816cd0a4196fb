"""One small model for each rule of torch.export graphs (PT2E): the kernels to which Inductor lowers their layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812

import accelsim.frontend.decomposed  # noqa: F401  # makes the operators

from .cases import Made, Maker
from .draws import Draw

_GRID = (0, 255, torch.uint8)


def _rounded(x: torch.Tensor, scale: float, zero: int, *, codes: bool = False) -> torch.Tensor:
    """Quantised, and dequantised again unless `codes` are wanted."""
    decomposed = torch.ops.quantized_decomposed
    made = decomposed.quantize_per_tensor(x, scale, zero, *_GRID)
    return made if codes else decomposed.dequantize_per_tensor(made, scale, zero, *_GRID)


def _graph(
    body: Callable[..., torch.Tensor], *weights: tuple[int, ...], x: tuple[int, ...] = (2, 6, 13, 11), out: float = 2.0
) -> Maker:
    """`body` of the dequantised input and the layers of those weights (functions), then quantised."""

    def make(draw: Draw) -> Made:
        layers = [_layer(draw, shape) for shape in weights]
        grid, to = (draw.scale(0.25), draw.zero_point()), (draw.scale(out), draw.zero_point())
        values = torch.from_numpy(draw.random.integers(0, 256, x)).float().sub(grid[1]).mul(grid[0])
        return lambda x: _rounded(body(_rounded(x, *grid), *layers), *to, codes=True), (values,)

    return make


def _layer(draw: Draw, shape: tuple[int, ...]) -> Callable[..., torch.Tensor]:
    codes, scales, bias = draw.weight_codes(*shape), draw.weight_scales(shape[0]), draw.bias(shape[0])
    zeros = torch.zeros(shape[0], dtype=torch.int64)
    function = F.linear if len(shape) == 2 else F.conv2d

    def run(x: torch.Tensor, **more: Any) -> torch.Tensor:
        weight = torch.ops.quantized_decomposed.dequantize_per_channel(codes, scales, zeros, 0, -128, 127, torch.int8)
        return function(x, weight, bias, **more)

    return run


CASES: dict[str, Maker] = {
    "convolution": _graph(lambda x, a: a(x, padding=1), (9, 6, 3, 3)),
    "convolution, relu": _graph(lambda x, a: torch.relu(a(x, stride=2)), (9, 6, 3, 3)),
    "convolution, clamp": _graph(lambda x, a: F.relu6(a(x)), (9, 6, 1, 1), out=2.0**-4),
    "convolution, depthwise": _graph(lambda x, a: a(x, groups=6, padding=1), (6, 1, 3, 3)),
    "convolution, grouped": _graph(lambda x, a: a(x, groups=3), (9, 2, 3, 3)),
    "convolution, residual": _graph(lambda x, a, b: a(x) + _rounded(b(x), 2.0, 121), (9, 6, 3, 3), (9, 6, 3, 3)),
    "convolution, then max pool": _graph(lambda x, a: F.max_pool2d(torch.relu(a(x)), 2), (9, 6, 3, 3)),
    "linear": _graph(lambda x, a: a(x), (30, 45), x=(37, 45)),
    "linear, relu": _graph(lambda x, a: torch.relu(a(x)), (30, 45), x=(37, 45)),
    "linear, residual": _graph(lambda x, a, b: a(x) + _rounded(b(x), 2.0, 121), (30, 45), (30, 45), x=(37, 45)),
    "add": _graph(lambda x: x + _rounded(torch.relu(x), 0.25, 77), out=0.5),
    "silu": _graph(F.silu, out=0.25),
    "max_pool2d": _graph(lambda x: F.max_pool2d(x, 3, 2, 1), out=0.25),
}
