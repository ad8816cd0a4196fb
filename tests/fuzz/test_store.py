"""Mutated stores of sweeps: what is found in them is what was measured, or the file is refused in plain words."""

from __future__ import annotations

import random
import sqlite3
from functools import cache
from pathlib import Path
from random import Random

import pytest

from accelsim.errors import SweepError
from accelsim.hardware import Accelerator
from accelsim.sweep.store import MEMORIES, Measurement, Store

from .test_checkpoints import bytes_changed

EDGE = Accelerator.from_yaml(Path(__file__).parents[2] / "configs" / "edge_16x16.yaml")
OTHER = EDGE.replace(**{"mac_array.rows": 4})
TRAFFIC = {memory: {"read": 10 * i, "written": 2**40 * i} for i, memory in enumerate(MEMORIES)}
ROWS = {
    "EDGE": (EDGE, Measurement(1234, 2.5e-6, 999, 0.25, TRAFFIC)),
    "OTHER": (OTHER, Measurement(error="CompileError: too small")),
}
_VALUES = ("NULL", "0", "-1", "1e300", "9223372036854775807", "'text'", "x'00ff'", "zeroblob(100)", "'\u2028'")
_STATEMENTS = (
    "UPDATE points SET {column} = {value}",
    "UPDATE points SET {column} = {value} WHERE rowid = 1",
    "DELETE FROM points",
    "ALTER TABLE points ADD COLUMN more TEXT",
    "ALTER TABLE points DROP COLUMN {column}",
    "ALTER TABLE points RENAME COLUMN {column} TO other",
    "CREATE TABLE more (a)",
    "CREATE INDEX more ON points ({column})",
    "CREATE TRIGGER t AFTER INSERT ON points BEGIN UPDATE points SET cycles = 1; END",
    "DROP TABLE points",
    "PRAGMA user_version = 7",
)


@cache
def sample(folder: Path) -> bytes:
    """A store with two rows."""
    store = Store(folder / "sample.sqlite")
    for machine, measured in ROWS.values():
        store.put("net", machine, 1, {"mac_array.rows": 4}, measured)
    store.close()
    return (folder / "sample.sqlite").read_bytes()


def changed_by_sql(random: Random, path: Path) -> None:
    """What another program could do to the file."""
    with sqlite3.connect(path) as connection:
        columns = [row[1] for row in connection.execute("PRAGMA table_info(points)")]
        for _ in range(random.choice((1, 1, 2))):
            statement = random.choice(_STATEMENTS)
            try:
                connection.execute(statement.format(column=random.choice(columns), value=random.choice(_VALUES)))
            except sqlite3.Error:
                return
    connection.close()


def enter(path: Path) -> None:
    """Open the store, look for what was in it, and write it again. Raises SweepError."""
    store = Store(path)
    try:
        for machine, measured in ROWS.values():
            assert store.get("net", machine, 1) in (measured, None)
        store.put("net", EDGE, 1, {}, ROWS["EDGE"][1])
        assert store.get("net", EDGE, 1) == ROWS["EDGE"][1]
    finally:
        store.close()


@pytest.mark.parametrize(
    ("first", "count"), [(0, 300), *(pytest.param(n, 5000, marks=pytest.mark.full) for n in range(1, 11))]
)
def test_a_mutated_store_is_right_or_refused_in_words(first: int, count: int, tmp_path: Path) -> None:
    draw = random.Random(first)
    whole = sample(tmp_path)
    refused = 0
    for number in range(count):
        path = tmp_path / f"{number}.sqlite"
        if draw.random() < 0.3:
            path.write_bytes(whole)
            changed_by_sql(draw, path)
        else:
            path.write_bytes(bytes_changed(draw, whole))
        message = None
        try:
            enter(path)
        except SweepError as error:
            message = str(error)
        if message is not None:
            refused += 1
            assert str(path) in message
            assert "--store" in message or "sqlite3" in message
            assert len(message) < 700
        for left in tmp_path.glob(f"{number}.sqlite*"):
            left.unlink()
    assert count * 0.1 < refused < count
