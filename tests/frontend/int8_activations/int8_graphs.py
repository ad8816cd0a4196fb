"""The graphs of PyTorch that stand for the operators of `xnnpack_specs`, as XNNPACKQuantizer and convert leave them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.ao.quantization.fx._decomposed  # makes the operators `quantized_decomposed`
import torch.nn.functional as F  # noqa: N812
from xnnpack_specs import Spec

from accelsim.arithmetic.affine import Affine

Tensor = torch.Tensor


def quantize(x: Tensor, grid: Affine) -> Tensor:
    decomposed = torch.ops.quantized_decomposed
    return decomposed.quantize_per_tensor(x, grid.scale, grid.zero_point, -128, 127, torch.int8)


def dequantize(codes: Tensor, grid: Affine) -> Tensor:
    decomposed = torch.ops.quantized_decomposed
    return decomposed.dequantize_per_tensor(codes, grid.scale, grid.zero_point, -128, 127, torch.int8)


def rounded(x: Tensor, grid: Affine) -> Tensor:
    """Quantised and dequantised, as between two operators."""
    return dequantize(quantize(x, grid), grid)


class Operator(torch.nn.Module):
    """One operator between the quantisation of its inputs and that of its result."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.spec = spec
        if "weight" in spec.arrays:
            self.register_buffer("weight", torch.from_numpy(spec.arrays["weight"]))
            scale = spec.arrays["scale"]
            self.per_tensor = None if spec.attributes["per_channel"] else float(scale[0])
            self.register_buffer("scales", torch.from_numpy(scale.astype(np.float32)))
            self.register_buffer("zeros", torch.zeros(len(scale), dtype=torch.int64))
            bias = spec.arrays.get("bias")
            self.bias = None if bias is None else torch.nn.Parameter(torch.from_numpy(bias), requires_grad=False)

    def forward(self, *inputs: Tensor) -> Tensor:
        grids = [grid for _, grid in self.spec.inputs]
        given = [rounded(x, grid) for x, grid in zip(inputs, grids, strict=True)]
        return rounded(self._result(*given), self.spec.output)

    def _result(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        spec, attributes = self.spec, self.spec.attributes
        match spec.operator:
            case "conv" | "linear":
                return self._activated(self._layer(x))
            case "add":
                return self._activated(x + y)
            case "sub":
                return x - y
            case "mul":
                return x * y
            case "mean":
                return F.adaptive_avg_pool2d(x, 1)
            case "max_pool":
                return F.max_pool2d(x, attributes["kernel"], attributes["stride"], attributes["padding"])
            case "relu":
                return torch.relu(x)
            case "hardtanh":
                return F.hardtanh(x, attributes["low"], attributes["high"])
            case "hardswish":
                return F.hardswish(x)
            case "sigmoid":
                return torch.sigmoid(x)
            case "tanh":
                return torch.tanh(x)
            case "leaky_relu":
                return F.leaky_relu(x, attributes["slope"])
        return x  # requantize

    def _layer(self, x: Tensor) -> Tensor:
        decomposed, attributes = torch.ops.quantized_decomposed, self.spec.attributes
        transposed, scales = attributes.get("transposed", False), (self.scales, self.zeros)
        if self.per_tensor is None:
            weight = decomposed.dequantize_per_channel(self.weight, *scales, int(transposed), -127, 127, torch.int8)
        else:
            weight = decomposed.dequantize_per_tensor(self.weight, self.per_tensor, 0, -127, 127, torch.int8)
        if self.spec.operator == "linear":
            return F.linear(x, weight, self.bias)
        names = ("stride", "padding", "dilation", "groups", "output_padding")
        arguments = {name: attributes[name] for name in names if name in attributes}
        if transposed:
            return F.conv_transpose2d(x, weight, self.bias, **arguments)
        return (F.conv1d if x.dim() == 3 else F.conv2d)(x, weight, self.bias, **arguments)

    def _activated(self, x: Tensor) -> Tensor:
        if self.spec.attributes.get("relu"):
            return torch.relu(x)
        if "clamp" in self.spec.attributes:
            return F.hardtanh(x, *self.spec.attributes["clamp"])
        return x


class Several(torch.nn.Module):
    """Operators side by side, each with inputs of its own: one program for all of them."""

    def __init__(self, specs: Sequence[Spec]) -> None:
        super().__init__()
        self.operators = torch.nn.ModuleList(map(Operator, specs))

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        results, place = [], 0
        for operator in self.operators:
            count = len(operator.spec.inputs)
            results.append(operator(*inputs[place : place + count]))
            place += count
        return tuple(results)


def exported(module: torch.nn.Module, inputs: tuple[Tensor, ...]) -> Any:
    """The graph of torch.export."""
    with torch.no_grad():
        return torch.export.export(module.eval(), inputs)


def reals(spec: Spec, codes: Sequence[np.ndarray]) -> tuple[Tensor, ...]:
    """Real numbers that are quantised to these codes."""
    grids = [grid for _, grid in spec.inputs]
    return tuple(
        torch.from_numpy((part.astype(np.int32) - grid.zero_point).astype(np.float32) * np.float32(grid.scale))
        for part, grid in zip(codes, grids, strict=True)
    )


def model_of(specs: Sequence[Spec], inputs: Sequence[list[np.ndarray]]) -> tuple[Any, tuple[Tensor, ...]]:
    """The operators side by side as torch.export's `module()`, and real numbers with these codes."""
    given = tuple(part for spec, codes in zip(specs, inputs, strict=True) for part in reals(spec, codes))
    return exported(Several(specs), given).module(), given


def chunks(items: Iterable[tuple[Any, ...]], size: int = 32) -> Iterator[tuple[tuple[Any, ...], ...]]:
    """So many items at a time, each part of them together."""
    everything = list(items)
    for start in range(0, len(everything), size):
        yield tuple(zip(*everything[start : start + size], strict=True))
