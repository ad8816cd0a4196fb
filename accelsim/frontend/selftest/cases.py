"""One small model for each rule of PyTorch's engines, as functions of quantised tensors: a new rule is one entry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812

from .draws import Draw

#: A model and its inputs, made while the engine is in force: packing of weights follows it.
Made = tuple[Callable[..., Any], tuple[torch.Tensor, ...]]
Maker = Callable[[Draw], Made]

Q = torch.ops.quantized


def _convolution(
    shape: tuple[int, ...],
    inputs: int,
    *,
    relu: bool = False,
    per_channel: bool = False,
    last: bool = False,
    **more: Any,
) -> Maker:
    """A convolution with a weight of that shape (of a transposed one: inputs first) over an input of `inputs`."""

    def make(draw: Draw) -> Made:
        rank, groups = len(shape) - 2, more.get("groups", 1)
        transposed = more.get("transposed", False)
        every = [[more.get(name, one)] * rank for name, one in (("stride", 1), ("padding", 0), ("dilation", 1))]
        weight, bias = (
            draw.weight(*shape, per_channel=per_channel),
            draw.bias(shape[1] * groups if transposed else shape[0]),
        )
        scale, zero = draw.scale(2.0), draw.zero_point()
        x = draw.tensor(2, inputs, *[13, 11, 5][:rank], last=last)
        if transposed:
            prepack, function = Q.conv_transpose2d_prepack, Q.conv_transpose2d
            packed = prepack(weight, bias, every[0], every[1], [0] * rank, every[2], groups)
        else:
            packed = getattr(Q, f"conv{rank}d_prepack")(weight, bias, *every, groups)
            function = getattr(Q, f"conv{rank}d" + ("_relu" if relu else ""))
        return lambda x: function(x, packed, scale, zero), (x,)

    return make


def _linear(inputs: int, outputs: int, *, relu: bool = False, per_channel: bool = False) -> Maker:
    def make(draw: Draw) -> Made:
        packed = Q.linear_prepack(draw.weight(outputs, inputs, per_channel=per_channel), draw.bias(outputs))
        scale, zero, function = draw.scale(2.0), draw.zero_point(), Q.linear_relu if relu else Q.linear
        return lambda x: function(x, packed, scale, zero), (draw.tensor(37, inputs),)

    return make


def _pair(name: str, scale: float, **more: Any) -> Maker:
    def make(draw: Draw) -> Made:
        signed = more.get("signed", False)
        a = draw.tensor(2, 35, 9, 7, scale=0.25, **more)
        b = draw.tensor(2, 35, 9, 7, scale=0.5, **more)
        out, zero, function = draw.scale(scale), draw.zero_point(signed), getattr(Q, name)
        return lambda a, b: function(a, b, out, zero), (a, b)

    return make


def _one(function: Callable[[torch.Tensor, float, int], Any], *, scale: float = 2.0**-4, out: float = 0.125) -> Maker:
    """A function of a tensor, and of the output's scale and zero point; in every order of memory that has a loop."""

    def make(draw: Draw) -> Made:
        x = draw.tensor(2, 70, 9, 7, scale=scale, last=bool(draw.seed % 2))
        to, zero = draw.scale(out), draw.zero_point()
        return lambda x: function(x, to, zero), (x,)

    return make


def _requantized(function: Callable[[torch.Tensor], torch.Tensor]) -> Maker:
    """A float function between dequantize and quantize."""
    return _one(lambda x, scale, zero: torch.quantize_per_tensor(function(x.dequantize()), scale, zero, torch.quint8))


def _concatenation(draw: Draw) -> Made:
    scale, zero = draw.scale(0.5), draw.zero_point()
    a, b, c = draw.tensor(2, 5, 9, 7), draw.tensor(2, 9, 9, 7, scale=0.5), draw.tensor(2, 3, 9, 7, scale=1.0)
    return lambda a, b, c: Q.cat([a, b, c], 1, scale, zero), (a, b, c)


def _product(draw: Draw) -> Made:
    scale, zero = draw.scale(16.0), draw.zero_point()
    return lambda a, b: Q.matmul(a, b, scale, zero), (draw.tensor(3, 25, 17), draw.tensor(3, 17, 29, scale=0.5))


def _prelu(draw: Draw) -> Made:
    slopes = torch.quantize_per_tensor(torch.linspace(-1, 1, 35), 2.0**-7, 3, torch.quint8)
    scale, zero = draw.scale(0.5), draw.zero_point()
    return lambda x: Q.prelu(x, slopes, scale, zero), (draw.tensor(2, 35, 9, 7),)


def _norm(kind: str) -> Maker:
    def make(draw: Draw) -> Made:
        scale, zero = draw.scale(0.125), draw.zero_point()
        mean, variance = torch.linspace(-4, 4, 36), torch.linspace(0.5, 2, 36)
        functions: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
            "batch": lambda x: Q.batch_norm2d(x, variance, mean, mean, variance, 1e-5, scale, zero),
            "layer": lambda x: Q.layer_norm(x, [9, 7], None, None, 1e-5, scale, zero),
            "group": lambda x: Q.group_norm(x, 4, None, None, 1e-5, scale, zero),
            "instance": lambda x: Q.instance_norm(x, None, None, 1e-5, scale, zero),
        }
        return functions[kind], (draw.tensor(2, 36, 9, 7),)

    return make


#: Whatever the engine, PyTorch's own names for what the rules are of.
CASES: dict[str, Maker] = {
    "convolution": _convolution((9, 6, 3, 3), 6, padding=1),
    "convolution, per channel, relu": _convolution((9, 6, 3, 3), 6, per_channel=True, relu=True, stride=2, last=True),
    "convolution, pointwise": _convolution((24, 16, 1, 1), 16),
    "convolution, grouped": _convolution((8, 4, 3, 3), 8, groups=2, per_channel=True),
    "convolution, depthwise": _convolution((16, 1, 3, 3), 16, groups=16, padding=1),
    "convolution, dilated": _convolution((5, 3, 2, 2), 3, dilation=2, relu=True),
    "convolution over one axis": _convolution((10, 6, 3), 6),
    "convolution over three axes": _convolution((6, 4, 2, 2, 2), 4),
    "transposed convolution": _convolution((8, 8, 3, 3), 8, stride=2, transposed=True),
    "linear": _linear(45, 30),
    "linear, per channel, relu": _linear(45, 30, relu=True, per_channel=True),
    "matmul": _product,
    "add": _pair("add", 0.5),
    "add_relu": _pair("add_relu", 1.0),
    "add, channels last": _pair("add", 0.5, last=True),
    "add, int8": _pair("add", 0.5, signed=True),
    "mul": _pair("mul", 4.0),
    "mul_relu": _pair("mul_relu", 2.0, last=True),
    "cat": _concatenation,
    "add a number": _one(lambda x, scale, zero: Q.add(x, 1.375)),
    "mul by a number": _one(lambda x, scale, zero: Q.mul(x, -0.5)),
    "relu": _one(lambda x, scale, zero: torch.relu(x)),
    "relu6": _one(lambda x, scale, zero: Q.relu6(x)),
    "clamp": _one(lambda x, scale, zero: torch.clamp(x, -1.0, 2.0)),
    "threshold": _one(lambda x, scale, zero: Q.threshold(x, 0.5, 0.25)),
    "hardswish": _one(Q.hardswish),
    "leaky_relu": _one(lambda x, scale, zero: Q.leaky_relu(x, 0.25, False, scale, zero)),
    "elu": _one(lambda x, scale, zero: Q.elu(x, scale, zero, 1.0)),
    "celu": _one(lambda x, scale, zero: Q.celu(x, scale, zero, 2.0)),
    "prelu": _prelu,
    "sigmoid": _one(lambda x, scale, zero: torch.sigmoid(x)),
    "tanh": _one(lambda x, scale, zero: torch.tanh(x)),
    "hardsigmoid": _one(lambda x, scale, zero: F.hardsigmoid(x)),
    "gelu": _one(lambda x, scale, zero: F.gelu(x)),
    "requantize": _requantized(lambda x: x),
    "silu in float": _requantized(F.silu),
    "softmax": _one(lambda x, scale, zero: Q.softmax(x, 1, 2.0**-8, 0)),
    "batch_norm": _norm("batch"),
    "layer_norm": _norm("layer"),
    "group_norm": _norm("group"),
    "instance_norm": _norm("instance"),
    "max_pool2d": _one(lambda x, scale, zero: F.max_pool2d(x, 3, 2, 1)),
    "avg_pool2d": _one(lambda x, scale, zero: F.avg_pool2d(x, 2, 2, 1)),
    "avg_pool2d without padding": _one(lambda x, scale, zero: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False)),
    "adaptive_avg_pool2d": _one(lambda x, scale, zero: F.adaptive_avg_pool2d(x, (3, 4))),
    "mean": _one(lambda x, scale, zero: x.contiguous().mean((2, 3))),
    "resize, nearest": _one(lambda x, scale, zero: F.interpolate(x, size=(5, 12))),
    "resize, bilinear": _one(lambda x, scale, zero: F.interpolate(x, size=(5, 12), mode="bilinear")),
}
