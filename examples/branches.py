"""What the well-known networks lack, in one small network: groups, dilation, parallel branches that are concatenated,
a transposed convolution, and two outputs.

    accelsim run configs/edge_16x16.yaml examples.branches:quantized
"""

from __future__ import annotations

import torch
from torch import nn
from torch.ao import quantization

from .quantization import convolution, quantize


class Branches(nn.Module):
    """(N, 3, 18, 14) to a map (N, 2, 18, 14) and (N, 5) scores."""

    def __init__(self) -> None:
        super().__init__()
        self.quantize = quantization.QuantStub()
        self.stem = convolution(3, 12, stride=2)
        self.pointwise = convolution(12, 7, 1)
        self.grouped = convolution(12, 20, groups=4)
        self.dilated = convolution(12, 9, dilation=2)
        self.pool = nn.MaxPool2d(3, 1, 1)
        self.concatenate = nn.quantized.FloatFunctional()
        self.mix = convolution(48, 24, 1)
        self.enlarge = nn.ConvTranspose2d(24, 24, 4, 2, 1)
        self.map = nn.Conv2d(24, 2, 3, padding=1)
        self.average = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(24, 5)
        self.dequantize = quantization.DeQuantStub()

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The map and the scores."""
        x = self.stem(self.quantize(images))  # 12 x 9 x 7
        branches = [self.pointwise(x), self.grouped(x), self.dilated(x), self.pool(x)]
        x = self.mix(self.concatenate.cat(branches, 1))  # 24 x 9 x 7
        scores = self.classifier(torch.flatten(self.average(x), 1))
        return self.dequantize(self.map(self.enlarge(x))), self.dequantize(scores)


#: How to build it, and the shape of one input.
NETWORK = (Branches, (3, 18, 14))


def quantized(engine: str | None = None) -> tuple[nn.Module, torch.Tensor]:
    """The quantised network and one image."""
    return quantize(*NETWORK, engine)
