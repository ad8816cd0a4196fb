"""No instruction is left out: each has its word, its time, its traffic, its data, and a witness of each of them."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random

import pytest

from accelsim.hardware.configuration import Buffers
from accelsim.isa import INSTRUCTIONS, Instruction, Memory, Unit, Units
from accelsim.isa.units import ON_CHIP
from accelsim.machine.instructions import SEMANTICS
from accelsim.machine.semantics import Semantics

from . import oracle, post_model, small

ARCHITECTURE = Path(__file__).parents[2] / "docs" / "architecture.md"


def missing(kind: type[Instruction]) -> Iterator[str]:
    """What an instruction ought to have, and has not."""
    semantics = SEMANTICS.get(kind)
    if semantics is None:
        yield "semantics in the machine (accelsim/machine/instructions.py)"
    else:
        yield from _untimed(kind, semantics)
    if kind.unit is not None:
        for name in ("read_blocks", "written_blocks"):
            if getattr(kind, name) is getattr(Instruction, name):
                yield f"blocks ({name} in accelsim/isa/instructions)"
    tables: Mapping[str, Mapping[type[Instruction], object]] = {
        "oracle (EXECUTORS in tests/machine/oracle.py)": oracle.EXECUTORS,
        "random programs (RANDOM in tests/machine/small.py)": small.RANDOM,
    }
    if kind.unit == Unit.POST:
        tables = {**tables, "clocked witness (CHUNKS in tests/machine/post_model.py)": post_model.CHUNKS}
    for what, table in tables.items():
        if kind not in table:
            yield what


def _untimed(kind: type[Instruction], semantics: Semantics) -> Iterator[str]:
    if kind.unit in (Unit.MAC, Unit.POST) and semantics.occupancy is None:
        yield "timing (occupancy in its Semantics)"
    if kind.unit in (Unit.LOAD, Unit.STORE) and semantics.rows is None:
        yield "timing (rows in its Semantics)"


@pytest.mark.parametrize("kind", INSTRUCTIONS, ids=lambda kind: kind.mnemonic)
def test_no_instruction_is_without_a_part(kind: type[Instruction]) -> None:
    found = list(missing(kind))
    assert not found, f"{kind.mnemonic} has no {', no '.join(found)}"


@pytest.mark.parametrize(
    ("table", "what"),
    [
        (SEMANTICS, "semantics"),
        (oracle.EXECUTORS, "oracle"),
        (post_model.CHUNKS, "clocked witness"),
        (small.RANDOM, "random programs"),
    ],
)
def test_what_is_taken_away_is_missed(
    monkeypatch: pytest.MonkeyPatch, table: dict[type[Instruction], object], what: str
) -> None:
    for kind in INSTRUCTIONS:
        if kind in table:
            with monkeypatch.context() as patch:
                patch.delitem(table, kind)
                assert any(part.startswith(what) for part in missing(kind)), kind.mnemonic


def test_an_instruction_without_blocks_or_time_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in INSTRUCTIONS:
        if kind.unit is None:
            continue
        with monkeypatch.context() as patch:
            patch.setattr(kind, "written_blocks", Instruction.written_blocks)
            patch.setitem(SEMANTICS, kind, Semantics(**vars(SEMANTICS[kind]) | {"occupancy": None, "rows": None}))
            assert {part.split()[0] for part in missing(kind)} == {"blocks", "timing"}, kind.mnemonic


def test_opcodes_and_mnemonics_are_given_once() -> None:
    assert len({kind.opcode for kind in INSTRUCTIONS}) == len(INSTRUCTIONS)
    assert len({kind.mnemonic for kind in INSTRUCTIONS}) == len(INSTRUCTIONS)
    assert all(0 <= kind.opcode < 256 for kind in INSTRUCTIONS)


def test_the_random_instruction_of_a_kind_is_of_that_kind() -> None:
    for kind, draw in small.RANDOM.items():
        assert all(type(draw(Random(seed))) is kind for seed in range(5))


# Units, memories, ports.


@pytest.mark.parametrize("kind", INSTRUCTIONS, ids=lambda kind: kind.mnemonic)
def test_an_instruction_uses_ports_that_its_unit_has(kind: type[Instruction]) -> None:
    for seed in range(10):
        instruction = small.RANDOM[kind](Random(seed))
        unit = Units.NONE if kind.unit is None else Units.of(kind.unit)
        assert all(block.memory.ports.read_by & unit for block in instruction.read_blocks())
        assert all(block.memory.ports.written_by & unit for block in instruction.written_blocks())


def test_every_buffer_of_a_configuration_is_a_memory_and_the_other_way_round() -> None:
    assert set(Buffers.model_fields) == {memory.label for memory in ON_CHIP}


def test_sets_of_units_are_of_the_units_that_there_are() -> None:
    assert {unit.name: 1 << unit for unit in Unit} == {item.name: item.value for item in Units if item}
    words = {name: bits for kind in INSTRUCTIONS for name, bits in _bits(kind)}
    assert words["wait"] == words["signal"] == words["memory"] == 8
    assert len(Unit) <= 8


def _bits(kind: type[Instruction]) -> Iterator[tuple[str, int]]:
    for field in kind.fields():
        yield field.name, field.bits


def test_the_page_s_table_of_memories_is_what_is_declared() -> None:
    page = ARCHITECTURE.read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\w[\w ]*) \| .* \| .* \| ([\w, ]+) \| ([\w, ]+) \| ([^|]*) \|$", page, re.MULTILINE)
    written = {name: columns for name, *columns in rows}
    names = {
        Memory.ACTIVATION: "activation buffer",
        Memory.WEIGHT: "weight buffer",
        Memory.PARAMETER: "parameter buffer",
        Memory.ACCUMULATOR: "accumulators",
    }
    assert set(names) == set(ON_CHIP)
    for memory, name in names.items():
        writers, readers = memory.ports.written_by.members(), memory.ports.read_by.members()
        units = [", ".join(unit.label for unit in some) for some in (writers, readers)]
        macros = f"{len(writers)} x {len(readers)} = {len(writers) * len(readers)}"
        assert written[name] == [*units, macros]
        assert memory.macros == len(writers) * len(readers)


def test_no_ladder_of_instructions_stands_in_the_machine() -> None:
    """What is true of one instruction is in its `Semantics`, not in a `match` over classes somewhere else."""
    import accelsim.machine as package

    known = {kind.__name__ for kind in INSTRUCTIONS}
    for path in Path(inspect.getfile(package)).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Match):
                classes = {
                    item.cls.id
                    for item in ast.walk(node)
                    if isinstance(item, ast.MatchClass) and isinstance(item.cls, ast.Name)
                }
                assert len(classes & known) < 2, f"{path.name}:{node.lineno}"
