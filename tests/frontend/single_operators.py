"""Operators on one quantised tensor (N, C, H, W), each a model of its own; scales of powers of two make many ties."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F  # noqa: N812
from equality import Model, Tensor, codes, quantized

Q = torch.ops.quantized

#: Channels beyond 64 and odd sizes: every kernel has a vector body and a tail.
SHAPE = (1, 70, 5, 5)


def _quantize(function: Callable[[Tensor], Tensor]) -> Model:
    """A float operator between dequantize and quantize."""
    return lambda x: torch.quantize_per_tensor(function(x.dequantize()), 0.5, 3, torch.quint8)


def _last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def _batch_norm(relu: str) -> Model:
    mean, deviation = torch.linspace(-4, 4, SHAPE[1]), torch.linspace(0.5, 2, SHAPE[1])
    operator = getattr(Q, f"batch_norm2d{relu}")
    return lambda x: operator(x, deviation, mean, mean, deviation, 1e-5, 0.5, 3)


def _prelu(x: Tensor, channels: int) -> Tensor:
    low = torch.linspace(-1, 1, channels)
    dtype = torch.quint8 if x.dtype == torch.quint8 else torch.qint8
    return Q.prelu(x, torch.quantize_per_tensor(low, 2.0**-7, 3, dtype), 0.5, 3)


ELEMENTWISE: dict[str, Model] = {
    "relu": torch.relu,
    "relu in place": lambda x: F.relu(Q.mul(x, 2.0), inplace=True),
    "relu6": Q.relu6,
    "clamp": lambda x: torch.clamp(x, -3, 10),
    "hardtanh": lambda x: F.hardtanh(x, -3, 10),
    "threshold": lambda x: Q.threshold(x, 1.0, 2.0),
    "hardswish": lambda x: Q.hardswish(x, 0.5, 3),
    "leaky_relu": lambda x: Q.leaky_relu(x, 0.25, False, 0.5, 3),
    "elu": lambda x: Q.elu(x, 0.5, 3),
    "celu": lambda x: Q.celu(x, 0.5, 3),
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "hardsigmoid": F.hardsigmoid,
    "gelu": F.gelu,
    "prelu": lambda x: _prelu(x, 1),
    "prelu of each channel": lambda x: _prelu(x, SHAPE[1]),
    "batch_norm": _batch_norm(""),
    "batch_norm_relu": _batch_norm("_relu"),
    "add a number": lambda x: Q.add(x, 200.0),
    "add_scalar": lambda x: Q.add_scalar(x, -2.0),
    "multiply by a negative number": lambda x: Q.mul(x, -2.0),
    "mul_scalar_relu": lambda x: Q.mul_scalar_relu(x, -2.0),
    "requantise": _quantize(lambda x: x),
    "silu in float": _quantize(F.silu),
    "x * sigmoid(x) in float": _quantize(lambda x: x * torch.sigmoid(x)),
    "of a slice": lambda x: Q.hardswish(x[:, 2:40], 0.5, 3),
}

SUMS: dict[str, Model] = {
    "add": lambda x: Q.add(x, torch.relu(x), 0.5, 3),
    "add_relu": lambda x: Q.add_relu(x, torch.relu(x), 0.5, 3),
    "mul": lambda x: Q.mul(x, torch.relu(x), 8.0, 3),
    "mul_relu": lambda x: Q.mul_relu(x, torch.relu(x), 8.0, 3),
    "add of slices": lambda x: Q.add(x[:, :35], x[:, 35:], 0.5, 3),
    "add of different orders": lambda x: Q.add(x, _last(x), 0.5, 3),
    "add of different orders, turned": lambda x: Q.add(_last(x), x, 0.5, 3),
    "add of rows": lambda x: Q.add(x.flatten(1)[:, :900], x.flatten(1)[:, 300:1200], 0.5, 3),
    "add, broadcast": lambda x: Q.add(x, x[:, :, :1, :1], 0.5, 3),
    "add, broadcast along the rows": lambda x: Q.add(x, x[:, :1], 0.5, 3),
    "mul, broadcast": lambda x: Q.mul(x, F.adaptive_avg_pool2d(x, 1), 8.0, 3),
    "mul, broadcast, turned": lambda x: Q.mul(F.adaptive_avg_pool2d(x, 1), x, 8.0, 3),
}

POOLS: dict[str, Model] = {
    "max": lambda x: F.max_pool2d(x, 3, 2, 1),
    "max, ceil mode": lambda x: F.max_pool2d(x, 2, 2, 0, ceil_mode=True),
    "max, dilated": lambda x: F.max_pool2d(x, 2, 1, 0, dilation=2),
    "max of one axis": lambda x: F.max_pool1d(x.flatten(2).contiguous(), 3, 2, 1),
    "average": lambda x: F.avg_pool2d(x, 2),
    "average, padded": lambda x: F.avg_pool2d(x, 3, 2, 1),
    "average, padding left out": lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
    "average, ceil mode": lambda x: F.avg_pool2d(x, 2, ceil_mode=True),
    "average with a divisor": lambda x: F.avg_pool2d(x, 2, divisor_override=3),
    "average of one axis": lambda x: F.avg_pool1d(x.flatten(2).contiguous(), 2),
    "average of three axes": lambda x: F.avg_pool3d(x[:, None], 2),
    "average of a slice": lambda x: F.avg_pool2d(x[:, :33], 2),
    "average of one channel": lambda x: F.avg_pool2d(x[:, :1].contiguous(), 2),
    "adaptive": lambda x: F.adaptive_avg_pool2d(x, 1),
    "adaptive, several windows": lambda x: F.adaptive_avg_pool2d(x, (3, 2)),
    "adaptive, alike but overlapping": lambda x: F.adaptive_avg_pool2d(x, (4, 5)),
    "adaptive, one element each": lambda x: F.adaptive_avg_pool2d(x, (5, 5)),
    "adaptive of a slice": lambda x: F.adaptive_avg_pool2d(x[:, :33], 1),
    "adaptive of three axes": lambda x: F.adaptive_avg_pool3d(x[:, None], 2),
    "adaptive of one pixel": lambda x: F.adaptive_avg_pool2d(F.adaptive_avg_pool2d(x, 1), 1),
}


def _parameters(*shape: int) -> tuple[Tensor, Tensor]:
    """Weights and biases that are multiples of halves and quarters, so that results lie near ties."""
    count = int(torch.tensor(shape).prod())
    return ((torch.arange(count) % 7 - 2.0) / 2).reshape(shape), ((torch.arange(count) % 11 - 5.0) / 4).reshape(shape)


def _large(x: Tensor) -> Tensor:
    """Maps of 25x25, in the memory format of `x`: from 512 pixels on they are summed in another way."""
    y = x.repeat(1, 1, 5, 5)
    return y.contiguous(memory_format=torch.channels_last) if x.stride(1) == 1 else y


NORMS: dict[str, Model] = {
    "layer_norm": lambda x: Q.layer_norm(x, [70, 5, 5], *_parameters(70, 5, 5), 1e-5, 0.0625, 101),
    "layer_norm of two axes": lambda x: Q.layer_norm(x, [5, 5], None, None, 1e-5, 0.0625, 101),
    "layer_norm of features": lambda x: Q.layer_norm(x.permute(0, 2, 3, 1), [70], *_parameters(70), 1e-5, 0.0625, 101),
    "layer_norm of a slice": lambda x: Q.layer_norm(x[:, 1:40, 1:], [4, 5], None, None, 1e-5, 0.0625, 101),
    "group_norm": lambda x: Q.group_norm(x, 2, *_parameters(70), 1e-5, 0.0625, 101),
    "group_norm of a slice": lambda x: Q.group_norm(x[:, :33], 3, None, None, 1e-5, 0.0625, 101),
    "group_norm of large maps": lambda x: Q.group_norm(_large(x), 2, *_parameters(70), 1e-5, 0.0625, 101),
    "group_norm of one axis": lambda x: Q.group_norm(x.flatten(2), 7, *_parameters(70), 1e-5, 0.0625, 101),
    "group_norm of three axes": lambda x: Q.group_norm(x[:, :, None], 2, *_parameters(70), 1e-5, 0.0625, 101),
    "group_norm of one channel": lambda x: Q.group_norm(x[:, :1].contiguous(), 1, None, None, 1e-5, 0.0625, 101),
    "group_norm of pixels": lambda x: Q.group_norm(x[:, :, :1, :1].contiguous(), 2, None, None, 1e-5, 0.0625, 101),
    "instance_norm": lambda x: Q.instance_norm(x, *_parameters(70), 1e-5, 0.0625, 101),
    "instance_norm of large maps": lambda x: Q.instance_norm(_large(x), None, None, 1e-5, 0.0625, 101),
    "instance_norm of one axis": lambda x: Q.instance_norm(x.flatten(2), *_parameters(70), 1e-5, 0.0625, 101),
}

RESIZES: dict[str, Model] = {
    "bilinear": lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"),
    "bilinear to a size": lambda x: F.interpolate(x, size=(7, 3), mode="bilinear"),
    "bilinear, corners": lambda x: F.interpolate(x, size=(9, 8), mode="bilinear", align_corners=True),
    "bilinear by parts": lambda x: F.interpolate(x, scale_factor=(1.7, 0.6), mode="bilinear"),
    "bilinear of one channel": lambda x: F.interpolate(x[:, :1].contiguous(), size=(7, 3), mode="bilinear"),
    "bilinear of a slice": lambda x: F.interpolate(x[:, 3:60], size=(7, 3), mode="bilinear"),
    "bilinear of the same size": lambda x: F.interpolate(x, size=(5, 5), mode="bilinear"),
    "nearest to a size": lambda x: F.interpolate(x, size=(7, 3)),
    "nearest by parts": lambda x: F.interpolate(x, scale_factor=(1.7, 0.6)),
    "nearest-exact to a size": lambda x: F.interpolate(x, size=(3, 8), mode="nearest-exact"),
    "nearest of three axes": lambda x: F.interpolate(x[:, None], size=(80, 3, 10)),
}

PRODUCTS: dict[str, Model] = {
    "matmul": lambda x: Q.matmul(x, torch.relu(x), 16.0, 101),
    "matmul of a transposed": lambda x: Q.matmul(x, x.transpose(2, 3), 16.0, 101),
    "matmul, contiguous": lambda x: Q.matmul(x, x.transpose(2, 3).contiguous(), 16.0, 101),
    "matmul of rows": lambda x: Q.matmul(x.flatten(2), x.flatten(2).transpose(1, 2), 64.0, 101),
    "matmul, broadcast": lambda x: Q.matmul(x, x[0, 3], 16.0, 101),
}


def softmax(x: Tensor) -> Tensor:
    """Which has an integer rule for QNNPACK's uint8 alone."""
    return Q.softmax(x, 3, 2.0**-8, 0)


def softmax_of_channels(x: Tensor) -> Tensor:
    """As `softmax`."""
    return Q.hardswish(Q.softmax(x, 1, 2.0**-8, 0), 0.0625, 3)


def _unfolded_in_float(x: Tensor, **arguments: object) -> Tensor:
    """PyTorch has it for float tensors alone."""
    return torch.quantize_per_tensor(F.unfold(x.dequantize(), **arguments), 0.5, 3, torch.quint8)  # type: ignore[arg-type]


def max_of_three_axes(x: Tensor) -> Tensor:
    """Which QNNPACK does not have."""
    return F.max_pool3d(x[:, None], 2)


#: In float, unless the tensor is contiguous.
MEANS: dict[str, Model] = {
    "mean": lambda x: x.mean([2, 3]),
    "mean, kept": lambda x: x.mean([2, 3], keepdim=True),
    "mean, other spelling": lambda x: x.mean([-1, -2]),
    "mean of one axis": lambda x: x.mean(3),
    "mean of three axes": lambda x: x.mean([1, 2, 3]),
    "mean of all": lambda x: x.mean(),
}

MOVEMENTS: dict[str, Model] = {
    "flatten": lambda x: torch.flatten(x, 1),
    "permute": lambda x: Q.hardswish(x.permute(0, 2, 3, 1), 0.5, 3),
    "permute, contiguous": lambda x: Q.hardswish(x.permute(0, 2, 3, 1).contiguous(), 0.5, 3),
    "transpose, reshape": lambda x: x.transpose(1, 3).reshape(1, 25, -1),
    "slice": lambda x: x[:, 1::2, 1:],
    "select": lambda x: x[:, 3],
    "chunk": lambda x: x.chunk(3, 1),
    "unbind": lambda x: x.unbind(2)[1:3],
    "channel shuffle": lambda x: torch.channel_shuffle(x, 2) if x.dtype == torch.quint8 else x[:, :2],
    "pixel shuffle": lambda x: F.pixel_shuffle(x[:, :64], 4),
    "pixel unshuffle": lambda x: F.pixel_unshuffle(x[:, :, :4, :4], 2),
    "expand": lambda x: x[:, :1].expand(1, 3, 5, 5),
    "repeat": lambda x: x.repeat(2, 1, 1, 3),
    "pad": lambda x: F.pad(x, (7, -1, 0, 2, 1, 0), value=3.3),
    "nearest": lambda x: F.interpolate(x, scale_factor=(3, 2)),
    "nearest-exact": lambda x: F.interpolate(x, scale_factor=(2, 5), mode="nearest-exact"),
    "cat": lambda x: Q.cat([x, torch.relu(x)], 1, 0.25, 7),
    "cat, requantised": lambda x: Q.cat([x, torch.relu(x)], 1, 0.5, 4),
    "cat of different orders": lambda x: Q.cat([x, _last(x), x.contiguous()], 1, 0.5, 4),
    "cat of one pixel": lambda x: Q.cat([F.adaptive_avg_pool2d(x, 1), torch.relu(x[:, :37, :1, :1])], 1, 0.5, 4),
    "cat of rows": lambda x: Q.cat([x, torch.relu(x)], 2, 0.5, 4),
    "cat_relu": lambda x: Q.cat_relu([x, torch.relu(x)], 1, 0.5, 4),
    "stack": lambda x: torch.stack([x, torch.relu(x)], 2),
    "unfold": lambda x: x.unfold(2, 3, 1),
    "unfold twice": lambda x: Q.hardswish(x.unfold(2, 3, 2).unfold(3, 2, 1), 0.5, 3),
    "unfold, contiguous": lambda x: Q.hardswish(x.unfold(1, 9, 5).contiguous(), 0.5, 3),
    "unfold in float": lambda x: _unfolded_in_float(x, kernel_size=3),
    "unfold in float, padded": lambda x: _unfolded_in_float(
        x, kernel_size=(2, 3), dilation=(3, 1), padding=(2, 1), stride=(1, 2)
    ),
    "flip": lambda x: x.flip([1, 3]),
    "index_select": lambda x: x.index_select(1, torch.tensor([5, 2, 2, 60])),
}

ALL = {**ELEMENTWISE, **SUMS, **POOLS, **NORMS, **RESIZES, **PRODUCTS, **MOVEMENTS}

#: What the kernel set decides about.
BY_KERNELS = (
    *("hardswish", "leaky_relu", "elu", "celu", "batch_norm", "add", "add_relu", "add of slices", "mul"),
    *("average", "average, padded", "adaptive", "cat, requantised", "of a slice", "x * sigmoid(x) in float"),
    *("layer_norm", "layer_norm of features", "group_norm", "group_norm of large maps", "instance_norm"),
    *("bilinear", "bilinear to a size", "bilinear by parts"),
)


def inputs(layout: str, dtype: str) -> Tensor:
    """The tensor that the cases take: odd zero point, so that the direction of ties shows."""
    return quantized(codes(1, SHAPE, dtype), 0.25, 7, layout)


def layouts(engine: str) -> Iterator[tuple[str, str]]:
    """Memory formats and dtypes to try: all for fbgemm, whose operators x86 and onednn share, and for qnnpack."""
    yield "channels_last", "uint8"
    if engine in ("fbgemm", "qnnpack"):
        yield from (("contiguous", "uint8"), ("contiguous", "int8"), ("channels_last", "int8"))
