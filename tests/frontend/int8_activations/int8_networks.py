"""Small networks that XNNPACKQuantizer quantises, the ways in which people build them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

Tensor = torch.Tensor


class Residual(nn.Module):
    """A block with a shortcut, max pool, mean, linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.last = nn.Conv2d(8, 8, 1)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = torch.relu(self.last(self.body(x)) + x)
        x = nn.functional.max_pool2d(x, 2)
        return self.head(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))


class Inverted(nn.Module):
    """MobileNetV2's inverted residual: ReLU6, depthwise, a sum without ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.expand = nn.Sequential(nn.Conv2d(4, 12, 1), nn.BatchNorm2d(12), nn.ReLU6())
        self.depth = nn.Sequential(nn.Conv2d(12, 12, 3, padding=1, groups=12), nn.BatchNorm2d(12), nn.ReLU6())
        self.project = nn.Sequential(nn.Conv2d(12, 4, 1), nn.BatchNorm2d(4))

    def forward(self, x: Tensor) -> Tensor:
        return self.project(self.depth(self.expand(x))) + x


class Excited(nn.Module):
    """Squeeze and excitation with hardtanh gates, and two branches that are concatenated."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 6, 3, stride=2), nn.Conv2d(3, 4, 3, stride=2)
        self.squeeze = nn.Conv2d(10, 10, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([torch.relu(self.left(x)), self.right(x)], 1)
        gate = nn.functional.hardtanh(self.squeeze(x.mean((2, 3), keepdim=True)), 0.0, 1.0)
        return x * gate


class Rows(nn.Module):
    """Linear layers over the last of three axes, and a permutation."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(12, 20), nn.Linear(20, 7, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.relu(self.first(x))).permute(0, 2, 1)


#: Name: the module and the shape of its input.
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "residual": (Residual, (2, 3, 10, 8)),
    "inverted": (Inverted, (1, 4, 9, 7)),
    "excited": (Excited, (1, 3, 11, 13)),
    "rows": (Rows, (2, 5, 12)),
}


def quantised(name: str, quantizer: Any) -> tuple[Any, Tensor]:
    """The converted graph of a network, and an input."""
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    make, shape = NETWORKS[name]
    torch.manual_seed(7)
    module, x = make().eval(), torch.randn(shape)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.uniform_(-0.3, 0.3)
            part.running_var.uniform_(0.5, 2)
    prepared = prepare_pt2e(torch.export.export(module, (x,)).module(), quantizer)
    prepared(x)
    return convert_pt2e(prepared), x
