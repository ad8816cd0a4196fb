"""The points of a sweep, and what is said of settings that name none."""

from __future__ import annotations

from pathlib import Path

import pytest

from accelsim.errors import SweepError
from accelsim.hardware import Accelerator
from accelsim.sweep.grid import Axis, Space, grid, parse_axis

EDGE = Accelerator.from_yaml(Path(__file__).parents[2] / "configs" / "edge_16x16.yaml")


def test_a_grid_is_every_combination_with_the_last_axis_running_fastest() -> None:
    axes, candidates = grid(EDGE, ["mac_array.rows=4,8", "buffers.weight.bytes=16KiB,1MiB"])
    assert axes == (Axis("mac_array.rows", (4, 8)), Axis("buffers.weight.bytes", (16384, 1048576)))
    found = [(item.accelerator.mac_array.rows, item.accelerator.buffers.weight.bytes) for item in candidates]
    assert found == [(4, 16384), (4, 1048576), (8, 16384), (8, 1048576)]
    assert [tuple(item.parameters.values()) for item in candidates] == found
    assert all(item.accelerator.mac_array.columns == EDGE.mac_array.columns for item in candidates)


def test_values_are_typed_as_in_yaml() -> None:
    assert parse_axis("a.b=1,2.5,x,true") == (("a.b",), (1, 2.5, "x", True))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ([], "nothing to sweep"),
        (["mac_array.rows"], "expected KEY=VALUE"),
        (["=4"], "expected KEY=VALUE"),
        (["mac_array.rows="], "expected KEY=VALUE"),
        (["mac_array.rows=4,"], "a value is missing"),
        (["mac_array.rows=4,,8"], "a value is missing"),
        (["mac_array.rows=4,{"], "is no value"),
        (["mac_array.rows=4,0"], "mac_array.rows=0"),
        (["mac_array.rows=4,many"], "mac_array.rows=many"),
        (["mac_array.rows=[4]"], "mac_array.rows"),
        (["mac_array.rows={a: 1}"], "mac_array.rows"),
        (["mac_array.lines=4"], "mac_array.columns"),
        (["mac_array=4"], "mac_array=4"),
        (["mac_array.rows=4", "mac_array.rows=8"], "given twice"),
        (["mac_array.rows=4,8,4"], "listed twice"),
        (["buffers.weight.bytes=1KiB,1024"], "listed twice"),
        (["mac_array.dataflow=sideways"], "sideways"),
        (["mac_array.rows,mac_array.rows=4"], "mac_array.rows: given twice"),
        (["mac_array.rows,=4"], "expected KEY=VALUE"),
        (["mac_array.rows=64..4"], "64..4"),
        (["mac_array.rows,requant_unit.arithmetic=4"], "requant_unit.arithmetic=4"),
        (["mac_array.rows=4,columns,columns"], "listed twice"),
    ],
)
def test_wrong_settings_are_named(settings: list[str], said: str) -> None:
    with pytest.raises(SweepError) as caught:
        grid(EDGE, settings)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "value",
    ["2020-13-45", "!!int x", "!!timestamp x", "!!bool x", "[" * 5000, "*a", "&a [*a]", "!!python/name:os.system"],
)
def test_what_yaml_cannot_make_a_value_of_is_said(value: str) -> None:
    with pytest.raises(SweepError, match=r"--set mac_array\.rows"):
        grid(EDGE, [f"mac_array.rows={value}"])


def test_more_combinations_than_can_be_run_are_refused_before_they_are_made() -> None:
    values = ",".join(map(str, range(1, 101)))
    with pytest.raises(SweepError, match="1,000,000 combinations"):
        grid(EDGE, [f"{key}={values}" for key in ("mac_array.rows", "mac_array.columns", "dram.latency")])


def test_keys_move_together() -> None:
    axes, candidates = grid(EDGE, ["mac_array.rows,buffers.activation.banks=16,32", "dram.latency=1,2"])
    assert axes[0] == Axis("mac_array.rows", (16, 32), ("buffers.activation.banks",))
    found = [(item.accelerator.mac_array.rows, item.accelerator.buffers.activation.banks) for item in candidates]
    assert found == [(16, 16), (16, 16), (32, 32), (32, 32)]
    assert list(candidates[3].parameters.values()) == [32, 32, 2]


@pytest.mark.parametrize("base", ["float32_exact", "thresholds", {"fixed_point": {"multiplier_bits": 12}}])
def test_a_value_may_be_a_group_of_any_base(base: object) -> None:
    machine = EDGE.replace(**{"requant_unit.arithmetic": base})
    setting = "requant_unit.arithmetic=fixed_point,thresholds,{fixed_point: {multiplier_bits: 16}}"
    _, candidates = grid(machine, [setting])
    found = [item.accelerator.requant_unit.arithmetic for item in candidates]
    assert [(item.name, item.multiplier_bits) for item in found] == [
        ("fixed_point", 31),
        ("thresholds", None),
        ("fixed_point", 16),
    ]
    assert [item.parameters["requant_unit.arithmetic"] for item in candidates][:2] == ["fixed_point", "thresholds"]


def test_a_group_leaves_the_keys_that_it_does_not_name() -> None:
    _, (small, large) = grid(EDGE, ["mac_array={rows: 4, columns: 8},{rows: 32}"])
    assert (small.accelerator.mac_array.rows, small.accelerator.mac_array.columns) == (4, 8)
    assert (large.accelerator.mac_array.rows, large.accelerator.mac_array.columns) == (32, 16)
    assert small.accelerator.buffers.accumulator.banks == 8


def test_values_double_and_may_be_expressions() -> None:
    assert parse_axis("a=3..20,7")[1] == (3, 6, 12, 7)
    assert parse_axis("a=4..4")[1] == (4,)
    axes, candidates = grid(EDGE, ["mac_array.rows=4..16", "buffers.accumulator.banks=max(rows, 8),columns"])
    assert axes[1].values == ("max(rows, 8)", "columns")
    assert [item.accelerator.buffers.accumulator.banks for item in candidates] == [8, 16, 8, 16, 16, 16]


def test_constraints_leave_out_points() -> None:
    both = ["mac_array.rows=4..64", "mac_array.columns=4..64"]
    _, candidates = grid(EDGE, both, ["rows * columns <= 1024", "rows >= columns"])
    found = [(item.accelerator.mac_array.rows, item.accelerator.mac_array.columns) for item in candidates]
    sizes = (4, 8, 16, 32, 64)
    assert found == [(r, c) for r in sizes for c in sizes if r * c <= 1024 and r >= c]
    # 128 KiB, 64 KiB, 64 KiB and 16 KiB on chip.
    assert len(grid(EDGE, both, ["buffers.bytes == 272KiB and dataflow == 'weight_stationary'"])[1]) == 25


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("rows * colums < 3", "--where rows * colums < 3: there is no key colums"),
        ("rows *", "is no expression"),
        ("rows + 1", "neither true nor false"),
        ("dataflow < 3", "dataflow is no number"),
        ("rows > 5000", "no point satisfies --where 'rows > 5000'"),
    ],
)
def test_a_constraint_that_says_nothing_is_named(where: str, said: str) -> None:
    with pytest.raises(SweepError) as caught:
        grid(EDGE, ["mac_array.rows=4,8"], [where])
    assert said in str(caught.value)


def test_random_points_are_some_of_the_grid_each_once_and_the_same_again() -> None:
    values = ",".join(map(str, range(1, 101)))
    settings = [f"{key}={values}" for key in ("mac_array.rows", "mac_array.columns", "dram.latency")]
    space = Space.of(settings, ["rows > columns"], sample=30, seed=5)
    _, candidates = space.candidates(EDGE)
    found = [tuple(item.parameters.values()) for item in candidates]
    assert len(set(found)) == 30
    assert all(rows > columns for rows, columns, _ in found)
    assert len({latency for _, _, latency in found}) > 10
    assert [tuple(item.parameters.values()) for item in space.candidates(EDGE)[1]] == found
    other = Space.of(settings, ["rows > columns"], sample=30, seed=6).candidates(EDGE)[1]
    assert [tuple(item.parameters.values()) for item in other] != found
    few = Space.of(["mac_array.rows=4,8"], sample=30).candidates(EDGE)[1]
    assert sorted(item.accelerator.mac_array.rows for item in few) == [4, 8]
