"""Every arithmetic of the requant unit, compiled and run: the codes are those of exact sums under its rule."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import accelsim
from accelsim.arithmetic.affine import Affine
from accelsim.compiler.requantization import machine_rule
from accelsim.errors import CompileError
from accelsim.hardware.configuration import Arithmetic
from accelsim.isa import REQUANTIZATIONS
from accelsim.isa.instructions.requantization import RequantInstruction
from accelsim.network import Convolution, Linear, Network, rounding
from accelsim.network.substitution import (
    certify_layer,
    layer_codes,
    layer_unit,
    layer_units,
    matrix_nodes,
    trace_on,
)

sys.path.insert(0, str(Path(__file__).parent))

from networks import Draft, compiled
from test_random_networks import random_machine, random_network

ARITHMETICS: list[Any] = [
    "thresholds",
    "power_of_two",
    "gemmlowp",
    "textbook",
    {"fixed_point": {"multiplier_bits": 31}},
    {"fixed_point": {"multiplier_bits": 9}},
]
IDS = ["thresholds", "power_of_two", "gemmlowp", "textbook", "fixed_point_31", "fixed_point_9"]
EDGE = accelsim.Accelerator.from_yaml(Path(__file__).parents[2] / "configs" / "edge_16x16.yaml")


def on(arithmetic: Any, base: accelsim.Accelerator = EDGE, **changes: Any) -> accelsim.Accelerator:
    return base.replace(**{"requant_unit.arithmetic": arithmetic, **changes})


def without_ties(network: Network) -> Network:
    """The network with weights in units that are no powers of two, so that fixed point has certificates."""
    nodes: list[Any] = list(network.nodes)
    for place, node in enumerate(nodes):
        if isinstance(node, Convolution | Linear):
            scale = (node.weights.scale * 1.0371).astype(np.float32).astype(np.float64)
            nodes[place] = replace(node, weights=replace(node.weights, scale=scale))
    return replace(network, nodes=tuple(nodes))


def check(seed: int, arithmetic: Any) -> bool:
    """Whether a random network fits a random machine; if it does, everything that must hold holds."""
    rng = np.random.default_rng(seed)
    draft, network = random_network(rng)
    if seed % 2:
        network = without_ties(network)
    machine = on(arithmetic, random_machine(rng))
    x = draft.data(2)
    program = compiled(network, machine, effort=0)
    if isinstance(program, str):
        assert "enlarge" in program
        return False
    result = accelsim.simulate(program, x)
    unit = machine.requant_unit.arithmetic
    reference = network.trace(x) if unit.name == "thresholds" else trace_on(network, unit, x)
    for name, value in [*result.values.items(), *((output.name, output) for output in result.outputs)]:
        assert np.array_equal(value.quantized, reference[name]), f"seed {seed}: {name}"
    timed = accelsim.simulate(program)
    assert (timed.cycles, timed.traffic, timed.units) == (result.cycles, result.traffic, result.units)
    kinds = {type(item) for item in program.instructions if isinstance(item, RequantInstruction)}
    assert kinds == ({REQUANTIZATIONS[unit.name]} if matrix_nodes(network) else set())
    # A certificate is worth what it says: no output of its channel changes, from the inputs that the layer has here.
    for node in matrix_nodes(network):
        found = layer_unit(network, node, unit)
        if found.certificate is not None:
            axis = 1 if reference[node.name].ndim > 2 else -1
            wrong = layer_codes(network, node, found.rule, reference) != network.apply(node.name, reference)
            assert not np.moveaxis(wrong, axis, -1)[..., found.certificate.certified].any()
    return True


@pytest.mark.parametrize("arithmetic", ARITHMETICS, ids=IDS)
def test_random_networks_on_random_machines(arithmetic: Any) -> None:
    assert sum(check(seed, arithmetic) for seed in range(5000, 5012)) >= 8


@pytest.mark.full
@pytest.mark.parametrize("start", range(6000, 6200, 20))
@pytest.mark.parametrize("arithmetic", ARITHMETICS, ids=IDS)
def test_many_random_networks_on_random_machines(arithmetic: Any, start: int) -> None:
    assert sum(check(seed, arithmetic) for seed in range(start, start + 20)) >= 12


def drawn(seed: int = 0, groups: int = 1, channels: int = 6, outputs: int = 24) -> tuple[Draft, Network]:
    """A padded convolution and a linear layer, with an input whose zero point is not 0."""
    draft = Draft(np.random.default_rng(seed))
    source = draft.input((1, channels, 5, 6))
    draft.values[source] = replace(draft.values[source], affine=Affine(0.03, 117, "uint8"))
    first = draft.convolution(source, outputs, 3, padding=1, groups=groups)
    last = draft.linear(draft.reshape(first, (1, outputs * 30)), 10)
    return draft, without_ties(draft.network(last))


def test_the_machine_s_constants_are_those_that_certify_prints() -> None:
    _, network = drawn()
    certified = 0
    for node in matrix_nodes(network):
        printed = certify_layer(network, node, 31)
        zero_point = network.values[node.inputs[0]].affine.zero_point
        rule = layer_unit(network, node, Arithmetic.model_validate("fixed_point")).rule
        mine: Any = machine_rule(network, node, rule, -zero_point * rounding.weight_sums(node))
        for name in ("multiplier", "offset", "shift"):
            both = (getattr(mine, name)[printed.certified], getattr(printed.constants, name)[printed.certified])
            np.testing.assert_array_equal(*both)
        certified += int(printed.certified.sum())
    assert certified > 10


def test_thresholds_take_as_many_words_as_there_are_codes_above_the_lowest() -> None:
    draft, network = drawn()
    program = accelsim.compile(network, on("thresholds"))
    tiles = [item for item in program.instructions if isinstance(item, RequantInstruction)]
    for node in matrix_nodes(network):
        zero_point = network.values[node.name].affine.zero_point
        expected = 255 - zero_point if node.relu else 255
        mine = [
            tile
            for tile, layer in zip(program.instructions, program.layer_of, strict=True)
            if program.layers[layer] == node.name
        ]
        assert {tile.planes for tile in mine if isinstance(tile, RequantInstruction)} == {expected}
    assert len(tiles) >= 3  # 16 KiB hold the thresholds of 16 channels
    assert accelsim.simulate(program, draft.data()).outputs


@pytest.mark.parametrize(("groups", "channels", "outputs"), [(1, 6, 24), (24, 24, 24), (4, 8, 24)])
def test_a_small_parameter_buffer_cuts_the_outputs(groups: int, channels: int, outputs: int) -> None:
    draft, network = drawn(3, groups, channels, outputs)
    x = draft.data(2)
    machine = on("thresholds", **{"buffers.parameter.bytes": 1100})  # one channel's
    result = accelsim.simulate(accelsim.compile(network, machine, effort=0), x)
    assert np.array_equal(result.outputs[0].quantized, network.run(x)[0].quantized)
    with pytest.raises(
        CompileError, match=r"[0-9,]+ bytes of the parameter buffer, which has .* missing; enlarge"
    ) as error:
        accelsim.compile(network, on("thresholds", **{"buffers.parameter.bytes": 400}))
    assert str(error.value).startswith("n0: ")


def test_thresholds_of_a_layer_that_wraps_round_are_refused() -> None:
    draft, network = drawn()
    freak = replace(draft.values["n0"], affine=Affine(1e-12, 3, "uint8"))
    with pytest.raises(CompileError, match=r"n0: some of its sums leave int32 .* float32_exact"):
        accelsim.compile(replace(network, values=network.values | {"n0": freak}), on("thresholds"))


def test_a_compilation_carries_its_certificates() -> None:
    from accelsim.compiler.pipeline import compile_with_plans

    _, network = drawn()
    units = compile_with_plans(network, on({"fixed_point": {"multiplier_bits": 9}})).units
    expected = layer_units(network, Arithmetic.model_validate({"fixed_point": {"multiplier_bits": 9}}))
    for name, unit in units.items():
        found, other = unit.certificate, expected[name].certificate
        assert found is not None
        assert other is not None
        assert found.differing.sum() == other.differing.sum() > 0
