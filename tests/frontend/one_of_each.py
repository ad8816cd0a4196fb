"""One small quantised model for each operator that the frontend knows, as functions of quantised tensors.

Scales are powers of two, so that about half of the results are ties; zero points are odd, so that the two directions
of a tie differ.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from equality import Model, Tensor, codes, convolution, linear, quantized

Q = torch.ops.quantized
LAST = "channels_last"


class Case(NamedTuple):
    """`model` is called with the engine in force, since packing follows it; `x` are the model's inputs."""

    model: Callable[[], Model]
    x: tuple[Tensor, ...]
    #: Engines under which PyTorch gets it wrong, or hides what is needed: extract must say so.
    refused: tuple[str, ...] = ()


def tensor(
    *shape: int, seed: int = 0, scale: float = 0.25, zero: int = 7, layout: str = "contiguous", dtype: str = "uint8"
) -> Tensor:
    return quantized(codes(seed, shape, dtype), scale, zero, layout)


def of(function: Model, *x: Tensor, refused: tuple[str, ...] = ()) -> Case:
    """A function that packs nothing."""
    return Case(lambda: function, x, refused)


def _alike(x: Tensor, seed: int) -> Tensor:
    """Other codes of the same shape and affine map."""
    dtype = "uint8" if x.dtype == torch.quint8 else "int8"
    return quantized(codes(seed, tuple(x.shape), dtype), x.q_scale(), x.q_zero_point(), "contiguous")


def _compared(function: Model, a: Tensor, b: Tensor, scale: float = 0.25, zero: int = 7) -> Tensor:
    """PyTorch has no kernel for codes: it compares in float."""
    return torch.quantize_per_tensor(function(a.dequantize(), b.dequantize()), scale, zero, a.dtype)


IMAGE = tensor(2, 4, 7, 6)
LAST_IMAGE = tensor(2, 6, 8, 9, layout=LAST)
SMALL = tensor(1, 8, 4, 4, seed=3)
ROW = tensor(3, 45, seed=4)
VOLUME = tensor(1, 2, 4, 5, 3)
SERIES = tensor(2, 3, 17)


def _conv(seed: int, x: Tensor, *args: Any, refused: tuple[str, ...] = (), **kwargs: Any) -> Case:
    return Case(lambda: convolution(seed, x.shape[1], *args, **kwargs), (x,), refused)


#: PyTorch does not give back what it packed for QNNPACK if there are three axes.
CONVOLUTIONS = {
    "conv1d": _conv(1, SERIES, 5, (3,), padding=1, stride=2),
    "conv1d_per_channel_relu": _conv(2, SERIES, 4, (4,), dilation=2, relu=True, per_channel=True),
    "conv2d": _conv(3, IMAGE, 5, (3, 3), padding=1),
    "conv2d_stride_dilation": _conv(4, IMAGE, 3, (2, 3), stride=2, padding=2, dilation=2, relu=True),
    "conv2d_per_channel": _conv(5, IMAGE, 6, (3, 3), per_channel=True, bias=False),
    "conv2d_point": _conv(6, LAST_IMAGE, 9, (1, 1)),
    "conv2d_grouped": _conv(7, SMALL, 8, (3, 3), groups=2, padding=1, per_channel=True),
    "conv2d_depthwise": _conv(8, SMALL, 8, (3, 3), groups=8, padding=1),
    "conv2d_depthwise_5x5": _conv(9, SMALL, 8, (5, 5), groups=8, padding=2, per_channel=True, relu=True),
    "conv3d": _conv(10, VOLUME, 3, (2, 3, 2), padding=1, refused=("qnnpack",)),
    "conv3d_stride": _conv(11, VOLUME, 4, (2, 2, 2), stride=2, relu=True, per_channel=True, refused=("qnnpack",)),
    "conv_transpose1d": _conv(12, tensor(1, 4, 9), 4, (3,), stride=2, transposed=True),
    "conv_transpose2d": _conv(13, SMALL, 8, (3, 3), stride=2, transposed=True),
    "conv_transpose2d_2x2": _conv(13, IMAGE, 4, (2, 2), stride=2, transposed=True),
    "conv_transpose2d_padded": _conv(14, SMALL, 8, (3, 3), padding=1, transposed=True),
}

MATRICES = {
    "linear": Case(lambda: linear(20, 45, 10), (ROW,)),
    "linear_relu_per_channel": Case(lambda: linear(21, 45, 7, relu=True, per_channel=True), (ROW,)),
    "linear_without_bias": Case(lambda: linear(22, 45, 3, bias=False), (ROW,)),
    "linear_3d": Case(lambda: linear(23, 9, 5), (tensor(2, 4, 9),)),
    "linear_1": Case(lambda: linear(24, 45, 1, per_channel=True), (ROW,)),
}

A, B = tensor(2, 5, 3, 7, seed=5), tensor(2, 5, 3, 7, seed=6, scale=0.5, zero=11)
A_LAST, B_LAST = tensor(2, 5, 3, 7, seed=7, layout=LAST), tensor(2, 5, 3, 7, seed=8, scale=0.125, zero=3, layout=LAST)
C = tensor(2, 3, 3, 7, seed=9, scale=0.5, zero=1)
C_LAST = tensor(2, 3, 3, 7, seed=10, scale=2.0, zero=90, layout=LAST)
SIGNED, OTHER_SIGNED = (tensor(3, 50, seed=s, zero=z, dtype="int8") for s, z in ((11, -5), (12, 9)))

PAIRS = {
    "add": of(lambda a, b: Q.add(a, b, 0.5, 13), A, B),
    "add_relu": of(lambda a, b: Q.add_relu(a, b, 1.0, 33), A, B),
    "add_channels_last": of(lambda a, b: Q.add(a, b, 0.5, 101), A_LAST, B_LAST),
    "add_itself": of(lambda a: Q.add(a, a, 1.0, 7), A),
    "add_int8": of(lambda a, b: Q.add(a, b, 0.5, 3), SIGNED, OTHER_SIGNED),
    "mul": of(lambda a, b: Q.mul(a, b, 4.0, 55), A, B),
    "mul_relu": of(lambda a, b: Q.mul_relu(a, b, 2.0, 31), A_LAST, B_LAST),
    "maximum": of(lambda a, b: _compared(torch.maximum, a, b), A, _alike(A, 1)),
    "minimum_int8": of(lambda a, b: _compared(torch.minimum, a, b), SIGNED, _alike(SIGNED, 2)),
    "maximum_broadcast": of(lambda a, b: _compared(torch.maximum, a, b), A_LAST, _alike(A_LAST, 3)[:, :, :1, :1]),
    "maximum_to_another_map": of(lambda a, b: _compared(torch.maximum, a, b, 0.375, 9), A, _alike(A, 4)),
    "mul_int8": of(lambda a, b: Q.mul(a, b, 4.0, -5), SIGNED, OTHER_SIGNED),
    "cat_2": of(lambda a, b: Q.cat([a, b], 1, 0.5, 19), A, C),
    "cat_3": of(lambda a, b, c: Q.cat([a, b, c], 1, 0.5, 19), A, B, C),
    "cat_channels_last": of(lambda a, b: Q.cat([a, b], 1, 0.5, 19), A_LAST, C_LAST),
    "cat_3_channels_last": of(lambda a, b, c: Q.cat([a, b, c], 1, 1.0, 77), A_LAST, B_LAST, C_LAST),
    "cat_rows": of(lambda a, b: Q.cat([a, b], 0, 0.25, 7), A, B),
    "cat_same_scale": of(lambda a: Q.cat([a, a], 3, 0.25, 7), A),
}

UNARY_INPUTS = {"": tensor(3, 53, seed=13, scale=0.0625, zero=121), "_signed": tensor(3, 53, seed=14, dtype="int8")}
UNARY: dict[str, Model] = {
    "relu": torch.relu,
    "relu6": lambda q: Q.relu6(q),
    "clamp": lambda q: Q.clamp(q, -1.0, 2.0),
    "hardtanh": lambda q: F.hardtanh(q, -0.5, 1.5),
    "threshold": lambda q: Q.threshold(q, 0.5, 0.25),
    "hardswish": lambda q: Q.hardswish(q, 0.125, 31),
    "leaky_relu": lambda q: Q.leaky_relu(q, 0.25, False, 0.125, 31),
    "elu": lambda q: Q.elu(q, 0.125, 31, 1.0),
    "celu": lambda q: Q.celu(q, 0.125, 31, 2.0),
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "hardsigmoid": F.hardsigmoid,
    "gelu": F.gelu,
    "add_scalar": lambda q: Q.add(q, 1.375),
    "add_scalar_relu": lambda q: Q.add_relu(q, -0.75),
    "mul_scalar": lambda q: Q.mul(q, 1.5),
    "mul_scalar_negative": lambda q: Q.mul(q, -0.5),
    "requantize": lambda q: torch.quantize_per_tensor(q.dequantize(), 0.5, 3, torch.quint8),
    "functional_relu": lambda q: torch.quantize_per_tensor(F.relu(q.dequantize()), 0.125, 3, torch.quint8),
    "functional_chain": lambda q: torch.quantize_per_tensor(
        F.silu(q.dequantize() * 0.5 + 1).exp(), 0.25, 9, torch.quint8
    ),
}
FUNCTIONS = {name + suffix: of(model, x) for name, model in UNARY.items() for suffix, x in UNARY_INPUTS.items()} | {
    f"{name}_channels_last": of(UNARY[name], tensor(2, 5, 3, 7, seed=15, scale=0.0625, zero=121, layout=LAST))
    for name in ("relu", "hardswish", "leaky_relu", "elu", "sigmoid", "clamp", "add_scalar")
}

POOLS = {
    "max_pool1d": of(lambda q: F.max_pool1d(q, 3, 2, 1), SERIES),
    "max_pool2d": of(lambda q: F.max_pool2d(q, 2), IMAGE),
    "max_pool2d_padding": of(lambda q: F.max_pool2d(q, 3, 2, 1), LAST_IMAGE),
    "max_pool2d_dilation": of(lambda q: F.max_pool2d(q, 2, 1, 0, 2), IMAGE),
    "max_pool2d_dilation_padding": of(lambda q: F.max_pool2d(q, 2, 1, 1, 2), IMAGE, refused=("qnnpack",)),
    "max_pool2d_ceil": of(lambda q: F.max_pool2d(q, 3, 2, ceil_mode=True), IMAGE),
    "max_pool2d_int8": of(lambda q: F.max_pool2d(q, 3, 1, 1), tensor(1, 3, 5, 5, zero=-3, dtype="int8")),
    "adaptive_1": of(lambda q: F.adaptive_avg_pool2d(q, 1), SMALL),
    "adaptive_1_channels_last": of(lambda q: F.adaptive_avg_pool2d(q, 1), LAST_IMAGE),
    "adaptive_2": of(lambda q: F.adaptive_avg_pool2d(q, 2), SMALL),
    "adaptive_uneven": of(lambda q: F.adaptive_avg_pool2d(q, (3, 4)), LAST_IMAGE),
    "adaptive_uneven_contiguous": of(lambda q: F.adaptive_avg_pool2d(q, (3, 5)), IMAGE),
    "adaptive_same": of(lambda q: F.adaptive_avg_pool2d(q, 4), SMALL),
    "mean": of(lambda q: q.mean((2, 3)), SMALL),
    "mean_keep": of(lambda q: q.mean((2, 3), keepdim=True), SMALL),
}
#: PyTorch's max pool of three axes is not QNNPACK's.
for _layout in ("contiguous", LAST):
    _x = tensor(2, 3, 5, 6, 7, seed=17, zero=9, layout=_layout)
    POOLS |= {
        f"max_pool3d_{_layout}": of(lambda q: F.max_pool3d(q, 2), _x, refused=("qnnpack",)),
        f"max_pool3d_padding_{_layout}": of(lambda q: F.max_pool3d(q, 3, 2, 1), _x, refused=("qnnpack",)),
        f"max_pool3d_uneven_{_layout}": of(
            lambda q: F.max_pool3d(q, (2, 3, 1), (2, 1, 3), dilation=(2, 1, 1)), _x, refused=("qnnpack",)
        ),
        f"avg_pool3d_{_layout}": of(lambda q: F.avg_pool3d(q, (2, 3, 2), (1, 2, 1)), _x),
        f"avg_pool3d_padding_{_layout}": of(lambda q: F.avg_pool3d(q, 3, 2, 1), _x),
        f"avg_pool3d_exclude_pad_{_layout}": of(lambda q: F.avg_pool3d(q, 3, 2, 1, count_include_pad=False), _x),
        f"avg_pool3d_divisor_{_layout}": of(lambda q: F.avg_pool3d(q, 2, divisor_override=5), _x),
        f"avg_pool3d_ceil_{_layout}": of(lambda q: F.avg_pool3d(q, 2, 2, ceil_mode=True), _x),
        f"adaptive_3d_{_layout}": of(lambda q: F.adaptive_avg_pool3d(q, (2, 3, 4)), _x),
    }
POOLS["adaptive_3d_1"] = of(lambda q: F.adaptive_avg_pool3d(q, 1), VOLUME)
for _layout in ("contiguous", LAST):
    _x = tensor(2, 35, 5, 5, seed=16, zero=9, layout=_layout)
    for _name, _arguments in {
        "2x2": {"kernel_size": 2},
        "padded": {"kernel_size": 2, "stride": 2, "padding": 1},
        "exclude_pad": {"kernel_size": 2, "padding": 1, "count_include_pad": False},
        "divisor": {"kernel_size": 2, "divisor_override": 8},
        "ceil": {"kernel_size": 2, "stride": 2, "ceil_mode": True},
    }.items():
        POOLS[f"avg_pool2d_{_name}_{_layout}"] = of(lambda q, a=_arguments: F.avg_pool2d(q, **a), _x)

MOVES: dict[str, Case] = {
    "view": of(lambda q: q.view(2, 12, 14), IMAGE),
    "flatten": of(lambda q: torch.flatten(q, 1), IMAGE),
    "flatten_channels_last": of(lambda q: torch.flatten(q, 1), LAST_IMAGE),
    "squeeze": of(lambda q: q.squeeze(0).unsqueeze(2), SMALL),
    "permute": of(lambda q: q.permute(0, 2, 3, 1), IMAGE),
    "transpose": of(lambda q: q.transpose(1, -1), IMAGE),
    "slice": of(lambda q: q[:, 1:4:2, :, 2:], IMAGE),
    "select": of(lambda q: q[:, -1], IMAGE),
    "chunk": of(lambda q: Q.add(*q.chunk(2, 1), 0.5, 13), ROW[:, :44]),
    "split": of(lambda q: q.split([10, 20, 15], 1)[1], ROW),
    "unbind": of(lambda q: q.unbind(0)[2], ROW),
    "pixel_shuffle": of(lambda q: F.pixel_shuffle(q, 2), SMALL),
    "pixel_unshuffle": of(lambda q: F.pixel_unshuffle(q, 2), SMALL),
    "channel_shuffle": of(lambda q: F.channel_shuffle(q, 4), SMALL),
    "unfold": of(lambda q: q.unfold(2, 3, 2), IMAGE),
    "unfold_used": of(lambda q: torch.relu(q.unfold(3, 2, 1).unfold(2, 3, 1)), LAST_IMAGE),
    "im2col": of(
        lambda q: torch.quantize_per_tensor(F.unfold(q.dequantize(), 3, 1, 1, 2), 0.25, 7, torch.quint8), LAST_IMAGE
    ),
    "nearest": of(lambda q: F.interpolate(q, size=(3, 10)), LAST_IMAGE),
    "nearest_exact": of(lambda q: F.interpolate(q, size=(10, 4), mode="nearest-exact"), IMAGE),
    "nearest_3d": of(lambda q: F.interpolate(q, size=(3, 8, 4)), VOLUME),
    "flip": of(lambda q: q.flip(1), IMAGE),
    "index_select": of(lambda q: q.index_select(2, torch.tensor([4, 0, 0, 2, 4])), IMAGE),
    "two_outputs": of(lambda q: (torch.relu(q), Q.add(q, q, 1.0, 3)), IMAGE),
    "output_is_input": of(lambda q: (q, torch.relu(q)), IMAGE),
}


def _residual(layer: Model) -> Model:
    return lambda q: Q.add(Q.hardswish(layer(q), 1.0, 21), layer(q), 2.0, 7)


def _classifier(layer: Model, dense: Model) -> Model:
    return lambda q: dense(torch.flatten(F.adaptive_avg_pool2d(layer(q), (1, 1)), 1))


CHAINS = {
    "residual": Case(lambda: _residual(convolution(30, 4, 5, (3, 3), padding=1)), (tensor(1, 4, 5, 7),)),
    "classifier": Case(lambda: _classifier(convolution(31, 4, 6, (3, 3), relu=True), linear(32, 6, 5)), (IMAGE,)),
}

LEFT, RIGHT = tensor(3, 5, 7, seed=18, zero=130), tensor(3, 7, 9, seed=19, scale=0.5, zero=11)
PRODUCTS = {
    "matmul": of(lambda a, b: Q.matmul(a, b, 16.0, 101), LEFT, RIGHT),
    "matmul_transposed": of(lambda q: Q.matmul(q, q.transpose(1, 2), 16.0, 3), tensor(2, 6, 9, seed=20)),
    "matmul_of_a_layer": Case(
        lambda: (lambda layer: lambda q: torch.relu(Q.matmul(layer(q), q.transpose(1, 2), 64.0, 101)))(
            linear(33, 9, 9, scale=0.5)
        ),
        (tensor(2, 6, 9, seed=20),),
    ),
    "matmul_broadcast": of(lambda a, b: Q.matmul(a, b, 16.0, 101), LEFT, RIGHT[1]),
    "matmul_images": of(lambda q: Q.matmul(q, q.permute(0, 1, 3, 2), 32.0, 101), LAST_IMAGE),
    "matmul_int8": of(lambda q: Q.matmul(q, q.t(), 16.0, -3), SIGNED),
    "matmul_without_zero_point": of(lambda q: Q.matmul(q, q.t(), 64.0, 3), tensor(4, 9, zero=0)),
}

#: What the machine has no instruction for, and what the refusal says.
NOT_COMPILED = {
    "layer_norm": (of(lambda q: Q.layer_norm(q, [9], None, None, 1e-5, 0.125, 3), tensor(2, 4, 9)), "a layer norm"),
    "group_norm": (of(lambda q: Q.group_norm(q, 2, None, None, 1e-5, 0.125, 3), LAST_IMAGE), "a group or instance"),
    "instance_norm": (of(lambda q: Q.instance_norm(q, None, None, 1e-5, 0.125, 3), IMAGE), "a group or instance norm"),
    "bilinear": (of(lambda q: F.interpolate(q, size=(5, 9), mode="bilinear"), IMAGE), "a bilinear resize"),
    "softmax": (
        of(lambda q: Q.softmax(q, 1, 2.0**-8, 0), ROW, refused=("fbgemm", "x86", "onednn")),  # these compile
        "a softmax",
    ),
}

CASES: dict[str, Case] = CONVOLUTIONS | MATRICES | PAIRS | FUNCTIONS | POOLS | MOVES | PRODUCTS | CHAINS
