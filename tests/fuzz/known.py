"""Models that once gave other codes than PyTorch's, and these, as numbers. The codes are alike on all processors."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from models import Q, Tensor
from torch import nn


@dataclass(frozen=True)
class Known:
    """`make` gives the model, its weights packed for the engine in force. It is recorded with `example` (by default
    `x`), and gives the `codes` on `x`.

    `refused`: an AccelsimError is as good.
    """

    name: str
    make: Callable[[], Callable[..., Any]]
    x: Callable[[], Any]
    codes: Any
    engines: tuple[str, ...] = ("fbgemm", "qnnpack", "x86", "onednn")
    example: Callable[[], Any] | None = None
    refused: bool = False


def q(values: Any, scale: float = 0.1, zero_point: int = 128) -> Tensor:
    return torch.quantize_per_tensor(torch.tensor(values), scale, zero_point, torch.quint8)


def packed(weights: list[list[int]], scales: list[float], biases: list[float]) -> Any:
    codes, zeros = torch.tensor(weights, dtype=torch.int8), torch.zeros(len(scales), dtype=torch.long)
    tensor = torch._make_per_channel_quantized_tensor(codes, torch.tensor(scales, dtype=torch.double), zeros, 0)
    return Q.linear_prepack(tensor, torch.tensor(biases))


def doubled(x: Tensor) -> Tensor:
    return Q.add(x, x, 0.1, 128)


def _relu6_of_a_view(x: Tensor) -> Tensor:
    a = doubled(x)
    Q.relu6(a[:1], True)
    return a


def _three_rows(end: Callable[[Tensor], Tensor]) -> Callable[[], Callable[..., Any]]:
    """A linear layer from two to three features, and what comes after it."""

    def make() -> Callable[..., Any]:
        weights = packed([[10, 20], [30, 40], [50, 60]], [0.01] * 3, [0.0] * 3)
        return lambda x: end(Q.linear(x, weights, 0.1, 128))

    return make


def _biased(weight: int, scale: float, bias: float, out: float = 0.1, zero_point: int = 128) -> Callable[[], Any]:
    """A linear layer from one to one feature."""

    def make() -> Callable[..., Any]:
        weights = packed([[weight]], [scale], [bias])
        return lambda x: Q.linear(x, weights, out, zero_point)

    return make


def _column() -> Tensor:
    return q([[[[3.0, 3.0]], [[-3.0, -3.0]]]]).contiguous(memory_format=torch.channels_last)


def _rows() -> Tensor:
    return q([[1.0, 2.0], [3.0, 4.0]])


#: fbgemm's, of which x86 takes the linear layers on every processor.
_FBGEMM, _OTHERS = ("fbgemm", "x86"), ("qnnpack", "onednn")

IN_PLACE = (
    Known(
        "hardsigmoid in place",
        lambda: lambda x: F.hardsigmoid(doubled(x), inplace=True),
        lambda: q([[1.0, 2.0]]),
        [[213, 255]],
    ),
    Known(
        "hardtanh in place, of channels_last",
        lambda: lambda x: F.hardtanh(x, -1.0, 1.0, inplace=True),
        _column,
        [[[[138, 118]], [[138, 118]]]],
        ("qnnpack",),
    ),
    Known(
        "hardtanh in place, of channels_last, other engines",
        lambda: lambda x: F.hardtanh(x, -1.0, 1.0, inplace=True),
        _column,
        [[[[138, 138]], [[118, 118]]]],
        ("fbgemm", "x86", "onednn"),
    ),
    Known(
        "unsqueeze_ of a layer's result",
        _three_rows(lambda y: y.unsqueeze_(0)),
        _rows,
        [[[133, 139, 145], [139, 153, 167]]],
    ),
    Known("t_ of a layer's result", _three_rows(lambda y: y.t_()), _rows, [[133, 139], [139, 153], [145, 167]]),
    Known(
        "transpose_ of a layer's result",
        _three_rows(lambda y: y.transpose_(0, 1)),
        _rows,
        [[133, 139], [139, 153], [145, 167]],
    ),
    Known("relu6 of a view", lambda: _relu6_of_a_view, lambda: q([[-1.0], [-2.0]]), [[128], [88]]),
)

LIMITS = (
    Known(
        "a pruned channel's bias",
        _biased(0, 2.0**-23, 1.5, 0.01, 0),
        lambda: q([[0.3]], 0.004, 0),
        [[102]],
        ("qnnpack",),
    ),
    *(
        Known(
            f"a bias of {bias} by {weight} * {scale}",
            _biased(weight, scale, bias),
            lambda: q([[0.0]], 0.5, 128),
            [[code]],
            engines,
        )
        for weight, scale in ((0, 2.0**-23), (1, 2.0**-7))
        for engines, high in ((_FBGEMM, 0), (_OTHERS, 255))
        for bias, code in (
            *((bias, high) for bias in (2.2e8, 1e30, math.inf)),
            *((bias, 0) for bias in (-2.2e8, -1e30, -math.inf, math.nan)),
        )
    ),
)


def _quantized_by_its_largest(x: Tensor) -> Tensor:
    return torch.quantize_per_tensor(x, x.abs().max() / 127, torch.tensor(128), torch.quint8)


def _quantized_by_a_number(x: Tensor) -> Tensor:
    return torch.quantize_per_tensor(x, x.abs().max().item() / 127, 128, torch.quint8)


def _branch(x: Tensor) -> Tensor:
    return doubled(x) if x.dequantize().sum() > 1.5 else torch.relu(x)


def _row_of_the_largest(x: Tensor) -> Tensor:
    return doubled(x)[int(x.dequantize().sum(1).argmax())]


#: Recorded on the one, run on the other; the numbers are those of the model run by PyTorch on the other.
DATA = (
    Known(
        "the scale is the largest value",
        lambda: _quantized_by_its_largest,
        lambda: torch.tensor([[2.0, 1.0]]),
        [[255, 192]],
        example=lambda: torch.tensor([[1.0, 1.0]]),
        refused=True,
    ),
    Known(
        "the scale is a number from the data",
        lambda: _quantized_by_a_number,
        lambda: torch.tensor([[2.0, 1.0]]),
        [[255, 192]],
        example=lambda: torch.tensor([[1.0, 1.0]]),
        refused=True,
    ),
    Known(
        "a branch on data",
        lambda: _branch,
        lambda: q([[2.0]]),
        [[168]],
        example=lambda: q([[1.0]]),
        refused=True,
    ),
    Known(
        "an index from data",
        lambda: _row_of_the_largest,
        lambda: q([[1.0], [2.0]]),
        [168],
        example=lambda: q([[2.0], [1.0]]),
        refused=True,
    ),
)


# Models whose result is no function of their input: no network can stand for them.


class _Counts(nn.Module):
    """Adds one more at each call."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.count.add_(1)
        return torch.quantize_per_tensor(x.dequantize() + self.count, 0.1, 128, torch.quint8)


class _CountsInPython(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def forward(self, x: Tensor) -> Tensor:
        self.count += 1
        return Q.add_scalar(x, float(self.count))


class _Remembers(nn.Module):
    """Gives what it was given the time before."""

    def __init__(self) -> None:
        super().__init__()
        self.last = q([[0.0, 0.0]])

    def forward(self, x: Tensor) -> Tensor:
        before, self.last = self.last, x
        return Q.add(x, before, 0.1, 128)


def _added_at_random(x: Tensor) -> Tensor:
    return torch.quantize_per_tensor(x.dequantize() + torch.rand(()), 0.1, 128, torch.quint8)


def _noise(x: Tensor) -> Tensor:
    return torch.quantize_per_tensor(x.dequantize() + torch.rand(2), 0.1, 128, torch.quint8)


def _random_number(x: Tensor) -> Tensor:
    return Q.add_scalar(x, torch.randint(1, 1 << 30, ()).item() / 2**28)


def _random_order(x: Tensor) -> Tensor:
    return x.index_select(1, torch.randperm(x.shape[1]))


def _dropped(x: Tensor) -> Tensor:
    return torch.quantize_per_tensor(F.dropout(x.dequantize(), 0.5, True), 0.1, 128, torch.quint8)


#: Makers of models, and whether chance is at work.
NO_FUNCTIONS: dict[str, Callable[[], Callable[..., Any]]] = {
    "a buffer that counts": _Counts,
    "a number that counts": _CountsInPython,
    "the input of the call before": _Remembers,
    "a random number added": lambda: _added_at_random,
    "random numbers added": lambda: _noise,
    "a random number as a constant": lambda: _random_number,
    "a random order": lambda: _random_order,
    "dropout in training": lambda: _dropped,
    "quantised dropout in training": lambda: lambda x: Q.dropout(x, 0.1, 128, 0.5, True),
    "bernoulli_": lambda: (
        lambda x: torch.quantize_per_tensor(x.dequantize() * torch.empty(2).bernoulli_(0.5), 0.1, 128, torch.quint8)
    ),
}
