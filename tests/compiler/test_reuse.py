"""Which macs take the weights of the one before, and what that saves."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import accelsim
from accelsim.compiler.plan.mapping import Banks, Work, mac_mapping
from accelsim.compiler.schedule.reuse import reuse
from accelsim.isa import Instruction, Load, Mac, Memory, Requantize
from accelsim.machine.array.timing import mac_occupancy

sys.path.insert(0, str(Path(__file__).parent))

from networks import Draft

EDGE = accelsim.Accelerator.from_yaml(Path(__file__).parents[2] / "configs" / "edge_16x16.yaml")

MAC = Mac(activation=0, channels=4, outputs=4, weight=64, weight_pitch_k=4, accumulator=0)
NEXT = replace(MAC, activation=4, accumulator=4)
REQUANTIZE = Requantize(
    accumulator=0, out=64, channels=4, parameters=0, steps=0, zero_point=0, minimum=0, maximum=255, pixel_pitch=4
)


def marked(*instructions: Instruction) -> list[int]:
    result = reuse(instructions)
    assert [replace(item, same_weights=0) if isinstance(item, Mac) else item for item in result] == [*instructions]
    return [item.same_weights for item in result if isinstance(item, Mac)]


def load(address: int, memory: Memory = Memory.WEIGHT) -> Load:
    return Load(memory=memory, dram=0, address=address, length=16)


def test_a_mac_after_one_with_the_same_weights_is_told_so_whatever_lies_between() -> None:
    assert marked(MAC, NEXT, MAC) == [0, 1, 1]
    assert marked(MAC, REQUANTIZE, load(0), load(80), load(64, Memory.ACTIVATION), NEXT) == [0, 1]


def test_a_load_over_the_weights_ends_it() -> None:
    assert marked(MAC, load(79), NEXT, MAC) == [0, 0, 1]
    assert marked(MAC, load(49), NEXT) == [0, 0]


@pytest.mark.parametrize(
    "change",
    [
        {"weight": 65},
        {"weight_pitch_k": 5},
        {"weight_pitch_n": 2},
        {"weight_zero_point": 1},
        {"channels": 8},
        {"outputs": 8},
        {"groups": 2},
        {"kernel_height": 2},
        {"kernel_width": 2},
        {"unroll_pixels": 2, "out_width": 2},
    ],
)
def test_weights_that_lie_otherwise_on_the_array_are_others(change: dict[str, int]) -> None:
    assert marked(MAC, replace(NEXT, **change)) == [0, 0]
    assert marked(replace(MAC, **change), replace(NEXT, **change)) == [0, 1]


def test_the_stride_moves_weights_only_where_pixels_are_abreast() -> None:
    assert marked(MAC, replace(NEXT, stride_x=2)) == [0, 1]
    unroll_pixels = replace(MAC, unroll_pixels=2, out_width=2, kernel_width=2)
    assert marked(unroll_pixels, replace(unroll_pixels, stride_x=2)) == [0, 0]


def test_tiles_of_a_layer_share_the_weights_of_one_fold() -> None:
    """1 x 1, 16 to 16 channels, 400 pixels on 16 x 16 cells: 16 preloads of 16 weights, however many tiles."""
    draft = Draft(np.random.default_rng(0))
    network = draft.network(draft.convolution(draft.input((1, 16, 20, 20)), 16, 1))
    # 64 pixels of 16 words, and a bus that is never what a plan waits for.
    machine = EDGE.replace(**{"buffers.accumulator.bytes": 4096, "dram.bytes_per_cycle": 256, "dram.latency": 0})
    program = accelsim.compile(network, machine, effort=0)
    macs = [instruction for instruction in program.instructions if isinstance(instruction, Mac)]
    assert [mac.same_weights for mac in macs] == [0, *[1] * (len(macs) - 1)]
    assert len(macs) >= 400 // 64
    result = accelsim.simulate(program)
    assert result.traffic["weight"].read == 16 * 16
    assert result.units["mac"]["busy"] == 400


@pytest.mark.parametrize(
    ("channels", "outputs", "pixels"), [(16, 16, 40), (16, 16, 4), (3, 5, 1), (17, 16, 4), (16, 17, 40)]
)
def test_the_estimate_of_a_tile_after_the_first_is_what_the_machine_takes(
    channels: int, outputs: int, pixels: int
) -> None:
    sizes = {"channels": channels, "outputs": outputs, "pixel_pitch": channels, "weight_pitch_k": outputs}
    mac = replace(MAC, out_width=pixels, width=pixels, **sizes)
    work = Work(1, pixels, (1, 1), 1, (1, 1), channels, outputs, 1, None)
    mapping = mac_mapping(EDGE.mac_array, Banks.of(EDGE), work, 1)
    for same, estimate in ((0, mapping.cycles), (1, mapping.again)):
        first = mac_occupancy(mac, EDGE)
        issued = []
        for _ in range(6):
            second = mac_occupancy(replace(mac, same_weights=same), EDGE, first.since(first.free))
            issued.append(first.free + second.issue - first.issue)
            first = second
        assert issued[-1] == issued[-2] == estimate
