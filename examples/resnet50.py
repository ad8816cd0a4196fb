"""ResNet-50 (v1.5: the 3 x 3 convolution of a block has the stride) at 224 x 224 pixels, with random weights.

accelsim run configs/server_32x32.yaml examples.resnet50:quantized
"""

from __future__ import annotations

import torch
from torch import nn
from torch.ao import quantization

from .quantization import convolution, quantize


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3 and 1 x 1 convolution beside a shortcut, which is a 1 x 1 convolution where the shape changes."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = 4 * width
        self.conv1 = convolution(inputs, width, 1)
        self.conv2 = convolution(width, width, stride=stride)
        self.conv3 = convolution(width, outputs, 1, relu=False)
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else convolution(inputs, outputs, 1, stride=stride, relu=False)
        self.residual = nn.quantized.FloatFunctional()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, inputs, H, W) to (N, 4 * width, H / stride, W / stride)."""
        return self.residual.add_relu(self.conv3(self.conv2(self.conv1(x))), self.shortcut(x))


class ResNet50(nn.Module):
    """(N, 3, 224, 224) to (N, 1000) scores."""

    def __init__(self) -> None:
        super().__init__()
        self.quantize = quantization.QuantStub()
        self.stem = convolution(3, 64, 7, stride=2)
        self.pool = nn.MaxPool2d(3, 2, 1)
        blocks = []
        channels = 64
        for width, count in ((64, 3), (128, 4), (256, 6), (512, 3)):
            for index in range(count):
                blocks.append(Bottleneck(channels, width, 2 if index == 0 and width > 64 else 1))
                channels = 4 * width
        self.blocks = nn.Sequential(*blocks)
        self.average = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(channels, 1000)
        self.dequantize = quantization.DeQuantStub()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Scores of the thousand classes."""
        x = self.blocks(self.pool(self.stem(self.quantize(images))))  # 2048 x 7 x 7
        return self.dequantize(self.classifier(torch.flatten(self.average(x), 1)))


#: How to build it, and the shape of one input.
NETWORK = (ResNet50, (3, 224, 224))


def quantized(engine: str | None = None) -> tuple[nn.Module, torch.Tensor]:
    """The quantised network and one image."""
    return quantize(*NETWORK, engine)
