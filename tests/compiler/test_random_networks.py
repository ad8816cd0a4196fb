"""Random networks on random machines: the machine's codes are the reference executor's, in every value."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import accelsim
from accelsim.isa import meet
from accelsim.machine.timing import run
from accelsim.network import Reshape, Slice

sys.path.insert(0, str(Path(__file__).parent))

from networks import Draft, compiled

DATAFLOWS = ("weight_stationary", "output_stationary", "input_stationary")
SIZES = (1, 2, 3, 4, 5, 7, 8, 12, 16, 31, 48, 64)
BYTES = (64, 256, 1024, 4096, 65536, 1 << 24)


def random_machine(rng: np.random.Generator) -> accelsim.Accelerator:
    def memory(sizes: tuple[int, ...]) -> dict[str, int]:
        return {"bytes": int(rng.choice(sizes)), "banks": int(rng.choice([1, 3, 4, 16, 64]))}

    return accelsim.Accelerator.from_dict(
        {
            "name": "random",
            "mac_array": {
                "rows": int(rng.choice(SIZES)),
                "columns": int(rng.choice(SIZES)),
                "dataflow": str(rng.choice(DATAFLOWS)),
                "rows_per_stage": int(rng.choice([1, 1, 2, 9])),
                "columns_per_stage": int(rng.choice([1, 1, 4, 64])),
            },
            "buffers": {
                "activation": memory(BYTES),
                "weight": memory(BYTES),
                "accumulator": memory(BYTES),
                "parameter": memory((1024, 4096)),
            },
            "requant_unit": {"lanes": int(rng.choice([1, 3, 16]))},
            "vector_unit": {"lanes": int(rng.choice([1, 5, 16]))},
            "clock_mhz": float(rng.choice([100, 500, 1300])),
            "dram": random_dram(rng),
            "queues": {"depth": int(rng.choice([1, 2, 8]))},
        }
    )


def random_dram(rng: np.random.Generator) -> dict[str, Any]:
    dram = {
        "bytes_per_cycle": int(rng.choice([1, 2, 4, 7, 16, 32, 128])),
        "latency": int(rng.choice([0, 7, 60])),
        "burst_beats": int(rng.choice([1, 4, 64])),
    }
    preset = str(rng.choice(["ddr4_2400", "lpddr4_3200", "hbm2"]))
    return dram | ({"model": "banked", "preset": preset} if rng.integers(3) == 0 else {})


def grow(draft: Draft, name: str) -> str:
    """One more node after `name`, of a random kind that its shape allows."""
    rng = draft.rng
    _, channels, height, width = draft.shape(name)
    groups = int(rng.choice([g for g in range(1, channels + 1) if channels % g == 0]))
    kernel, dilation = int(rng.integers(1, 4)), int(rng.integers(1, 3))
    span = (kernel - 1) * dilation + 1
    match int(rng.integers(0, 10)):
        case 0 | 1 | 2:
            padding = int(rng.integers(0, 3))
            if span <= min(height, width) + 2 * padding:
                outputs = groups * int(rng.integers(1, 9))
                stride = (int(rng.integers(1, 3)), int(rng.integers(1, 4)))
                return draft.convolution(
                    name, outputs, kernel, stride=stride, padding=padding, dilation=dilation, groups=groups
                )
        case 3:
            stride = int(rng.integers(1, 4))
            padding = int(rng.integers(0, span))
            sizes = [(size - 1) * stride + span - 2 * padding for size in (height, width)]
            if min(sizes) > 0 and max(sizes) < 30 and draft.engine != "onednn":
                extra = int(rng.integers(0, max(stride, dilation)))
                options: dict[str, Any] = {"groups": groups, "transposed": True, "output_padding": extra}
                outputs = groups * int(rng.integers(1, 5))
                return draft.convolution(
                    name, outputs, kernel, stride=stride, padding=padding, dilation=dilation, **options
                )
        case 4:
            return draft.lookup(name)
        case 5:
            if len(draft.nodes) % 2:
                return draft.maximum(name, draft.lookup(name, draft.values[name].affine))
            return draft.add(name, draft.lookup(name))
        case 6:
            return draft.multiply(name, name)
        case 7 if min(height, width) >= 2:
            return draft.max_pool(name, 2, int(rng.integers(1, 3)), int(rng.integers(0, 2)))
        case 8 if channels > 1:
            return draft.concatenate([name, draft.slice(name, 1, 0, channels // 2)], 1)
        case 9 if height > 1:
            return draft.slice(name, 2, int(rng.integers(0, 2)), height, int(rng.integers(1, 3)))
    return name


def random_network(rng: np.random.Generator) -> tuple[Draft, accelsim.Network]:
    draft = Draft(rng, str(rng.choice(["fbgemm", "qnnpack", "onednn"])))
    size = tuple(int(value) for value in rng.integers(3, 14, 2))
    name = draft.input((int(rng.integers(1, 4)), int(rng.integers(1, 9)), *size))
    for _ in range(int(rng.integers(1, 7))):
        name = grow(draft, name)
    if rng.integers(2):
        batch, *rest = draft.shape(name)
        name = draft.linear(draft.reshape(name, (batch, int(np.prod(rest)))), int(rng.integers(1, 40)))
    if all(isinstance(node, Slice | Reshape) for node in draft.nodes):
        name = draft.lookup(name)  # else the output lies in the input, and nothing is written
    return draft, draft.network(name)


def check(seed: int) -> bool:
    """Whether the network fits; if it does, everything that must hold holds."""
    rng = np.random.default_rng(seed)
    draft, network = random_network(rng)
    machine = random_machine(rng)
    x = draft.data(2)
    program = compiled(network, machine, effort=int(rng.choice(3, p=(0.68, 0.3, 0.02))))
    if isinstance(program, str):
        assert "enlarge buffers." in program or "enlarge them" in program
        return False
    result = accelsim.simulate(program, x)
    expected = network.trace(x)
    for name, value in result.values.items():
        differing = int(np.count_nonzero(value.quantized != expected[name]))
        assert differing == 0, f"seed {seed}: {name} ({type(network.node(name)).__name__}): {differing} differ"
    for output in result.outputs:
        assert np.array_equal(output.quantized, expected[output.name]), f"seed {seed}: {output.name}"
    check_values_are_there_when_they_are_looked_at(program)
    timed = accelsim.simulate(program)
    assert (timed.cycles, timed.traffic, timed.units, timed.layers) == (
        result.cycles,
        result.traffic,
        result.units,
        result.layers,
    )
    assert sum(layer.cycles for layer in result.layers) == result.cycles
    for memory, moved in result.traffic.items():
        parts = [layer.traffic[memory] for layer in result.layers]
        assert sum(part.read for part in parts) == moved.read, memory
        assert sum(part.written for part in parts) == moved.written, memory
    assert all(sum(causes.values()) == result.cycles for causes in result.units.values())
    assert all(0 <= layer.utilization <= 1 for layer in result.layers)
    outputs = sum(int(np.prod(draft.values[name].shape)) for name in network.outputs)
    assert result.traffic["dram"].written >= outputs
    return True


def check_values_are_there_when_they_are_looked_at(program: accelsim.Program) -> None:
    """What an instruction's completion makes whole is not written again before that, however units overlap. (A unit's
    own instructions follow one another through its pipeline.)"""
    spans = run(program, program.instructions, program.accelerator).spans
    for probe in program.probes:
        last = spans[probe.instruction]
        for later in spans[probe.instruction + 1 :]:
            if later.unit != last.unit and meet(program.instructions[later.index].writes(), (probe.region,)):
                assert later.start >= last.end, (probe.port.name, later)


def test_a_value_that_its_reader_frees_in_part_is_seen_whole() -> None:
    """The table works on the first images while the last one is requantised, and their place is loaded into again."""
    assert check(80790)


@pytest.mark.parametrize("start", [*range(0, 40, 10), pytest.param(40, marks=pytest.mark.full)])
def test_random_networks_on_random_machines(start: int) -> None:
    assert sum(check(seed) for seed in range(start, start + 10)) >= 5


def test_a_layer_whose_macs_start_before_the_pool_of_a_layer_before_it_is_no_more_than_fully_used() -> None:
    assert check(60269)


@pytest.mark.full
@pytest.mark.parametrize("start", range(1000, 4500, 20))
def test_many_random_networks_on_random_machines(start: int) -> None:
    assert sum(check(seed) for seed in range(start, start + 20)) >= 10
