"""ResNet-8 of MLPerf Tiny: image classification, 32 x 32 pixels, ten classes.

accelsim run configs/edge_16x16.yaml examples.resnet8:quantized
"""

from __future__ import annotations

import torch
from torch import nn
from torch.ao import quantization

from .quantization import convolution, quantize


class Block(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut, which is a strided 1 x 1 convolution where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = convolution(inputs, outputs, stride=stride)
        self.conv2 = convolution(outputs, outputs, relu=False)
        self.shortcut = nn.Identity() if stride == 1 else nn.Conv2d(inputs, outputs, 1, stride)
        self.residual = nn.quantized.FloatFunctional()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        return self.residual.add_relu(self.conv2(self.conv1(x)), self.shortcut(x))


class ResNet8(nn.Module):
    """(N, 3, 32, 32) to (N, 10) scores. Stride 2 pads on both sides, where the Keras original pads on one."""

    def __init__(self) -> None:
        super().__init__()
        self.quantize = quantization.QuantStub()
        self.stem = convolution(3, 16)
        self.block1 = Block(16, 16, 1)
        self.block2 = Block(16, 32, 2)
        self.block3 = Block(32, 64, 2)
        self.average = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(64, 10)
        self.dequantize = quantization.DeQuantStub()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Scores of the ten classes."""
        x = self.block3(self.block2(self.block1(self.stem(self.quantize(images)))))
        return self.dequantize(self.classifier(torch.flatten(self.average(x), 1)))


#: How to build it, and the shape of one input.
NETWORK = (ResNet8, (3, 32, 32))


def quantized(engine: str | None = None) -> tuple[nn.Module, torch.Tensor]:
    """The quantised network and one image."""
    return quantize(*NETWORK, engine)
