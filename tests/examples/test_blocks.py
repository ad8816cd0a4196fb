"""Blocks of today's networks through PT2E: on machines large and small, nothing unexplained beside PyTorch."""

from __future__ import annotations

import numpy as np
import pytest

import accelsim
from examples.blocks import BLOCKS, quantized

#: A tiny array and buffers, one lane.
SMALL = {
    "mac_array.rows": 3,
    "mac_array.columns": 7,
    "buffers.activation.bytes": 8000,
    "vector_unit.lanes": 3,
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", BLOCKS)
def test_a_block_is_pytorchs(name: str) -> None:
    pytest.importorskip("torchao")
    model, x = quantized(name)
    machine = accelsim.Accelerator.from_yaml("edge_16x16")
    verification = accelsim.verify(model, x, machine, effort=0)
    assert verification.mismatches == 0, verification
    network = accelsim.extract(model, x)
    expected = network.run(x)
    for other in (machine, machine.replace(**SMALL)):
        program = accelsim.compile(network, other, effort=0)
        result = accelsim.simulate(program, x.numpy())
        assert accelsim.simulate(program).cycles == result.cycles
        for made, wanted in zip(result.outputs, expected, strict=True):
            assert made.quantized.tobytes() == wanted.quantized.tobytes()
    # The graph itself, whose layers sum in float, is close.
    np.testing.assert_allclose(expected[0].dequantize(), model(x).detach().numpy(), atol=0.05)
