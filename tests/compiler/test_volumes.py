"""Convolutions of three axes: tiles that lie behind one another share planes of the input."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

import accelsim
from accelsim.compiler import compile_with_plans
from accelsim.isa import Load, Memory, Store

sys.path.insert(0, str(Path(__file__).parent))

from networks import Draft

EDGE = accelsim.Accelerator.from_yaml(Path(__file__).parents[2] / "configs" / "edge_16x16.yaml")


@pytest.mark.parametrize("dataflow", ["weight_stationary", "output_stationary", "input_stationary"])
@pytest.mark.parametrize(
    ("stride", "dilation"), [((1, 1, 1), (1, 1, 1)), ((2, 1, 1), (1, 1, 1)), ((1, 1, 1), (2, 1, 2))]
)
def test_no_part_of_a_plane_is_loaded_twice_and_no_vector_waits_for_a_bank(
    dataflow: str, stride: tuple[int, int, int], dilation: tuple[int, int, int]
) -> None:
    """The scratchpad holds three quarters of the input; at both ends a plane of the taps is nothing but padding."""
    draft = Draft(np.random.default_rng(0))
    source = draft.input((1, 8, 16, 8, 8))
    last = draft.convolution(source, 16, 3, padding=dilation, stride=stride, dilation=dilation)
    network = draft.network(last)
    machine = EDGE.replace(**{"mac_array.dataflow": dataflow, "buffers.activation.bytes": 16 * 8 * 8 * 8 * 3 // 4})
    compilation = compile_with_plans(network, machine, effort=0)
    instructions = compilation.program.instructions
    loads = [item for item in instructions if isinstance(item, Load) and item.memory == Memory.ACTIVATION]
    assert len({item.dram for item in loads}) == len(loads) >= 16
    x = draft.data(2)
    result, expected = accelsim.simulate(compilation.program, x), network.trace(x)
    assert np.array_equal(result.outputs[0].quantized, expected[last])
    assert result.units["mac"].get("bank_conflict", 0) == 0


@pytest.mark.parametrize("seed", range(12))
def test_the_estimate_knows_what_is_loaded(seed: int) -> None:
    """Up to the lines that the last tile has less than the others, and planes of padding."""
    rng = np.random.default_rng(seed)
    draft = Draft(rng)
    channels, outputs = int(rng.integers(1, 20)), int(rng.integers(1, 40))
    source = draft.input((1, channels, int(rng.integers(3, 9)), 9, 9))
    kernel = int(rng.integers(2, 4)), 3, 3
    network = draft.network(draft.convolution(source, outputs, kernel, stride=(int(rng.integers(1, 3)), 1, 1)))
    machine = EDGE.replace(**{"buffers.activation.bytes": int(rng.integers(8, 64)) * 128})
    compilation = compile_with_plans(network, machine, effort=0)
    plan = compilation.plans[0][1]
    assert plan is not None
    moved = sum(item.bytes for item in compilation.program.instructions if isinstance(item, Load | Store))
    assert 0.98 < plan.dram / (moved + len(compilation.program.words())) < 1.2
