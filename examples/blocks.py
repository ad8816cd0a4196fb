"""Blocks of today's networks, quantised by PT2E's X86InductorQuantizer, with float work between their layers.

`python -m examples.blocks` runs each on a machine and beside PyTorch, and prints how they compare.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812


class Residual(nn.Module):
    """ResNet's basic block, with batch norms."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.first, self.second = (nn.Conv2d(c, 8, 3, padding=1) for c in (3, 8, 8))
        self.norms = nn.ModuleList(nn.BatchNorm2d(8) for _ in range(3))
        self.classify = nn.Linear(8, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(F.relu(self.norms[0](self.stem(x))), 2)
        y = F.relu(self.norms[1](self.first(x)))
        x = F.relu(x + self.norms[2](self.second(y)))
        return self.classify(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))


class Inverted(nn.Module):
    """MobileNetV3's inverted residual with squeeze and excitation; `act` is its activation."""

    def __init__(self, act: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.act, self.stem = act, nn.Conv2d(3, 8, 3, 2, 1)
        self.expand, self.depthwise = nn.Conv2d(8, 16, 1), nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.squeeze, self.excite, self.project = nn.Conv2d(16, 4, 1), nn.Conv2d(4, 16, 1), nn.Conv2d(16, 8, 1)
        self.classify = nn.Linear(8, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.act(self.stem(x))
        y = self.act(self.depthwise(self.act(self.expand(x))))
        y = y * torch.sigmoid(self.excite(F.relu(self.squeeze(F.adaptive_avg_pool2d(y, 1)))))
        return self.classify((x + self.project(y)).mean((2, 3)))


class ConvNext(nn.Module):
    """ConvNeXt's block: a wide depthwise convolution, layer norm, GELU, a scale a channel."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.depthwise = nn.Conv2d(3, 8, 2, 2), nn.Conv2d(8, 8, 7, padding=3, groups=8)
        self.norm, self.last = nn.LayerNorm(8, eps=1e-6), nn.LayerNorm(8)
        self.up, self.down, self.classify = nn.Linear(8, 32), nn.Linear(32, 8), nn.Linear(8, 10)
        self.gain = nn.Parameter(torch.full((8,), 0.5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.down(F.gelu(self.up(y))) * self.gain
        return self.classify(self.last((x + y.permute(0, 3, 1, 2)).mean((2, 3))))


class Dense(nn.Module):
    """DenseNet's block: normalised before the convolution, laid beside what it read, averaged."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.grow, self.shrink = (
            nn.Conv2d(3, 8, 3, padding=1),
            nn.Conv2d(8, 4, 3, padding=1),
            nn.Conv2d(12, 8, 1),
        )
        self.first, self.second, self.classify = nn.BatchNorm2d(8), nn.BatchNorm2d(12), nn.Linear(8, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = torch.cat([x, self.grow(F.relu(self.first(x)))], 1)
        x = F.avg_pool2d(self.shrink(F.relu(self.second(x))), 2)
        return self.classify(x.mean((2, 3)))


class Transformer(nn.Module):
    """A block of a transformer on 9 tokens of 16 features, two heads; `causal` as in GPT, else as in ViT."""

    def __init__(self, *, causal: bool) -> None:
        super().__init__()
        self.causal, self.position = causal, nn.Parameter(torch.randn(9, 16) * 0.1)
        self.norms = nn.ModuleList(nn.LayerNorm(16) for _ in range(3))
        self.project, self.out = nn.Linear(16, 48), nn.Linear(16, 16)
        self.up, self.down, self.head = nn.Linear(16, 32), nn.Linear(32, 16), nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        images, tokens, features = x.shape
        x = x + self.position
        heads = self.project(self.norms[0](x)).view(images, tokens, 3, 2, features // 2).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(*heads.unbind(0), is_causal=self.causal)
        x = x + self.out(mixed.transpose(1, 2).reshape(images, tokens, features))
        x = x + self.down(F.gelu(self.up(self.norms[1](x))))
        return self.head(self.norms[2](x))


IMAGES, TOKENS = (2, 3, 8, 8), (2, 9, 16)
BLOCKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "resnet": (Residual, IMAGES),
    "mobilenet v3, hardswish": (lambda: Inverted(F.hardswish), IMAGES),
    "efficientnet, silu": (lambda: Inverted(F.silu), IMAGES),
    "convnext": (ConvNext, IMAGES),
    "densenet": (Dense, IMAGES),
    "vit": (lambda: Transformer(causal=False), TOKENS),
    "gpt": (lambda: Transformer(causal=True), TOKENS),
}


def quantized(name: str) -> tuple[Any, torch.Tensor]:
    """A block as a quantised graph of torch.export, seeded, and an input."""
    import torchao.quantization.pt2e.quantizer.x86_inductor_quantizer as x86
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    make, shape = BLOCKS[name]
    torch.manual_seed(0)
    model, x = make().eval(), torch.randn(shape)
    quantizer = x86.X86InductorQuantizer().set_global(x86.get_default_x86_inductor_quantization_config())
    prepared = prepare_pt2e(torch.export.export(model, (x,)).module(), quantizer)
    for _ in range(3):
        prepared(torch.randn(shape))
    return convert_pt2e(prepared), x


def main() -> None:
    """Print the table of all blocks on `edge_16x16`."""
    import accelsim

    warnings.simplefilter("ignore")
    machine = accelsim.Accelerator.from_yaml("edge_16x16")
    print(f"{'block':<25}{'compared':>10}{'differing':>11}{'unexplained':>13}{'cycles':>9}")
    for name in BLOCKS:
        model, x = quantized(name)
        found = accelsim.verify(model, x, machine)
        result = accelsim.simulate(accelsim.compile(accelsim.extract(model, x), machine))
        compared, differing = (sum(getattr(row, part) for _, row in found.rows) for part in ("compared", "differing"))
        print(f"{name:<25}{compared:>10,}{differing:>11,}{found.mismatches:>13,}{result.cycles:>9,}")


if __name__ == "__main__":
    main()
