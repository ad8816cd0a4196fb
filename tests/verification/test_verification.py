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
    assert verification.compared == sum(layer.compared for layer in verification.layers) + 4 * 5 > 10_000
    assert [(output.name, output.compared) for output in verification.outputs] == [("linear", 4 * 5)]


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


def test_what_comes_from_a_wrong_weight_is_unexplained_to_the_end() -> None:
    model = _model("qnnpack")
    network = accelsim.extract(model, X, engine="qnnpack")
    network.node("conv2d_relu").weights.codes[3, 1, 0, 2] ^= 1 << 5  # type: ignore[attr-defined]
    verification = compare(network, _simulated(network), model, X)
    layers = {layer.name: layer for layer in verification.layers}
    assert layers["conv2d_relu"].mismatches == layers["conv2d_relu"].differing > 0
    assert "PyTorch's kernel differs from the exact arithmetic" in layers["conv2d_relu"].cause
    assert layers["conv2d"].mismatches == layers["conv2d"].differing > 0
    assert "inherited from what is not explained" in layers["conv2d"].cause
    (output,) = verification.outputs
    assert output.mismatches == output.differing == layers["linear"].differing > 0
    assert verification.explained == 0


def test_what_comes_from_an_explained_difference_is_explained_to_the_end() -> None:
    # In uniform lanes the tail of the sum is rounded otherwise than by PyTorch; the table and the output inherit that.
    def model(x: torch.Tensor) -> torch.Tensor:
        return torch.ops.quantized.mul_scalar(torch.ops.quantized.add(x, torch.relu(x), 0.5, 3), 2.0)

    x = quantized(codes(2, (1, 1000)), 0.25, 7)
    verification = verify(model, x, ACCELERATOR, engine="fbgemm", lanes="uniform")
    rows = {row.name: row for row in (*verification.layers, *verification.outputs)}
    assert rows["mul_scalar"].explained == rows["mul_scalar"].differing > 0
    assert "as in the layer" in verification.outputs[0].cause
    assert verification.mismatches == 0


def test_an_input_that_pytorch_quantises_otherwise_is_a_mismatch_and_so_is_all_that_follows() -> None:
    def model(x: torch.Tensor) -> torch.Tensor:
        return torch.relu(torch.quantize_per_tensor(x, 0.5, 3, torch.quint8))

    x = torch.linspace(0, 4, 50)[None]
    network = accelsim.extract(model, x, engine="fbgemm")
    values = {n: replace(v, affine=replace(v.affine, zero_point=4)) for n, v in network.values.items()}
    wrong = replace(network, values=values)
    result = accelsim.simulate(accelsim.compile(wrong, ACCELERATOR, effort=0), x)
    verification = compare(wrong, result, model, x)
    (given,) = verification.inputs
    assert given.mismatches == given.differing == 50
    assert "quantises the input by another rule" in given.cause
    assert all(row.explained == 0 for _, row in verification.rows)


def test_an_output_that_is_changed_after_its_layer_is_a_mismatch() -> None:
    def model(x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x)

    def changed(x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(x)
        torch.ops.quantized.relu6(y[:1], True)
        return y

    x = quantized(codes(2, (2, 30)), 0.25, 7)
    network = accelsim.extract(model, x, engine="fbgemm")
    verification = compare(network, accelsim.simulate(accelsim.compile(network, ACCELERATOR, effort=0), x), changed, x)
    expected = int((model(x).int_repr() != changed(x).int_repr()).sum())
    (output,) = verification.outputs
    assert output.mismatches == output.differing == expected > 0
    assert "changed after its layer" in output.cause


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
