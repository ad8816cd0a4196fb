"""The timed search, by what it timed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import accelsim
from accelsim.compiler import tuning
from accelsim.isa import Load, Program, Store

sys.path.insert(0, str(Path(__file__).parent))

from networks import Draft

EDGE = accelsim.Accelerator.from_yaml(Path(__file__).parents[2] / "configs" / "edge_16x16.yaml")
#: A machine on which a few bytes more or less of DRAM matter.
NARROW = EDGE.replace(**{"dram.bytes_per_cycle": 1, "buffers.activation.bytes": 2048, "buffers.weight.bytes": 1024})


def network(seed: int) -> accelsim.Network:
    draft = Draft(np.random.default_rng(seed))
    first = draft.convolution(draft.input((1, 8, 10, 10)), 16, 3, padding=1)
    total = draft.add(draft.convolution(first, 16, 1), first)
    return draft.network(draft.convolution(total, 24, 3, stride=2))


def moved(program: Program) -> int:
    return sum(instruction.bytes for instruction in program.instructions if isinstance(instruction, Load | Store))


@pytest.mark.parametrize(
    ("machine", "seed"),
    [
        *((EDGE, seed) for seed in range(3)),
        (NARROW, 0),
        *(pytest.param(NARROW, seed, marks=pytest.mark.full) for seed in range(1, 10)),
    ],
)
def test_of_what_is_about_as_fast_as_the_fastest_the_most_frugal_is_kept(
    seed: int, machine: accelsim.Accelerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed: list[Program] = []
    run = tuning.run

    def recorded(program: Program, *rest: Any) -> Any:
        timed.append(program)
        return run(program, *rest)

    monkeypatch.setattr(tuning, "run", recorded)
    kept = accelsim.compile(network(seed), machine, effort=1)
    monkeypatch.undo()
    assert len(timed) > 10
    assert len({(program.instructions, program.code) for program in timed}) == len(timed)  # none is timed twice
    cycles = [accelsim.simulate(program, accelerator=machine).cycles for program in timed]
    frugal = {
        (count, moved(program)): count**10 * moved(program)
        for program, count in zip(timed, cycles, strict=True)
        if count <= 1.02 * min(cycles)
    }
    assert frugal[accelsim.simulate(kept).cycles, moved(kept)] == min(frugal.values())
    untimed = accelsim.compile(network(seed), machine, effort=0)
    assert untimed.instructions == timed[0].instructions
    assert accelsim.simulate(kept).cycles <= 1.02 * accelsim.simulate(untimed).cycles


def test_the_budget_of_instructions_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    spent = 0
    run = tuning.run

    def counted(program: Program, *rest: Any) -> Any:
        nonlocal spent
        spent += len(program.instructions)
        return run(program, *rest)

    monkeypatch.setattr(tuning, "run", counted)
    for budget in (0, 300, 1000):
        monkeypatch.setattr(tuning, "_INSTRUCTIONS", (0, budget, 0))
        spent = 0
        program = accelsim.compile(network(0), NARROW, effort=1)
        # It stops at what would be as long as the last one, which the next may exceed.
        assert spent <= 1.5 * budget
        assert budget < 2 * len(program.instructions) or spent > 0
