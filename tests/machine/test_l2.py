"""The L2: equal to a model that looks at every register in every cycle, and what it saves is what it ought to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

import accelsim
from accelsim.hardware.dram_timings import PRESETS
from accelsim.isa import Instruction, Load, Store
from accelsim.machine import Traffic, timing
from accelsim.machine.dram.bus import Ending, Lines, Requester, Rows
from accelsim.machine.dram.l2 import Cache, arbiter_of
from accelsim.machine.traffic import total

from . import cycle_model, l2_model, small

MIB = 1 << 20
PROGRAMS = Path(__file__).parents[2] / "programs"


def random_accelerator(random: Random) -> accelsim.Accelerator:
    line, ways = random.choice([16, 32, 64, 128, 256]), random.choice([1, 2, 3, 4, 16])
    dram: dict[str, Any] = {
        "dram__bytes_per_cycle": random.choice([2, 4, 7, 16, 64]),
        "dram__latency": random.choice([0, 1, 10, 60]),
        "dram__burst_beats": random.choice([1, 2, 4, 16]),
    }
    if random.random() < 0.4:
        line = random.choice([64, 128])
        dram |= {"dram__model": "banked", "dram__preset": random.choice(list(PRESETS))}
        dram["clock_mhz"] = random.choice([100.0, 500.0, 1700.0])
    return small.accelerator(
        l2={
            "bytes": line * ways * random.choice([1, 2, 8, 64]),
            "line_bytes": line,
            "ways": ways,
            "bytes_per_cycle": random.choice([width for width in (1, 4, 16, 64, 256) if width <= line]),
            "latency": random.choice([0, 1, 10]),
        },
        queues__depth=random.choice([1, 2, 8]),
        buffers__activation__banks=random.choice([3, 4, 16, 64]),
        **dram,
    )


def random_program(random: Random) -> tuple[Instruction, ...]:
    """Transfers mostly, of rows of all lengths within the first kilobytes: lines are met again, and put out."""
    drawn = [small.random_instruction(random) for _ in range(random.randint(0, 4))]
    for _ in range(random.randint(5, 15)):
        item = small.random_transfer(random, random.choice([Load, Store]))
        assert isinstance(item, Load | Store)
        if random.random() < 0.3:
            item = replace(item, dram=item.dram // 64 * 64, length=random.choice([64, 256]), count_1=1)
            item = replace(item, count_2=1, count_3=1)
        drawn.append(item)
    random.shuffle(drawn)
    return small.balanced(random, drawn)


@pytest.mark.parametrize("seed", small.seeds(30, 1500))
def test_every_instruction_starts_and_ends_in_the_cycle_that_the_registers_say(seed: int) -> None:
    random = Random(seed)
    accelerator = random_accelerator(random)
    instructions = random_program(random)
    program = small.program(instructions, {})
    run = timing.run(program, instructions, accelerator)
    clocked = l2_model.Cache(accelerator)
    expected = cycle_model.spans(instructions, accelerator, small.CODE, clocked)
    clocked.drain()
    assert {span.index: (span.start, span.end) for span in run.spans} == expected
    assert total(run.lines.values())._asdict() == clocked.counts
    for unit, causes in run.units.items():
        assert sum(causes.values()) == run.cycles, unit
        assert min(causes.values()) >= 0
    for other in range(2):
        assert timing.run(program, instructions, accelerator, Random(other)) == run


def cache(**l2: int) -> Cache:
    """A bus of 16 bytes a cycle on both sides of lines of 64 bytes; DRAM answers 10 cycles after its last beat."""
    arbiter = arbiter_of(small.accelerator(l2={"bytes": MIB, "bytes_per_cycle": 16, **l2}))
    assert isinstance(arbiter, Cache)
    return arbiter


def ending(arbiter: Cache, requester: Requester, rows: Rows, seen: int) -> Ending:
    arbiter.ask(requester, rows, 16, seen)
    found = arbiter.advance()
    assert found is not None
    return found


def test_a_miss_and_a_hit_by_hand() -> None:
    arbiter = cache()
    # Granted in 1, looked up in 2, seen by DRAM in 3, beats in 3..6, there in 17, on the way back in 17..20.
    miss = ending(arbiter, Requester.LOAD, (0, 64, ()), 1)
    assert (miss.start, miss.free, miss.end, miss.beats) == (1, 2, 21, 4)
    assert miss.waits == (("l2_full", 0), ("l2_miss", 16), ("l2_latency", 0))
    # Granted in 100, looked up in 101, on the way back in 102 and 103: 32 bytes.
    hit = ending(arbiter, Requester.LOAD, (32, 32, ()), 100)
    assert (hit.start, hit.free, hit.end, hit.beats) == (100, 101, 104, 2)
    assert hit.waits == (("l2_full", 0), ("l2_miss", 0), ("l2_latency", 2))
    # A store is complete when it is in its entry; its 8 bytes are in one beat.
    stored = ending(arbiter, Requester.STORE, (8, 8, ()), 200)
    assert (stored.start, stored.free, stored.end, stored.beats) == (200, 201, 201, 1)
    assert [item.lines for item in (miss, hit, stored)] == [Lines(0, 1), Lines(1, 0), Lines(0, 0, 1, 0, 8)]


def test_misses_follow_one_another_without_a_gap() -> None:
    """Lines are granted a cycle apart; each is 4 beats on DRAM's bus, the last of 8 leaves when it has come."""
    assert ending(cache(), Requester.LOAD, (0, 8 * 64, ()), 1).end == 21 + 7 * 4


def test_stores_wait_for_an_entry_where_dram_is_slower_by_hand() -> None:
    """A line comes every 4 cycles and takes DRAM 32: line 36 is the first one to wait, from 145 on, for the entry of
    line 4, which DRAM has in 37 + 4 * 32 = 165; each one after it waits 32 - 4."""
    arbiter = arbiter_of(small.accelerator(l2={"bytes": MIB, "bytes_per_cycle": 16}, dram__bytes_per_cycle=2))
    assert isinstance(arbiter, Cache)
    stored = ending(arbiter, Requester.STORE, (0, 40 * 64, ()), 1)
    assert stored.waits[0] == ("l2_full", 20 + 3 * 28)
    assert stored.lines == Lines(0, 0, 0, 40, 40 * 64)


def test_the_line_used_longest_ago_goes_and_a_part_of_a_line_is_not_kept() -> None:
    """One set of two lines: 0, 1, 0 again, then 2 takes the place of 1."""
    arbiter = cache(bytes=128, ways=2)
    order = [(Requester.LOAD, line * 64, 64) for line in (0, 1, 0, 2, 0, 1)]
    order += [(Requester.STORE, 7 * 64, 64), (Requester.LOAD, 7 * 64, 8)]  # a whole line is kept
    order += [(Requester.STORE, 9 * 64, 63), (Requester.LOAD, 9 * 64, 8)]  # a part is not
    found = [
        ending(arbiter, requester, (first, length, ()), 100 * number + 1).lines
        for number, (requester, first, length) in enumerate(order)
    ]
    hits = [item.read_hits + item.write_hits for item in found]
    assert hits == [0, 0, 1, 0, 1, 0, 0, 1, 0, 0]
    assert [item.kept for item in found[6:]] == [64, 0, 0, 0]


def fetched_once(instructions: tuple[Instruction, ...], size: int) -> int:
    """Lines that are read before a store has written them whole: those of the words, and of the loads in order."""
    words = range(small.CODE, small.CODE + 64 * len(instructions))
    there, fetched = {byte // size for byte in words}, len({byte // size for byte in words})
    for item in instructions:
        if not isinstance(item, Load | Store):
            continue
        for piece in l2_model.pieces(item.dram, item.length, list(item.loops), size):
            line = piece[0] // size
            if isinstance(item, Load):
                fetched += line not in there
            if isinstance(item, Load) or len(piece) == size:
                there.add(line)
    return fetched


@pytest.mark.parametrize("seed", range(20))
def test_a_cache_larger_than_all_data_reads_each_line_of_dram_once(seed: int) -> None:
    random = Random(seed)
    size = random.choice([16, 32, 64, 128, 256])
    machine = small.accelerator(
        l2={"bytes": MIB, "line_bytes": size, "ways": random.choice([1, 2, 8]), "bytes_per_cycle": 16}
    )
    transfers = [item for item in random_program(random) if isinstance(item, Load | Store)]
    instructions = small.in_order(list(transfers))
    program = small.program(instructions, {0: bytes(8192)})
    result, plain = accelsim.simulate(program, accelerator=machine), accelsim.simulate(program)
    fetched = size * fetched_once(instructions, size)
    assert result.traffic["dram"] == Traffic(fetched, plain.traffic["dram"].written)
    assert result.l2 is not None
    assert result.traffic["l2"] == Traffic(plain.traffic["dram"].read, fetched + result.l2.kept)
    assert {k: v for k, v in result.traffic.items() if k not in ("dram", "l2")} == {
        k: v for k, v in plain.traffic.items() if k != "dram"
    }


@pytest.mark.parametrize("changes", [{}, {"dram__model": "banked", "dram__preset": "hbm2"}], ids=["flat", "banked"])
def test_outputs_are_the_same_and_time_is_that_of_timing_alone(changes: dict[str, Any]) -> None:
    machine = small.accelerator(**changes)
    cached = machine.replace(l2={"bytes": 8192, "ways": 2})
    program = accelsim.assemble((PROGRAMS / "two_layers.asm").read_text(), machine)
    plain, timed = accelsim.simulate(program, ()), accelsim.simulate(program, accelerator=cached)
    run = accelsim.simulate(program, (), accelerator=cached)
    assert plain.outputs
    assert [item.quantized.tolist() for item in run.outputs] == [item.quantized.tolist() for item in plain.outputs]
    assert replace(run, outputs=[], values={}) == timed
    for memory, moved in run.traffic.items():
        layers = [layer.traffic[memory] for layer in run.layers]
        assert sum(item.read for item in layers) == moved.read
        assert sum(item.written for item in layers) == moved.written
    assert run.to_dict()["l2"] == dict(zip(Lines._fields, run.l2 or (), strict=True))


def test_a_machine_without_it_has_no_row_of_it() -> None:
    program = accelsim.assemble((PROGRAMS / "two_layers.asm").read_text(), small.accelerator())
    result = accelsim.simulate(program)
    assert "l2" not in result.traffic
    assert "l2" not in result.to_dict()
    assert "l2" not in result.to_dict()["accelerator"]
    assert result.l2 is None


def test_what_was_loaded_before_comes_faster() -> None:
    """4 KiB twice over a slow DRAM: the second time takes the L2's time, a cycle for 32 bytes."""
    twice = "\n".join(
        [
            ".data 0 u8 " + " ".join(["7"] * 4096),
            "load memory=activation dram=0 address=0 length=4096 signal=load",
            "load memory=activation dram=0 address=0 length=4096 wait=load",
            "halt\n",
        ]
    )
    machine = small.accelerator(l2={"bytes": MIB}, dram__bytes_per_cycle=4, buffers__activation__banks=32)
    first, second, _ = accelsim.simulate(accelsim.assemble(twice), (), accelerator=machine).timeline
    assert first.end - first.start > 1024
    assert second.end - second.start <= 128 + 32
