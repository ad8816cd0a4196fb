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

    `refused`: an AccelsimError is as good. `by_processor`: what oneDNN gives is known of AVX2 alone.
    """

    name: str
    make: Callable[[], Callable[..., Any]]
    x: Callable[[], Any]
    codes: Any
    engines: tuple[str, ...] = ("fbgemm", "qnnpack", "x86", "onednn")
    example: Callable[[], Any] | None = None
    refused: bool = False
    by_processor: bool = False


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


def _six() -> Tensor:
    return q([[1.0, -2.0, 0.5], [3.0, -0.25, 2.0]])


def _six_others() -> Tensor:
    return q([[-1.0, 0.0, 0.25], [2.0, 2.5, -3.0]])


def _eight() -> Tensor:
    codes = torch.tensor([[[[100, 120], [130, 140]], [[150, 160], [127, 129]]]], dtype=torch.uint8)
    return torch._make_per_tensor_quantized_tensor(codes, 0.1, 128)


def _rounded(x: Tensor) -> Tensor:
    return torch.quantize_per_tensor(x, 0.1, 128, torch.quint8)


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
    Known("relu6 of a view", lambda: _relu6_of_a_view, lambda: q([[-1.0], [-2.0]]), [[128], [88]], refused=True),
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
            by_processor=not math.isfinite(bias),
        )
        for engines, high, weight, scale in ((_FBGEMM, 0, 1, 2.0**-7), (_OTHERS, 255, 0, 2.0**-23))
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


def _added_into_itself(x: Tensor) -> Tensor:
    a = torch.relu(x)
    Q.add.out(a, x, a)
    return a


def _squeezed(x: Tensor) -> Tensor:
    a = doubled(x[:1])
    a.squeeze_()
    return a


def _sine_into_itself(x: Tensor) -> Tensor:
    real = x.dequantize()
    torch.sin(real, out=real)
    return _rounded(real)


def _mean_into_its_operand(x: Tensor) -> Tensor:
    a = doubled(x)
    return torch.mean(a, [1], out=a)


def _doubled_by_numpy(x: Tensor) -> Tensor:
    real = x.dequantize()
    array = real.numpy()
    array *= 2
    return _rounded(real)


def _of_six(name: str, model: Callable[..., Any], codes: Any) -> Known:
    return Known(name, lambda: model, _six, codes, ("fbgemm", "qnnpack"), _six_others, refused=True)


#: What the random models found beside.
FOUND = (
    _of_six(
        "quantised by tensors",
        lambda x: torch.quantize_per_tensor(x.dequantize(), torch.tensor(0.2), torch.tensor(100), torch.quint8),
        [[105, 90, 102], [115, 99, 110]],
    ),
    _of_six(
        "a tensor of one number added",
        lambda x: Q.add_scalar(x, torch.tensor(0.5)),
        [[138, 108, 133], [158, 126, 148]],
    ),
    _of_six(
        "a product with a tensor of one number",
        lambda x: Q.mul_scalar(x, torch.tensor(2.0)),
        [[138, 108, 133], [158, 126, 148]],
    ),
    _of_six(
        "clamped by tensors",
        lambda x: _rounded(torch.clamp(x.dequantize(), torch.tensor(0.0), torch.tensor(1.0))),
        [[138, 128, 133], [138, 128, 138]],
    ),
    _of_six(
        "the smaller of it and a tensor",
        lambda x: _rounded(torch.minimum(x.dequantize(), torch.tensor(1.0))),
        [[138, 108, 133], [138, 126, 138]],
    ),
    _of_six(
        "an operator of two results",
        lambda x: _rounded(F.logsigmoid(x.dequantize())),
        [[125, 107, 123], [128, 120, 127]],
    ),
    _of_six("a column, and relu", lambda x: torch.relu(x.select(1, 1)), [128, 128]),
    _of_six(
        "a part without elements in a concatenation",
        lambda x: Q.cat([x[2:], x], 0, 0.2, 100),
        [[105, 90, 102], [115, 99, 110]],
    ),
    _of_six("a tensor without axes transposed", lambda x: x.mean().transpose(0, -1), 135),
    _of_six(
        "a clamp of a transposed tensor", lambda x: torch.clamp(x.t(), 0.0, 2.0), [[138, 148], [128, 128], [133, 148]]
    ),
    _of_six("a sum into its operand", _added_into_itself, [[148, 108, 138], [188, 126, 168]]),
    _of_six("squeeze_", _squeezed, [148, 88, 138]),
    _of_six("a sine into its operand", _sine_into_itself, [[136, 119, 133], [129, 126, 137]]),
    _of_six("a mean into its operand", _mean_into_its_operand, [125, 160]),
    _of_six("a float tensor written by numpy", _doubled_by_numpy, [[148, 88, 138], [188, 124, 168]]),
    _of_six(
        "a branch on equality",
        lambda x: torch.relu(x) if torch.equal(x[:, :1], x[:, 1:2]) else doubled(x),
        [[148, 88, 138], [188, 124, 168]],
    ),
    _of_six(
        "a number from a list",
        lambda x: Q.add_scalar(x, x.dequantize().tolist()[0][0]),
        [[138, 108, 133], [158, 126, 148]],
    ),
    _of_six(
        "added into zeros",
        lambda x: _rounded(torch.zeros(2, 3).add_(x.dequantize())),
        [[138, 108, 133], [158, 126, 148]],
    ),
    _of_six("relu_ of a column of the input", lambda x: x.select(1, 1).relu_(), [128, 128]),
    _of_six("transpose_ of the input", lambda x: x.transpose_(0, 1), [[138, 158], [108, 126], [133, 148]]),
    _of_six("transpose_ of an axis and itself", lambda x: x.transpose_(-1, -1), [[138, 108, 133], [158, 126, 148]]),
    _of_six(
        "transpose_ of two axes of three",
        lambda x: doubled(x).unsqueeze(0).transpose_(0, 1),
        [[[148, 88, 138]], [[188, 124, 168]]],
    ),
    *(
        Known(
            f"{name} of two channels of one pixel",
            lambda model=model: model,  # type: ignore[misc]
            lambda: q([[[[1.0]], [[-2.0]]]]),
            codes,
            engines,
            refused=True,
        )
        for name, model, codes, engines in (
            (
                "an adaptive average",
                lambda x: F.adaptive_avg_pool2d(x, (1, 2)),
                [[[[138, 108]], [[138, 108]]]],
                ("fbgemm", "qnnpack"),
            ),
            (
                "a maximum",
                lambda x: F.max_pool2d(x, 2, 1, 1),
                [[[[138, 108], [138, 108]], [[138, 108], [138, 108]]]],
                ("fbgemm",),
            ),
        )
    ),
    Known(
        "relu6 of a transposed tensor",
        lambda: lambda x: F.relu6(x.transpose(2, 3)),
        _eight,
        [[[[128, 130], [128, 140]], [[150, 128], [160, 129]]]],
    ),
    Known(
        "relu6 of some channels of channels_last",
        lambda: lambda x: F.relu6(torch.cat([x, x], 1).contiguous(memory_format=torch.channels_last)[:, :2]),
        _eight,
        [[[[128, 150], [128, 160]], [[130, 128], [140, 129]]]],
        ("qnnpack",),
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
        self.last = q([[0.0] * 32])

    def forward(self, x: Tensor) -> Tensor:
        before, self.last = self.last, x
        return Q.add(x, before, 0.1, 128)


def _added_at_random(x: Tensor) -> Tensor:
    return torch.quantize_per_tensor(x.dequantize() + torch.rand(()), 0.1, 128, torch.quint8)


def _noise(x: Tensor) -> Tensor:
    return torch.quantize_per_tensor(x.dequantize() + torch.rand(32), 0.1, 128, torch.quint8)


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
        lambda x: torch.quantize_per_tensor(x.dequantize() * torch.empty(32).bernoulli_(0.5), 0.1, 128, torch.quint8)
    ),
}
