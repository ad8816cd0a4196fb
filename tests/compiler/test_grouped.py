"""Grouped convolutions: pixels unrolled on the array, and tensors laid out so that no vector asks a bank for two."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import numpy as np
import pytest

import accelsim
from accelsim.compiler import Compilation, compile_with_plans
from accelsim.compiler.plan.layout import Layout
from accelsim.compiler.plan.mapping import Banks, Work, mac_mapping, mappings
from accelsim.isa import Mac
from accelsim.machine.array.timing import mac_occupancy

sys.path.insert(0, str(Path(__file__).parent))

from networks import Draft

EDGE = accelsim.Accelerator.from_yaml(Path(__file__).parents[2] / "configs" / "edge_16x16.yaml")


def machine(dataflow: str, rows: int = 16, columns: int = 16) -> accelsim.Accelerator:
    changes = {"mac_array.rows": rows, "mac_array.columns": columns, "mac_array.dataflow": dataflow}
    return EDGE.replace(**changes)


def layer(channels: int, size: int, stride: int = 1) -> accelsim.Network:
    """One depthwise 3x3 convolution."""
    draft = Draft(np.random.default_rng(0))
    source = draft.input((1, channels, size, size))
    return draft.network(draft.convolution(source, channels, 3, stride=stride, padding=1, groups=channels))


@pytest.mark.parametrize("dataflow", ["weight_stationary", "output_stationary", "input_stationary"])
@pytest.mark.parametrize(("channels", "size"), [(32, 56), (24, 28), (64, 14)])
def test_depthwise_takes_a_third_of_one_group_a_fold(dataflow: str, channels: int, size: int) -> None:
    """The whole run, loads and stores included, against the vectors alone of folds that hold one group: each of
    3 x 3 rows and a column, one for every output. (Output and input stationary, a fold of 16 pixels of one group takes
    16 cycles to fill.)"""
    result = accelsim.simulate(accelsim.compile(layer(channels, size), machine(dataflow), effort=0))
    assert 3 * result.cycles <= channels * size * size
    assert result.units["mac"].get("bank_conflict", 0) == 0


def chained(channels: int, height: int, width: int) -> tuple[Draft, accelsim.Network]:
    """A depthwise convolution between two others, whose input can stay on the chip."""
    draft = Draft(np.random.default_rng(1))
    name = draft.convolution(draft.input((1, 8, height, width)), channels, 1)
    name = draft.convolution(name, channels, 3, padding=1, groups=channels)
    return draft, draft.network(draft.convolution(name, 8, 1))


def test_a_resident_input_of_unroll_pixels_meets_no_conflicts(tmp_path: Path) -> None:
    draft, network = chained(48, 28, 28)
    compilation = compile_with_plans(network, machine("weight_stationary"), effort=0)
    (layout,) = compilation.placement.layouts.values()
    # 14 pixels unrolled of one group: 16 neighbouring pixels must lie in the 16 banks, line after line.
    assert compilation.plans[1][1] is not None
    assert (compilation.plans[1][1].unroll_pixels, compilation.plans[1][1].unroll_groups) == (14, 1)
    assert (layout.pixel_pitch % 16, layout.line_pitch % 16) == (1, 0)
    x = draft.data(2)
    result = accelsim.simulate(compilation.program, x)
    depthwise = result.layers[1]
    assert depthwise.stalls.get("bank_conflict", 0) == 0
    assert 4 * depthwise.cycles <= 48 * 28 * 28
    expected = network.trace(x)
    assert set(result.values) == set(expected) - {"x0"}  # what has gaps can be looked at all the same
    assert all(np.array_equal(value.quantized, expected[name]) for name, value in result.values.items())
    # The gaps survive the program's file and its text.
    compilation.program.save(tmp_path / "net.bin")
    assert accelsim.Program.load(tmp_path / "net.bin") == compilation.program
    assert accelsim.assemble(compilation.program.assembly()).probes == compilation.program.probes


def test_a_layout_moves_every_byte_to_a_place_of_its_own() -> None:
    layout = Layout(pixels=5, channels=3, pixel_pitch=4, line_pitch=23)
    places = [layout.place(offset) for offset in range(5 * 3 * 7)]
    expected = [
        line * 23 + pixel * 4 + channel for line, pixel, channel in itertools.product(range(7), range(5), range(3))
    ]
    assert places == expected
    # (lines, every second pixel, channels) from line 1, pixel 1 on.
    assert layout.pitches((3, 2, 3), (15, 6, 1), 15 + 3) == (23, 8, 1)
    # Pixels that run on into the next line, channels into the next pixel: no pitch says that.
    assert layout.pitches((10, 3), (3, 1)) is None
    assert layout.pitches((7, 3), (15, 1), 1) is None


@pytest.mark.parametrize("seed", range(40))
def test_the_estimate_is_what_the_array_takes(seed: int) -> None:
    """The search compares mappings by an estimate; the machine, given instructions laid out as the estimate assumes,
    takes about that: the estimate has no fill between folds."""
    rng = np.random.default_rng(seed)
    dataflow = str(rng.choice(["weight_stationary", "output_stationary", "input_stationary"]))
    accelerator = machine(dataflow, int(rng.integers(1, 17)), int(rng.integers(1, 17)))
    kernel, stride = int(rng.integers(1, 6)), int(rng.integers(1, 3))
    pixels, lines, groups = int(rng.integers(1, 40)), int(rng.integers(1, 20)), int(rng.integers(1, 20))
    stride = min(stride, kernel)
    pitches, banks = (64, 3), accelerator.buffers.accumulator.banks
    work = Work(lines, pixels, (kernel, kernel), stride, (1, 1), 1, groups, groups, pitches)
    for unroll_pixels in range(1, min(pixels, accelerator.mac_array.columns) + 1):
        mapping = mac_mapping(accelerator.mac_array, Banks.of(accelerator), work, unroll_pixels)
        gap = (mapping.unroll_groups - groups) % banks if unroll_pixels > 1 and groups > mapping.unroll_groups else 0
        mac = Mac(
            activation=0, line_pitch=64, pixel_pitch=3, out_height=lines, out_width=pixels, kernel_height=kernel,
            kernel_width=kernel, channels=groups, height=200, width=200, stride_x=stride, outputs=groups, groups=groups,
            weight=0, weight_pitch_k=1, weight_pitch_n=kernel * kernel, accumulator=0, accumulator_gap=gap,
            unroll_groups=mapping.unroll_groups, unroll_pixels=unroll_pixels,
        )  # fmt: skip
        taken = mac_occupancy(mac, accelerator).cycles
        assert 0.85 * mapping.cycles - 48 <= taken <= 1.15 * mapping.cycles + 48
    assert (
        mappings(accelerator, work)[-1].cycles
        <= mac_mapping(accelerator.mac_array, Banks.of(accelerator), work, 1).cycles
    )


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (3, 7), (5, 1), (7, 3), (16, 16)])
@pytest.mark.parametrize("dataflow", ["weight_stationary", "output_stationary", "input_stationary"])
def test_grouped_layers_give_the_same_codes_on_every_array(rows: int, columns: int, dataflow: str) -> None:
    """Kernels, strides, group sizes and lines that fit no array evenly; several images."""
    rng = np.random.default_rng(rows + columns)
    for groups, each_in, each_out, kernel, stride in (
        (6, 1, 1, 3, 1),
        (5, 1, 2, 5, 2),
        (3, 2, 1, (1, 7), 1),
        (1, 2, 2, 3, 1),
    ):
        draft = Draft(rng)
        name = draft.convolution(draft.input((2, 4, 9, 11)), groups * each_in, 1)
        name = draft.convolution(name, groups * each_out, kernel, stride=stride, padding=1, groups=groups)
        network = draft.network(draft.convolution(name, 3, 1))
        compilation: Compilation = compile_with_plans(network, machine(dataflow, rows, columns), effort=0)
        x = draft.data(2)
        result = accelsim.simulate(compilation.program, x)
        expected = network.trace(x)
        for name, value in result.values.items():
            assert np.array_equal(value.quantized, expected[name]), (groups, name)
