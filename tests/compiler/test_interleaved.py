"""Sums that are interleaved: what they share is loaded once for all of them."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

import accelsim
from accelsim.compiler import compile_with_plans
from accelsim.compiler.plan.matrix import interleave_of
from accelsim.isa import Load, Mac, Memory

sys.path.insert(0, str(Path(__file__).parent))

from networks import Draft

EDGE = accelsim.Accelerator.from_yaml(Path(__file__).parents[2] / "configs" / "edge_16x16.yaml")


def loaded(program: accelsim.Program, memory: Memory) -> int:
    return sum(item.bytes for item in program.instructions if isinstance(item, Load) and item.memory == memory)


@pytest.mark.parametrize("dataflow", ["weight_stationary", "output_stationary", "input_stationary"])
@pytest.mark.parametrize("epilogue", [False, True])
def test_neither_weights_nor_input_are_loaded_twice_where_the_accumulators_hold_the_output(
    dataflow: str, epilogue: bool
) -> None:
    """Half of the input fits the chip, and a ninth of the weights; all 64 x 32 sums do."""
    draft = Draft(np.random.default_rng(0))
    source = draft.input((1, 32, 8, 8))
    last = draft.convolution(source, 32, 3, padding=1)
    network = draft.network(draft.lookup(last) if epilogue else last)
    changes = {"mac_array.dataflow": dataflow, "buffers.weight.bytes": 1024, "buffers.activation.bytes": 1024}
    compilation = compile_with_plans(network, EDGE.replace(**changes), effort=0)
    plan = compilation.plans[0][1]
    assert plan is not None
    assert plan.interleaved
    program = compilation.program
    assert loaded(program, Memory.WEIGHT) == 32 * 32 * 9
    macs = [item for item in program.instructions if isinstance(item, Mac)]
    assert len({item.accumulator for item in macs}) == sum(not item.accumulate for item in macs) > 1
    if not epilogue:
        assert loaded(program, Memory.ACTIVATION) == 32 * 8 * 8
    x = draft.data(2)
    result, expected = accelsim.simulate(program, x), network.trace(x)
    assert all(np.array_equal(value.quantized, expected[name]) for name, value in result.values.items())
    assert np.array_equal(result.outputs[0].quantized, expected[network.outputs[0]])


@pytest.mark.parametrize(
    ("sums", "accumulators", "interleave"), [(1, 5, 1), (4, 5, 4), (6, 4, 3), (7, 3, 3), (5, 1, 1), (9, 4, 3)]
)
def test_rounds_are_about_equal(sums: int, accumulators: int, interleave: int) -> None:
    assert interleave_of(sums, accumulators) == interleave
