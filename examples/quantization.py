"""Eager static quantisation of the example networks: seeded weights, BatchNorm folded, ranges calibrated.

The networks besides the digits are here for their shapes: what a machine does with them does not depend on what they
have learnt. So their weights are random, but behave: BatchNorm's statistics are those of the calibration inputs, which
keeps every layer's values in a range that 8 bits can show.
"""

from __future__ import annotations

import contextlib
import itertools
import warnings
from collections.abc import Callable, Iterator

import torch
from torch import nn
from torch.ao import quantization

_SEED = 20260
_CALIBRATION = 4  # inputs


def convolution(
    inputs: int,
    outputs: int,
    kernel: int | tuple[int, int] = 3,
    *,
    stride: int = 1,
    padding: int | tuple[int, int] | None = None,
    groups: int = 1,
    dilation: int = 1,
    relu: bool = True,
) -> nn.Sequential:
    """A convolution, its BatchNorm and a ReLU; by default padded so that stride 1 keeps the size of the image."""
    if padding is None:
        assert isinstance(kernel, int)
        padding = dilation * (kernel // 2)
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    return nn.Sequential(*layers, nn.ReLU()) if relu else nn.Sequential(*layers)


def qconfig(engine: str) -> quantization.QConfig:
    """PyTorch's default of the engine, except that onednn gets 7-bit activations as fbgemm and x86 do by default.

    On a processor without VNNI, oneDNN's kernels would saturate at int16 with 8-bit ones; PyTorch warns of that.
    """
    return quantization.get_default_qconfig("x86" if engine == "onednn" else engine)


def float_network(build: Callable[[], nn.Module], shape: tuple[int, ...]) -> tuple[nn.Module, torch.Tensor]:
    """The network of `build` with seeded weights, in eval mode, and float32 (4, *shape) inputs to calibrate it on.

    The inputs are of mean 0 and variance 1, smooth along their last axis as images and spectra are.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(_SEED)
        model = build()
        inputs = torch.randn(_CALIBRATION, *shape)
        inputs = (inputs + inputs.roll(1, -1)) / 2**0.5
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.momentum = None  # statistics are the plain averages of what is seen
                module.weight.uniform_(0.5, 1.5)
                module.bias.uniform_(-0.5, 0.5)
        model.train()(inputs)
    return model.eval(), inputs


def quantize(
    build: Callable[[], nn.Module], shape: tuple[int, ...], engine: str | None = None
) -> tuple[nn.Module, torch.Tensor]:
    """The network of `build` after PyTorch's eager static quantisation for `engine`, and an input (1, *shape).

    `engine` is `torch.backends.quantized.engine` by default, and afterwards that: PyTorch packs weights for the engine
    set there, and needs it still to be set when the model runs.
    """
    if engine is not None:
        torch.backends.quantized.engine = engine
    model, inputs = float_network(build, shape)
    with quiet():
        fuse(model)
        model.qconfig = qconfig(torch.backends.quantized.engine)
        for module in model.modules():
            if isinstance(module, nn.ConvTranspose2d):  # PyTorch quantises its weights per tensor only
                module.qconfig = model.qconfig._replace(weight=quantization.default_weight_observer)
        quantization.prepare(model, inplace=True)
        with torch.no_grad():
            model(inputs)
        quantization.convert(model, inplace=True)
    return model, inputs[:1]


def fuse(model: nn.Module) -> None:
    """Fold every BatchNorm, and fuse every ReLU, that follows a convolution or a linear layer in a `Sequential`."""
    for sequence in [module for module in model.modules() if isinstance(module, nn.Sequential)]:
        for kind in (nn.BatchNorm1d, nn.BatchNorm2d, nn.ReLU):
            present = [(name, child) for name, child in sequence.named_children() if not isinstance(child, nn.Identity)]
            pairs = [
                [name, after]
                for (name, child), (after, follower) in itertools.pairwise(present)
                if isinstance(child, nn.Conv2d | nn.ConvTranspose2d | nn.Linear)
                and isinstance(follower, kind)
                and not (kind is nn.ReLU and isinstance(child, nn.ConvTranspose2d))
            ]
            if pairs:
                quantization.fuse_modules(sequence, pairs, inplace=True)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """PyTorch announces its next quantisation tool at every call of this one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", UserWarning)
        yield
