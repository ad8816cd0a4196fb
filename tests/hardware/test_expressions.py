"""Sizes that follow others: what an expression comes to, what none is, and which machines the configurations make."""

from __future__ import annotations

import contextlib
import pickle
import re
from fractions import Fraction
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from accelsim import Accelerator
from accelsim.errors import ConfigurationError
from accelsim.hardware.expressions import parse, resolve

KEYS = {"a.rows": Fraction(16), "b.columns": Fraction(32), "b.kind": "fast"}


def value(text: str) -> object:
    return parse(text).value(lambda name: KEYS[resolve(name, KEYS)])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rows", 16),
        ("a.rows * columns", 512),
        ("512 * rows * columns", 262144),
        ("-(rows - columns) / 32 + 0.5", 1),
        ("rows // 5 + rows % 5", 4),
        ("min(rows, columns) + max(1, 2, 3) + ceil(rows / 5)", 23),
        ("2KiB + 1kb + 3B", 3051),
        ("rows * columns <= 512 and not rows > columns", True),
        ("8 < rows < 16 or kind != 'fast'", False),
        ("kind == 'fast'", True),
        ("0.1 + 0.2 == 0.3", True),  # decimal fractions are exact
    ],
)
def test_an_expression_comes_to_what_it_does_by_hand(text: str, expected: object) -> None:
    assert value(text) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rows * colums", "there is no key colums; the keys are a.rows, b.columns, b.kind"),
        ("rows / (columns - 32)", "columns - 32 is 0"),
        ("rows +", "is no expression"),
        ("1e999 * rows", "too large"),
        ("kind * 2", "kind is no number"),
        ("rows == kind", "of two kinds"),
        ("rows and columns", "rows is neither true nor false"),
        ("rows ** 2", "nothing that an expression may hold"),
        ("__import__('os').system('true')", "nothing that an expression may hold"),
        ("().__class__", "nothing that an expression may hold"),
        ("[rows for rows in (1, 2)]", "nothing that an expression may hold"),
        ("lambda: 1", "nothing that an expression may hold"),
        ("f'{rows}'", "nothing that an expression may hold"),
        ("ceil(rows, 2)", "ceil takes one number"),
        ("min()", "nothing that an expression may hold"),
        ("True", "nothing that an expression may hold"),
        ("'\\d'", "is no expression"),
        ("rows\0", "is no expression"),
        ("(" * 900 + "rows" + ")" * 90, "is no expression"),
        ("rows" + " + 1" * 300, "at most 1000"),
    ],
)
def test_what_an_expression_may_not_hold_is_said(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        value(text)


@given(st.text(st.sampled_from("rows+-*/%()<=!.,'\" 0123456789eKiBandort[]{}:\n"), max_size=40))
def test_any_text_is_a_value_or_refused(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert isinstance(value(text), Fraction | bool | str)


def test_the_last_parts_of_a_key_are_enough_where_they_name_one() -> None:
    keys = ("x.a.bytes", "x.b.bytes", "banks")
    assert (resolve("a.bytes", keys), resolve("banks", keys)) == ("x.a.bytes", "banks")
    with pytest.raises(ValueError, match=r"bytes may be x\.a\.bytes or x\.b\.bytes; write which"):
        resolve("bytes", keys)
    with pytest.raises(ValueError, match="there is no key ytes"):
        resolve("ytes", keys)


#: What the shipped configurations were before they had expressions: rows, columns, the four memories' banks, lanes.
SHIPPED = {
    "edge_16x16": (16, 16, (16, 16, 16, 64), 16),
    "edge_16x16_lpddr4": (16, 16, (16, 16, 16, 64), 16),
    "server_32x32": (32, 32, (32, 32, 32, 128), 32),
    "server_64x64": (64, 64, (64, 64, 64, 256), 64),
    "teaching_4x4": (4, 4, (4, 4, 4, 16), 4),
}


def sizes(machine: Accelerator) -> tuple[int, int, tuple[int, ...], int]:
    buffers = machine.buffers
    banks = tuple(
        memory.banks for memory in (buffers.activation, buffers.weight, buffers.accumulator, buffers.parameter)
    )
    assert machine.requant_unit.lanes == machine.vector_unit.lanes
    return machine.mac_array.rows, machine.mac_array.columns, banks, machine.requant_unit.lanes


def test_the_shipped_configurations_have_the_numbers_that_they_had() -> None:
    assert {name: sizes(Accelerator.from_yaml(name)) for name in SHIPPED} == SHIPPED


def test_banks_and_lanes_follow_the_array_unless_they_are_given() -> None:
    edge = Accelerator.from_yaml("edge_16x16")
    assert sizes(edge.replace(**{"mac_array.columns": 32})) == (16, 32, (32, 32, 32, 128), 32)
    assert sizes(edge.replace(**{"mac_array.rows": 8})) == (8, 16, (16, 16, 16, 64), 16)
    fixed = edge.replace(**{"buffers.accumulator.banks": 16})
    assert sizes(fixed.replace(**{"mac_array.columns": 32})) == (16, 32, (32, 32, 16, 128), 32)
    assert "buffers.accumulator.banks" not in fixed.relations
    back = edge.replace(**{"mac_array.columns": 32}).replace(**{"mac_array.columns": 16})
    assert back == edge
    assert back.relations == edge.relations


def test_a_machine_is_its_numbers_however_they_were_given() -> None:
    edge = Accelerator.from_yaml("edge_16x16")
    plain = Accelerator.from_dict(edge.to_dict())
    assert (plain.relations, plain == edge, hash(plain) == hash(edge)) == ({}, True, True)
    assert plain.replace(**{"mac_array.columns": 32}).buffers.weight.banks == 16
    assert pickle.loads(pickle.dumps(edge)).relations == edge.relations
    assert edge != edge.replace(**{"mac_array.rows": 8})


def test_sizes_bandwidths_and_expressions_of_expressions() -> None:
    machine = Accelerator.from_yaml("edge_16x16").replace(
        **{
            "buffers.activation.bytes": "512 * mac_array.rows * mac_array.columns",
            "buffers.weight.bytes": "activation.bytes / 2",
            "dram.bytes_per_cycle": "max(8, columns // 2)",
            "mac_array.columns": "2 * rows",
            "dram.burst_beats": "queues.depth",  # a default that the file does not name
        }
    )
    assert (machine.mac_array.columns, machine.buffers.activation.bytes) == (32, 262144)
    assert (machine.buffers.weight.bytes, machine.dram.bytes_per_cycle, machine.dram.burst_beats) == (131072, 16, 8)
    small = machine.replace(**{"mac_array.rows": 4})
    assert (small.buffers.weight.bytes, small.dram.bytes_per_cycle, small.buffers.parameter.banks) == (8192, 8, 32)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"requant_unit.lanes": "colums"}, "requant_unit.lanes: there is no key colums; the keys are name, clock_mhz"),
        ({"dram.latency": "lanes"}, "dram.latency: lanes may be requant_unit.lanes or vector_unit.lanes; write which"),
        ({"mac_array.columns": "requant_unit.lanes"}, "requant_unit.lanes needs mac_array.columns, itself"),
        ({"mac_array.rows": "rows + 1"}, "mac_array.rows: mac_array.rows needs mac_array.rows, itself"),
        ({"dram.latency": "rows / 3"}, "dram.latency: 'rows / 3' comes to 16/3, not to a whole number"),
        ({"dram.latency": "rows < 3"}, "dram.latency: 'rows < 3' comes to no number"),
        ({"dram.latency": "dataflow + 1"}, "dram.latency: dataflow is no number"),
        ({"mac_array.columns": 2048}, "parameter.banks: Input should be less than or equal to 4096 (got 8192 = 4 * "),
        ({"mac_array.rows": "16"}, "mac_array.rows: Input should be a valid integer"),
        ({"clock_mhz": "rows"}, "clock_mhz: Input should be a valid number"),
    ],
)
def test_what_an_expression_lacks_is_said_by_key(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        Accelerator.from_yaml("edge_16x16").replace(**changes)
    assert said in str(error.value)
    assert str(error.value).startswith("edge_16x16: ")


def test_other_wrong_keys_are_named_beside_expressions(tmp_path: Path) -> None:
    data = yaml.safe_load((Path(__file__).parents[2] / "configs" / "edge_16x16.yaml").read_text())
    data["mac_array"]["rows"] = 0
    data["buffers"]["weight"] = "big"
    with pytest.raises(ConfigurationError, match=r"mac_array\.rows: Input should be greater") as error:
        Accelerator.from_dict(data)
    assert "buffers.weight: " in str(error.value)
