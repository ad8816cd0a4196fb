"""Finished points in SQLite."""

from __future__ import annotations

import os
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from accelsim.errors import SweepError
from accelsim.hardware import Accelerator
from accelsim.sweep.store import MEMORIES, Measurement, Store

EDGE = Accelerator.from_yaml(Path(__file__).parents[2] / "configs" / "edge_16x16.yaml")
TRAFFIC = {memory: {"read": 10 * i, "written": 10 * i + 1} for i, memory in enumerate(MEMORIES)}
MEASURED = Measurement(1234, 2.5e-6, 999, 0.25, TRAFFIC)


def test_a_point_is_found_again_under_its_network_configuration_and_effort_only(tmp_path: Path) -> None:
    store = Store(tmp_path / "new" / "s.sqlite")
    store.put("net", EDGE, 1, {"mac_array.rows": 16}, MEASURED)
    store.put("net", EDGE.replace(**{"mac_array.rows": 4}), 1, {"mac_array.rows": 4}, Measurement(error="why"))
    store.close()
    again = Store(tmp_path / "new" / "s.sqlite")
    assert again.get("net", EDGE, 1) == MEASURED
    assert again.get("net", EDGE.replace(name="other"), 1) == MEASURED  # a name changes no cycle
    assert again.get("net", EDGE.replace(**{"mac_array.rows": 4}), 1) == Measurement(error="why")
    assert again.get("other net", EDGE, 1) is None
    assert again.get("net", EDGE.replace(**{"dram.latency": 61}), 1) is None
    assert again.get("net", EDGE, 0) is None
    again.close()


def test_a_machine_without_l2_has_no_bytes_of_it(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.sqlite")
    measured = replace(MEASURED, traffic={memory: moved for memory, moved in TRAFFIC.items() if memory != "l2"})
    store.put("net", EDGE, 1, {}, measured)
    assert store.get("net", EDGE, 1) == measured
    store.close()


def test_a_point_can_be_asked_for_in_sql(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.sqlite")
    store.put("net", EDGE, 1, {"mac_array.rows": 16}, MEASURED)
    store.close()
    with sqlite3.connect(tmp_path / "s.sqlite") as connection:
        query = "SELECT cycles, utilization, dram_written, json_extract(configuration, '$.mac_array.rows') FROM points"
        assert connection.execute(query).fetchall() == [(1234, 0.25, 1, 16)]


def test_another_release_of_the_code_measures_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path / "s.sqlite")
    store.put("net", EDGE, 1, {}, MEASURED)
    monkeypatch.setattr("accelsim.sweep.store.release", lambda: "0.1.0+other")
    assert store.get("net", EDGE, 1) is None
    store.close()


def test_what_is_no_store_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    junk = tmp_path / "junk"
    junk.write_bytes(b"no database " * 100)
    other = tmp_path / "other.sqlite"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE points (a, b)")
    for path in (junk, tmp_path, other):
        before = path.read_bytes() if path.is_file() else b""
        with pytest.raises(SweepError, match=path.name):
            Store(path)
        assert (path.read_bytes() if path.is_file() else b"") == before


def test_a_crash_never_takes_the_place_of_a_result(tmp_path: Path) -> None:
    """Two sweeps on one store may run the same point; one of them is killed."""
    store = Store(tmp_path / "s.sqlite")
    crash = Measurement(error="its process was killed", crashed=True)
    store.put("net", EDGE, 1, {}, crash)
    assert store.get("net", EDGE, 1) == crash
    store.put("net", EDGE, 1, {}, MEASURED)
    store.put("net", EDGE, 1, {}, crash)
    assert store.get("net", EDGE, 1) == MEASURED
    store.put("net", EDGE, 1, {}, Measurement(error="CompileError: why"))
    assert store.get("net", EDGE, 1) == Measurement(error="CompileError: why")
    store.close()


@pytest.mark.parametrize("change", ["cycles = cycles + 1", "error = 'x'", "utilization = 'much'", "crashed = 1"])
def test_a_row_that_was_changed_is_said_with_what_to_do(tmp_path: Path, change: str) -> None:
    store = Store(tmp_path / "s.sqlite")
    store.put("net", EDGE, 1, {}, MEASURED)
    with sqlite3.connect(tmp_path / "s.sqlite") as connection:
        connection.execute(f"UPDATE points SET {change}")
    with pytest.raises(SweepError, match="changed after it was measured") as caught:
        store.get("net", EDGE, 1)
    with sqlite3.connect(tmp_path / "s.sqlite") as connection:
        connection.execute(str(caught.value).split('"')[1])
    assert store.get("net", EDGE, 1) is None
    store.close()


def test_a_store_that_would_run_sql_of_others_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    Store(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE VIEW mine AS SELECT cycles FROM points")
    Store(path).close()  # a view is never asked
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TRIGGER t AFTER INSERT ON points BEGIN DELETE FROM points; END")
    with pytest.raises(SweepError, match="no store"):
        Store(path)


def test_an_endless_file_is_no_store(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (Path("/dev/zero"), tmp_path / "pipe"):
        with pytest.raises(SweepError, match=path.name):
            Store(path)
