"""The closed forms of the post unit against the unit clocked register by register."""

from __future__ import annotations

from random import Random

import pytest

from accelsim.isa import Add, Instruction, Lookup, Pool, Reduction, Requantize, RequantThresholds
from accelsim.machine.instructions import occupancy
from accelsim.machine.occupancy import Occupancy

from . import post_model, small


def random_instruction(random: Random) -> Instruction:
    """Small tiles of every kind, at places that meet in some banks."""
    place = {"out": random.randint(0, 9), "out_pitch": 40, "lines": random.randint(1, 3)}
    clamp = {"zero_point": 0, "minimum": 0, "maximum": 255, "steps": 0}
    scales = {"scale_a": 1.0, "scale_b": 1.0, "multiplier": 1.0}
    match random.choice(["requantize", "requantize", "thresholds", "add", "lookup", "pool", "vector"]):
        case "add":
            return Add(a=0, b=300, length=random.randint(1, 40), **place, **clamp, **scales)
        case "lookup":
            return Lookup(source=0, table=0, length=random.randint(1, 40), **place)
        case "vector":
            return small.random_vector(random)
        case "pool":
            kernel = random.randint(1, 3)
            sizes = {"out_width": random.randint(1, 4), "width": 6, "height": kernel, "kernel_height": kernel}
            return Pool(
                reduction=Reduction.MAX,
                activation=0,
                channels=random.randint(1, 40),
                pixel_pitch=40,
                out=900,
                out_pixel_pitch=40,
                **sizes,
            )
        case kind:
            channels = random.randint(1, 40)
            tile = {
                "accumulator": random.randint(0, 9),
                "accumulator_gap": random.choice([0, 0, 1, 5]),
                "out": random.randint(0, 9),
                "out_height": random.randint(1, 3),
                "out_width": random.randint(1, 7),
                "line_pitch": 400,
                "pixel_pitch": channels + random.randint(0, 9),
                "channels": channels,
                "parameters": random.randint(0, 9),
                "minimum": 0,
                "maximum": 255,
            }
            if kind == "thresholds":
                return RequantThresholds(**tile)
            return Requantize(steps=random.choice([0, 1, 3]), zero_point=0, **tile)


@pytest.mark.parametrize("seed", range(60))
def test_sequences_of_instructions(seed: int) -> None:
    check(seed)


@pytest.mark.full
@pytest.mark.parametrize("start", range(60, 3060, 500))
def test_three_thousand_sequences(start: int) -> None:
    for seed in range(start, start + 500):
        check(seed)


def check(seed: int) -> None:
    random = Random(seed)
    accelerator = small.accelerator(
        requant_unit__lanes=random.choice([1, 3, 4, 8, 16]),
        requant_unit__latency=random.randint(1, 9),
        vector_unit__lanes=random.choice([1, 4, 16, 64, 100]),
        vector_unit__latency=random.randint(1, 5),
        buffers__accumulator__banks=random.choice([1, 2, 4, 16]),
        buffers__activation__banks=random.choice([1, 2, 4, 16]),
        buffers__parameter__banks=random.choice([1, 4, 16, 64]),
    )
    instructions = [random_instruction(random) for _ in range(random.randint(1, 6))]
    arrivals = [0]
    while len(arrivals) < len(instructions):
        arrivals.append(arrivals[-1] + random.choice([0, 0, 1, 7, 60]))
    opened = [arrival + random.choice([0, 0, 1, 9, 80]) for arrival in arrivals]
    seen = post_model.run(accelerator, instructions, arrivals, opened)
    start, work = 0, Occupancy(0, 0, 0, 0)
    for index, instruction in enumerate(instructions):
        now = max(arrivals[index], start + work.free)
        before = work.since(now - start)
        start, work = now, occupancy(instruction, accelerator, before, max(opened[index] - now, 0))
        what = f"seed {seed}, instruction {index}: {instruction}"
        assert start == seen.start[index], what
        assert start + work.free == seen.free[index], what
        assert start + work.issue == seen.issue[index], what
        assert start + work.cycles == seen.end[index], what
        assert work.busy == seen.slots[index], what
        assert min(cycles for _, cycles in work.phases("wait_mac")) >= 0, what
        assert work.shared + sum(cycles for _, cycles in work.phases("wait_mac")) == work.issue, what
