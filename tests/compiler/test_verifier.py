"""The check between planning and emission: every way to break a plan is named."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import accelsim
from accelsim.compiler import Compilation, compile_with_plans
from accelsim.compiler.emit.verifier import verify_sums
from accelsim.compiler.plan.slots import Slots
from accelsim.compiler.plan.tiled import Tiled, TiledElementwise, TiledMatrix, TiledPool
from accelsim.compiler.plan.verifier import verify
from accelsim.errors import InternalError
from accelsim.isa import Instruction, Mac, Requantize

sys.path.insert(0, str(Path(__file__).parent))

from networks import Draft

EDGE = accelsim.Accelerator.from_yaml("edge_16x16")
#: Too small for the tensors, so that tiles pass through it.
SMALL = EDGE.replace(**{"buffers.activation.bytes": 4096})


def network() -> accelsim.Network:
    draft = Draft(np.random.default_rng(0))
    name = draft.convolution(draft.input((1, 8, 24, 24)), 16, 3, padding=1)
    name = draft.max_pool(name, 2, 2, 0)
    return draft.network(draft.convolution(draft.lookup(name), 24, 3, padding=1))


def compiled(machine: accelsim.Accelerator) -> Compilation:
    return compile_with_plans(network(), machine, effort=0)


def check(compilation: Compilation, machine: accelsim.Accelerator, tiled: list[Tiled | None]) -> None:
    verify(compilation.lowered, machine, compilation.placement, tiled)


def broken(kind: type, change: Callable[[Tiled], Tiled]) -> str:
    """What the check says where the first operation of a kind is changed."""
    compilation = compiled(SMALL)
    tiled = list(compilation.tiled)
    number = next(number for number, item in enumerate(tiled) if isinstance(item, kind))
    item = tiled[number]
    assert item is not None
    tiled[number] = change(item)
    with pytest.raises(InternalError) as error:
        check(compilation, SMALL, tiled)
    return str(error.value)


@pytest.mark.parametrize("machine", [EDGE, SMALL])
def test_what_the_compiler_makes_passes(machine: accelsim.Accelerator) -> None:
    compilation = compiled(machine)
    check(compilation, machine, list(compilation.tiled))


@pytest.mark.parametrize("slots", ["inputs", "results", "weights", "constants", "accumulators"])
def test_a_slot_beyond_the_end_is_found(slots: str) -> None:
    def moved(item: Tiled) -> Tiled:
        there: Slots = getattr(item, slots)
        return replace(item, **{slots: Slots((*there.addresses[:-1], 1 << 20), there.size)})

    assert "ends at" in broken(TiledMatrix, moved)


@pytest.mark.parametrize("slots", ["inputs", "results", "weights", "constants", "accumulators"])
def test_slots_that_meet_are_found(slots: str) -> None:
    def doubled(item: Tiled) -> Tiled:
        there: Slots = getattr(item, slots)
        return replace(item, **{slots: Slots((*there.addresses, there.addresses[0] - there.size // 2), there.size)})

    assert " lies on " in broken(TiledMatrix, doubled)


@pytest.mark.parametrize("slots", ["inputs", "results", "weights", "constants", "accumulators"])
def test_a_tile_larger_than_its_slot_is_found(slots: str) -> None:
    def less(item: Tiled) -> Tiled:
        there: Slots = getattr(item, slots)
        return replace(item, **{slots: Slots(there.addresses, there.size - 1)})

    assert " in a slot of " in broken(TiledMatrix, less)


@pytest.mark.parametrize("pitch", ["pixel_pitch", "line_pitch", "accumulator_pitch"])
def test_pixels_and_lines_that_meet_are_found(pitch: str) -> None:
    def closer(item: Tiled) -> Tiled:
        assert isinstance(item, TiledMatrix)
        return replace(item, plan=replace(item.plan, footprint=replace(item.plan.footprint, **{pitch: 1})))

    assert " in a slot of 1" in broken(TiledMatrix, closer)


def test_more_sums_at_once_than_slots_are_found() -> None:
    def interleaved(item: Tiled) -> Tiled:
        assert isinstance(item, TiledMatrix)
        return replace(item, interleave=len(item.accumulators) + 1)

    assert "sums at once in " in broken(TiledMatrix, interleaved)


def test_tiles_of_pools_and_of_element_wise_work_are_measured() -> None:
    assert "in a slot" in broken(TiledPool, lambda item: replace(item, lines=99))
    assert "in a slot" in broken(TiledElementwise, lambda item: replace(item, slots=Slots((0,), 8)))


def test_a_slot_on_a_tensor_that_stays_is_found() -> None:
    compilation = compiled(EDGE)
    tiled = list(compilation.tiled)
    number, item = next(
        (number, item)
        for number, item in enumerate(tiled)
        if isinstance(item, TiledMatrix) and compilation.placement.addresses.keys() & {item.operation.target.tensor}
    )
    address = compilation.placement.addresses[item.operation.target.tensor]
    tiled[number] = replace(item, inputs=Slots((address,), item.inputs.size or 9999))
    with pytest.raises(InternalError, match=r"activation memory .* lies on "):
        check(compilation, EDGE, tiled)


def test_tensors_that_meet_are_found() -> None:
    compilation = compiled(EDGE)
    addresses = dict.fromkeys(compilation.placement.addresses, 0)
    assert len(addresses) > 1
    first = next(iter(addresses))
    placement = replace(compilation.placement, addresses=addresses | {first: 1})
    with pytest.raises(InternalError, match=r"tensor .* lies on tensor "):
        verify(compilation.lowered, EDGE, placement, list(compilation.tiled))


MAC = Mac(activation=0, channels=4, outputs=4, out_width=3, weight=0, weight_pitch_k=4, accumulator=8)
REQUANTIZE = Requantize(
    accumulator=8, out=0, channels=4, out_width=3, parameters=0, steps=0, zero_point=0, minimum=0, maximum=255
)


def test_sums_that_are_whole_pass() -> None:
    other = replace(MAC, accumulator=20)
    verify_sums(
        [MAC, other, replace(MAC, accumulate=1), REQUANTIZE, MAC, replace(REQUANTIZE, accumulator=20), REQUANTIZE]
    )


@pytest.mark.parametrize(
    ("instructions", "words"),
    [
        ([MAC, MAC], "instruction 1 begins sums where others wait"),
        ([MAC, replace(MAC, accumulator=19), REQUANTIZE], "instruction 1 begins sums where others wait"),
        ([replace(MAC, accumulate=1)], "instruction 0 goes on with sums that are not there"),
        ([MAC, replace(MAC, accumulate=1, out_width=2)], "instruction 1 goes on with sums that are not there"),
        ([MAC, REQUANTIZE, REQUANTIZE], "instruction 2 requantises sums that are not there"),
        ([MAC], "1 tiles of sums are never requantised"),
    ],
    ids=range(6),
)
def test_lost_sums_are_found(instructions: list[Instruction], words: str) -> None:
    with pytest.raises(InternalError, match=words):
        verify_sums(instructions)
