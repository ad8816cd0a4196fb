"""What a small file may cost: bounds come before anything is made, limits are named, closed forms equal plain loops."""

from __future__ import annotations

import itertools
import resource
from random import Random
from typing import Any

import numpy as np
import pytest

import accelsim
from accelsim.errors import InputError, MachineError
from accelsim.hardware.banks import chunks
from accelsim.hardware.folds import preloads
from accelsim.limits import Limits
from accelsim.machine.dram.bus import cycles_of
from accelsim.machine.memory.storage import LargestSums, untouched

from . import small

ONE = ".data 0 u8 7\n"
LOAD = "load memory=activation dram=0 address=0 length=1 signal=store\n"
WEIGHT = "load memory=weight dram=0 address=0 length=1 signal=mac\n"


def large(**changes: Any) -> accelsim.Accelerator:
    """A machine with 4 GiB of everything."""
    sizes = {f"buffers__{name}__bytes": 1 << 32 for name in ("activation", "weight", "accumulator")}
    return small.accelerator(**sizes, **changes)


def simulate(text: str, x: Any = (), **options: Any) -> accelsim.Result:
    options.setdefault("accelerator", large())
    return accelsim.simulate(accelsim.assemble(f"{text}\nhalt\n"), x, **options)


LOAD_ROWS = "load memory=activation dram=0 address=0 length=1 count_1=65535"
STORE_ROWS = f"{LOAD}store dram=0x1000 address=0 length=1 count_1=65535"

#: Each with the words of its error, and whether a run in time meets it already.
COSTLY = {
    "65,535 x 65,535 rows to one place": (f"{LOAD_ROWS} count_2=65535", "writes place 0x0 .* more than once", True),
    "4 GiB, each byte once": (f"{LOAD_ROWS} pitch_1=1 count_2=65535 pitch_2=65535", "takes .* bytes", False),
    "over 3 TiB": (f"{STORE_ROWS} dram_pitch_1=0xffffffff wait=load", "which ends at 0xffff", True),
    "a page of the host for each byte": (f"{STORE_ROWS} dram_pitch_1=0xffff wait=load", "takes .* bytes", False),
    "255 x 255 taps of 65,535 channels": (
        f"{WEIGHT}mac activation=0 kernel_height=255 kernel_width=255 height=255 width=255 channels=65535 outputs=1 "
        "weight=0 weight_pitch_k=0 accumulator=0 wait=load",
        "takes .* bytes",
        True,
    ),
    "10^12 cycles": (
        "pool activation=0 kernel_height=255 kernel_width=255 height=65535 width=65535 out_height=4000 out_width=4000 "
        "channels=1 reduction=max out=16 out_line_pitch=4000 out_pixel_pitch=1",
        "takes .* cycles",
        True,
    ),
    "rows across one another": (
        "load memory=activation dram=0 address=0 length=3 count_1=65535 pitch_1=1000 count_2=65535 pitch_2=1001",
        "rows lie across",
        True,
    ),
}


@pytest.mark.parametrize("name", COSTLY)
@pytest.mark.parametrize("x", [None, ()], ids=["time", "data"])
def test_what_costs_much_is_refused_before_it_is_made(name: str, x: Any) -> None:
    text, says, in_time = COSTLY[name]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if in_time or x is not None:
        with pytest.raises(MachineError, match=says):
            simulate(ONE + text, x)
    else:
        assert simulate(ONE + text, x).cycles > 65535  # a run in time touches no memory
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10


def test_far_addresses_cost_what_is_touched() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    text = (
        ".data 0xff00000000 u8 7\nload memory=activation dram=0xff00000000 address=0xfffffff0 length=1 signal=store\n"
    )
    text += "store dram=0x10 address=0xfffffff0 length=1 wait=load\n"
    result = simulate(text + ".output y address=0x10 shape=1 dtype=uint8 scale=1 zero_point=0")
    assert result.outputs[0].quantized.tolist() == [7]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20 << 10


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        ({"cycles": 20}, r"takes [0-9,]+ cycles; the limit is 20\. .*limits=Limits\(cycles=.*--limit cycles="),
        ({"memory": 1}, r"takes [0-9,]+ bytes; the limit is [0-9,]+\. .*limits=Limits\(memory="),
        ({"operations": 1}, r"takes [0-9,]+ operations; .*limits=Limits\(operations="),
    ],
)
def test_a_limit_that_is_met_is_named_with_its_flag(limits: dict[str, int], says: str) -> None:
    row = f"{LOAD_ROWS} pitch_1=1 count_2=3 pitch_2=65535"
    assert simulate(ONE + row).cycles > 3 * 65535
    with pytest.raises(MachineError, match=says):
        simulate(ONE + row, limits=Limits(**limits))


def test_accesses_of_an_l2_count_before_they_are_made() -> None:
    """65,535 x 600 rows of a byte: each is an access, of which 512 bytes are kept while it waits."""
    row = f"{LOAD_ROWS} dram_pitch_1=64 pitch_1=1 count_2=600 pitch_2=65535"
    with pytest.raises(MachineError, match=r"takes [0-9,]+ bytes; the limit is "):
        simulate(ONE + row, None, accelerator=large(l2={"bytes": 1 << 20}))


def test_a_window_of_many_blocks_counts_them() -> None:
    """Lines 0, 2, 3, 5, 6, 8 and so on, 255 x 2 of them: each tap is a block of its own, and so along the line."""
    text = "pool activation=0 kernel_height=255 kernel_width=255 height=65535 width=65535 out_height=2 out_width=2 "
    text += "stride_y=2 stride_x=2 dilation_y=3 dilation_x=3 channels=1 reduction=max out=1 out_line_pitch=2 "
    with pytest.raises(MachineError, match=r"takes 130,050,000 operations; the limit is [0-9,]+\. "):
        simulate(ONE + text + "out_pixel_pitch=1", None, limits=Limits(operations=10**8))


@pytest.mark.parametrize("value", [0, -1, True, 1.5, "1"])
def test_a_limit_is_a_number_above_0(value: Any) -> None:
    with pytest.raises(accelsim.AccelsimError, match="cycles"):
        Limits(cycles=value)


def test_an_input_that_repeats_what_it_holds_is_not_written_out() -> None:
    text = ONE + ".input x address=64 shape=1x4 dtype=uint8 scale=1 zero_point=0"
    for array in (np.zeros((), np.float32), np.zeros((), np.uint8)):
        with pytest.raises(InputError, match=r"input 'x'.* takes 64,000,000,000,000 bytes"):
            simulate(text, np.broadcast_to(array, (10**12, 4)))
        with pytest.raises(InputError, match="shape"):
            simulate(text, np.broadcast_to(array, (10**12,)))
    assert simulate(text, np.broadcast_to(np.float32(0), (1000, 4))).cycles > 0


def test_memory_that_nobody_touches_is_zeros_and_addresses_alone() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    array = untouched(1 << 36, np.uint8)
    array[1 << 35] = 1
    assert (array[0], array[1 << 35], array[-1]) == (0, 1, 0)
    sums = LargestSums(1 << 30)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 10 << 10
    from accelsim.isa import Block, Memory

    block = Block(Memory.ACCUMULATOR, 5, (3,), (1,))
    # Whatever fits 32 bits may stand there at first.
    assert sums.target(block, 10, add=True) == 10 + (1 << 31)
    assert sums.target(block, 10, add=False) == 10
    assert sums.target(block, 7, add=True) == 17


@pytest.mark.parametrize("seed", range(60))
def test_cycles_of_many_rows_are_those_of_each(seed: int) -> None:
    random = Random(seed)
    width = random.choice([1, 2, 3, 4, 6, 8, 12, 16, 30, 64, 100])
    loops = tuple((random.choice([2, 3, 17, 20, 64, 130]), random.randrange(3 * width + 1)) for _ in range(3))
    address, length, part = random.randrange(100), random.randint(1, 300), random.randint(1, width)
    total = 0
    for turn in itertools.product(*(range(min(count, 40)) for count, _ in loops)):
        start = address + sum(i * pitch for i, (_, pitch) in zip(turn, loops, strict=True))
        # A beat's bytes from the row's first to its last, in parts of `part` from the beat's first byte on.
        for beat in range(start // width, (start + length - 1) // width + 1):
            first, last = max(start - beat * width, 0), min(start + length - 1 - beat * width, width - 1)
            total += last // part - first // part + 1
    loops = tuple((min(count, 40), pitch) for count, pitch in loops)
    assert cycles_of(address, length, loops, width, part) == total


def test_cycles_of_more_rows_than_can_be_listed() -> None:
    # 3 * 4,096 bytes step over the whole bus, so each row begins at the same place: one cycle each.
    loops = ((65535, 3 * 4096), (65535, 4096), (65535, 0))
    assert cycles_of(5, 1, loops, 4096, 4096) == 65535**3


@pytest.mark.parametrize("seed", range(60))
def test_chunks_and_preloads_are_those_of_plain_loops(seed: int) -> None:
    random = Random(seed)
    height, width, stride, channels = (random.randint(1, 4) for _ in range(4))
    unroll_pixels, groups, rows = random.randint(1, 5), random.randint(1, 3), random.choice([1, 3, 4, 16])
    wide, interleave = width + (unroll_pixels - 1) * stride, groups * channels
    count = -(-height * wide * interleave // rows)
    read: list[set[tuple[int, int, int]]] = [set() for _ in range(count)]
    for y, x, c in itertools.product(*map(range, (height, width, channels))):
        offsets = itertools.product(range(unroll_pixels), range(groups))
        places = [(y * wide + x + pixel * stride) * interleave + group * channels + c for pixel, group in offsets]
        # From the chunk of the first column's row to that of the last column's, whether others are in between or not.
        for chunk in range(places[0] // rows, places[-1] // rows + 1):
            read[chunk].add((y, x, c))
    assert preloads((height, width), stride, channels, unroll_pixels, groups, rows) == tuple(map(len, read))

    line, pixel, banks = random.randint(0, 40), random.randint(0, 40), random.choice([1, 3, 4, 16])
    places = [
        (y * line + x * pixel + c) % banks
        for y, x, c in itertools.product(range(height), range(width), range(interleave))
    ]
    expected = [places[at : at + rows] for at in range(0, len(places), rows)]
    found = chunks((height, width), (line, pixel), interleave, rows, banks)
    assert [(item.rows, item.cycles) for item in found] == [
        (len(part), max(part.count(bank) for bank in part)) for part in expected
    ]
