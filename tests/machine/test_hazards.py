"""A program that leaves its result to chance, or touches what it may not, is told which instruction and which byte."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

import numpy as np
import pytest

import accelsim
from accelsim.arithmetic.requantize import Step
from accelsim.errors import MachineError
from accelsim.isa import (
    Block,
    Halt,
    Instruction,
    Load,
    Lookup,
    Mac,
    Memory,
    Multiply,
    Pool,
    Port,
    Reduction,
    Requantize,
    Store,
    Units,
    share_a_place,
)

from . import oracle, small


def run(*instructions: Instruction, x: Any = (), **parts: Any) -> accelsim.Result:
    return accelsim.simulate(small.program((*instructions, Halt()), {0: bytes(1024)}, **parts), x)


def fill(memory: Memory, length: int = 256, **fields: Any) -> Load:
    return Load(memory=memory, dram=0, address=fields.pop("address", 0), length=length, **fields)


LOOKUP = Lookup(source=0, length=64, out=1024, table=0)


class Recorder(dict[int, int]):
    """A memory that notes which places are read."""

    def __init__(self) -> None:
        super().__init__()
        self.read: set[int] = set()

    def __missing__(self, key: int) -> int:
        self.read.add(key)
        return 1


@pytest.mark.parametrize("seed", small.seeds(35, 400))
def test_footprints_are_the_places_that_plain_python_touches(seed: int) -> None:
    instruction = small.random_instruction(Random(seed))
    plain = oracle.Machine({})
    recorders = {memory: Recorder() for memory in Memory}
    plain.memories = dict(recorders)
    plain.execute(instruction)
    if isinstance(instruction, Lookup):  # whatever the codes are, the whole table has to be there
        recorders[Memory.PARAMETER].read |= set(range(instruction.table, instruction.table + 256))
    reads, writes = instruction.read_blocks(), instruction.written_blocks()
    for memory, recorder in recorders.items():
        for blocks, places in ((reads, recorder.read), (writes, set(recorder))):
            found = [int(place) for block in blocks if block.memory == memory for place in addresses(block)]
            assert set(found) == places, (memory, instruction)
    # Of a window some lines and corners may be padding.
    for blocks, regions, exact in ((reads, instruction.reads(), False), (writes, instruction.writes(), True)):
        for memory in Memory:
            places = [addresses(block) for block in blocks if block.memory == memory]
            found = np.unique(np.concatenate([np.array([], int), *places]))
            parts = [region for region in regions if region.memory == memory]
            covered = [(part.start <= found) & (found < part.stop) for part in parts]
            assert np.any([np.zeros(len(found), bool), *covered], axis=0).all(), instruction
            ends = all(part.start in found and part.stop - 1 in found for part in parts)
            assert ends or not exact, instruction


def addresses(block: Block) -> np.ndarray:
    total = np.array([block.start])
    for size, pitch in zip(block.sizes, block.pitches, strict=True):
        total = (total[:, None] + np.arange(size) * pitch).ravel()
    return total


def test_rows_that_lie_apart_are_regions_of_their_own() -> None:
    tile = {"accumulator": 0, "out": 100, "parameters": 0, "steps": 0, "zero_point": 0, "minimum": 0, "maximum": 255}
    lines = {"images": 2, "image_pitch": 50, "out_height": 2, "line_pitch": 20, "out_width": 2, "pixel_pitch": 4}

    def spans(**fields: int) -> list[tuple[int, int]]:
        return [(region.start, region.stop) for region in Requantize(**tile | lines | fields).writes()]

    apart = [(start, start + 3) for start in (100, 104, 120, 124, 150, 154, 170, 174)]
    assert spans(channels=3) == apart
    assert spans(channels=4) == [(100, 108), (120, 128), (150, 158), (170, 178)]  # pixels are neighbours
    assert spans(channels=3, out_width=3) == [(100, 111), (120, 131), (150, 161), (170, 181)]  # more than eight pixels
    assert spans(channels=3, line_pitch=7) == [(100, 114), (150, 164)]  # lines are neighbours
    assert spans(channels=3, image_pitch=20) == [(100, 147)]  # images cover one another


@pytest.mark.parametrize("seed", range(200))
def test_two_blocks_share_a_place_exactly_if_their_addresses_do(seed: int) -> None:
    random = Random(seed)

    def block() -> Block:
        sizes = tuple(random.randint(1, 4) for _ in range(3))
        return Block(Memory.WEIGHT, random.randrange(40), sizes, tuple(random.randint(0, 12) for _ in range(3)))

    a, b = block(), block()
    both = sorted(set(addresses(a).tolist()) & set(addresses(b).tolist()))
    assert share_a_place(a, b) == (both[0] if both else None)
    counts = np.bincount(addresses(a))
    assert a.repeats() == (int(np.argmax(counts > 1)) if counts.max() > 1 else None)


# Weights that the array is said to hold.


SAME = Mac(activation=0, channels=4, outputs=2, weight=8, weight_pitch_k=2, accumulator=0)


def test_the_weights_of_the_mac_before_are_the_same_from_the_same_place() -> None:
    for first, second, others in (
        (replace(SAME, weight=10), replace(SAME, same_weights=1), r"those of instruction 2 \(mac .*\) are others"),
        (replace(SAME, same_weights=1), SAME, "no mac comes before it"),
    ):
        with pytest.raises(
            MachineError, match=rf"instruction [23] \(mac .*\): same_weights=1, but {others}; leave it 0"
        ):
            run(*small.in_order([fill(Memory.WEIGHT), fill(Memory.ACTIVATION), first, second])[:-1])


def test_weights_that_were_written_since_they_were_read_are_not_in_the_array() -> None:
    again = replace(SAME, accumulator=2, same_weights=1)
    for address, length in ((0, 9), (15, 1)):
        load = fill(Memory.WEIGHT, address=address, length=length)
        first = f"{max(address, 8):#x}"
        with pytest.raises(
            MachineError, match=rf"instruction 3 \(load .* has written byte {first} of the weight memory"
        ):
            run(*small.in_order([fill(Memory.WEIGHT), fill(Memory.ACTIVATION), SAME, load, again])[:-1])
    for address, memory in ((0, Memory.WEIGHT), (16, Memory.WEIGHT), (8, Memory.PARAMETER)):
        load = fill(memory, address=address, length=8)
        run(*small.in_order([fill(Memory.WEIGHT), fill(Memory.ACTIVATION), SAME, load, again])[:-1])


# Races.


TABLE, CODES = fill(Memory.PARAMETER), fill(Memory.ACTIVATION, signal=Units.POST)
WAITING = replace(LOOKUP, wait=Units.LOAD)


def test_a_unit_that_reads_what_another_is_writing_is_a_race() -> None:
    with pytest.raises(MachineError) as caught:
        run(TABLE, CODES, WAITING, fill(Memory.ACTIVATION, address=32))
    message = str(caught.value)
    assert message.startswith(
        "race between instruction 3 (load dram=0 address=32 length=256 memory=activation) in cycles"
    )
    assert " of load and instruction 2 (lookup wait=load" in message
    assert "the first writes and the second reads byte 0x20 of the activation memory" in message


def test_two_units_that_write_the_same_byte_are_a_race() -> None:
    with pytest.raises(MachineError, match="both write byte 0x400 of the activation memory; let one wait"):
        run(TABLE, CODES, WAITING, fill(Memory.ACTIVATION, address=1000, length=200))


def test_a_store_and_a_load_of_the_same_dram_bytes_are_a_race() -> None:
    load, store = (
        fill(Memory.ACTIVATION, length=1, signal=Units.STORE),
        Store(dram=0, address=0, length=1, wait=Units.LOAD),
    )
    with pytest.raises(MachineError, match=r"race between .* reads and the second writes byte 0x0 of the dram memory"):
        run(load, fill(Memory.WEIGHT, length=1024), store)


def test_a_race_is_found_without_data_too() -> None:
    with pytest.raises(MachineError, match="race between"):
        run(TABLE, CODES, WAITING, fill(Memory.ACTIVATION, address=32), x=None)


def test_a_wait_makes_an_end_of_the_race() -> None:
    run(
        fill(Memory.PARAMETER),
        fill(Memory.ACTIVATION, signal=Units.POST),
        replace(LOOKUP, wait=Units.LOAD, signal=Units.LOAD),
        fill(Memory.ACTIVATION, address=32, wait=Units.POST),
    )


def test_tiles_that_interleave_without_a_common_byte_are_no_race() -> None:
    """The lookup walks every other group of 8 bytes, the load fills those in between at the same time."""
    strided = Lookup(source=0, source_pitch=16, lines=4, length=8, out=1024, out_pitch=16, table=0, wait=Units.LOAD)
    between = Load(memory=Memory.ACTIVATION, dram=0, address=8, length=8, count_1=4, dram_pitch_1=8, pitch_1=16)
    load = fill(Memory.ACTIVATION, signal=Units.POST)
    run(fill(Memory.PARAMETER), load, strided, between)
    with pytest.raises(MachineError, match=r"race between .* byte 0x7 of"):
        run(fill(Memory.PARAMETER), load, strided, replace(between, address=7))


# Within one instruction.


def test_a_result_may_take_the_place_of_its_operand_but_not_be_moved_a_little() -> None:
    loads = fill(Memory.PARAMETER), fill(Memory.ACTIVATION, signal=Units.POST)
    run(*loads, replace(LOOKUP, wait=Units.LOAD, out=0))
    with pytest.raises(MachineError, match=r"instruction 2 \(lookup.*overwrites byte 0x1 of the activation memory"):
        run(*loads, replace(LOOKUP, wait=Units.LOAD, out=1))
    pool = Pool(reduction=Reduction.MAX, activation=0, channels=4, out=0, wait=Units.LOAD)
    with pytest.raises(MachineError, match=r"instruction 2 \(pool.*overwrites byte 0x0"):
        run(*loads, pool)


def test_the_second_operand_may_be_overwritten_too() -> None:
    clamp = {"zero_point": 0, "minimum": 0, "maximum": 255}
    multiply = Multiply(
        a=0, b=64, out=64, length=64, zero_a=0, zero_b=0, steps=Step(0), multiplier=1, wait=Units.LOAD, **clamp
    )
    run(CODES, multiply)
    with pytest.raises(MachineError, match="overwrites byte 0x41"):
        run(CODES, replace(multiply, out=65))


def test_a_tile_that_writes_a_byte_twice_is_an_error() -> None:
    with pytest.raises(MachineError, match=r"instruction 0 \(load.*writes place 0x7 of the activation memory more"):
        run(Load(memory=Memory.ACTIVATION, dram=0, address=0, length=8, count_1=2, dram_pitch_1=8, pitch_1=7))


# What was never written, and what lies outside.

MAC = Mac(activation=0, channels=4, outputs=2, weight=0, weight_pitch_k=2, accumulator=3)
TILE = Requantize(
    accumulator=3, out=128, channels=2, parameters=8, steps=Step.OFFSET, zero_point=0, minimum=0, maximum=9
)


@pytest.mark.parametrize(
    ("instructions", "where"),
    [
        ([fill(Memory.WEIGHT), fill(Memory.ACTIVATION, length=3), MAC], r"2 \(mac .*byte 0x3 of the activation"),
        ([fill(Memory.ACTIVATION), fill(Memory.WEIGHT, length=7), MAC], r"2 \(mac .*byte 0x7 of the weight"),
        (
            [fill(Memory.ACTIVATION), fill(Memory.WEIGHT), replace(MAC, accumulate=1)],
            r"2 \(mac .*word 0x3 of the accumulator",
        ),
        ([fill(Memory.PARAMETER), TILE], r"1 \(requantize .*word 0x3 of the accumulator"),
        ([fill(Memory.ACTIVATION), fill(Memory.WEIGHT), MAC, TILE], r"3 \(requantize .*byte 0x8 of the parameter"),
        ([fill(Memory.ACTIVATION), LOOKUP], r"1 \(lookup .*byte 0x0 of the parameter"),
        ([fill(Memory.PARAMETER, 255), fill(Memory.ACTIVATION), LOOKUP], r"2 \(lookup .*byte 0xff of the parameter"),
        ([Store(dram=2048, address=5, length=1)], r"0 \(store .*byte 0x5 of the activation"),
        ([Load(memory=Memory.WEIGHT, dram=1023, address=0, length=2)], r"0 \(load .*byte 0x400 of the dram"),
    ],
)
def test_reading_what_was_never_written_is_an_error(instructions: list[Instruction], where: str) -> None:
    program = small.program(small.in_order(instructions), {0: bytes(1024)})
    with pytest.raises(MachineError, match=rf"^instruction {where} memory, which was never written"):
        accelsim.simulate(program, ())
    assert accelsim.simulate(program).cycles > 0


def test_padding_is_not_read() -> None:
    """Of a 3 x 3 window around a single pixel only that pixel must have been written."""
    window = {"kernel_height": 3, "kernel_width": 3, "top": -1, "left": -1, "line_pitch": 99, "pixel_pitch": 9}
    mac = Mac(activation=500, channels=1, outputs=1, weight=0, weight_pitch_k=1, accumulator=0, **window)
    loads = [fill(Memory.WEIGHT), Load(memory=Memory.ACTIVATION, dram=0, address=500, length=1)]
    accelsim.simulate(small.program(small.in_order([*loads, mac]), {0: bytes(1024)}), ())


@pytest.mark.parametrize(
    ("instruction", "message"),
    [
        (
            Load(memory=Memory.WEIGHT, dram=0, address=16380, length=5),
            r"0x3ffc..0x4000 of the weight memory, ",
        ),
        (replace(MAC, accumulator=4095), r"words 0xfff..0x1000 of the accumulator memory, which ends at 0xfff"),
        (replace(TILE, parameters=4092), r"0xffc..0x1003 of the parameter memory, which ends at 0xfff"),
        (replace(MAC, activation=16384), r"0x4000..0x4003 of the activation memory"),
        (replace(MAC, activation=0, top=1, height=2, line_pitch=16381), r"0x3ffd..0x4000 of the activation memory"),
        (Store(dram=small.CODE + 60, address=0, length=4), r"writes 0x1003c..0x1003f of DRAM over the code at 0x10000"),
    ],
)
def test_leaving_a_memory_is_an_error(instruction: Instruction, message: str) -> None:
    for x in (None, ()):
        with pytest.raises(MachineError, match=rf"^instruction 0 \({instruction.mnemonic} .*{message}"):
            run(instruction, x=x)


def test_an_output_that_nobody_wrote_is_an_error() -> None:
    with pytest.raises(MachineError, match="output y: byte 0x802 of the dram memory was never written"):
        run(
            fill(Memory.ACTIVATION, signal=Units.STORE),
            Store(dram=2048, address=0, length=2, wait=Units.LOAD),
            outputs=(small.flat_port("y", 2048, 3),),
        )


def test_a_port_outside_its_memory_is_an_error() -> None:
    port: Port = small.flat_port("x", 16380, 8, memory=Memory.ACTIVATION)
    with pytest.raises(MachineError, match=r"x: bytes 0x3ffc..0x4003 of the activation memory can hold no tensor"):
        run(inputs=(port,), x=np.zeros((1, 8), np.uint8))


# Programs that do not come to an end.


def test_a_deadlock_says_who_waits_for_whom() -> None:
    with pytest.raises(MachineError) as caught:
        run(
            fill(Memory.ACTIVATION, signal=Units.MAC),
            replace(MAC, wait=Units.LOAD | Units.POST, signal=Units.POST),
            replace(LOOKUP, wait=Units.MAC, signal=Units.MAC),
        )
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("deadlock in cycle ")
    assert lines[1] == "  load: idle, its queue is empty"
    assert lines[2].startswith("  mac: instruction 1 (mac wait=load+post")
    assert "waits for a token of post (0 were put before); the next that would put one is instruction 2 (" in lines[2]
    assert lines[3].startswith("  post: instruction 2 (lookup")
    assert "waits for a token of mac (0 were put before); the next that would put one is instruction 1 (" in lines[3]


def test_a_token_that_nobody_puts_is_named() -> None:
    hopeless = r"load: instruction 0 .*token of store \(0 were put before\); no instruction of store that is left"
    with pytest.raises(MachineError, match=hopeless):
        run(fill(Memory.ACTIVATION, wait=Units.STORE))


def test_a_queue_that_blocks_the_fetcher_is_part_of_the_story() -> None:
    """The mac unit waits for a load behind nine of its own instructions, of which the queue holds eight."""
    wait = replace(MAC, wait=Units.LOAD)
    with pytest.raises(MachineError, match=r"fetch: instruction 8 \(mac .* waits for room in the queue of mac"):
        run(*[wait] * 10, fill(Memory.ACTIVATION, signal=Units.MAC))


def test_tokens_left_over_are_an_error() -> None:
    with pytest.raises(MachineError, match=r"semaphore load -> mac still holds 1 of 1 tokens .*instruction 0 \(load"):
        run(fill(Memory.ACTIVATION, signal=Units.MAC))


@pytest.mark.parametrize(
    ("instructions", "message"),
    [
        ([fill(Memory.ACTIVATION)], "no `halt`"),
        ([Halt(), fill(Memory.ACTIVATION)], "instruction 0 is `halt`, and the 1 after"),
    ],
)
def test_a_program_ends_in_its_only_halt(instructions: list[Instruction], message: str) -> None:
    with pytest.raises(MachineError, match=message):
        accelsim.simulate(small.program(tuple(instructions), {0: bytes(1024)}))
