"""The run in time: equal to a model that looks at every register in every cycle, and every cycle accounted for."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random
from typing import Any

import pytest

import accelsim
from accelsim.arithmetic.requantize import Step
from accelsim.hardware.configuration import MacArray
from accelsim.isa import Halt, Instruction, Load, Mac, Memory, Requantize, Store
from accelsim.machine import timing
from accelsim.machine.instructions import occupancy

from . import cycle_model, post_model, small
from .array_loops import Addresses, Machine


def random_accelerator(random: Random) -> accelsim.Accelerator:
    return small.accelerator(
        mac_array__dataflow=random.choice(["weight_stationary", "output_stationary", "input_stationary"]),
        mac_array__rows=random.randint(1, 9),
        mac_array__columns=random.randint(1, 9),
        mac_array__rows_per_stage=random.choice([1, 1, 2, 4]),
        buffers__activation__banks=random.choice([3, 4, 16, 64]),
        dram__bytes_per_cycle=random.choice([1, 4, 7, 16, 64]),
        dram__latency=random.choice([0, 1, 10, 60]),
        dram__burst_beats=random.choice([1, 2, 4, 16]),
        queues__depth=random.choice([1, 2, 8]),
        requant_unit__latency=random.randint(1, 8),
    )


def random_program(random: Random, count: int, array: MacArray) -> tuple[Instruction, ...]:
    return small.balanced(random, [fitting(small.random_instruction(random), array) for _ in range(count)])


def fitting(instruction: Instruction, array: MacArray) -> Instruction:
    """The instruction with no more groups side by side than the array has room for."""
    if not isinstance(instruction, Mac):
        return instruction
    loops = Addresses(instruction, Machine(array.rows, array.columns, array.dataflow, 1, 1, 1))
    return replace(instruction, unroll_groups=min(instruction.unroll_groups, loops.most_groups()))


SEEDS = small.seeds(60, 1000)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_instruction_starts_and_ends_in_the_cycle_that_the_registers_say(seed: int) -> None:
    random = Random(seed)
    accelerator = random_accelerator(random)
    instructions = random_program(random, random.randint(5, 40), accelerator.mac_array)
    run = timing.run(small.program(instructions, {}), instructions, accelerator)
    expected = cycle_model.spans(instructions, accelerator, small.CODE)
    assert {span.index: (span.start, span.end) for span in run.spans} == expected
    assert run.cycles == max(end for _, end in expected.values())


@pytest.mark.parametrize("seed", range(10))
def test_the_order_in_which_processes_are_visited_changes_nothing(seed: int) -> None:
    random = Random(seed)
    accelerator = random_accelerator(random)
    instructions = random_program(random, 60, accelerator.mac_array)
    program = small.program(instructions, {})
    run = timing.run(program, instructions, accelerator)
    for other in range(5):
        assert timing.run(program, instructions, accelerator, Random(other)) == run


@pytest.mark.parametrize("seed", range(20))
def test_every_cycle_of_every_unit_has_one_cause(seed: int) -> None:
    random = Random(seed)
    accelerator = random_accelerator(random)
    instructions = random_program(random, 40, accelerator.mac_array)
    run = timing.run(small.program(instructions, {}), instructions, accelerator)
    assert set(run.units) == {"fetch", "load", "mac", "post", "store"}
    for unit, causes in run.units.items():
        assert sum(causes.values()) == run.cycles, unit
        assert min(causes.values()) >= 0
    width = accelerator.dram.bytes_per_cycle
    for kind, unit in ((Load, "load"), (Store, "store")):
        beats = cycles = 0
        for item in instructions:
            if isinstance(item, kind):
                loops, banks = cycle_model.transfer(item, accelerator)
                beats += cycle_model.beats(item.dram, item.length, loops, width, width)
                cycles += cycle_model.beats(item.dram, item.length, loops, width, banks)
        assert run.units[unit]["busy"] == beats
        assert run.units[unit].get("bank_conflict", 0) == cycles - beats
    words = sum(cycle_model.beats(small.CODE + 64 * i, 64, [], width, width) for i in range(len(instructions)))
    assert run.units["fetch"]["busy"] == words + 1  # and the cycle of `halt`


def test_one_load_by_hand() -> None:
    """16 bytes a cycle, latency 10: a word of 64 bytes takes 4 beats."""
    load = Load(memory=Memory.ACTIVATION, dram=0, address=0, length=33)
    instructions: tuple[Instruction, ...] = (load, Halt())
    run = timing.run(small.program(instructions, {0: bytes(64)}), instructions, small.accelerator())
    # The word: asked for in cycle 0, beats in 1..4, there in 15. Dispatched in 15, in the queue in 16, started in 16.
    # Its request: made in 16, beats (33 bytes: 3) from 17 on, unless the next word's 4 beats are on the bus, in 5..8.
    # The data land 10 cycles after the last beat, 19. `halt` was there in 19.
    assert [(span.start, span.end) for span in run.spans] == [(16, 30), (19, 20)]
    assert run.cycles == 30
    assert dict(run.units["load"]) == {"busy": 3, "fetch": 16, "request": 1, "finished": 10}
    assert dict(run.units["mac"]) == {"busy": 0, "finished": 30}


def test_a_scratchpad_with_half_the_banks_of_the_bus_takes_two_cycles_a_beat() -> None:
    load = Load(memory=Memory.ACTIVATION, dram=0, address=0, length=64)
    instructions: tuple[Instruction, ...] = (load, Halt())
    accelerator = small.accelerator(buffers__activation__banks=8)
    run = timing.run(small.program(instructions, {0: bytes(64)}), instructions, accelerator)
    assert run.units["load"]["busy"] == 4
    assert run.units["load"]["bank_conflict"] == 4


def test_only_parts_of_a_beat_that_are_wanted_take_a_cycle() -> None:
    """A bus of 16 bytes before 6 banks: parts at 0, 6 and 12 of each beat. Bytes 11 to 21 lie in the second and third
    part of the first beat and the first of the second."""
    load = Load(memory=Memory.ACTIVATION, dram=11, address=0, length=11)
    instructions: tuple[Instruction, ...] = (load, Halt())
    accelerator = small.accelerator(buffers__activation__banks=6)
    run = timing.run(small.program(instructions, {0: bytes(64)}), instructions, accelerator)
    assert (run.units["load"]["busy"], run.units["load"]["bank_conflict"]) == (2, 1)


def test_a_full_queue_holds_the_fetcher_back() -> None:
    slow = Load(memory=Memory.ACTIVATION, dram=0, address=0, length=4096)
    instructions: tuple[Instruction, ...] = (*[slow] * 6, Halt())
    program = small.program(instructions, {0: bytes(4096)})
    shallow = timing.run(program, instructions, small.accelerator(queues__depth=1))
    deep = timing.run(program, instructions, small.accelerator(queues__depth=8))
    assert shallow.units["fetch"]["queue_full"] > 256
    assert "queue_full" not in deep.units["fetch"]


MACHINE: dict[str, Any] = {"queues__depth": 4}


def test_six_requests_share_the_bus_in_bursts() -> None:
    """A load and a store at once: bursts of 4 beats in turn, so both last about as long as their beats together."""
    load = Load(memory=Memory.ACTIVATION, dram=0, address=0, length=1600)
    store = Store(dram=4096, address=4096, length=1600)
    instructions: tuple[Instruction, ...] = (load, store, Halt())
    run = timing.run(small.program(instructions, {0: bytes(1600)}), instructions, small.accelerator(**MACHINE))
    load_span, store_span, _ = run.spans
    assert abs((load_span.end - 10) - store_span.end) <= 4 + 4
    assert store_span.end - load_span.start >= 200
    assert run.units["store"]["dram_contention"] >= 90


@pytest.mark.parametrize("seed", range(100))
def test_a_requantisation_takes_the_cycles_of_its_accesses_counted_bank_by_bank(seed: int) -> None:
    random = Random(seed)
    channels, lanes = random.randint(1, 20), random.choice([1, 3, 4, 8, 16])
    accumulator_banks, activation_banks, parameter_banks = (random.choice([1, 2, 4, 16]) for _ in range(3))
    accelerator = small.accelerator(
        requant_unit__lanes=lanes,
        buffers__accumulator__banks=accumulator_banks,
        buffers__activation__banks=activation_banks,
        buffers__parameter__banks=parameter_banks,
    )
    pitch = channels + random.randint(0, 9)
    instruction = Requantize(
        accumulator=random.randint(0, 9),
        accumulator_gap=random.choice([0, 0, 1, 5]),
        out=random.randint(0, 9),
        out_height=random.randint(1, 3),
        out_width=random.randint(1, 7),
        line_pitch=100,
        pixel_pitch=pitch,
        channels=channels,
        parameters=0,
        steps=Step.MULTIPLIER,
        zero_point=0,
        minimum=0,
        maximum=255,
    )

    def turns(places: list[int], banks: int) -> int:
        return max(Counter(place % banks for place in places).values())

    # The constants of a chunk while the one before passes.
    chunks = post_model.chunks_of(instruction, accelerator)
    constants = [sum(turns(words, parameter_banks) for words in chunk.constants) for chunk in chunks]
    streams = [
        sum(max(turns(words, accumulator_banks), turns(codes, activation_banks)) for words, _, codes in chunk.slots)
        for chunk in chunks
    ]
    expected = constants[0] + streams[-1] + accelerator.requant_unit.latency
    expected += sum(max(stream, after) for stream, after in zip(streams, constants[1:], strict=False))
    work = occupancy(instruction, accelerator)
    unroll_pixels = max(lanes // channels, 1)  # pixels of a line, as many as the lanes have room for
    assert work.cycles == expected
    assert work.busy == len(constants) * instruction.out_height * -(-instruction.out_width // unroll_pixels)
    assert min(cycles for _, cycles in work.phases("wait_mac")) >= 0
