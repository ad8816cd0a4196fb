"""A small convolutional network on scikit-learn's handwritten digits, trained and quantised with PyTorch alone.

    accelsim run configs/edge_16x16.yaml examples.digits:quantized

The data (1,797 images of 8 x 8 pixels) ships with scikit-learn. Training takes seconds; its weights are kept in
`results/`, so that the next command does not train again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from functools import cache
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.ao import quantization

from .quantization import qconfig, quiet

RESULTS = Path(__file__).parents[1] / "results"
ENGINES = ("fbgemm", "qnnpack", "x86", "onednn")

_SEED = 9  # one with which fc1's output 3 is not 0 for the first test image, for the worked example in the README
_TRAINING_IMAGES = 1437  # four fifths; the others are the test set
_EPOCHS = 15
_BATCH = 48


class Digits(nn.Module):
    """(N, 1, 8, 8) float images in 0..1 to (N, 10) scores."""

    def __init__(self) -> None:
        super().__init__()
        self.quantize = quantization.QuantStub()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(16, 24, 3)
        self.relu2 = nn.ReLU()
        self.conv3 = nn.Conv2d(24, 24, 3, padding=1)
        self.relu3 = nn.ReLU()
        self.conv4 = nn.Conv2d(24, 24, 3, padding=1)
        self.residual = nn.quantized.FloatFunctional()
        self.pool = nn.MaxPool2d(2)
        self.conv5 = nn.Conv2d(24, 48, 3, stride=2, padding=1)
        self.average = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Linear(48, 32)
        self.relu5 = nn.ReLU()
        self.fc2 = nn.Linear(32, 10)
        self.dequantize = quantization.DeQuantStub()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Scores of the ten digits."""
        x = self.relu1(self.conv1(self.quantize(images)))  # 16 x 8 x 8
        x = self.relu2(self.conv2(x))  # 24 x 6 x 6
        x = self.residual.add_relu(self.conv4(self.relu3(self.conv3(x))), x)
        x = self.pool(x)  # 24 x 3 x 3
        x = self.conv5(x)  # 48 x 2 x 2; without ReLU, so that fc1's input has a zero point
        x = torch.flatten(self.average(x), 1)
        return self.dequantize(self.fc2(self.relu5(self.fc1(x))))


_FUSED = [["conv1", "relu1"], ["conv2", "relu2"], ["conv3", "relu3"], ["fc1", "relu5"]]


@cache
def _data() -> tuple[torch.Tensor, torch.Tensor]:
    """All images, float32 (1797, 1, 8, 8) in 0..1, and their digits, in a seeded random order."""
    digits = load_digits()
    images = torch.from_numpy(digits.images).float().reshape(-1, 1, 8, 8) / 16
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(_SEED))
    return images[order], torch.from_numpy(digits.target)[order]


def training_set() -> tuple[torch.Tensor, torch.Tensor]:
    """1,437 images, float32 (N, 1, 8, 8) in 0..1, and their digits, int64 (N,)."""
    images, labels = _data()
    return images[:_TRAINING_IMAGES], labels[:_TRAINING_IMAGES]


def test_set() -> tuple[torch.Tensor, torch.Tensor]:
    """The 360 images that training does not see, float32 (N, 1, 8, 8) in 0..1, and their digits, int64 (N,)."""
    images, labels = _data()
    return images[_TRAINING_IMAGES:], labels[_TRAINING_IMAGES:]


test_set.__test__ = False  # type: ignore[attr-defined]  # its name makes pytest take it for a test


def trained() -> Digits:
    """The float network; trained when `results/` does not hold the weights of this very file."""
    source = Path(__file__).read_bytes() + torch.__version__.encode()
    path = RESULTS / f"digits-{hashlib.sha256(source).hexdigest()[:16]}.safetensors"
    model = Digits()
    try:
        model.load_state_dict(safetensors.torch.load_file(path))
    except (OSError, safetensors.SafetensorError, RuntimeError):  # not there, or not these weights
        model = _train()
        _keep(model, path)
    return model.eval()


@torch.enable_grad()
def _train() -> Digits:
    images, labels = training_set()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        model = Digits()
        optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=1e-2)
        batches = -(-len(images) // _BATCH)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 8e-3, total_steps=_EPOCHS * batches)
        for _ in range(_EPOCHS):
            for chosen in torch.randperm(len(images)).split(_BATCH):
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(images[chosen]), labels[chosen], label_smoothing=0.05).backward()
                optimizer.step()
                schedule.step()
    return model


def _keep(model: Digits, path: Path) -> None:
    """Write the weights, all or nothing: a process that is killed here leaves no half file under the name."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    with contextlib.suppress(OSError):  # where nothing can be written, the next command trains again
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(safetensors.torch.save(model.state_dict()))
        part.replace(path)


def quantized(engine: str | None = None) -> tuple[nn.Module, torch.Tensor]:
    """The network after PyTorch's eager static quantisation for `engine`, and one image as example input.

    `engine` is `torch.backends.quantized.engine` by default, and afterwards that: PyTorch packs weights for the engine
    set there, and needs it still to be set when the model runs.
    """
    if engine is not None:
        torch.backends.quantized.engine = engine
    engine = torch.backends.quantized.engine
    model = trained()
    with quiet():
        model = quantization.fuse_modules(model, _FUSED)
        model.qconfig = qconfig(engine)
        quantization.prepare(model, inplace=True)
        with torch.no_grad():
            model(training_set()[0])
        quantization.convert(model, inplace=True)
    return model, test_set()[0][:1]


def accuracy(scores: torch.Tensor, labels: torch.Tensor) -> float:
    """Share of the images whose highest score is that of their digit."""
    return float((scores.argmax(1) == labels).float().mean())
