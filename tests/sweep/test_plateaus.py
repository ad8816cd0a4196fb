"""Where a key makes no difference, the table says so, and what held the cycles."""

from __future__ import annotations

from accelsim.hardware import Accelerator
from accelsim.hardware.balance import shortages
from accelsim.sweep import Axis, Measurement, Point, Sweep
from accelsim.sweep.plateaus import Plateau, held_by

EDGE = Accelerator.from_yaml("edge_16x16")


def point(rows: int, columns: int, cycles: int | None, held: str = "") -> Point:
    measured = Measurement(cycles) if cycles else Measurement(error="no")
    return Point({"mac_array.rows": rows, "mac_array.columns": columns}, measured, held)


def test_a_step_of_a_key_that_changes_less_than_a_hundredth_is_a_plateau() -> None:
    axes = (Axis("mac_array.rows", (8, 16)), Axis("mac_array.columns", (8, 16, 32)))
    points = (
        point(8, 8, 4000),
        point(8, 16, 2000),
        point(8, 32, 1985, "array_banks"),
        point(16, 8, 2000),
        point(16, 16, 1970, "fetcher"),
        point(16, 32, None),
    )
    found = Sweep("net", EDGE, axes, points, 0).plateaus
    assert found == {2: (Plateau("mac_array.columns", 16, "array_banks"),)}


def test_what_holds_a_point_is_its_largest_resource_beside_the_array() -> None:
    narrow = EDGE.replace(**{"buffers.accumulator.banks": 8, "buffers.weight.banks": 15})
    bounds = {"array": 600, "array_banks": 300, "dram_bandwidth": 100}
    assert held_by(bounds, narrow) == "array_banks (buffers.weight.banks, buffers.accumulator.banks)"
    assert held_by(bounds, EDGE) == "array_banks"
    assert held_by({"array": 960, "fetcher": 40}, EDGE) == "array"
    assert held_by({"array": 100, "fetcher": 400}, EDGE) == "fetcher"
    assert held_by(None, EDGE) == ""


def test_shortages_are_less_than_a_word_a_row_or_column() -> None:
    assert shortages(EDGE) == ()
    machine = EDGE.replace(**{"requant_unit.lanes": 4, "buffers.activation.banks": 15, "buffers.weight.banks": 12})
    assert [str(item) for item in shortages(machine)] == [
        "buffers.activation.banks = 15 is less than mac_array.rows = 16",
        "buffers.weight.banks = 12 is less than mac_array.columns = 16",
        "requant_unit.lanes = 4 is less than mac_array.columns = 16",
    ]
    rows = machine.replace(**{"mac_array.dataflow": "input_stationary", "mac_array.columns": 4})
    assert [item.of for item in shortages(rows)] == ["mac_array.rows", "mac_array.rows"]
