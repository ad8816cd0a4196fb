"""Quantised graphs as torch.export has them after PT2E's convert, written out, with scales that make ties."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.ao.quantization.fx._decomposed  # makes the operators `quantized_decomposed`
import torch.nn.functional as F  # noqa: N812

Tensor = torch.Tensor

#: Scale and zero point. An input's step times a weight's is a half or a quarter of OUT's: sums are often ties.
Grid = tuple[float, int]
IN, OUT = (2.0**-2, 77), (2.0**-7, 101)


def rounded(x: Tensor, grid: Grid = OUT) -> Tensor:
    """Quantised and dequantised, as between two layers."""
    return dequantize(quantize(x, grid), grid)


def quantize(x: Tensor, grid: Grid) -> Tensor:
    return torch.ops.quantized_decomposed.quantize_per_tensor(x, *grid, 0, 255, torch.uint8)


def dequantize(codes: Tensor, grid: Grid) -> Tensor:
    return torch.ops.quantized_decomposed.dequantize_per_tensor(codes, *grid, 0, 255, torch.uint8)


class Layer(torch.nn.Module):
    """A convolution (a kernel of two sizes) or a linear layer of small int8 weights."""

    def __init__(
        self, seed: int, shape: tuple[int, ...], *, bias: bool = True, per_channel: bool = True, **arguments: Any
    ) -> None:
        super().__init__()
        rng = np.random.default_rng(seed)
        self.register_buffer("weight", torch.from_numpy(rng.integers(-5, 6, shape, np.int8)))
        scales = 2.0 ** rng.integers(-7, -5, shape[0] if per_channel else 1)
        self.register_buffer("scales", torch.from_numpy(scales.astype(np.float32)))
        self.register_buffer("zeros", torch.zeros(len(scales), dtype=torch.int64))
        values = torch.from_numpy((rng.integers(-40, 41, shape[0]) * 2.0**-9).astype(np.float32)) if bias else None
        self.bias = torch.nn.Parameter(values, requires_grad=False) if values is not None else None
        self.per_channel, self.arguments = per_channel, arguments

    def forward(self, x: Tensor) -> Tensor:
        decomposed = torch.ops.quantized_decomposed
        if self.per_channel:
            weight = decomposed.dequantize_per_channel(self.weight, self.scales, self.zeros, 0, -128, 127, torch.int8)
        else:
            weight = decomposed.dequantize_per_tensor(self.weight, 2.0**-6, 0, -128, 127, torch.int8)
        function = F.linear if weight.dim() == 2 else F.conv2d
        return function(x, weight, self.bias, **self.arguments)


class Graph(torch.nn.Module):
    """`body` between the quantisation of the input and that of the output; `layers` are its parts."""

    def __init__(self, body: Callable[..., Tensor], *layers: Layer, out: Grid = OUT) -> None:
        super().__init__()
        self.body, self.out = body, out
        for index, layer in enumerate(layers):
            self.add_module(f"layer{index}", layer)
        self.count = len(layers)

    def forward(self, x: Tensor) -> Tensor:
        layers = [getattr(self, f"layer{index}") for index in range(self.count)]
        return dequantize(quantize(self.body(rounded(x, IN), *layers), self.out), self.out)


def exported(graph: Graph, shape: tuple[int, ...]) -> Any:
    """The graph as torch.export's `module()`, which PT2E's convert returns too."""
    with torch.no_grad():
        return torch.export.export(graph, (torch.zeros(shape),)).module()


def image(seed: int, shape: tuple[int, ...], zero: int = IN[1]) -> Tensor:
    """Real numbers on the input's grid, of codes near its zero point."""
    codes = np.random.default_rng(seed).integers(zero - 6, zero + 7, shape)
    return torch.from_numpy(((codes - zero) * IN[0]).astype(np.float32))


Y = (2, 6, 9, 7)
ROWS = (5, 33)

#: Name: the shape of the input, and the graph.
GRAPHS: dict[str, tuple[tuple[int, ...], Callable[[], Graph]]] = {
    "convolution": (Y, lambda: Graph(lambda x, a: a(x), Layer(1, (8, 6, 3, 3), padding=1))),
    "convolution without bias": (Y, lambda: Graph(lambda x, a: a(x), Layer(2, (8, 6, 3, 2), bias=False, stride=2))),
    "convolution with relu": (Y, lambda: Graph(lambda x, a: torch.relu(a(x)), Layer(3, (8, 6, 2, 2)))),
    "relu in place": (Y, lambda: Graph(lambda x, a: torch.relu_(a(x)), Layer(3, (8, 6, 2, 2)))),
    "dropped out": (Y, lambda: Graph(lambda x, a: torch.relu(F.dropout(a(x), training=False)), Layer(3, (8, 6, 2, 2)))),
    "relu6": (Y, lambda: Graph(lambda x, a: F.relu6(a(x)), Layer(4, (8, 6, 1, 1)))),
    "clamp on both sides": (Y, lambda: Graph(lambda x, a: F.hardtanh(a(x), -0.3, 0.2), Layer(5, (8, 6, 1, 1)))),
    "clamp from below": (Y, lambda: Graph(lambda x, a: torch.clamp(a(x), min=-0.125), Layer(5, (8, 6, 1, 1)))),
    "grouped": (Y, lambda: Graph(lambda x, a: a(x), Layer(6, (9, 2, 3, 3), groups=3, dilation=2))),
    "depthwise": (Y, lambda: Graph(lambda x, a: torch.relu(a(x)), Layer(7, (6, 1, 3, 3), groups=6, padding=1))),
    "linear": (ROWS, lambda: Graph(lambda x, a: a(x), Layer(9, (20, 33)))),
    "linear without bias": (ROWS, lambda: Graph(lambda x, a: torch.relu(a(x)), Layer(10, (20, 33), bias=False))),
    "linear over three axes": ((2, 5, 33), lambda: Graph(lambda x, a: torch.relu(a(x)), Layer(11, (20, 33)))),
    "two layers": (
        Y,
        lambda: Graph(
            lambda x, a, b: b(torch.flatten(rounded(torch.relu(a(x)), (2.0**-6, 9)), 1)),
            Layer(12, (4, 6, 3, 3)),
            Layer(13, (10, 140)),
            out=(2.0**-9, 121),
        ),
    ),
    "flattened before it is quantised": (
        Y,
        lambda: Graph(lambda x, a: torch.flatten(a(x), 1), Layer(14, (4, 6, 3, 3))),
    ),
    "pooled before it is quantised": (
        Y,
        lambda: Graph(lambda x, a: F.max_pool2d(torch.relu(a(x)), 2), Layer(15, (8, 6, 2, 2))),
    ),
    "larger of two": (Y, lambda: Graph(lambda x, a: torch.maximum(rounded(a(x), IN), x), Layer(16, (6, 6, 1, 1)))),
    "smaller of two": (Y, lambda: Graph(lambda x, a: torch.minimum(x, rounded(a(x), IN)), Layer(16, (6, 6, 1, 1)))),
    "residual": (Y, lambda: Graph(lambda x, a: a(x) + x, Layer(16, (6, 6, 3, 3), padding=1))),
    "residual with relu": (
        Y,
        lambda: Graph(
            lambda x, a, b: torch.relu(rounded(b(x), (2.0**-8, 99)) + a(x)),
            Layer(17, (6, 6, 1, 1)),
            Layer(18, (6, 6, 1, 1)),
        ),
    ),
    "residual pooled": (
        Y,
        lambda: Graph(lambda x, a: F.max_pool2d(torch.relu(a(x) + x), 2), Layer(19, (6, 6, 1, 1))),
    ),
    "residual used again": (
        Y,
        lambda: Graph(
            lambda x, a, b: (lambda y: rounded(a(x) + y, OUT) + y)(rounded(b(x), (2.0**-8, 99))),
            Layer(22, (6, 6, 1, 1)),
            Layer(23, (6, 6, 1, 1)),
        ),
    ),
    "shortcut over two layers": (
        Y,
        lambda: Graph(
            lambda x, a, b: torch.relu(b(rounded(torch.relu(a(x)), (2.0**-6, 3))) + x),
            Layer(24, (6, 6, 1, 1)),
            Layer(25, (6, 6, 3, 3), padding=1),
        ),
    ),
    "clamped linear layer": (ROWS, lambda: Graph(lambda x, a: F.hardtanh(a(x), -0.3, 0.2), Layer(26, (20, 33)))),
    "layer of moved numbers": (Y, lambda: Graph(lambda x, a: a(torch.flatten(x, 1)), Layer(27, (9, 378)))),
    "layer of pooled numbers": (Y, lambda: Graph(lambda x, a: a(F.max_pool2d(x, 2)), Layer(28, (9, 6, 2, 2)))),
    "residual of a linear layer": (ROWS, lambda: Graph(lambda x, a: torch.relu(a(x) + x), Layer(20, (33, 33)))),
    "used twice": (
        Y,
        lambda: Graph(
            lambda x, a: (lambda y: rounded(torch.relu(y), OUT) + rounded(y, (2.0**-6, 55)))(a(x)),
            Layer(21, (4, 6, 1, 1)),
        ),
    ),
    "sum": (Y, lambda: Graph(lambda x: rounded(F.hardswish(x), (0.5, 33)) + x)),
    "sum with relu": (Y, lambda: Graph(lambda x: torch.relu(x + rounded(x, (0.125, 201))), out=(0.5, 13))),
    "concatenation": (Y, lambda: Graph(lambda x: torch.cat([x, rounded(F.sigmoid(x), IN)], 1), out=IN)),
    "a table": (Y, lambda: Graph(lambda x: torch.tanh(x) * 3, out=(0.125, 9))),
    "max pool": (Y, lambda: Graph(lambda x: F.max_pool2d(x, 3, 2, 1), out=IN)),
    "movements": (Y, lambda: Graph(lambda x: x.permute(0, 2, 3, 1)[:, 1:, :, ::2].reshape(2, -1), out=IN)),
}

#: Layers whose sums leave the kernel in float: something that Inductor does not fuse stands before the quantize, or
#: before the layer. (`test_exported.py` asks Inductor itself, in the full run.)
IN_FLOAT = {
    "clamp from below": {"layer0"},
    "two layers": {"layer1"},
    "flattened before it is quantised": {"layer0"},
    "pooled before it is quantised": {"layer0"},
    "residual": {"layer0"},
    "residual pooled": {"layer0"},
    "residual used again": {"layer0"},
    "clamped linear layer": {"layer0"},
    "layer of moved numbers": {"layer0"},
    "layer of pooled numbers": {"layer0"},
    "used twice": {"layer0", "layer0_2"},
}
