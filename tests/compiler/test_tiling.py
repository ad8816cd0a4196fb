"""The search for a tiling: what it leaves out would not have been taken."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import pytest

import accelsim
from accelsim.compiler.plan import tiling
from accelsim.compiler.plan.cost import planned
from accelsim.compiler.plan.mapping import mappings
from accelsim.compiler.plan.matrix import Allocation, Epilogue, MatrixPlan
from accelsim.compiler.plan.shape import Shape

sys.path.insert(0, str(Path(__file__).parent))

from networks import matrix_shape

EDGE = accelsim.Accelerator.from_yaml(Path(__file__).parents[2] / "configs" / "edge_16x16.yaml").replace(
    **{"mac_array.dataflow": "weight_stationary", "buffers.weight.bytes": 9216, "buffers.accumulator.bytes": 8192}
)
SUM = Epilogue(streamed_in=1, streamed_out=1, in_place=True, operands=2, by_block=True, dense=True)


def shape(side: int, channels: int, outputs: int, kernel: int, groups: int = 1) -> Shape:
    memories = EDGE.buffers
    banks = memories.activation.banks, memories.weight.banks, memories.accumulator.banks
    return matrix_shape(
        (side, side, outputs), (side, side, channels), kernel, groups=groups, array=EDGE.mac_array, banks=banks
    )


def every_plan(cut: Shape, room: Allocation, effort: int) -> list[MatrixPlan]:
    """All sizes that the search knows, in every order, each with its estimate."""
    found: list[MatrixPlan | None] = []
    for outputs, groups in tiling._output_tiles(cut, EDGE, effort):
        for channels in tiling._channel_parts(cut, EDGE, groups, effort):
            words = EDGE.buffers.accumulator.words // outputs
            for images, lines, pixels in tiling._position_tiles(cut, words, effort):
                work = cut.work(images * lines, pixels, channels, outputs, groups, room.pitches)
                tile, block = (images, lines, pixels), (outputs, groups, channels)
                # Without an operation that works on the tiles, results that can be gathered are.
                gathers = (False, True) if room.epilogue else (True,)
                found += [
                    planned(
                        cut, EDGE, room, tile, block, mapping, outer, interleaved=step, whole_input=whole, gather=gather
                    )
                    for mapping in mappings(EDGE, work)
                    for outer, step, whole, gather in itertools.product(
                        (False, True), (False, True), (False, True), gathers
                    )
                ]
    return [plan for plan in found if plan is not None]


@pytest.mark.parametrize("staging", [3000, 9000, 60000])
@pytest.mark.parametrize("epilogue", [None, SUM])
@pytest.mark.parametrize("cut", [shape(14, 48, 96, 1), shape(9, 40, 64, 3), shape(12, 32, 32, 3, groups=32)])
def test_no_plan_that_was_left_out_would_have_been_taken(cut: Shape, epilogue: Epilogue | None, staging: int) -> None:
    room = Allocation(staging, source_resident=False, target_resident=False, epilogue=epilogue)
    plans = every_plan(cut, room, 1)
    fastest = min(plan.cost for plan in plans)
    taken = tiling.best(cut, EDGE, room, 1)
    assert taken is not None
    close = [plan for plan in plans if plan.cost <= 1.02 * fastest]
    assert taken.cost <= 1.02 * fastest
    assert taken.cost**2 * taken.dram == min(plan.cost**2 * plan.dram for plan in close)


def test_sizes_that_are_tried_divide_powers_of_two_and_three_times_those() -> None:
    assert list(tiling._halves(512, 8, 1)) == [512, 256, 176, 128, 88, 64, 48, 32, 24, 16, 8]
    assert list(tiling._halves(96, 16, 1)) == [96, 48, 32, 16]
