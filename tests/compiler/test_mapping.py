"""What the search for a tiling takes an instruction to cost is what the machine takes for it, cycle by cycle."""

from __future__ import annotations

import random
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import accelsim
from accelsim.compiler import compile_with_plans
from accelsim.compiler.plan.mapping import Banks, Mapping, mac_mapping, mappings
from accelsim.compiler.plan.shape import Shape
from accelsim.hardware import Accelerator
from accelsim.isa import Mac
from accelsim.machine.array.timing import mac_occupancy

sys.path.insert(0, str(Path(__file__).parent))

from networks import Draft, matrix_shape

EDGE = accelsim.Accelerator.from_yaml("edge_16x16")
DATAFLOWS = ["weight_stationary", "output_stationary", "input_stationary"]
SIZES = [(1, 1), (3, 7), (16, 16), (5, 20), (20, 3), (8, 32)]


def machine_of(rng: random.Random, dataflow: str, banks: int) -> Accelerator:
    """An array of any size; one of its memories has so many banks, the others any number."""
    memories = ["activation", "weight", "accumulator"]
    chosen = {memory: rng.randint(1, 64) for memory in memories} | {rng.choice(memories): banks}
    rows, columns = rng.choice(SIZES)
    return EDGE.replace(
        **{
            "mac_array.dataflow": dataflow,
            "mac_array.rows": rows,
            "mac_array.columns": columns,
            **{f"buffers.{memory}.banks": count for memory, count in chosen.items()},
        }
    )


def random_shape(rng: random.Random, machine: Accelerator) -> Shape:
    kernel, stride, dilation = rng.randint(1, 4), rng.randint(1, 3), rng.choice([1, 1, 1, 2, 3])
    groups = rng.choice([1, 1, 1, 2, 3, 8, 20])
    channels, outputs = groups * rng.randint(1, 40 // groups + 1), groups * rng.randint(1, 60 // groups + 1)
    lines, pixels = rng.randint(1, 9), rng.randint(1, 30)
    shape = matrix_shape(
        (lines, pixels, outputs), (99, 99, channels), kernel, stride=stride, dilation=dilation, groups=groups,
        array=machine.mac_array, banks=Banks.of(machine),
    )  # fmt: skip
    # Weights from a tensor lie one way or the other; no window is wider than a pixel then.
    return replace(shape, by_output=rng.choice([None, False, True])) if kernel == 1 else shape


def instruction(shape: Shape, mapping: Mapping, pitches: tuple[int, int]) -> Mac:
    """The instruction of such a layer with all its operands as the compiler lays them out."""
    unroll_pixels = mapping.unroll_pixels
    pixel, line = pitches
    kernel, stride = shape.kernel[2], shape.stride[2]
    weights = shape.weight_layout(shape.group_channels, shape.outputs, shape.groups, unroll_pixels)
    return Mac(
        activation=0, line_pitch=line, pixel_pitch=pixel, out_height=shape.out_lines, out_width=shape.out_pixels,
        kernel_height=shape.kernel[1], kernel_width=kernel, channels=shape.channels, height=999, width=999,
        stride_y=shape.stride[1], stride_x=stride, dilation_y=shape.dilation[1], dilation_x=shape.dilation[2],
        outputs=shape.outputs, groups=shape.groups, weight=0,
        weight_pitch_k=weights.pitch_k, weight_pitch_n=weights.pitch_n,
        accumulator=0, unroll_groups=mapping.unroll_groups, unroll_pixels=unroll_pixels,
        accumulator_gap=shape.accumulator_gap(shape.outputs, shape.groups, unroll_pixels, mapping.unroll_groups),
    )  # fmt: skip


def added(mac: Mac, machine: Accelerator) -> tuple[int, int]:
    """Cycles from the last vector of an instruction to that of the next one, each started as soon as the array takes
    it: of ones that read their weights, and of ones that need not."""
    found = []
    for one in (mac, replace(mac, same_weights=1)):
        works, start = [mac_occupancy(mac, machine)], 0
        issued = [works[0].issue]
        for _ in range(12):
            start += works[-1].free
            works.append(mac_occupancy(one, machine, works[-1].since(works[-1].free)))
            issued.append(start + works[-1].issue)
        found.append(issued[-1] - issued[-2])
    return found[0], found[1]


def check(seed: int, dataflow: str, banks: int) -> None:
    rng = random.Random(f"{dataflow}-{banks}-{seed}")
    machine = machine_of(rng, dataflow, banks)
    shape = random_shape(rng, machine)
    lies = None if rng.random() < 0.5 else (rng.randint(0, 200), rng.randint(1, 99))
    work = shape.work(shape.out_lines, shape.out_pixels, shape.group_channels, shape.outputs, shape.groups, lies)
    for mapping in mappings(machine, work):
        pitches = (
            lies[::-1]
            if lies is not None
            else shape.pitches(shape.channels, 99, shape.group_channels, mapping.unroll_pixels, mapping.unroll_groups)
        )
        mac = instruction(shape, mapping, pitches)
        assert (mapping.cycles, mapping.again) == added(mac, machine), (machine, work, mapping)


@pytest.mark.parametrize("dataflow", DATAFLOWS)
@pytest.mark.parametrize("banks", range(1, 65))
def test_the_estimate_is_what_the_machine_adds(dataflow: str, banks: int) -> None:
    """Any array, any dilation, groups and unrolling; memories of every number of banks up to 64."""
    for seed in range(3):
        check(seed, dataflow, banks)


@pytest.mark.full
@pytest.mark.parametrize("dataflow", DATAFLOWS)
@pytest.mark.parametrize("banks", range(1, 65))
def test_many_estimates_are_what_the_machine_adds(dataflow: str, banks: int) -> None:
    for seed in range(100, 200):
        check(seed, dataflow, banks)


@pytest.mark.parametrize("dataflow", DATAFLOWS)
def test_no_way_to_unroll_that_was_left_out_is_faster(dataflow: str) -> None:
    """The search leaves out what cannot be faster; here every way is timed."""
    for seed in range(60):
        rng = random.Random(seed)
        machine = machine_of(rng, dataflow, rng.randint(1, 64))
        shape = random_shape(rng, machine)
        shape = replace(shape, window=replace(shape.window, dilation=(1, 1, 1)))
        work = shape.work(shape.out_lines, shape.out_pixels, shape.group_channels, shape.outputs, shape.groups, None)
        best = min(mapping.cycles for mapping in mappings(machine, work))
        if work.stride <= work.kernel[1]:
            most = min(work.pixels, machine.mac_array.columns * work.groups // work.outputs)
            every = [mac_mapping(machine.mac_array, Banks.of(machine), work, n).cycles for n in range(1, most + 1)]
            assert best == min(every, default=best)


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
