"""DRAM with banks: equal to a model that looks at every entry in every clock, and no command too near to another."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from fractions import Fraction
from random import Random
from typing import Any

import pytest

import accelsim
from accelsim.hardware.dram_timings import PRESETS
from accelsim.isa import Halt, Instruction, Load, Memory, Store
from accelsim.machine import timing
from accelsim.machine.dram.banks import BankedArbiter, Command, Controller, bursts_of
from accelsim.machine.dram.bus import Requester

from . import cycle_model, dram_model, small


def random_accelerator(random: Random) -> accelsim.Accelerator:
    return small.accelerator(
        dram__model="banked",
        dram__preset=random.choice(list(PRESETS)),
        dram__bytes_per_cycle=random.choice([1, 4, 16, 64, 128]),
        dram__latency=random.choice([0, 1, 10]),
        dram__burst_beats=random.choice([1, 4, 16, 64]),
        queues__depth=random.choice([1, 2, 8]),
        clock_mhz=random.choice([100.0, 333.0, 500.0, 1000.0, 1700.0]),
        buffers__activation__banks=random.choice([3, 4, 16, 64]),
    )


def far(random: Random, instructions: list[Instruction]) -> list[Instruction]:
    """The same with their rows spread over banks and rows."""
    moved = []
    for item in instructions:
        if isinstance(item, Load | Store):
            pitch = random.choice([0, 4096, 1 << 17, 1 << 20])
            item = replace(item, dram=item.dram + random.choice([0, 1 << 15, 5 << 17]), dram_pitch_2=pitch)
        moved.append(item)
    return moved


@pytest.mark.parametrize("seed", small.seeds(15, 400))
def test_every_instruction_starts_and_ends_in_the_cycle_that_the_registers_say(seed: int) -> None:
    random = Random(seed)
    accelerator = random_accelerator(random)
    drawn = [small.random_instruction(random) for _ in range(random.randint(5, 30))]
    drawn += [small.random_transfer(random, random.choice([Load, Store])) for _ in range(10)]
    random.shuffle(drawn)
    instructions = small.balanced(random, far(random, drawn))
    program = small.program(instructions, {})
    run = timing.run(program, instructions, accelerator)
    expected = cycle_model.spans(instructions, accelerator, small.CODE)
    assert {span.index: (span.start, span.end) for span in run.spans} == expected
    for unit, causes in run.units.items():
        assert sum(causes.values()) == run.cycles, unit
        assert min(causes.values()) >= 0
    for other in range(2):
        assert timing.run(program, instructions, accelerator, Random(other)) == run


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("seed", range(4))
def test_no_command_is_too_near_to_another(preset: str, seed: int) -> None:
    random = Random(seed)
    timings = PRESETS[preset]
    log: list[Command] = []
    controller = Controller(timings, log)
    seen = 0
    for _ in range(1500):
        seen += random.choice([0, 0, 1, 4, 40, 900])
        row = random.choice([random.randrange(8), random.randrange(1 << 14)])
        controller.serve(row, random.random() < 0.4, seen, seen + random.choice([0, 8]))
    log.sort()
    assert len({command.clock for command in log}) == len(log)
    for number, command in enumerate(log):
        assert dram_model.allowed(command, log[max(0, number - 64) : number], timings), command
    dram_model.open_rows(log)
    refreshes = [command.clock for command in log if command.name == "REF"]
    assert len(refreshes) == seen // timings.refi
    assert all(clock >= timings.refi * (i + 1) for i, clock in enumerate(refreshes))


def test_the_first_read_by_hand() -> None:
    """DDR4-2400 at 1200 MHz, so that cycles are clocks: activate, tRCD 16, CL 16, four clocks on the pins."""
    arbiter = BankedArbiter(Controller(PRESETS["ddr4_2400"]), Fraction(1), 16, 4)
    arbiter.ask(Requester.LOAD, (0, 64, ()), 16, 1)
    ending = arbiter.advance()
    # Granted in 1, in the queue at 2, activated at 2, read at 18, all there at 38, then four beats of 16 bytes.
    assert ending is not None
    assert (ending.start, ending.free, ending.end) == (1, 2, 42)
    # Of the 37 cycles before its first beat 16 wait for the row.
    assert (ending.beats, ending.waits) == (4, (("dram_row", 16), ("dram_latency", 21)))
    # The same row again is open: 16 cycles fewer. Another row of the bank: precharged, 16 more.
    arbiter.ask(Requester.LOAD, (4 * 64, 64, ()), 16, 100)
    hit = arbiter.advance()
    assert hit is not None
    assert (hit.end - hit.start, hit.waits[0]) == (41 - 16, ("dram_row", 0))
    arbiter.ask(Requester.LOAD, (1 << 19, 64, ()), 16, 200)
    miss = arbiter.advance()
    assert miss is not None
    assert (miss.end - miss.start, miss.waits[0]) == (41 + 16, ("dram_row", 32))


def test_where_bytes_lie_by_hand() -> None:
    """DDR4-2400: a bank has 8 KiB of every 128 KiB, together with the three of the other groups 32 KiB; a row on, the
    next bank, for what has the same place in 128 KiB."""
    place = Controller(PRESETS["ddr4_2400"]).place
    found = [
        place(address // 64) for address in (0, 64, 256, 1 << 15, 3 << 15, 1 << 17, (1 << 17) + (1 << 15), 4 << 17)
    ]
    assert found == [(0, 0, 0), (1, 1, 0), (0, 0, 0), (0, 4, 0), (0, 12, 0), (0, 4, 1), (0, 0, 1), (0, 0, 4)]


@pytest.mark.parametrize("preset", PRESETS)
def test_every_row_of_every_bank_is_used_whole(preset: str) -> None:
    timings = PRESETS[preset]
    banks = timings.bank_groups * timings.banks_per_group
    columns = timings.row_bytes // timings.burst_bytes
    place = Controller(timings).place
    counts = Counter(place(burst) for burst in range(16 * banks * columns))
    assert set(counts.values()) == {columns}
    assert {(bank, row) for _, bank, row in counts} == {(bank, row) for bank in range(banks) for row in range(16)}
    assert all(group == bank % timings.bank_groups for group, bank, _ in counts)


def load_all(**fields: Any) -> timing.Timing:
    load = Load(memory=Memory.ACTIVATION, dram=0, address=0, **fields)
    instructions = (load, Halt())
    machine = small.accelerator(dram__model="banked", dram__preset="ddr4_2400", dram__latency=10, clock_mhz=300.0)
    return timing.run(small.program(instructions, {0: bytes(64)}), instructions, machine)


def test_a_stream_of_open_rows_keeps_the_bus_busy() -> None:
    """At 300 MHz the pins are faster than 16 bytes a cycle: the bus moves in all but the first cycles."""
    units = load_all(length=16384).units["load"]
    assert units["busy"] == 1024
    assert units["dram_row"] + units["dram_latency"] <= 20


def test_rows_of_one_bank_wait_for_one_another() -> None:
    """256 bytes of 64 rows of one bank: each costs tRC of 55 clocks, a little under 14 cycles; 4 are for data."""
    units = load_all(length=16, count_1=64, dram_pitch_1=1 << 19, pitch_1=16).units["load"]
    assert units["busy"] == 64 * 4
    assert 9 * 63 <= units["dram_row"] <= 10 * 64


@pytest.mark.parametrize("seed", range(200))
def test_the_bursts_of_rows_are_those_of_their_bytes(seed: int) -> None:
    random = Random(seed)
    address, length = random.randrange(300), random.randint(1, 200)
    loops = [(random.randint(1, 4), random.choice([0, 1, 16, 64, 200])) for _ in range(3)]
    if any(pitch == 0 or pitch < length for _, pitch in loops):
        loops = [(count, length + random.randrange(80)) for count, _ in loops]
    rows = (address, length, tuple(loops))
    assert bursts_of(*rows, 64) == dram_model.bursts(address, length, loops, 64)
