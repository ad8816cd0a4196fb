"""Two quantised PyTorch layers, and the same as a network of integers built by hand from their parameters."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.ao.nn import quantized as nnq
from torch.ao.nn.intrinsic import quantized as nniq

from accelsim.arithmetic.affine import Affine
from accelsim.arithmetic.engines import KernelSet
from accelsim.network import Convolution, Linear, Network, Reshape, Value, Weights

SIZE = 6


def affine(layer: Any) -> Affine:
    return Affine(float(layer.scale), int(layer.zero_point), "uint8")


def torch_model(engine: str, seed: int = 0) -> torch.nn.Sequential:
    """Convolution (padded, with ReLU) and linear layer whose inputs stay below 128: no int16 sum can saturate."""
    torch.backends.quantized.engine = engine
    generator = torch.Generator().manual_seed(seed)

    def weights(*shape: int) -> torch.Tensor:
        values = torch.randn(*shape, generator=generator) * 0.2
        if engine == "qnnpack":
            return torch.quantize_per_tensor(values, 0.005, 0, torch.qint8)
        scales = values.abs().reshape(shape[0], -1).amax(1).double() / 127
        return torch.quantize_per_channel(values, scales, torch.zeros(shape[0], dtype=torch.long), 0, torch.qint8)

    conv = nniq.ConvReLU2d(2, 5, 3, padding=1)
    conv.set_weight_bias(weights(5, 2, 3, 3), torch.randn(5, generator=generator) * 0.1)
    conv.scale, conv.zero_point = 0.0213, 3
    linear = nnq.Linear(5 * SIZE * SIZE, 7)
    linear.set_weight_bias(weights(7, 5 * SIZE * SIZE), torch.randn(7, generator=generator) * 0.1)
    linear.scale, linear.zero_point = 0.057, 121
    quantize = nnq.Quantize(torch.tensor([0.0157]), torch.tensor([61]), torch.quint8)
    return torch.nn.Sequential(quantize, conv, torch.nn.Flatten(), linear)


def layer_weights(layer: Any, key: str) -> Weights:
    tensor, bias = layer._weight_bias()
    per_channel = tensor.qscheme() == torch.per_channel_affine
    scale = tensor.q_per_channel_scales().numpy() if per_channel else np.array([tensor.q_scale()])
    zero = np.zeros(len(scale), np.int32)
    return Weights(tensor.int_repr().numpy(), scale, zero, per_channel, bias.detach().numpy(), key)


def network_of(model: torch.nn.Sequential, engine: str, images: int) -> Network:
    _, conv, _, linear = model
    source = Affine(float(model[0].scale), int(model[0].zero_point), "uint8")
    shapes = {
        "x": (images, 2, SIZE, SIZE),
        "1": (images, 5, SIZE, SIZE),
        "2": (images, 5 * SIZE * SIZE),
        "3": (images, 7),
    }
    affines = {"x": source, "1": affine(conv), "2": affine(conv), "3": affine(linear)}
    values = {name: Value(name, shape, affines[name], tuple(range(len(shape)))) for name, shape in shapes.items()}
    one = (1, 1)
    return Network(
        engine=engine,
        kernels=KernelSet("avx2", "avx2"),
        values=values,
        nodes=(
            Convolution("1", ("x",), layer_weights(conv, "1"), one, (one, one), one, relu=True),
            Reshape("2", ("1",)),
            Linear("3", ("2",), layer_weights(linear, "3")),
        ),
        inputs=("x",),
        outputs=("3",),
    )
