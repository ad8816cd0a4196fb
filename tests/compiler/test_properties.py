"""What a designer may rely on with any network and machine: more hardware does no harm, and bytes are counted."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, note, reject, settings
from hypothesis import strategies as st

import accelsim
from accelsim.compiler import compile_with_plans
from accelsim.compiler.operations import Copy, Elementwise, target_of
from accelsim.errors import CompileError

sys.path.insert(0, str(Path(__file__).parent))

from networks import Draft

#: What is doubled.
RESOURCES = (
    "dram.bytes_per_cycle",
    "buffers.activation.bytes",
    "buffers.weight.bytes",
    "buffers.accumulator.bytes",
    "buffers.parameter.bytes",
    "requant_unit.lanes",
    "vector_unit.lanes",
)


#: By how much a network compiled for more hardware may be slower than for less, and by how much the same program. Of
#: random cases about one in a hundred is slower by more: a unit that is done earlier asks for the bus earlier,
#: and what is urgent then waits; and a search sees a part of all programs.
SLOWER, SAME_SLOWER = 1.01, 1.03
#: What share of many random cases may be, and by effort, by how much each of them.
EXCEPTIONS, WORST = 0.02, {1: 1.10, 2: 1.05}


def network(seed: int) -> accelsim.Network:
    """One to four layers of convolutions, sums, pools, and perhaps a linear layer after them."""
    rng = np.random.default_rng(seed)
    draft = Draft(rng)
    size = int(rng.integers(4, 17))
    name = draft.input((1, int(rng.integers(1, 17)), size, size))
    for _ in range(int(rng.integers(1, 5))):
        channels = draft.shape(name)[1]
        kind = int(rng.integers(0, 5))
        if kind == 0 and min(draft.shape(name)[2:]) > 2:
            name = draft.max_pool(name, 2, 2, 0)
        elif kind == 1:
            name = draft.add(name, draft.lookup(name))
        elif kind == 2:
            name = draft.convolution(name, channels, 3, padding=1, groups=channels)
        else:
            kernel = int(rng.choice([1, 3]))
            stride = int(rng.choice([1, 2]))
            name = draft.convolution(name, int(rng.integers(1, 40)), kernel, padding=kernel // 2, stride=stride)
    if rng.integers(2):
        name = draft.linear(draft.reshape(name, (1, int(np.prod(draft.shape(name))))), int(rng.integers(1, 40)))
    return draft.network(name)


BANKS = st.integers(1, 64)
#: As many banks as the widest bus or row of lanes has bytes: a doubled one can be fed.
MANY = st.just(64)


@st.composite
def machines(draw: Any, banks: st.SearchStrategy[int] = BANKS) -> accelsim.Accelerator:
    """Arrays of 1 to 32, buffers of 512 bytes up in 1 to 64 banks, DRAM of 1 to 32 bytes a cycle, every dataflow, both
    kinds of DRAM."""

    def memory(least: int) -> dict[str, int]:
        return {"bytes": draw(st.sampled_from([least, 4 * least, 32 * least])), "banks": draw(banks)}

    dram: dict[str, Any] = {"bytes_per_cycle": draw(st.sampled_from([1, 4, 16, 32])), "latency": 20}
    preset = draw(st.sampled_from([None, None, "ddr4_2400", "hbm2"]))
    if preset is not None:
        dram |= {"model": "banked", "preset": preset}
    return accelsim.Accelerator.from_dict(
        {
            "name": "drawn",
            "mac_array": {
                "rows": draw(st.sampled_from([1, 3, 4, 8, 16, 32])),
                "columns": draw(st.sampled_from([1, 4, 7, 8, 16, 32])),
                "dataflow": draw(st.sampled_from(["weight_stationary", "output_stationary", "input_stationary"])),
            },
            "buffers": {
                "activation": memory(1024),
                "weight": memory(512),
                "accumulator": memory(512),
                "parameter": memory(1024),
            },
            "requant_unit": {"lanes": draw(st.sampled_from([1, 4, 16]))},
            "vector_unit": {"lanes": draw(st.sampled_from([1, 4, 16]))},
            "dram": dram,
        }
    )


def promised(examples: int) -> Any:
    return settings(
        max_examples=examples,
        phases=[Phase.generate],  # a case takes seconds: the one that fails is told as it is
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )


def doubled(machine: accelsim.Accelerator, resource: str) -> accelsim.Accelerator:
    """The machine with twice the resource."""
    value: Any = machine
    for part in resource.split("."):
        value = getattr(value, part)
    return machine.replace(**{resource: 2 * value})


def slower(seed: int, machine: accelsim.Accelerator, resource: str, effort: int) -> tuple[float, float]:
    """Cycles on a machine with twice the resource over those of what is compiled for the machine as it is: of what is
    compiled for the larger one, and of the same program, which takes as long with larger buffers."""
    try:
        program = accelsim.compile(network(seed), machine, effort=effort)
    except CompileError:
        reject()
    cycles = accelsim.simulate(program).cycles
    larger = doubled(machine, resource)
    same = accelsim.simulate(program, accelerator=larger).cycles
    what = f"seed {seed}, {resource} doubled, from {cycles} cycles on {machine}"
    if resource.startswith("buffers."):
        assert same == cycles, what
    again = accelsim.simulate(accelsim.compile(network(seed), larger, effort=effort)).cycles
    note(f"{again} cycles, the same program {same}: {what}")
    return again / cycles, same / cycles


def check_bytes_and_utilisation(seed: int, machine: accelsim.Accelerator, effort: int) -> None:
    """No layer is more than fully used, and DRAM is written with the outputs and what was spilled, each byte once."""
    graph = network(seed)
    try:
        compilation = compile_with_plans(graph, machine, effort=effort)
    except CompileError:
        reject()
    result = accelsim.simulate(compilation.program)
    assert 0 <= result.utilization <= 1
    assert all(0 <= layer.utilization <= 1 for layer in result.layers)
    outputs = {compilation.lowered.forms[name].tensor for name in graph.outputs}
    spilled = written = 0
    for operation in compilation.lowered.operations:
        tensor = target_of(operation)
        size = operation.size if isinstance(operation, Elementwise | Copy) else operation.target.size
        if tensor in outputs:
            written += size
        elif tensor not in compilation.placement.addresses:
            spilled += size
    assert written == sum(int(np.prod(graph.values[name].shape)) for name in graph.outputs)
    assert result.traffic["dram"].written == written + spilled


SEEDS = st.integers(0, 1 << 20)


@pytest.mark.parametrize(("effort", "examples"), [(1, 6), (2, 1)])
def test_doubling_a_resource_makes_nothing_slower(effort: int, examples: int) -> None:
    @promised(examples)
    @given(SEEDS, machines(MANY), st.sampled_from(RESOURCES))
    def check(seed: int, machine: accelsim.Accelerator, resource: str) -> None:
        again, same = slower(seed, machine, resource, effort)
        assert again <= SLOWER
        assert same <= SAME_SLOWER

    check()


@pytest.mark.parametrize(("effort", "examples"), [(1, 6)])
def test_doubling_a_resource_of_memories_with_few_banks_makes_hardly_anything_slower(
    effort: int, examples: int
) -> None:
    @promised(examples)
    @given(SEEDS, machines(), st.sampled_from(RESOURCES))
    def check(seed: int, machine: accelsim.Accelerator, resource: str) -> None:
        again, same = slower(seed, machine, resource, effort)
        assert again <= WORST[effort]
        assert same <= SAME_SLOWER
        ratios.append(again)

    ratios: list[float] = []
    check()
    assert sum(ratio > SLOWER for ratio in ratios) <= 1


@pytest.mark.full
@pytest.mark.parametrize("banks", [MANY, BANKS], ids=["64", "1-64"])
@pytest.mark.parametrize("resource", RESOURCES)
@pytest.mark.parametrize(("effort", "examples"), [(1, 100), (2, 20)])
def test_doubling_a_resource_makes_hardly_anything_slower(
    resource: str, effort: int, examples: int, banks: st.SearchStrategy[int]
) -> None:
    ratios = []

    @promised(examples)
    @given(SEEDS, machines(banks))
    def check(seed: int, machine: accelsim.Accelerator) -> None:
        again, same = slower(seed, machine, resource, effort)
        assert again <= WORST[effort]
        assert same <= SAME_SLOWER
        ratios.append(again)

    check()
    assert sum(ratio > SLOWER for ratio in ratios) <= max(1, EXCEPTIONS * len(ratios))


@promised(25)
@given(SEEDS, machines())
def test_utilisation_is_at_most_one_and_dram_is_written_with_outputs_and_spills(
    seed: int, machine: accelsim.Accelerator
) -> None:
    check_bytes_and_utilisation(seed, machine, effort=0)


@pytest.mark.full
@promised(1000)
@given(SEEDS, machines())
def test_utilisation_is_at_most_one_and_dram_is_written_with_outputs_and_spills_often(
    seed: int, machine: accelsim.Accelerator
) -> None:
    check_bytes_and_utilisation(seed, machine, effort=seed % 2)
