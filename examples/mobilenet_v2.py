"""MobileNetV2 at 224 x 224 pixels, with random weights, and ReLU for ReLU6 as is usual where it is quantised.

accelsim run configs/server_32x32.yaml examples.mobilenet_v2:quantized
"""

from __future__ import annotations

import torch
from torch import nn
from torch.ao import quantization

from .quantization import convolution, quantize

#: (expansion, output channels, blocks, stride of the first block), table 2 of Sandler et al., 2018.
_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


class InvertedResidual(nn.Module):
    """1 x 1 expansion, depthwise 3 x 3 and a linear 1 x 1 convolution, with a shortcut where the shape stays."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = expansion * inputs
        layers = [convolution(inputs, width, 1)] if expansion > 1 else []
        layers += [convolution(width, width, stride=stride, groups=width), convolution(width, outputs, 1, relu=False)]
        self.layers = nn.Sequential(*layers)
        self.residual = nn.quantized.FloatFunctional() if stride == 1 and inputs == outputs else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        y = self.layers(x)
        return y if self.residual is None else self.residual.add(x, y)


class MobileNetV2(nn.Module):
    """(N, 3, 224, 224) to (N, 1000) scores."""

    def __init__(self) -> None:
        super().__init__()
        self.quantize = quantization.QuantStub()
        self.stem = convolution(3, 32, stride=2)
        blocks = []
        channels = 32
        for expansion, outputs, count, stride in _STAGES:
            for index in range(count):
                blocks.append(InvertedResidual(channels, outputs, stride if index == 0 else 1, expansion))
                channels = outputs
        self.blocks = nn.Sequential(*blocks)
        self.head = convolution(channels, 1280, 1)
        self.average = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(1280, 1000)
        self.dequantize = quantization.DeQuantStub()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Scores of the thousand classes."""
        x = self.head(self.blocks(self.stem(self.quantize(images))))  # 1280 x 7 x 7
        return self.dequantize(self.classifier(torch.flatten(self.average(x), 1)))


#: How to build it, and the shape of one input.
NETWORK = (MobileNetV2, (3, 224, 224))


def quantized(engine: str | None = None) -> tuple[nn.Module, torch.Tensor]:
    """The quantised network and one image."""
    return quantize(*NETWORK, engine)
