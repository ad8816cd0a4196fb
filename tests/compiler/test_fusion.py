"""An element-wise operation that works on the tiles of the matrix operation before it."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import accelsim
from accelsim.compiler import compile_with_plans
from accelsim.compiler.operations import Elementwise, Matrix
from accelsim.compiler.pipeline import Compilation
from accelsim.isa import Store
from accelsim.network import Convolution
from examples.resnet8 import quantized

sys.path.insert(0, str(Path(__file__).parent))

from networks import Draft

CONFIGS = Path(__file__).parents[2] / "configs"
EDGE, TEACHING = (accelsim.Accelerator.from_yaml(CONFIGS / f"{name}.yaml") for name in ("edge_16x16", "teaching_4x4"))
CHANNELS, SIDE = 24, 20
TENSOR = CHANNELS * SIDE * SIDE


def residual(seed: int, *, images: int = 1, lookup: bool = False) -> tuple[Draft, accelsim.Network]:
    """Two convolutions, and a sum of both or a table of the second."""
    draft = Draft(np.random.default_rng(seed))
    first = draft.convolution(draft.input((images, 8, SIDE, SIDE)), CHANNELS, 1)
    second = draft.convolution(first, CHANNELS, 3, padding=1)
    return draft, draft.network(draft.lookup(second) if lookup else draft.add(second, first))


def every_value_is_right(draft: Draft, network: accelsim.Network, compilation: Compilation) -> accelsim.Result:
    """All values, one that is nowhere whole part by part, are the reference's."""
    x = draft.data(2)
    result = accelsim.simulate(compilation.program, x)
    expected = network.trace(x)
    assert {node.name for node in network.nodes} == set(result.values)
    for name, value in result.values.items():
        np.testing.assert_array_equal(value.quantized, expected[name])
    return result


@pytest.mark.parametrize("lookup", [False, True])
@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize("activation", [5000, 6000, 9000])
@pytest.mark.parametrize("dataflow", ["weight_stationary", "output_stationary", "input_stationary"])
def test_every_value_is_the_reference_s(dataflow: str, activation: int, images: int, lookup: bool) -> None:
    draft, network = residual(activation, images=images, lookup=lookup)
    changes = {"mac_array.dataflow": dataflow, "buffers.activation.bytes": activation, "dram.bytes_per_cycle": 1}
    machine = EDGE.replace(**changes)
    compilation = compile_with_plans(network, machine, effort=0)
    assert [network.nodes[-2].name] == [compilation.plans[index][0] for index in compilation.fusions]
    result = every_value_is_right(draft, network, compilation)
    timed = accelsim.simulate(compilation.program)
    assert (timed.cycles, timed.traffic) == (result.cycles, result.traffic)
    assert sum(layer.cycles for layer in result.layers) == result.cycles


def test_what_is_fused_never_reaches_dram() -> None:
    _, network = residual(1)
    machine = EDGE.replace(**{"buffers.activation.bytes": 6000})
    result = accelsim.simulate(accelsim.compile(network, machine, effort=0))
    # By hand: the first convolution's result, which is larger than the buffer, and the sum.
    assert result.traffic["dram"].written == 2 * TENSOR


WIDE, SMALL = 64, 12
WIDE_TENSOR = WIDE * SMALL * SMALL


def wide(seed: int, *, images: int = 1, kind: str = "add", then: bool = False) -> tuple[Draft, accelsim.Network]:
    """Two convolutions, the second one's weights many times the result, element-wise work, and perhaps a third."""
    draft = Draft(np.random.default_rng(seed))
    first = draft.convolution(draft.input((images, 8, SMALL, SMALL)), WIDE, 1)
    second = draft.convolution(first, WIDE, 3, padding=1)
    last = draft.lookup(second) if kind == "lookup" else getattr(draft, kind)(second, first)
    return draft, draft.network(draft.convolution(last, 8, 1) if then else last)


def wide_machine(activation: int, **changes: object) -> accelsim.Accelerator:
    """A machine whose weight buffer holds a quarter of the second convolution's weights."""
    return EDGE.replace(**{"buffers.activation.bytes": activation, "buffers.weight.bytes": 9216, **changes})


@pytest.mark.parametrize(("kind", "then"), [("add", False), ("add", True), ("multiply", True), ("lookup", False)])
@pytest.mark.parametrize("images", [1, 2])
@pytest.mark.parametrize("activation", [6000, 14000])
def test_a_fused_operation_works_on_blocks_of_channels(activation: int, images: int, kind: str, then: bool) -> None:
    draft, network = wide(activation + images, images=images, kind=kind, then=then)
    compilation = compile_with_plans(network, wide_machine(activation * images), effort=0)
    (fusion,) = compilation.fusions.values()
    assert fusion.plan.outputs < WIDE
    assert not fusion.plan.footprint.gather
    every_value_is_right(draft, network, compilation)


def read_once(network: accelsim.Network, compilation: Compilation) -> int:
    """Bytes of the input, of every weight and constant, and of the code."""
    weights = sum(node.weights.codes.size for node in network.nodes if isinstance(node, Convolution))
    matrices = [operation for operation in compilation.lowered.operations if isinstance(operation, Matrix)]
    constants = sum(4 * len(operation.constants) * operation.outputs for operation in matrices)
    return 8 * SMALL * SMALL + weights + constants + len(compilation.program.words())


def test_fused_in_blocks_every_weight_is_loaded_once() -> None:
    draft, network = wide(1)
    compilation = compile_with_plans(network, wide_machine(14000), effort=0)
    # The first convolution's result stays on the chip, so that the sum's other operand is read there with gaps.
    assert set(compilation.placement.addresses) == {network.nodes[0].name}
    moved = accelsim.simulate(compilation.program).traffic["dram"]
    assert moved.read == read_once(network, compilation)
    assert moved.written == WIDE_TENSOR
    every_value_is_right(draft, network, compilation)


def test_a_sum_takes_the_place_of_its_operand_block_by_block() -> None:
    draft = Draft(np.random.default_rng(9))
    wide_one = draft.convolution(draft.input((1, 8, SMALL, SMALL)), WIDE, 1)
    narrow = draft.convolution(wide_one, 16, 1)
    total = draft.add(draft.convolution(narrow, WIDE, 3, padding=1), wide_one)
    network = draft.network(draft.convolution(total, 8, 1))
    # Room for one wide value and the narrow one.
    compilation = compile_with_plans(network, wide_machine(14000, **{"buffers.weight.bytes": 4096}), effort=0)
    addresses = compilation.placement.addresses
    assert set(addresses) == {wide_one, narrow, total}
    assert addresses[wide_one] == addresses[total]
    (fusion,) = compilation.fusions.values()
    assert fusion.plan.outputs < WIDE
    moved = accelsim.simulate(compilation.program).traffic["dram"]
    assert (moved.read, moved.written) == (read_once(network, compilation), 8 * SMALL * SMALL)
    every_value_is_right(draft, network, compilation)


def test_where_body_and_tail_differ_tiles_have_all_channels() -> None:
    draft = Draft(np.random.default_rng(8))
    odd = 11  # 63 * 11 * 11 elements: the last ones take another table
    first = draft.convolution(draft.input((1, 8, odd, odd)), WIDE - 1, 1)
    network = draft.network(draft.lookup(draft.convolution(first, WIDE - 1, 3, padding=1)))
    for activation in (5000, 9000):
        compilation = compile_with_plans(network, wide_machine(activation), effort=0)
        assert [len(op.pieces) for op in compilation.lowered.operations if isinstance(op, Elementwise)] == [2]
        for fusion in compilation.fusions.values():
            assert fusion.plan.footprint.gather or fusion.plan.outputs == WIDE - 1
        x = draft.data()
        outputs = accelsim.simulate(compilation.program, x).outputs
        assert np.array_equal(outputs[0].quantized, network.run(x)[0].quantized)


def test_a_result_that_another_layer_reads_too_is_stored() -> None:
    draft = Draft(np.random.default_rng(2))
    first = draft.convolution(draft.input((1, 8, SIDE, SIDE)), CHANNELS, 1)
    second = draft.convolution(first, CHANNELS, 3, padding=1)
    network = draft.network(draft.add(draft.add(second, first), second))
    compilation = compile_with_plans(network, EDGE.replace(**{"buffers.activation.bytes": 6000}), effort=0)
    assert not compilation.fusions
    x = draft.data()
    assert np.array_equal(accelsim.simulate(compilation.program, x).outputs[0].quantized, network.run(x)[0].quantized)


def test_parts_of_values_survive_the_program_s_file_and_text(tmp_path: Path) -> None:
    _, network = residual(3)
    in_rows = set()
    for activation in (4000, 5000):
        machine = EDGE.replace(**{"buffers.activation.bytes": activation})
        program = accelsim.compile(network, machine, effort=0)
        in_rows |= {probe.part.lines > 1 for probe in program.probes if probe.part}
        program.save(tmp_path / "net.bin")
        assert accelsim.Program.load(tmp_path / "net.bin") == program
        assert sorted(accelsim.assemble(program.assembly()).probes, key=repr) == sorted(program.probes, key=repr)
    assert in_rows == {False, True}


def test_a_value_seen_in_part_only_is_no_value() -> None:
    draft, network = residual(4)
    program = accelsim.compile(network, EDGE.replace(**{"buffers.activation.bytes": 6000}), effort=0)
    fused = network.nodes[-2].name
    parts = [probe for probe in program.probes if probe.port.name == fused]
    assert len(parts) > 1
    others = tuple(probe for probe in program.probes if probe is not parts[1])
    assert fused not in accelsim.simulate(replace(program, probes=others), draft.data()).values


def test_stores_belong_to_the_layer_that_stores() -> None:
    _, network = residual(5)
    program = accelsim.compile(network, EDGE.replace(**{"buffers.activation.bytes": 6000}), effort=0)
    layers = {
        program.layers[layer]
        for instruction, layer in zip(program.instructions, program.layer_of, strict=True)
        if isinstance(instruction, Store)
    }
    assert layers == {network.nodes[0].name, network.nodes[2].name}


def test_an_operand_that_has_to_wait_for_its_place_holds_up_no_input() -> None:
    """On the teaching machine the sum's other operand has one place. ResNet-8's first block: 1,024 pixels of 16
    channels in and out and nine taps on sixteen cells, and a hundredth more for the memories."""
    network = accelsim.extract(*quantized("fbgemm"))
    compilation = compile_with_plans(network, TEACHING, effort=0)
    layers = {layer.name: layer for layer in accelsim.simulate(compilation.program).layers}
    names = [name for name, _ in compilation.plans]
    assert compilation.fused_layer(names.index("block1.conv2.0")) == "block1.residual"
    assert layers["block1.conv2.0"].cycles <= 1.01 * 1024 * 16 * 16 * 9 / 16
