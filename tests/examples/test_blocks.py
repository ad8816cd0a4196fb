"""Blocks of today's networks through PT2E: on machines large and small, nothing unexplained beside PyTorch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import accelsim
from examples.blocks import BLOCKS, quantized

ROOT = Path(__file__).parents[2]

#: A tiny array and buffers, three lanes.
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


@pytest.mark.filterwarnings("ignore")
def test_sums_that_saturate_on_another_processor_are_explained() -> None:
    """oneDNN's kernels for AVX2 without VNNI add pairs of products in int16; a sum in binary32 shows it, too."""
    pytest.importorskip("torchao")
    code = (
        "import accelsim; from examples.blocks import quantized\n"
        "model, x = quantized('mobilenet v3, hardswish')\n"
        "found = accelsim.verify(model, x, accelsim.Accelerator.from_yaml('edge_16x16'), effort=0)\n"
        "kernels = accelsim.extract(model, x).kernels.matrix\n"
        "saturated = any('int16 saturation' in row.cause for _, row in found.rows)\n"
        "print('RESULT', found.mismatches, kernels, saturated)\n"
    )
    environment = {**os.environ, "ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment, cwd=ROOT
    )
    assert run.returncode == 0, run.stderr
    (line,) = [line for line in run.stdout.splitlines() if line.startswith("RESULT")]
    _, mismatches, kernels, saturated = line.split()
    assert mismatches == "0"
    if kernels == "avx2":  # an x86 processor, which has AVX2
        assert saturated == "True"
