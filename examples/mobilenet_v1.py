"""MobileNetV1 0.25 of MLPerf Tiny: visual wake words, 96 x 96 pixels, person or none.

accelsim run configs/edge_16x16.yaml examples.mobilenet_v1:quantized
"""

from __future__ import annotations

import torch
from torch import nn
from torch.ao import quantization

from .quantization import convolution, quantize

#: (output channels, stride) of each pair of a depthwise and a 1 x 1 convolution.
_PAIRS = (
    *((16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2)),
    *(((128, 1),) * 5),
    *((256, 2), (256, 1)),
)


class MobileNetV1(nn.Module):
    """(N, 3, 96, 96) to (N, 2) scores."""

    def __init__(self) -> None:
        super().__init__()
        self.quantize = quantization.QuantStub()
        self.stem = convolution(3, 8, stride=2)
        pairs = []
        channels = 8
        for outputs, stride in _PAIRS:
            depthwise = convolution(channels, channels, stride=stride, groups=channels)
            pairs.append(nn.Sequential(depthwise, convolution(channels, outputs, 1)))
            channels = outputs
        self.pairs = nn.Sequential(*pairs)
        self.average = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(channels, 2)
        self.dequantize = quantization.DeQuantStub()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Scores of the two classes."""
        x = self.pairs(self.stem(self.quantize(images)))  # 256 x 3 x 3
        return self.dequantize(self.classifier(torch.flatten(self.average(x), 1)))


#: How to build it, and the shape of one input.
NETWORK = (MobileNetV1, (3, 96, 96))


def quantized(engine: str | None = None) -> tuple[nn.Module, torch.Tensor]:
    """The quantised network and one image."""
    return quantize(*NETWORK, engine)
