"""`simulate`: outputs, values, layers, utilisation and bytes of whole programs, checked by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

import accelsim
from accelsim.errors import AssemblyError, InputError, MachineError
from accelsim.isa import Halt, Instruction, Load, Lookup, Mac, Memory, Part, Probe, Program, Segment, Store, Units
from accelsim.machine import Traffic, simulation

from . import small

PROGRAMS = Path(__file__).parents[2] / "programs"
TABLE = bytes((7 * i + 3) % 256 for i in range(256))


def assembled(name: str) -> Program:
    return accelsim.assemble((PROGRAMS / f"{name}.asm").read_text(), small.accelerator())


def lookups(**parts: Any) -> Program:
    """8 codes through a table, twice: y = table[table[x]]; the second result takes the place of the first."""
    lookup = Lookup(source=0, length=8, out=64, table=0)
    instructions = (
        Load(memory=Memory.PARAMETER, dram=0, address=0, length=256),
        Load(memory=Memory.ACTIVATION, dram=512, address=0, length=8, signal=Units.POST),
        replace(lookup, wait=Units.LOAD),
        replace(lookup, source=64, signal=Units.STORE),
        Store(dram=1024, address=64, length=8, wait=Units.POST),
        Halt(),
    )
    probes = (
        Probe(small.flat_port("once", 64, 8, memory=Memory.ACTIVATION), 2),
        Probe(small.flat_port("twice", 64, 8, memory=Memory.ACTIVATION), 3),
    )
    ports = {"inputs": (small.flat_port("x", 512, 8),), "outputs": (small.flat_port("y", 1024, 8),)}
    return small.program(instructions, {0: TABLE}, **ports, probes=probes, **parts)


def everything_but_data(result: accelsim.Result) -> accelsim.Result:
    return replace(result, outputs=[], values={})


X = np.array([[0, 1, 2, 3, 100, 200, 254, 255]], np.uint8)


def test_outputs_and_values_are_read_when_they_are_complete() -> None:
    result = accelsim.simulate(lookups(), X)
    once = [TABLE[code] for code in X[0]]
    assert result.values["once"].quantized.tolist() == [once]
    assert result.values["twice"].quantized.tolist() == [[TABLE[code] for code in once]]
    assert [output.name for output in result.outputs] == ["y"]
    assert result.outputs[0].quantized.tolist() == [[TABLE[code] for code in once]]
    assert result.outputs[0].quantized.dtype == np.uint8


def seen_in(*parts: Part) -> dict[str, Any]:
    """The values of `lookups` with a value of two lines of four, whose parts lie where the first table's results do."""
    port = replace(small.flat_port("parts", 64, 8, memory=Memory.ACTIVATION), shape=(1, 8), stored=(2, 4), axes=(0, 1))
    probes = []
    address = 64
    for part in parts:
        probes.append(Probe(replace(port, address=address), 2, part))
        address += part.size
    return accelsim.simulate(replace(lookups(), probes=tuple(probes)), X).values


def test_a_value_is_put_together_from_rows() -> None:
    # Columns 0 and 2..3 of both lines, then column 1: in memory one part's rows after the other's.
    parts = Part(0, 1, 2, 4), Part(2, 2, 2, 4), Part(1, 1, 2, 4)
    a, b, c, d, e, f, g, h = (TABLE[code] for code in X[0])
    assert seen_in(*parts)["parts"].quantized.tolist() == [[a, g, c, d, b, h, e, f]]


@pytest.mark.parametrize(
    "parts",
    [
        (Part(0, 1, 2, 4), Part(2, 2, 2, 4)),  # column 1 is missing
        (Part(0, 2, 2, 4), Part(1, 2), Part(3, 1), Part(7, 1)),  # byte 1 is seen twice, and byte 6 never
        (Part(0, 7),),
    ],
)
def test_a_value_that_is_not_seen_once_as_a_whole_is_none(parts: tuple[Part, ...]) -> None:
    assert seen_in(*parts) == {}


@pytest.mark.parametrize("part", [Part(0, 9), Part(1, 4, 2, 4), Part(0, 4, 2, 3), Part(0, 0), Part(-1, 2)])
def test_a_part_that_the_value_does_not_have_is_an_error(part: Part) -> None:
    with pytest.raises(AssemblyError, match=r"x: Part.* is no part of its 8 bytes"):
        Probe(small.flat_port("x", 64, 8), 0, part)


def test_floats_are_quantised_on_the_way_in() -> None:
    result = accelsim.simulate(lookups(), X.astype(np.float32) + np.float32(0.25))
    np.testing.assert_array_equal(result.outputs[0].quantized, accelsim.simulate(lookups(), X).outputs[0].quantized)


@pytest.mark.parametrize("room", [1, 1 << 17, 1 << 26])
def test_runs_in_lockstep_are_what_each_is_alone(room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulation, "_ROOM", room)
    x = np.arange(56, dtype=np.uint8).reshape(7, 8)
    interleave = accelsim.simulate(lookups(), x)
    alone = [accelsim.simulate(lookups(), x[i : i + 1]) for i in range(7)]
    for kind in ("outputs", "values"):
        for name in range(1) if kind == "outputs" else ("once", "twice"):
            parts = [getattr(result, kind)[name].quantized for result in alone]
            np.testing.assert_array_equal(getattr(interleave, kind)[name].quantized, np.concatenate(parts))
    assert everything_but_data(interleave) == everything_but_data(alone[0])


def test_every_run_starts_from_the_programs_own_image() -> None:
    """The program stores its result over its own table: what a run has left behind is nothing to the next."""
    program = lookups()
    store = Store(dram=0, address=64, length=8, wait=Units.POST)
    program = replace(
        program.with_instructions((*program.instructions[:4], store, Halt())), outputs=(small.flat_port("y", 0, 8),)
    )
    rng = np.random.default_rng(3)
    for runs in (1, 3, 1, 2, 3, 1):
        x = rng.integers(0, 256, (runs, 8), np.uint8)
        expected = [[TABLE[TABLE[code]] for code in row] for row in x]
        assert accelsim.simulate(program, x).outputs[0].quantized.tolist() == expected


def test_data_follow_the_order_of_time_not_that_of_the_text() -> None:
    """The lookup stands before the loads that it waits for."""
    instructions = (
        Lookup(source=0, length=8, out=64, table=0, wait=Units.LOAD, signal=Units.STORE),
        Store(dram=1024, address=64, length=8, wait=Units.POST),
        Load(memory=Memory.PARAMETER, dram=0, address=0, length=256),
        Load(memory=Memory.ACTIVATION, dram=512, address=0, length=8, signal=Units.POST),
        Halt(),
    )
    program = small.program(instructions, {0: TABLE, 512: X.tobytes()}, (small.flat_port("y", 1024, 8),))
    assert accelsim.simulate(program, ()).outputs[0].quantized.tolist() == [[TABLE[code] for code in X[0]]]


@pytest.mark.parametrize("name", ["two_layers", "conv_padding", "residual_add"])
def test_a_run_without_data_takes_the_same_time_and_moves_the_same_bytes(name: str) -> None:
    program = assembled(name)
    timed, run = accelsim.simulate(program), accelsim.simulate(program, ())
    assert timed == everything_but_data(run)
    assert timed.outputs == []
    assert run.outputs


def test_utilisation_of_two_layers_by_hand() -> None:
    """Layer 1: 4 x 3 products, layer 2: 3 x 2."""
    result = accelsim.simulate(assembled("two_layers"), ())
    first, second = result.layers
    assert (first.name, second.name) == ("fc1", "fc2")
    assert (first.macs, second.macs, result.macs) == (12, 6, 18)
    assert first.cycles + second.cycles == result.cycles
    assert first.utilization == 12 / (first.cycles * 4 * 4)
    assert second.utilization == 6 / (second.cycles * 4 * 4)
    assert result.utilization == 18 / (result.cycles * 4 * 4)
    # Layer 2 begins where its MAC starts: it waits for layer 1's requantisation, long after layer 1's MAC.
    starts = [span.start for span in result.timeline if span.unit == "mac"]
    assert (first.start, second.start) == (0, starts[1])


def test_bytes_of_two_layers_by_hand() -> None:
    """11 words of 64 bytes; x 4, weights 12 and 6, constants 36 and 24, the result 2."""
    result = accelsim.simulate(assembled("two_layers"))
    assert result.traffic == {
        "dram": Traffic(11 * 64 + 4 + 12 + 36 + 6 + 24, 2),
        "activation": Traffic(4 + 3 + 2, 4 + 3 + 2),
        "weight": Traffic(12 + 6, 12 + 6),
        "accumulator": Traffic(4 * 3 + 4 * 2, 4 * 3 + 4 * 2),
        "parameter": Traffic(36 + 24, 36 + 24),
    }
    for memory, traffic in result.traffic.items():
        parts = [layer.traffic[memory] for layer in result.layers]
        assert traffic == Traffic(sum(part.read for part in parts), sum(part.written for part in parts))


def test_padding_takes_no_bytes() -> None:
    """4 x 4 pixels of 2 channels, 3 x 3 taps, padding 1: each axis has 3 + 4 + 3 places inside of 12."""
    result = accelsim.simulate(assembled("conv_padding"))
    folds = 1  # 3 outputs on 4 columns: each element passes the array once
    assert result.traffic["activation"].read == folds * 10 * 10 * 2 + 48
    assert result.layers[0].macs == 16 * 18 * 3


@pytest.mark.parametrize("seed", range(25))
def test_layers_are_a_partition_of_the_run(seed: int) -> None:
    random = Random(seed)
    instructions = small.balanced(random, [small.random_instruction(random) for _ in range(60)])
    cuts = sorted(random.randrange(60) for _ in range(3))
    layer_of = tuple(sum(index >= cut for cut in cuts) for index in range(61))
    program = replace(small.program(instructions, {}), layers=("a", "b", "c", "d"), layer_of=layer_of)
    run = simulation.timing.run(program, instructions, small.accelerator())
    layers = simulation.layer_results(program, instructions, run, [()] * 61, small.accelerator())
    assert [layer.name for layer in layers] == ["a", "b", "c", "d"]
    assert sum(layer.cycles for layer in layers) == run.cycles
    reached = 0
    for result in layers:
        assert result.start == reached
        reached += result.cycles
        assert 0 <= result.utilization <= 1
        assert sum(result.stalls.values()) <= result.cycles
        assert result.units.keys() == run.units.keys()
        assert all(sum(causes.values()) == result.cycles for causes in result.units.values())
    stalled = sum(sum(result.stalls.values()) for result in layers)
    assert stalled == run.cycles - run.units["mac"]["busy"]
    assert sum(result.array.vectors for result in layers) == run.units["mac"]["busy"]
    for unit, causes in run.units.items():
        for cause, cycles in causes.items():
            assert sum(result.units[unit].get(cause, 0) for result in layers) == cycles
    macs = [0, 0, 0, 0]
    for instruction, layer in zip(instructions, layer_of, strict=True):
        macs[layer] += instruction.macs if isinstance(instruction, Mac) else 0
    assert [result.macs for result in layers] == macs


# A test of the test: the outputs come from the program.


def changed_byte(program: Program, address: int) -> Program:
    data = []
    for segment in program.data:
        content = bytearray(segment.content)
        if 0 <= address - segment.address < len(content):
            content[address - segment.address] ^= 1
        data.append(Segment(segment.address, bytes(content)))
    return replace(program, data=tuple(data))


def codes(program: Program) -> list[int]:
    return [int(code) for code in accelsim.simulate(program, ()).outputs[0].quantized.ravel()]


def test_one_weight_or_one_code_changed_by_one_changes_the_outputs() -> None:
    program = assembled("conv_padding")
    for address in (0x40, 0x50, 0x75, 0x00, 0x1F):
        assert codes(changed_byte(program, address)) != codes(program), hex(address)


def test_one_table_entry_changed_by_one_changes_the_outputs() -> None:
    program = lookups()
    before = accelsim.simulate(program, X).outputs[0].quantized
    after = accelsim.simulate(changed_byte(program, 100), X).outputs[0].quantized
    assert np.flatnonzero(before != after).tolist() == [4]


@pytest.mark.parametrize(
    ("index", "field", "value"),
    [
        (3, "pad", 13),
        (3, "top", 0),
        (3, "left", 0),
        (3, "height", 3),
        (3, "weight_zero_point", 1),
        (3, "dilation_y", 2),
        (3, "stride_x", 2),
        (3, "line_pitch", 7),
        (3, "weight_pitch_k", 2),
        (4, "zero_point", 101),
        (4, "maximum", 104),
    ],
)
def test_one_field_changed_changes_the_outputs(index: int, field: str, value: int) -> None:
    program = assembled("conv_padding")
    assert codes(changed_field(program, index, field, value)) != codes(program)


@pytest.mark.parametrize(
    ("index", "field", "value"),
    [
        (0, "dram", 1),
        (0, "address", 1),
        (1, "length", 53),
        (1, "address", 1),
        (3, "weight", 1),
        (3, "accumulator", 1),
        (4, "out", 65),
        (4, "line_pitch", 13),
        (4, "parameters", 4),
        (5, "address", 65),
    ],
)
def test_one_field_changed_may_leave_something_unwritten(index: int, field: str, value: int) -> None:
    with pytest.raises(MachineError, match="never written"):
        codes(changed_field(assembled("conv_padding"), index, field, value))


def changed_field(program: Program, index: int, field: str, value: int) -> Program:
    instructions: list[Instruction] = list(program.instructions)
    instructions[index] = replace(instructions[index], **{field: value})
    return program.with_instructions(tuple(instructions))


# What `simulate` is given.


def test_the_accelerator_given_takes_the_place_of_the_programs() -> None:
    program = lookups()
    slow = small.accelerator(dram__latency=500)
    assert accelsim.simulate(program, accelerator=slow).accelerator == slow
    assert accelsim.simulate(program, accelerator=slow).cycles > accelsim.simulate(program).cycles + 500
    assert accelsim.simulate(replace(program, accelerator=None), X, accelerator=slow).outputs


def test_a_program_for_no_accelerator_needs_one() -> None:
    with pytest.raises(MachineError, match=r"test: the program names no accelerator; pass simulate\(..., accelerator="):
        accelsim.simulate(replace(lookups(), accelerator=None), X)


def test_an_input_that_does_not_fit_is_named() -> None:
    with pytest.raises(InputError, match="input 'x': shape"):
        accelsim.simulate(lookups(), np.zeros((1, 9), np.uint8))
    with pytest.raises(InputError, match="0 inputs given, 1 expected"):
        accelsim.simulate(lookups(), ())
