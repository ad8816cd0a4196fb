"""What the search for a tiling takes an instruction to cost, beside the machine's own count."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

import accelsim
from accelsim.compiler import compile_with_plans
from accelsim.compiler.plan.mapping import Banks, mac_mapping
from accelsim.compiler.plan.shape import Shape
from accelsim.hardware.folds import weights_by_output
from accelsim.isa import Mac
from accelsim.machine.array.timing import mac_occupancy

sys.path.insert(0, str(Path(__file__).parent))

from networks import Draft

EDGE = accelsim.Accelerator.from_yaml(Path(__file__).parents[2] / "configs" / "edge_16x16.yaml")
DATAFLOWS = ["weight_stationary", "output_stationary", "input_stationary"]


@pytest.mark.parametrize("dataflow", DATAFLOWS)
@pytest.mark.parametrize("seed", range(60))
def test_the_estimate_knows_how_many_banks_there_are(dataflow: str, seed: int) -> None:
    """One group, any dilation, memories narrower than the array: what is read lies as the compiler would have it."""
    rng = np.random.default_rng(seed)
    machine = EDGE.replace(
        **{
            "mac_array.dataflow": dataflow,
            "mac_array.rows": int(rng.integers(1, 21)),
            "mac_array.columns": int(rng.integers(1, 21)),
            **{
                f"buffers.{memory}.banks": int(rng.choice([4, 8, 16]))
                for memory in ("activation", "weight", "accumulator")
            },
        }
    )
    kernel, stride, dilation = (int(rng.integers(1, most)) for most in (5, 3, 4))
    channels, outputs = int(rng.integers(1, 40)), int(rng.integers(1, 60))
    lines, pixels = int(rng.integers(1, 12)), int(rng.integers(1, 30))
    sizes = 1, 1, lines, pixels, outputs, 1, 99, 99, channels, 1
    window = (1, kernel, kernel), (1, stride, stride), (1, dilation, dilation)
    banks = Banks.of(machine)
    shape = Shape(*sizes, *window, 3, machine.mac_array, *banks)
    work = shape.work(lines, pixels, channels, outputs, 1, None)
    abreast_fits = dilation == 1 and stride <= kernel and 2 * outputs <= machine.mac_array.columns and pixels > 1
    for unroll_pixels in (1, 2) if abreast_fits else (1,):
        pixel, line = shape.pitches(channels, 99, channels, unroll_pixels, 1)
        by_output = weights_by_output(machine.mac_array, unroll_pixels, kernel, stride)
        mac = Mac(
            activation=0, line_pitch=line, pixel_pitch=pixel, out_height=lines, out_width=pixels, kernel_height=kernel,
            kernel_width=kernel, channels=channels, height=99, width=99, stride_y=stride, stride_x=stride,
            dilation_y=dilation, dilation_x=dilation, outputs=outputs, weight=0,
            weight_pitch_k=1 if by_output else outputs,
            weight_pitch_n=shape.weight_pitch(channels, outputs, unroll_pixels) if by_output else 1,
            accumulator=0, unroll_pixels=unroll_pixels,
        )  # fmt: skip
        occupancy = mac_occupancy(mac, machine)
        estimated = mac_mapping(machine.mac_array, banks, work, unroll_pixels).cycles
        # The estimate is of one that follows another, which may begin while this one drains.
        alone, between = occupancy.cycles, occupancy.cycles - occupancy.lead - occupancy.drain
        assert between - 48 <= 1.1 * estimated, (machine.mac_array, banks, work, unroll_pixels)
        assert 0.9 * estimated <= alone + 48, (machine.mac_array, banks, work, unroll_pixels)


def test_outputs_whose_weights_share_a_bank_are_not_read_one_after_the_other() -> None:
    """One tap, eight channels, pixels unrolled: the weights of the five outputs lie 8 apart where they lie by outputs,
    and the buffer has 8 banks."""
    draft = Draft(np.random.default_rng(0))
    network = draft.network(draft.convolution(draft.input((1, 8, 16, 16)), 5, 1))
    changes = {"mac_array.dataflow": "output_stationary", "mac_array.rows": 3, "mac_array.columns": 20}
    machine = EDGE.replace(**changes, **{f"buffers.{memory}.banks": 8 for memory in ("activation", "weight")})
    compilation = compile_with_plans(network, machine, effort=0)
    plan = compilation.plans[0][1]
    assert plan is not None
    assert plan.unroll_pixels > 1
    x = draft.data(2)
    result = accelsim.simulate(compilation.program, x)
    assert result.units["mac"].get("bank_conflict", 0) == 0
    assert np.array_equal(result.outputs[0].quantized, network.trace(x)[network.outputs[0]])
