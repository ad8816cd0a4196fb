"""The requant unit's integer instructions: by hand at their corners, what they refuse, and how long they take."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import accelsim
from accelsim.errors import AssemblyError, MachineError
from accelsim.isa import (
    Halt,
    Instruction,
    RequantFixed,
    RequantGemmlowp,
    Requantize,
    RequantTextbook,
    RequantThresholds,
)
from accelsim.isa.decoding import decode
from accelsim.machine.instructions import occupancy
from accelsim.machine.post.requantization import requantizer
from accelsim.machine.traffic import by_memory, traffic_of

from . import small

PLACE: dict[str, Any] = {"accumulator": 0, "out": 0, "parameters": 0}
CLAMP: dict[str, Any] = {"minimum": 0, "maximum": 255}


def codes(tile: Any, accumulators: list[int], planes: list[list[int]], arithmetic: Any = "float32_exact") -> list[int]:
    """Codes of one row of accumulators, a channel each; `planes`: signed or unsigned words."""
    words = (np.array(planes, np.int64).reshape(tile.planes, tile.channels) & (2**32 - 1)).astype(np.uint32)
    unit = small.accelerator(requant_unit__arithmetic=arithmetic).requant_unit
    row = np.array(accumulators, np.int32).reshape(1, 1, -1)
    found = requantizer(tile, row, words.view(np.uint8).reshape(1, -1), unit.arithmetic)()
    return [int(code) for code in found.ravel()]


def test_fixed_point_shifts_towards_minus_infinity_and_holds_64_bits() -> None:
    tile = RequantFixed(channels=4, minimum=-128, maximum=127, **PLACE)
    # (-3 * 5 + 0) >> 2 = -4; (7 * 1 + 1) >> 1 = 4; 2^31 - 1 times itself, less 2^62, >> 54: -1; B alone, >> 32.
    most = 2**31 - 1
    offsets = [0, 1, -(2**62), 5 << 32]
    words = [[5, 1, most, 0], offsets, [offset >> 32 for offset in offsets], [2, 1, 54, 32]]
    assert codes(tile, [-3, 7, most, 99], words) == [-4, 4, -1, 5]


def test_thresholds_count_how_many_are_reached() -> None:
    tile = RequantThresholds(channels=3, minimum=-2, maximum=1, **PLACE)
    words = [[-5, 0, -(2**31)], [-5, 10, -(2**31)], [3, 20, 2**31 - 1]]
    assert codes(tile, [-6, 10, 2**31 - 1], words) == [-2, 0, 1]
    assert codes(tile, [-5, 9, -(2**31)], words) == [0, -1, 0]
    constant = RequantThresholds(channels=1, minimum=7, maximum=7, **PLACE)
    assert (constant.planes, codes(constant, [-123], [])) == (0, [7])


def test_gemmlowp_rounds_twice_and_saturates() -> None:
    tile = RequantGemmlowp(channels=5, zero_point=3, minimum=-128, maximum=127, **PLACE)
    # Half of 3 is 1.5, up to 2; half of -3 is -1.5, up to -1. Half of 5 is 2.5, up to 3, and 1.5 goes away from zero.
    # -5: -2.5, up to -2, -1. 2^31 - 1 + 1 saturates; its half, 2^30, by 2^30 is 1.
    bias, shift = [0, 0, 0, 0, 1], [0, 0, 1, 1, 30]
    assert codes(tile, [3, -3, 5, -5, 2**31 - 1], [bias, [2**30] * 5, shift]) == [5, 2, 5, 2, 4]
    # 2 to the left by 30 saturates to 2^31 - 1.
    left = RequantGemmlowp(channels=2, zero_point=0, minimum=-128, maximum=127, **PLACE)
    assert codes(left, [2, 1], [[0, 0], [1, 2**30], [-30, -5]]) == [1, 16]


def test_the_textbook_rounds_the_exact_product_once() -> None:
    tile = RequantTextbook(channels=6, zero_point=0, minimum=-128, maximum=127, **PLACE)
    half, above = 2**52, 2**52 + 1
    significands = [half, half, half, above, above, half]
    words = [
        [0, 0, 0, 0, 0, 1],
        significands,
        [value >> 32 for value in significands],
        [53, 53, 53, 53, 53, 88],
    ]
    # 1/2, 3/2 and -1/2 are ties and go to even; the least more than a half does not, the least below -1/2 neither.
    assert codes(tile, [1, 3, -1, 1, -1, 2**31 - 1], words) == [0, 2, 0, 1, -1, 0]


FIXED = RequantFixed(channels=2, **CLAMP, **PLACE)
GEMMLOWP = RequantGemmlowp(channels=2, zero_point=0, **CLAMP, **PLACE)
TEXTBOOK = RequantTextbook(channels=2, zero_point=0, **CLAMP, **PLACE)
FOUR_BITS = {"fixed_point": {"multiplier_bits": 4}}


@pytest.mark.parametrize(
    ("tile", "words", "arithmetic", "said"),
    [
        (FIXED, [[1, 16], [0, 0], [0, 0], [0, 0]], FOUR_BITS, "multiplier of channel 1 is 16; the unit takes 0 to 15"),
        (FIXED, [[1, 2**31], [0, 0], [0, 0], [0, 0]], "float32_exact", "multiplier of channel 1 is 2147483648"),
        (FIXED, [[1, 1], [0, 0], [0, 0], [0, 55]], "float32_exact", "shift of channel 1 is 55; the unit takes 0 to 54"),
        (FIXED, [[4, 6], [0, 0], [0, 0], [0, 0]], "power_of_two", "multiplier of channel 1 is 6; .* powers of two"),
        (
            FIXED,
            [[1, 2], [0, -1], [0, 2**31 - 1], [0, 0]],
            FOUR_BITS,
            r"word 0x1 .* B, make 9223372036854776005 \(channel 1",
        ),
        (
            RequantThresholds(channels=1, minimum=0, maximum=2, **PLACE),
            [[4], [3]],
            "thresholds",
            "threshold 1 .* is 3, below",
        ),
        (GEMMLOWP, [[0, 0], [2**31, 1], [0, 0]], "gemmlowp", "multiplier of channel 0 is 2147483648"),
        (GEMMLOWP, [[0, 0], [1, 1], [0, 32]], "gemmlowp", "shift of channel 1 is 32; the unit takes -30 to 31"),
        (TEXTBOOK, [[0, 0], [0, 0], [2**21, 1], [60, 60]], "textbook", "significand of channel 0 is 9007199254740992"),
        (TEXTBOOK, [[0, 0], [0, 0], [1, 1], [26, 60]], "textbook", "shift of channel 0 is 26; the unit takes 27 to 88"),
    ],
)
def test_what_no_register_holds_is_an_error(tile: Any, words: list[list[int]], arithmetic: Any, said: str) -> None:
    with pytest.raises(MachineError, match=said):
        codes(tile, [99, 99][: tile.channels], words, arithmetic)


@pytest.mark.parametrize("arithmetic", ["thresholds", "gemmlowp", "float32_exact", FOUR_BITS])
def test_a_unit_runs_its_own_arithmetic_only(arithmetic: Any) -> None:
    program = small.program((TEXTBOOK, Halt()), {0: bytes(64)})
    machine = small.accelerator(requant_unit__arithmetic=arithmetic)
    with pytest.raises(MachineError, match=r"instruction 0 \(requant_textbook .* compile the network for this machine"):
        accelsim.simulate(program, accelerator=machine)
    assert accelsim.simulate(program, accelerator=small.accelerator(requant_unit__arithmetic="textbook")).cycles > 0


def test_more_than_255_thresholds_are_refused() -> None:
    with pytest.raises(AssemblyError, match="minimum=-1 maximum=255"):
        RequantThresholds(channels=1, minimum=-1, maximum=255, **PLACE)
    with pytest.raises(AssemblyError, match="minimum=3 maximum=2"):
        RequantThresholds(channels=1, minimum=3, maximum=2, **PLACE)


@pytest.mark.parametrize(
    ("tile", "planes"),
    [
        (RequantFixed(channels=37, out_width=50, **CLAMP, **PLACE), 4),
        (RequantThresholds(channels=37, out_width=50, **CLAMP, **PLACE), 255),
        (RequantThresholds(channels=37, out_width=50, minimum=250, maximum=255, **PLACE), 5),
        (RequantGemmlowp(channels=37, out_width=50, zero_point=0, **CLAMP, **PLACE), 3),
        (RequantTextbook(channels=37, out_width=50, zero_point=0, **CLAMP, **PLACE), 4),
    ],
)
def test_constants_are_read_before_their_chunk_and_while_the_one_before_passes(tile: Any, planes: int) -> None:
    """37 channels of 50 pixels by 16 lanes: chunks of 16, 16 and 5; parameters come from 32 banks, the rest from 16."""
    machine = small.accelerator(
        requant_unit__lanes=16, requant_unit__latency=6, buffers__parameter__banks=32, buffers__accumulator__banks=16
    )
    work = occupancy(tile, machine)
    # 16 channels' words take 2 accesses a plane of 32 banks, 5 channels' one.
    assert work.cycles == 2 * planes + max(50, 2 * planes) + max(50, planes) + 50 + 6
    assert work.busy == 3 * 50
    moved = by_memory(traffic_of(tile, machine), machine)
    assert (moved["parameter"].read, moved["accumulator"].read) == (4 * 37 * planes, 4 * 37 * 50)
    assert moved["activation"].written == 37 * 50


@pytest.mark.parametrize("kind", [Requantize, RequantFixed, RequantThresholds, RequantGemmlowp, RequantTextbook])
def test_the_words_come_back_as_the_same_instruction(kind: type[Instruction]) -> None:
    fields = {item.name: item.limits[1] for item in kind.fields() if item.kind in ("unsigned", "signed")}
    fields |= {"minimum": 7, "maximum": 200} | ({"steps": 0} if kind is Requantize else {})
    instruction = kind(**fields)
    assert decode(instruction.encode()) == instruction
