"""What the search for a tiling takes a requantisation to cost is what the machine takes for it."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

import accelsim
from accelsim.compiler import compile_with_plans
from accelsim.compiler.plan import cost
from accelsim.isa.instructions.requantization import RequantInstruction
from accelsim.machine.instructions import occupancy

sys.path.insert(0, str(Path(__file__).parent))

from networks import Draft

ARITHMETICS = ["float32_exact", "thresholds", {"fixed_point": {"multiplier_bits": 31}}, "gemmlowp", "textbook"]


def machine_of(rng: np.random.Generator, banks: int) -> accelsim.Accelerator:
    """An array of any shape; one of the memories of the post unit has so many banks, the others any number."""
    memories = ["activation", "accumulator", "parameter"]
    chosen = {memory: int(rng.integers(1, 65)) for memory in memories} | {str(rng.choice(memories)): banks}
    return accelsim.Accelerator.from_yaml("edge_16x16").replace(
        **{
            "mac_array.rows": int(rng.integers(1, 20)),
            "mac_array.columns": int(rng.integers(1, 20)),
            "requant_unit.lanes": int(rng.integers(1, 33)),
            "requant_unit.latency": int(rng.integers(1, 9)),
            "requant_unit.arithmetic": ARITHMETICS[int(rng.integers(len(ARITHMETICS)))],
            "buffers.activation.bytes": int(rng.integers(2_000, 20_000)),
            **{f"buffers.{memory}.banks": count for memory, count in chosen.items()},
        }
    )


def network_of(rng: np.random.Generator) -> accelsim.Network:
    draft = Draft(rng)
    groups = int(rng.choice([1, 1, 4]))
    size, outputs = int(rng.integers(1, 15)), groups * int(rng.integers(1, 12))
    name = draft.convolution(draft.input((1, 4, size, size)), outputs, 3, padding=1, groups=groups)
    return draft.network(draft.convolution(name, int(rng.integers(1, 30)), 1))


@pytest.mark.parametrize("banks", range(1, 65))
def test_the_estimate_of_a_requantisation_is_the_machines(banks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole tiles of each plan that was taken: their sizes and pitches, and the cycles that follow."""
    asked: dict[tuple[int, ...], int] = {}
    rule = cost.requantization_cycles

    def kept(accelerator: accelsim.Accelerator, **sizes: int) -> int:
        cycles = asked[tuple(sizes.values())] = rule(accelerator, **sizes)
        return cycles

    monkeypatch.setattr(cost, "requantization_cycles", kept)
    rng = np.random.default_rng(banks)
    machine, network = machine_of(rng, banks), network_of(rng)
    compilation = compile_with_plans(network, machine, effort=0)
    program = compilation.program
    for operation, (_, plan) in zip(compilation.lowered.operations, compilation.plans, strict=True):
        assert plan is not None
        whole = (plan.images * plan.lines, plan.pixels, plan.outputs)
        for instruction, layer in zip(program.instructions, program.layer_of, strict=True):
            if layer != operation.layer or not isinstance(instruction, RequantInstruction):
                continue
            sizes = instruction.images * instruction.out_height, instruction.out_width, instruction.channels
            pitches = instruction.channels + instruction.accumulator_gap, instruction.pixel_pitch
            if sizes == whole:
                estimate = asked[(*sizes, len(operation.constants), *pitches, 1)]
                assert occupancy(instruction, machine).cycles == estimate
                break
        else:
            raise AssertionError("no whole tile")
