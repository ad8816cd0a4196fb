"""The points of a sweep, and what is said of settings that name none."""

from __future__ import annotations

from pathlib import Path

import pytest

from accelsim.errors import SweepError
from accelsim.hardware import Accelerator
from accelsim.sweep.grid import Axis, grid, parse_axis

EDGE = Accelerator.from_yaml(Path(__file__).parents[2] / "configs" / "edge_16x16.yaml")


def test_a_grid_is_every_combination_with_the_last_axis_running_fastest() -> None:
    axes, candidates = grid(EDGE, ["mac_array.rows=4,8", "buffers.weight.bytes=16KiB,1MiB"])
    assert axes == (Axis("mac_array.rows", (4, 8)), Axis("buffers.weight.bytes", (16384, 1048576)))
    found = [(item.accelerator.mac_array.rows, item.accelerator.buffers.weight.bytes) for item in candidates]
    assert found == [(4, 16384), (4, 1048576), (8, 16384), (8, 1048576)]
    assert [tuple(item.parameters.values()) for item in candidates] == found
    assert all(item.accelerator.mac_array.columns == EDGE.mac_array.columns for item in candidates)


def test_values_are_typed_as_in_yaml() -> None:
    assert parse_axis("a.b=1,2.5,x,true") == ("a.b", (1, 2.5, "x", True))


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
