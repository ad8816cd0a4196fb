"""Depthwise and grouped convolutions on arrays of awkward sizes, against PyTorch itself."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import accelsim
from examples.quantization import convolution, quantize

EDGE = accelsim.Accelerator.from_yaml(Path(__file__).parents[2] / "configs" / "edge_16x16.yaml")


class Depthwise(nn.Module):
    """Depthwise of stride 1 and 2, of long lines of taps, with a multiplier; groups of several channels."""

    def __init__(self) -> None:
        super().__init__()
        self.quant, self.dequant = torch.ao.quantization.QuantStub(), torch.ao.quantization.DeQuantStub()
        self.body = nn.Sequential(
            convolution(3, 18, 1),
            convolution(18, 18, 3, groups=18),
            convolution(18, 20, 1),
            convolution(20, 20, 5, stride=2, groups=20),
            convolution(20, 40, (1, 7), padding=(0, 3), groups=20),
            convolution(40, 10, 3, groups=5),
            convolution(10, 2, 3),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.dequant(self.body(self.quant(x)))


@pytest.mark.parametrize(("rows", "columns"), [(3, 7), (1, 1), (5, 1), (16, 16)])
@pytest.mark.parametrize("dataflow", ["weight_stationary", "output_stationary", "input_stationary"])
def test_depthwise_networks_equal_pytorch_in_every_layer(rows: int, columns: int, dataflow: str) -> None:
    engine = "qnnpack" if dataflow == "output_stationary" else "fbgemm"
    model, x = quantize(Depthwise, (3, 15, 17), engine)
    changes = {"mac_array.rows": rows, "mac_array.columns": columns, "mac_array.dataflow": dataflow}
    verification = accelsim.verify(model, x, EDGE.replace(**changes), effort=int(rows == 3))
    assert verification.mismatches == 0, verification.report()
    assert len(verification.layers) >= 7
