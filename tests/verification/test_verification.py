"""A verification finds what is wrong, says where, and excuses only what it can compute."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from equality import codes, convolution, engine_set, linear, quantized

import accelsim
from accelsim.network import Lookup
from accelsim.verification import compare, verify

ACCELERATOR = accelsim.Accelerator.from_yaml(Path(__file__).parents[2] / "configs" / "edge_16x16.yaml")


def _model(engine: str) -> Any:
    with engine_set(engine):
        first = convolution(3, 3, 16, (3, 3), padding=1, relu=True, scale=2.0)
        second = convolution(5, 16, 16, (3, 3), padding=1, scale=8.0)
        last = linear(7, 16, 5, scale=8.0)

    def model(x: torch.Tensor) -> torch.Tensor:
        y = first(x)
        z = torch.ops.quantized.add_relu(y, second(y), 8.0, 3)
        z = torch.ops.quantized.hardswish(z, 8.0, 5)
        z = torch.ops.quantized.cat([z, y], 1, 4.0, 3)
        return last(F.adaptive_avg_pool2d(z[:, 4:20], 1).flatten(1))

    return model


X = quantized(codes(1, (4, 3, 7, 7)), 0.25, 77)


@pytest.mark.parametrize("engine", ["fbgemm", "qnnpack", "x86", "onednn"])
def test_every_layer_of_every_engine_is_equal(engine: str) -> None:
    verification = verify(_model(engine), X, ACCELERATOR, engine=engine, batch=2)
    assert {"conv2d", "conv2d_relu", "add_relu", "hardswish", "cat", "adaptive_avg_pool2d", "linear"} <= {
        layer.name for layer in verification.layers
    }
    assert verification.differing_bits == verification.mismatches == verification.explained == 0
    assert verification.compared == sum(layer.compared for layer in verification.layers) > 10_000


def test_lanes_that_the_network_does_not_stand_for_are_explained_as_such() -> None:
    # A sum of ties with an odd zero point, long enough for a vector body and not a multiple of it.
    def model(x: torch.Tensor) -> torch.Tensor:
        return torch.ops.quantized.add(x, torch.relu(x), 0.5, 3)

    x = quantized(codes(2, (1, 1000)), 0.25, 7)
    verification = verify(model, x, ACCELERATOR, engine="fbgemm", lanes="uniform")
    layer = verification.layers[-1]
    assert layer.differing == layer.explained > 0
    assert "rounded otherwise in PyTorch's" in layer.cause
    assert layer.differing <= 1000 % 64  # the tail alone
    assert verification.mismatches == 0


def _simulated(network: Any) -> Any:
    program = accelsim.compile(network, ACCELERATOR, effort=0)
    return accelsim.simulate(program, X, accelerator=ACCELERATOR)


def test_a_wrong_weight_is_a_mismatch_of_its_layer_and_is_inherited_by_the_next() -> None:
    model = _model("qnnpack")
    network = accelsim.extract(model, X, engine="qnnpack")
    network.node("conv2d_relu").weights.codes[3, 1, 0, 2] ^= 1 << 5  # type: ignore[attr-defined]
    verification = compare(network, _simulated(network), model, X)
    layers = {layer.name: layer for layer in verification.layers}
    assert layers["conv2d_relu"].mismatches == layers["conv2d_relu"].differing > 0
    assert "PyTorch's kernel differs from the exact arithmetic" in layers["conv2d_relu"].cause
    assert layers["conv2d"].mismatches == 0
    assert layers["conv2d"].explained == layers["conv2d"].differing > 0
    assert "inherited from the layers before" in layers["conv2d"].cause


def test_a_wrong_table_entry_is_found() -> None:
    model = _model("fbgemm")
    network = accelsim.extract(model, X, engine="fbgemm")
    used = int(network.trace(X)["add_relu"].reshape(-1)[5])

    def altered(node: Any) -> Any:
        if not isinstance(node, Lookup) or node.operator != "hardswish":
            return node
        tables = node.tables.copy()
        tables[:, used] ^= 1
        return replace(node, tables=tables)

    wrong = replace(network, nodes=tuple(map(altered, network.nodes)))
    verification = compare(wrong, _simulated(wrong), model, X)
    (layer,) = [layer for layer in verification.layers if layer.name == "hardswish"]
    count = int(np.count_nonzero(network.trace(X)["add_relu"] == used))
    assert layer.mismatches == layer.differing_bits == count > 0


def test_a_machine_that_differs_from_the_reference_is_never_excused() -> None:
    model = _model("qnnpack")
    network = accelsim.extract(model, X, engine="qnnpack")
    result = _simulated(network)
    # The machine's first layer in PyTorch's place for the second's input would be excused as inherited.
    result.values["conv2d"].quantized[0, 0, 0, 0] ^= 1
    verification = compare(network, result, model, X)
    (layer,) = [layer for layer in verification.layers if layer.name == "conv2d"]
    assert (layer.differing, layer.mismatches, layer.differing_bits) == (1, 1, 1)
    assert layer.cause == "1 where the machine differs from the integer reference"
    assert "1 unexplained" in verification.report()
    assert verification.to_dict()["mismatches"] == 1
