"""DS-CNN of MLPerf Tiny: keyword spotting, 49 frames of 10 cepstral coefficients, twelve words.

accelsim run configs/edge_16x16.yaml examples.ds_cnn:quantized
"""

from __future__ import annotations

import torch
from torch import nn
from torch.ao import quantization

from .quantization import convolution, quantize


class DsCnn(nn.Module):
    """(N, 1, 49, 10) to (N, 12) scores."""

    def __init__(self) -> None:
        super().__init__()
        self.quantize = quantization.QuantStub()
        self.stem = convolution(1, 64, (10, 4), stride=2, padding=(5, 1))
        self.blocks = nn.Sequential(
            *(nn.Sequential(convolution(64, 64, groups=64), convolution(64, 64, 1)) for _ in range(4))
        )
        self.average = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(64, 12)
        self.dequantize = quantization.DeQuantStub()

    def forward(self, spectra: torch.Tensor) -> torch.Tensor:
        """Scores of the twelve words."""
        x = self.blocks(self.stem(self.quantize(spectra)))  # 64 x 25 x 5
        return self.dequantize(self.classifier(torch.flatten(self.average(x), 1)))


#: How to build it, and the shape of one input.
NETWORK = (DsCnn, (1, 49, 10))


def quantized(engine: str | None = None) -> tuple[nn.Module, torch.Tensor]:
    """The quantised network and one spectrum."""
    return quantize(*NETWORK, engine)
