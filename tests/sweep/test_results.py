"""Points of stores: all of them, chosen, sorted, as CSV, and of several stores in one."""

from __future__ import annotations

import csv
import io
import sqlite3
from pathlib import Path

import pytest

from accelsim.errors import SweepError
from accelsim.hardware import Accelerator
from accelsim.sweep.results import by, chosen, record, to_csv
from accelsim.sweep.store import MEMORIES, Measurement, Row, Store

EDGE = Accelerator.from_yaml("edge_16x16")
TRAFFIC = {memory: {"read": 10 * i, "written": 10 * i + 1} for i, memory in enumerate(MEMORIES)}


def measured(cycles: int, utilization: float) -> Measurement:
    bounds = {"array": cycles - 10, "fetcher": 10}
    return Measurement(cycles, cycles / 5e8, 999, utilization, TRAFFIC, bounds=bounds, host_seconds=0.5)


POINTS = {8: measured(900, 0.5), 16: measured(400, 0.25), 32: Measurement(error="CompileError: why, and how")}


def filled(path: Path, points: dict[int, Measurement]) -> Store:
    store = Store(path)
    for rows, found in points.items():
        changes = {"mac_array.rows": rows}
        store.put("hash", EDGE.replace(**changes), 1, changes, found, f"net, {rows}")
    return store


@pytest.fixture
def rows(tmp_path: Path) -> list[Row]:
    return list(filled(tmp_path / "s.sqlite", POINTS).rows())


def test_every_point_is_listed_as_it_was_measured(rows: list[Row]) -> None:
    assert [row.measurement for row in rows] == list(POINTS.values())
    assert [row.parameters for row in rows] == [{"mac_array.rows": count} for count in POINTS]
    assert [row.network_name for row in rows] == ["net, 8", "net, 16", "net, 32"]
    assert Accelerator.from_dict(rows[0].configuration) == EDGE.replace(**{"mac_array.rows": 8})


def test_points_are_chosen_by_what_they_are_and_by_what_was_measured(rows: list[Row]) -> None:
    def found(*where: str) -> list[object]:
        return [record(row)["mac_array.rows"] for row in chosen(rows, where)]

    assert found() == [8, 16, 32]
    assert found("cycles < 500") == [16]
    assert found("rows >= 16", "columns == 16") == [16, 32]
    assert found("utilization > 0.3 and buffers.bytes == 272KiB") == [8]
    assert found("network == 'net, 16' or cycles > 800") == [8, 16]
    assert found("error == 'CompileError: why, and how'") == [32]
    assert found("bounds.fetcher * 50 > cycles") == [16]
    for where, said in (("speed < 3", "there is no key speed"), ("rows", "neither true nor false"), ("<", "no expr")):
        with pytest.raises(SweepError, match=said):
            found(where)
    assert chosen([], ["anything < 3"]) == []


def test_points_are_sorted_and_what_has_no_value_comes_last(rows: list[Row]) -> None:
    assert [row.parameters["mac_array.rows"] for row in by(rows, "cycles")] == [16, 8, 32]
    assert [row.parameters["mac_array.rows"] for row in by(rows, "utilization")] == [8, 16, 32]
    assert [row.parameters["mac_array.rows"] for row in by(rows, "mac_array.rows")] == [8, 16, 32]
    assert [row.parameters["mac_array.rows"] for row in by(rows, "network")] == [16, 32, 8]
    with pytest.raises(SweepError, match="--sort speed: there is no key speed"):
        by(rows, "speed")


def test_csv_has_a_line_a_point_and_reads_back(rows: list[Row]) -> None:
    read = list(csv.DictReader(io.StringIO(to_csv(rows))))
    assert [line["cycles"] for line in read] == ["900", "400", ""]
    assert [line["mac_array.rows"] for line in read] == ["8", "16", "32"]
    assert [line["bounds.fetcher"] for line in read] == ["10", "10", ""]
    assert [line["dram_written"] for line in read] == ["1", "1", ""]
    assert read[2]["error"] == "CompileError: why, and how"
    assert read[1]["network"] == "net, 16"


def test_stores_merge_and_no_crash_takes_the_place_of_a_result(tmp_path: Path) -> None:
    crash = Measurement(error="its process was killed", crashed=True)
    one = filled(tmp_path / "1.sqlite", {8: POINTS[8], 16: crash, 64: crash})
    other = filled(tmp_path / "2.sqlite", {8: crash, 16: POINTS[16], 32: POINTS[32], 64: crash})
    assert one.merge(other) == 2  # the result in place of the crash, and the point that only the other one had
    found = {row.parameters["mac_array.rows"]: row.measurement for row in one.rows()}
    assert found == {**POINTS, 64: crash}
    assert one.merge(other) == 0
    empty = Store(tmp_path / "3.sqlite")
    assert (empty.merge(one), empty.merge(other)) == (4, 0)
    assert {row.key for row in empty.rows()} == {row.key for row in one.rows()}


def test_a_changed_row_is_neither_listed_nor_merged(tmp_path: Path) -> None:
    store = filled(tmp_path / "s.sqlite", POINTS)
    with sqlite3.connect(tmp_path / "s.sqlite") as connection:
        connection.execute("UPDATE points SET cycles = 1 WHERE cycles = 400")
    with pytest.raises(SweepError, match="changed after it was measured"):
        list(store.rows())
    target = Store(tmp_path / "t.sqlite")
    with pytest.raises(SweepError, match="changed after it was measured"):
        target.merge(store)
    assert list(target.rows()) == []  # all or none
