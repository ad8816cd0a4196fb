"""Gaps between the lines of tensors that a convolution and other operations share."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
import pytest

import accelsim
from accelsim.compiler import compile_with_plans, pipeline
from accelsim.compiler.operations import Elementwise, Matrix, Run
from accelsim.compiler.plan import layout
from accelsim.compiler.plan.layout import Layout
from accelsim.errors import CompileError

sys.path.insert(0, str(Path(__file__).parent))

from networks import Draft, matrix_shape
from test_random_networks import random_machine, random_network

EDGE = accelsim.Accelerator.from_yaml(Path(__file__).parents[2] / "configs" / "edge_16x16.yaml")
SIDE = 16


def residual() -> tuple[Draft, accelsim.Network, tuple[str, str, str]]:
    """Two convolutions over 3 x 3 taps of twelve channels and a sum, between two that have one tap."""
    draft = Draft(np.random.default_rng(5))
    first = draft.convolution(draft.input((1, 8, SIDE, SIDE)), 12, 1)
    second = draft.convolution(first, 12, 3, padding=1)
    total = draft.add(second, first)
    last = draft.convolution(total, 12, 3, padding=1)
    return draft, draft.network(draft.convolution(last, 8, 1)), (first, second, total)


def every_value_is_right(draft: Draft, network: accelsim.Network, program: accelsim.Program) -> accelsim.Result:
    x = draft.data(2)
    result = accelsim.simulate(program, x)
    expected = network.trace(x)
    assert {node.name for node in network.nodes} == set(result.values)
    for name, value in result.values.items():
        np.testing.assert_array_equal(value.quantized, expected[name])
    timed = accelsim.simulate(program)
    assert (timed.cycles, timed.traffic) == (result.cycles, result.traffic)
    return result


def test_lines_start_where_a_vector_meets_no_bank_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand: a line has 16 x 12 = 192 bytes, each line starts in bank 0 of 16. The 108 indices of the sum, 36 a line
    of taps, come in chunks of 16. The third has bytes 32..35 of a line of taps and 0..11 of the next, the fifth 28..35
    and 0..7, so both take two cycles, be it that the bytes are padding. With 196 bytes from line to line the banks of
    the next line of taps follow on."""
    draft, network, (first, second, total) = residual()
    compilation = compile_with_plans(network, EDGE, effort=0)
    layouts = compilation.placement.layouts
    assert {name: (layout.pixel_pitch, layout.line_pitch) for name, layout in layouts.items()} == {
        first: (12, 196),
        total: (12, 196),
    }
    assert second in compilation.placement.addresses
    assert every_value_is_right(draft, network, compilation.program).units["mac"].get("bank_conflict", 0) == 0
    monkeypatch.setattr(pipeline, "layouts", lambda lowered, accelerator: {})
    dense = every_value_is_right(draft, network, compile_with_plans(network, EDGE, effort=0).program)
    convolutions, chunks = 2, 2
    assert dense.units["mac"]["bank_conflict"] == convolutions * chunks * SIDE * SIDE


@pytest.mark.parametrize("dataflow", ["weight_stationary", "output_stationary", "input_stationary"])
def test_vectors_of_a_part_of_the_channels_meet_no_conflicts(dataflow: str) -> None:
    """The weight buffer holds a part of the sum, so that a vector takes a few channels of several taps."""
    draft = Draft(np.random.default_rng(0))
    network = draft.network(draft.convolution(draft.input((1, 24, 12, 12)), 16, 3, padding=1))
    machine = EDGE.replace(**{"mac_array.dataflow": dataflow, "buffers.weight.bytes": 1024})
    compilation = compile_with_plans(network, machine, effort=0)
    plan = compilation.plans[0][1]
    assert plan is not None
    assert plan.channels < 24
    units = every_value_is_right(draft, network, compilation.program).units
    assert units["mac"].get("bank_conflict", 0) == 0


@pytest.mark.parametrize("seed", range(300))
def test_a_tile_s_pitches_keep_each_vector_in_banks_of_its_own(seed: int) -> None:
    """Byte by byte: the terms of the sum in order, as many at a time as the array has rows. Where taps lie apart, every
    pitch there is takes as many cycles or more."""
    rng = np.random.default_rng(seed)
    kernel, held = (int(rng.integers(1, 5)), int(rng.integers(1, 5))), int(rng.integers(1, 40))
    dilation = (1, 1) if seed < 150 else (int(rng.integers(1, 5)), int(rng.integers(1, 5)))
    channels, rows = int(rng.integers(1, held + 1)), int(rng.integers(1, 20))
    banks = int(rng.choice([1, 3, 4, 16, 64] if seed < 150 else [1, 3, 4, 12, 16]))
    pixels = kernel[1] + int(rng.integers(0, 9))
    array = EDGE.mac_array.model_copy(update={"rows": rows})
    shape = matrix_shape((8, 8, 8), (8, 8, held), kernel, dilation=dilation, array=array, banks=(banks, 16, 16))
    pixel, line = shape.pitches(held, pixels, channels, 1, 1)
    assert held <= pixel < held + banks
    assert pixels * pixel <= line < pixels * pixel + banks
    terms = [
        (y * dilation[0], x * dilation[1], channel)
        for y in range(kernel[0])
        for x in range(kernel[1])
        for channel in range(channels)
    ]
    vectors = [terms[start : start + rows] for start in range(0, len(terms), rows)]

    def cycles(line: int, pixel: int) -> int:
        places = ([(y * line + x * pixel + channel) % banks for y, x, channel in vector] for vector in vectors)
        return sum(max(Counter(of_a_vector).values()) for of_a_vector in places)

    least = sum(-(-len(vector) // banks) for vector in vectors)
    if cycles(line, pixel) > least:
        assert max(dilation) > 1
        assert cycles(line, pixel) == min(cycles(*pitches) for pitches in product(range(banks), repeat=2))


@pytest.mark.parametrize("dataflow", ["weight_stationary", "output_stationary", "input_stationary"])
def test_vectors_of_taps_that_lie_apart_meet_no_conflicts(dataflow: str) -> None:
    """Every second pixel of 8 or 24 channels: a pitch of the pixels of half the channels, modulo the banks."""
    draft = Draft(np.random.default_rng(0))
    first = draft.convolution(draft.input((1, 8, 12, 12)), 24, 3, padding=2, dilation=2)
    network = draft.network(draft.convolution(first, 16, 3, padding=2, dilation=2))
    compilation = compile_with_plans(network, EDGE.replace(**{"mac_array.dataflow": dataflow}), effort=0)
    units = every_value_is_right(draft, network, compilation.program).units
    assert units["mac"].get("bank_conflict", 0) == 0


@pytest.mark.parametrize("engine", ["fbgemm", "qnnpack", "onednn"])
@pytest.mark.parametrize("kind", ["add", "multiply", "lookup", "max_pool", "twice"])
@pytest.mark.parametrize(("channels", "height", "width"), [(6, 10, 9), (4, 8, 11), (6, 3, 6), (3, 7, 13)])
def test_every_operation_keeps_to_the_lines(engine: str, kind: str, channels: int, height: int, width: int) -> None:
    draft = Draft(np.random.default_rng(channels * width), engine)
    source = draft.input((2, 3, height, width))
    first = draft.convolution(source, channels, 1)
    match kind:
        case "add":
            second = draft.add(draft.convolution(first, channels, 3, padding=1), first)
        case "multiply":
            second = draft.multiply(draft.convolution(first, channels, 3, padding=1), first)
        case "lookup":
            second = draft.lookup(first)
        case "max_pool":
            second = draft.max_pool(first, 3, 1, 1)
        case _:
            second = draft.add(first, first)
    third = draft.convolution(second, 5, 3, padding=1)
    network = draft.network(draft.add(third, third))
    compilation = compile_with_plans(network, EDGE, effort=0)
    every_value_is_right(draft, network, compilation.program)
    assert second in compilation.placement.layouts


def check_random_gaps(seed: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """A random network whose convolutions all want gaps of some bytes; how many tensors have them."""
    rng = np.random.default_rng(seed)
    draft, network = random_network(rng)
    machine = random_machine(rng)
    gap, between = int(rng.integers(0, 20)), int(rng.choice([0, 1, 3, 16]))

    def wanted(operation: Matrix, accelerator: accelsim.Accelerator, works: Sequence[Elementwise]) -> Layout:
        *_, pixels, channels = operation.source.sizes
        return Layout(pixels, channels, channels + between, pixels * (channels + between) + gap)

    monkeypatch.setattr(layout, "_layout", wanted)
    try:
        compilation = compile_with_plans(network, machine, effort=0)
    except CompileError:
        return 0
    x = draft.data(2)
    expected = network.trace(x)
    for name, value in accelsim.simulate(compilation.program, x).values.items():
        np.testing.assert_array_equal(value.quantized, expected[name])
    return len(compilation.placement.layouts)


def test_random_networks_with_random_gaps(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sum(check_random_gaps(seed, monkeypatch) for seed in range(30)) >= 10


@pytest.mark.full
@pytest.mark.parametrize("start", range(1000, 2000, 50))
def test_many_random_networks_with_random_gaps(start: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(start, start + 50):
        check_random_gaps(seed, monkeypatch)


RUNS = [Run(0, 40), Run(3, 4), Run(3, 5), Run(7, 30), Run(8, 8), Run(2, 13, 3, 20)]


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("pitches", [(2, 9), (3, 12), (3, 14), (2, 8)], ids=str)
def test_rows_are_where_their_first_element_and_their_pitch_say(run: Run, pitches: tuple[int, int]) -> None:
    layout = Layout(pixels=4, channels=2, pixel_pitch=pitches[0], line_pitch=pitches[1])
    elements = [run.start + row * run.pitch + i for row in range(run.lines) for i in range(run.length)]
    rows = list(layout.rows(run))
    found = [
        part.start + row * part.pitch + i for part in rows for row in range(part.lines) for i in range(part.length)
    ]
    assert sorted(found) == sorted(elements)
    for part in rows:
        pitch = layout.place(part.pitch)
        for row, i in product(range(part.lines), range(part.length)):
            address = layout.place(part.start) + row * pitch + i
            assert address == layout.place(part.start + row * part.pitch + i)
