"""The autoencoder of MLPerf Tiny: anomaly detection, five frames of 128 mel bands through a waist of 8.

accelsim run configs/edge_16x16.yaml examples.autoencoder:quantized
"""

from __future__ import annotations

import itertools

import torch
from torch import nn
from torch.ao import quantization

from .quantization import quantize

_WIDTHS = (640, 128, 128, 128, 128, 8, 128, 128, 128, 128)


class Autoencoder(nn.Module):
    """(N, 640) to (N, 640)."""

    def __init__(self) -> None:
        super().__init__()
        self.quantize = quantization.QuantStub()
        self.layers = nn.Sequential(
            *(
                nn.Sequential(nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs), nn.ReLU())
                for inputs, outputs in itertools.pairwise(_WIDTHS)
            ),
            nn.Linear(_WIDTHS[-1], _WIDTHS[0]),
        )
        self.dequantize = quantization.DeQuantStub()

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """The frames as the network remembers them."""
        return self.dequantize(self.layers(self.quantize(frames)))


#: How to build it, and the shape of one input.
NETWORK = (Autoencoder, (640,))


def quantized(engine: str | None = None) -> tuple[nn.Module, torch.Tensor]:
    """The quantised network and one input."""
    return quantize(*NETWORK, engine)
