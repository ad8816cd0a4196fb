"""The example networks are what they are called, and the machine computes them as PyTorch does, bit for bit."""

from __future__ import annotations

import importlib
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

import accelsim
from accelsim.network import Convolution, Linear

ROOT = Path(__file__).parents[2]
CONFIGURATIONS = ("teaching_4x4", "edge_16x16", "server_32x32")
SMALL = ("resnet8", "ds_cnn", "mobilenet_v1", "autoencoder", "branches")
LARGE = ("resnet50", "mobilenet_v2")


def quantized(name: str, engine: str) -> tuple[torch.nn.Module, torch.Tensor]:
    return importlib.import_module(f"examples.{name}").quantized(engine)


def verify(name: str, engine: str, configuration: str, effort: int = 1) -> accelsim.Verification:
    model, x = quantized(name, engine)
    machine = accelsim.Accelerator.from_yaml(ROOT / "configs" / f"{configuration}.yaml")
    return accelsim.verify(model, x, machine, effort=effort)


EVERY = list(itertools.product(SMALL, ("fbgemm", "qnnpack"), (*CONFIGURATIONS, "server_64x64"), (1,)))
#: What `make test` runs: each network and configuration, two of them with programs that were searched for.
SLICE = [
    *itertools.product(SMALL, ("fbgemm",), CONFIGURATIONS, (0,)),
    *itertools.product(SMALL, ("qnnpack",), ("teaching_4x4", "server_64x64"), (0,)),
    ("resnet8", "fbgemm", "edge_16x16", 1),
    ("branches", "qnnpack", "server_64x64", 1),
]


@pytest.mark.parametrize(
    ("name", "engine", "configuration", "effort"),
    [*SLICE, *(pytest.param(*kind, marks=pytest.mark.full) for kind in EVERY if kind not in SLICE)],
)
def test_small_networks_equal_pytorch_in_every_layer(name: str, engine: str, configuration: str, effort: int) -> None:
    verification = verify(name, engine, configuration, effort)
    assert verification.mismatches == 0, verification.report()


@pytest.mark.full
@pytest.mark.parametrize(
    ("engine", "configuration"),
    [
        *itertools.product(("fbgemm", "qnnpack"), CONFIGURATIONS[1:]),
        ("fbgemm", "teaching_4x4"),  # minutes: a thousand million multiply-accumulates in tiles of 2 KiB
    ],
)
@pytest.mark.parametrize("name", LARGE)
def test_large_networks_equal_pytorch_in_every_layer(name: str, engine: str, configuration: str) -> None:
    verification = verify(name, engine, configuration)
    assert verification.mismatches == 0, verification.report()


@pytest.mark.parametrize("engine", ["x86", "onednn"])
def test_the_other_engines_equal_pytorch_too(engine: str) -> None:
    for name in ("resnet8", "branches"):
        verification = verify(name, engine, "edge_16x16", effort=0)
        assert verification.mismatches == 0, verification.report()


def test_every_operation_is_compared_as_often_as_it_has_outputs() -> None:
    """Sizes by hand; nothing falls out of the comparison unseen."""
    layers = verify("branches", "fbgemm", "edge_16x16", effort=0).layers
    small, large = 9 * 7, 18 * 14  # positions
    branches = (7, 20, 9, 12)
    expected = [small * channels for channels in (12, *branches, sum(branches), 24)]  # stem, branches, cat, mix
    expected += [large * 24, large * 2, 24, 5]  # enlarge, map, average, classifier
    assert {layer.compared for layer in layers} == set(expected)
    assert len(layers) >= len(expected)


#: Multiply-accumulates of one input, by hand from the layers' shapes; MLPerf Tiny and torchvision name the same
#: networks at 12.5, 2.66, 7.49 and 0.264 million and 4.09 and 0.301 thousand million.
MACS = {
    "resnet8": 1024 * 16 * 27
    + 2 * 1024 * 16 * 144
    + 256 * 32 * (144 + 288 + 16)
    + 64 * 64 * (288 + 576 + 32)
    + 64 * 10,
    "ds_cnn": 125 * 64 * 40 + 4 * 125 * 64 * (9 + 64) + 64 * 12,
    "autoencoder": 640 * 128 + 3 * 128 * 128 + 2 * 128 * 8 + 3 * 128 * 128 + 128 * 640,
}


@pytest.mark.parametrize("name", list(MACS))
def test_multiply_accumulates(name: str) -> None:
    network = accelsim.extract(*quantized(name, "fbgemm"))
    assert _macs(network) == MACS[name]


@pytest.mark.parametrize(("name", "millions"), [("mobilenet_v1", 7.49), ("resnet8", 12.5), ("ds_cnn", 2.66)])
def test_published_sizes(name: str, millions: float) -> None:
    assert _macs(accelsim.extract(*quantized(name, "fbgemm"))) / 1e6 == pytest.approx(millions, rel=0.01)


@pytest.mark.full
@pytest.mark.parametrize(("name", "millions"), [("resnet50", 4089), ("mobilenet_v2", 301)])
def test_published_sizes_of_large_networks(name: str, millions: float) -> None:
    assert _macs(accelsim.extract(*quantized(name, "fbgemm"))) / 1e6 == pytest.approx(millions, rel=0.01)


def _macs(network: accelsim.Network) -> int:
    total = 0
    for node in network.nodes:
        if isinstance(node, Convolution | Linear):
            outputs = int(np.prod(network.values[node.name].shape))
            total += outputs * int(np.prod(node.weights.codes.shape[1:]))
    return total


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("engine", ["fbgemm", "qnnpack"])
def test_calibrated_ranges_leave_no_layer_idle(name: str, engine: str) -> None:
    """A layer stuck at a clamp would compare equal whatever was computed."""
    model, x = quantized(name, engine)
    network = accelsim.extract(model, x)
    for layer, codes in network.trace(x).items():
        if codes.size >= 64:
            _, counts = np.unique(codes, return_counts=True)
            assert len(counts) >= 16, layer
            assert counts.max() <= 0.9 * codes.size, layer


@pytest.mark.parametrize("name", SMALL)
def test_weights_are_the_same_each_time_and_leave_the_random_state(name: str) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    first, x = quantized(name, "fbgemm")
    assert torch.equal(torch.rand(3), expected)
    second, y = quantized(name, "fbgemm")
    assert torch.equal(x, y)
    with torch.no_grad():
        a, b = first(x), second(x)
    for left, right in zip(a, b, strict=True) if isinstance(a, tuple) else [(a, b)]:
        assert torch.equal(left, right)


@pytest.mark.parametrize("name", SMALL)
def test_batch_normalisation_is_folded(name: str) -> None:
    model, _ = quantized(name, "fbgemm")
    assert not any(isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d) for module in model.modules())


def test_activations_of_engines_that_may_saturate_have_seven_bits() -> None:
    for engine, largest in (("fbgemm", 127), ("x86", 127), ("onednn", 127), ("qnnpack", 255)):
        model, x = quantized("resnet8", engine)
        assert int(model.quantize(x).int_repr().max()) <= largest, engine
