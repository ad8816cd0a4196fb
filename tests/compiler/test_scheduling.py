"""Element-wise work goes up to where its operands are ready, loads of constants to where they fit, and no further."""

from __future__ import annotations

import itertools

import pytest

from accelsim.compiler.schedule.scheduling import schedule
from accelsim.isa import Instruction, Load, Lookup, Mac, Memory, Region, Requantize, Store


def mac(accumulator: int) -> Mac:
    return Mac(
        activation=0,
        pixel_pitch=1,
        weight_pitch_k=1,
        width=16,
        out_width=16,
        channels=1,
        outputs=1,
        weight=0,
        accumulator=accumulator,
    )


def requantize(accumulator: int, out: int) -> Requantize:
    tile = {"parameters": 0, "channels": 1, "out_width": 16, "pixel_pitch": 1}
    return Requantize(accumulator=accumulator, out=out, steps=0, zero_point=0, minimum=0, maximum=255, **tile)


def lookup(source: int, out: int) -> Lookup:
    return Lookup(source=source, out=out, length=16, table=512)


#: Two tiles of a matrix operation, and a table for each of them.
TILES = [mac(0), requantize(0, 100), mac(64), requantize(64, 116), lookup(100, 200), lookup(116, 216)]


def load(memory: Memory, address: int) -> Load:
    return Load(memory=memory, dram=0, address=address, length=16)


def moved(instructions: list[Instruction], seen: dict[int, list[Region]] | None = None, depth: int = 1) -> list[int]:
    return schedule(instructions, seen or {}, depth)


def test_a_table_follows_the_tile_that_it_reads() -> None:
    assert moved(TILES) == [0, 1, 4, 2, 3, 5]


def test_nothing_passes_what_it_reads_writes_over_or_is_read_by() -> None:
    store = Store(dram=0, address=200, length=16)
    assert moved([*TILES[:4], store, *TILES[4:]])[4:] == [4, 5, 6]  # the place of the result is still to be stored
    load = Load(memory=Memory.PARAMETER, dram=0, address=512, length=256)
    assert moved([*TILES[:4], load, *TILES[4:]]) == [0, 1, 2, 3, 4, 5, 6]  # the table comes first
    elsewhere = Load(memory=Memory.PARAMETER, dram=0, address=0, length=256)
    assert moved([*TILES[:4], elsewhere, *TILES[4:]]) == [0, 1, 5, 2, 3, 6, 4]


def test_two_of_a_kind_keep_their_order() -> None:
    assert moved([*TILES[:4], lookup(116, 216), lookup(100, 200)]) == [0, 1, 2, 3, 4, 5]


def test_constants_are_loaded_ahead_of_what_does_not_use_their_place() -> None:
    tiles = [mac(0), requantize(0, 100), mac(64), requantize(64, 116)]  # with weights 0..0 and parameters 0..
    assert moved([*tiles, load(Memory.WEIGHT, 16)], depth=8) == [4, 0, 1, 2, 3]
    assert moved([*tiles, load(Memory.WEIGHT, 0)], depth=8) == [0, 1, 2, 4, 3]  # what it writes over is used before
    assert moved([*tiles, load(Memory.ACTIVATION, 900)], depth=8) == [0, 1, 2, 3, 4]
    assert moved([*tiles, Store(dram=0, address=100, length=16), load(Memory.WEIGHT, 16)], depth=8)[-2:] == [4, 5]
    two = [*tiles[:2], load(Memory.WEIGHT, 0), *tiles[2:], load(Memory.WEIGHT, 16)]
    assert moved(two, depth=8) == [0, 2, 5, 1, 3, 4]  # no load passes another


def test_no_more_loads_go_ahead_than_half_a_queue_holds() -> None:
    loads = [load(Memory.WEIGHT, 16 * place) for place in range(1, 6)]
    assert moved([mac(0), *loads], depth=4) == [1, 2, 0, 3, 4, 5]
    assert moved([mac(0), *loads], depth=8) == [1, 2, 3, 4, 0, 5]
    assert moved([mac(0), *loads], depth=1) == [0, 1, 2, 3, 4, 5]
    between = [mac(0), loads[0], mac(64), loads[1], mac(128), loads[2]]
    assert moved(between, depth=4) == [1, 3, 0, 5, 2, 4]


def test_what_is_looked_at_is_not_written_over_before() -> None:
    in_place = [*TILES[:4], lookup(100, 100), lookup(116, 116)]
    whole = Region(Memory.ACTIVATION, 100, 132)
    assert moved(in_place) == [0, 1, 4, 2, 3, 5]
    assert moved(in_place, {3: [whole]}) == [0, 1, 2, 3, 4, 5]  # both tiles are looked at when the second is there
    # The result is looked at after the second piece, so that the first must not come after it.
    assert moved(TILES, {5: [Region(Memory.ACTIVATION, 200, 232)]}) == [0, 1, 4, 2, 3, 5]


@pytest.mark.parametrize(
    "instructions", [TILES, [*TILES, *TILES], TILES[::-1], [*TILES, load(Memory.WEIGHT, 0), *TILES]]
)
def test_what_depends_on_one_another_keeps_its_order(instructions: list[Instruction]) -> None:
    def places(regions: tuple[Region, ...]) -> set[tuple[Memory, int]]:
        return {(region.memory, byte) for region in regions for byte in range(region.start, region.stop)}

    order = moved(instructions, depth=8)
    assert sorted(order) == list(range(len(instructions)))
    for one, two in itertools.combinations(range(len(instructions)), 2):
        first, second = instructions[one], instructions[two]
        reads, writes = places(first.reads()), places(first.writes())
        if writes & (places(second.reads()) | places(second.writes())) or reads & places(second.writes()):
            assert order.index(one) < order.index(two), (one, two)
