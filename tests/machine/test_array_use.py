"""Busy cycles of the array split into cells that work and cells that are empty, against every cell of every vector."""

from __future__ import annotations

import random

import pytest

from accelsim.isa import Mac
from accelsim.machine.array.timing import DATAFLOWS
from accelsim.machine.array.use import ArrayUse, array_use

from . import array_loops
from .test_array_timing import accelerator_of, random_mac, random_machine


def shapes(machine: array_loops.Machine, mac: Mac) -> list[tuple[bool, int, int, int]]:
    """Each phase of the witness: whether it opens a fold, its vectors, the rows and the columns that it uses."""
    phases = array_loops.PHASES[machine.dataflow](array_loops.Addresses(mac, machine), 0)
    found, columns = [], 0
    for phase in reversed(phases):
        vectors, last = phase.vectors, phase.vectors[-1]
        if machine.dataflow == "weight_stationary":
            assert last.access is not None
            assert last.write is not None
            found.append((True, len(vectors), len(last.access.lanes), len(last.write.addresses)))
        elif machine.dataflow == "output_stationary":
            columns = len(last.tokens[0].addresses) if last.tokens else columns
            found.append((vectors[0].clear, len(vectors), len(phase.preload), columns))
        else:
            found.append((True, len(vectors), len(phase.preload[0].lanes), len(phase.preload)))
    return found


@pytest.mark.parametrize("dataflow", DATAFLOWS)
def test_folds_rows_and_columns_are_those_of_the_clocked_array(dataflow: str) -> None:
    for seed in range(150):
        rng = random.Random(f"use {dataflow} {seed}")
        machine = random_machine(rng, dataflow)
        mac = random_mac(rng, machine, 0, 0, 0)
        use, seen = array_use([mac], accelerator_of(machine)), shapes(machine, mac)
        what = f"seed {seed}: {machine} {mac}"
        assert use.folds == sum(opens for opens, _, _, _ in seen), what
        assert use.vectors == sum(vectors for _, vectors, _, _ in seen), what
        assert use.rows_used == sum(vectors * rows for _, vectors, rows, _ in seen), what
        assert use.columns_used == sum(vectors * columns for _, vectors, _, columns in seen), what
        # Every cell of every vector is counted once.
        occupied = sum(vectors * rows * columns for _, vectors, rows, columns in seen)
        rows = sum(vectors * rows for _, vectors, rows, _ in seen)
        assert use.empty_rows == use.vectors * machine.rows * machine.columns - rows * machine.columns, what
        assert use.empty_columns == rows * machine.columns - occupied, what
        assert use.working == mac.pixels * mac.taps * mac.channels // mac.groups * mac.outputs, what
        assert use.empty_between == occupied - use.working >= 0, what


def depthwise(pixels: int, channels: int, unroll_pixels: int, unroll_groups: int) -> Mac:
    """A 3 x 3 depthwise convolution of one line of so many outputs, on what is padded above and below."""
    return Mac(
        activation=0,
        line_pitch=(pixels + 2) * channels,
        pixel_pitch=channels,
        out_width=pixels,
        kernel_height=3,
        kernel_width=3,
        channels=channels,
        height=3,
        width=pixels + 2,
        outputs=channels,
        weight=0,
        weight_pitch_k=channels,
        accumulator=0,
        groups=channels,
        unroll_pixels=unroll_pixels,
        unroll_groups=unroll_groups,
    )


def test_a_depthwise_layer_by_hand() -> None:
    """32 x 32 cells, 56 pixels, 32 groups of 9 terms and one output each.

    One group and one pixel at a time: 32 folds of 56 vectors on 9 rows and 1 column; 23 rows are empty, and 31 of 32
    columns of the other 9. Three groups share the array: 27 rows and 3 columns, of whose 81 cells 27 work; the eleventh
    fold has the two groups that are left (18 rows, 2 columns)."""
    rng = random.Random(0)
    machine = random_machine(rng, "weight_stationary")
    machine = array_loops.Machine(32, 32, "weight_stationary", 64, 64, 64, machine.rows_per_stage, 1)
    alone = array_use([depthwise(56, 32, 1, 1)], accelerator_of(machine))
    vectors = 32 * 56
    assert alone == ArrayUse(
        folds=32,
        vectors=vectors,
        rows_used=9 * vectors,
        columns_used=vectors,
        working=9 * vectors,
        empty_rows=23 * 32 * vectors,
        empty_columns=9 * 31 * vectors,
        empty_between=0,
        unroll_pixels=1,
        unroll_groups=1,
    )
    assert (alone.rows, alone.columns, alone.vectors_per_fold) == (9, 1, 56)
    shared = array_use([depthwise(56, 32, 1, 3)], accelerator_of(machine))
    assert (shared.folds, shared.vectors) == (11, 11 * 56)
    assert shared.rows_used == 56 * (10 * 27 + 18)
    assert shared.columns_used == 56 * (10 * 3 + 2)
    assert shared.working == 9 * vectors
    assert shared.empty_between == 56 * (10 * (81 - 27) + 36 - 18)
    # 56 pixels as 4 vectors of 14: 3 lines of 16 inputs are 48 terms (two chunks of 32 and 16 rows), 14 columns.
    unrolled = array_use([depthwise(56, 32, 14, 1)], accelerator_of(machine))
    assert (unrolled.folds, unrolled.vectors) == (64, 64 * 4)
    assert (unrolled.rows, unrolled.columns) == (24, 14)
    assert unrolled.empty_between == 4 * 32 * 48 * 14 - 9 * vectors


def test_no_vectors_are_no_rows_of_a_vector() -> None:
    nothing = array_use([], accelerator_of(array_loops.Machine(4, 4, "weight_stationary", 16, 16, 16, 1, 1)))
    assert nothing == ArrayUse()
    assert (nothing.rows, nothing.columns, nothing.vectors_per_fold, nothing.empty) == (0, 0, 0, 0)
