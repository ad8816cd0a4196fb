"""An element-wise operation that works on the tiles of the matrix operation before it."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import accelsim
from accelsim.compiler import compile_with_plans
from accelsim.isa import Store

sys.path.insert(0, str(Path(__file__).parent))

from networks import Draft

EDGE = accelsim.Accelerator.from_yaml(Path(__file__).parents[2] / "configs" / "edge_16x16.yaml")
CHANNELS, SIDE = 24, 20
TENSOR = CHANNELS * SIDE * SIDE


def residual(seed: int, *, images: int = 1, lookup: bool = False) -> tuple[Draft, accelsim.Network]:
    """Two convolutions, and a sum of both or a table of the second."""
    draft = Draft(np.random.default_rng(seed))
    first = draft.convolution(draft.input((images, 8, SIDE, SIDE)), CHANNELS, 1)
    second = draft.convolution(first, CHANNELS, 3, padding=1)
    return draft, draft.network(draft.lookup(second) if lookup else draft.add(second, first))


@pytest.mark.parametrize("lookup", [False, True])
@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize("activation", [5000, 6000, 9000])
@pytest.mark.parametrize("dataflow", ["weight_stationary", "output_stationary", "input_stationary"])
def test_every_value_is_the_reference_s(dataflow: str, activation: int, images: int, lookup: bool) -> None:
    draft, network = residual(activation, images=images, lookup=lookup)
    changes = {"mac_array.dataflow": dataflow, "buffers.activation.bytes": activation, "dram.bytes_per_cycle": 1}
    machine = EDGE.replace(**changes)
    compilation = compile_with_plans(network, machine)
    assert [network.nodes[-2].name] == [compilation.plans[index][0] for index in compilation.fusions]
    x = draft.data(2)
    result = accelsim.simulate(compilation.program, x)
    expected = network.trace(x)
    # The value that is nowhere whole is seen part by part.
    assert {node.name for node in network.nodes} == set(result.values)
    for name, value in result.values.items():
        np.testing.assert_array_equal(value.quantized, expected[name])
    timed = accelsim.simulate(compilation.program)
    assert (timed.cycles, timed.traffic) == (result.cycles, result.traffic)
    assert sum(layer.cycles for layer in result.layers) == result.cycles


def test_what_is_fused_never_reaches_dram() -> None:
    _, network = residual(1)
    machine = EDGE.replace(**{"buffers.activation.bytes": 6000})
    result = accelsim.simulate(accelsim.compile(network, machine))
    # By hand: the first convolution's result, which is larger than the buffer, and the sum.
    assert result.traffic["dram"].written == 2 * TENSOR


def test_a_result_that_another_layer_reads_too_is_stored() -> None:
    draft = Draft(np.random.default_rng(2))
    first = draft.convolution(draft.input((1, 8, SIDE, SIDE)), CHANNELS, 1)
    second = draft.convolution(first, CHANNELS, 3, padding=1)
    network = draft.network(draft.add(draft.add(second, first), second))
    compilation = compile_with_plans(network, EDGE.replace(**{"buffers.activation.bytes": 6000}))
    assert not compilation.fusions
    x = draft.data()
    assert np.array_equal(accelsim.simulate(compilation.program, x).outputs[0].quantized, network.run(x)[0].quantized)


def test_parts_of_values_survive_the_program_s_file_and_text(tmp_path: Path) -> None:
    _, network = residual(3)
    program = accelsim.compile(network, EDGE.replace(**{"buffers.activation.bytes": 6000}))
    assert any(probe.part for probe in program.probes)
    program.save(tmp_path / "net.bin")
    assert accelsim.Program.load(tmp_path / "net.bin") == program
    assert sorted(accelsim.assemble(program.assembly()).probes, key=repr) == sorted(program.probes, key=repr)


def test_a_value_seen_in_part_only_is_no_value() -> None:
    draft, network = residual(4)
    program = accelsim.compile(network, EDGE.replace(**{"buffers.activation.bytes": 6000}))
    fused = network.nodes[-2].name
    parts = [probe for probe in program.probes if probe.port.name == fused]
    assert len(parts) > 1
    others = tuple(probe for probe in program.probes if probe is not parts[1])
    assert fused not in accelsim.simulate(replace(program, probes=others), draft.data()).values


def test_stores_belong_to_the_layer_that_stores() -> None:
    _, network = residual(5)
    program = accelsim.compile(network, EDGE.replace(**{"buffers.activation.bytes": 6000}))
    layers = {
        program.layers[layer]
        for instruction, layer in zip(program.instructions, program.layer_of, strict=True)
        if isinstance(instruction, Store)
    }
    assert layers == {network.nodes[0].name, network.nodes[2].name}
