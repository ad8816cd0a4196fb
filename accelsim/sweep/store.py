"""Finished points in SQLite: one row a point, written when it finishes, so that a sweep that was killed goes on."""

from __future__ import annotations

import hashlib
import json
import math
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from accelsim import __version__
from accelsim.errors import SweepError
from accelsim.hardware import Accelerator
from accelsim.isa import Memory
from accelsim.isa.units import L2
from accelsim.reading import from_json, shown

MEMORIES = (*(memory.label for memory in Memory), L2)
_TRAFFIC = tuple(f"{memory}_{way}" for memory in MEMORIES for way in ("read", "written"))
_COLUMNS = {
    "key": "TEXT PRIMARY KEY",
    "network": "TEXT NOT NULL",  # its hash
    "network_name": "TEXT NOT NULL",
    "version": "TEXT NOT NULL",
    "configuration": "TEXT NOT NULL",  # JSON: json_extract(configuration, '$.mac_array.rows')
    "effort": "INTEGER NOT NULL",  # the compiler's
    "parameters": "TEXT NOT NULL",  # JSON: the swept keys only
    "cycles": "INTEGER",
    "seconds": "REAL",
    "macs": "INTEGER",
    "utilization": "REAL",
    **dict.fromkeys(_TRAFFIC, "INTEGER"),
    "units": "TEXT",  # JSON: cycles of each unit by cause
    "bounds": "TEXT",  # JSON: cycles by the resource that the array waited for
    "layers": "TEXT",  # JSON: name, cycles, MACs and stalls of each layer
    "host_seconds": "REAL",  # what compiling and timing took
    "error": "TEXT",  # why the network cannot run there; then the measured columns are NULL
    "crashed": "INTEGER NOT NULL",  # 1 where the error is of the process, not of the network and the configuration
    "digest": "TEXT NOT NULL",  # SHA-256 of the other columns
}
_SCHEMA = f"CREATE TABLE points ({', '.join(f'{name} {kind}' for name, kind in _COLUMNS.items())})"
#: The floors whose code decides cycles and bytes.
_DECISIVE = ("arithmetic", "hardware", "network", "isa", "compiler", "machine")


@dataclass(frozen=True)
class Measurement:
    """What one configuration does with the network: cycles, utilisation and bytes, or the `error` that prevents it.

    `units` and `bounds` as in `Result`; of each of the `layers` name, cycles, MACs and stalls. `host_seconds`: what
    compiling and timing took, which makes two measurements no different.
    `crashed`: the error is the process's (killed, out of memory, a bug), not one of network and configuration.
    """

    cycles: int | None = None
    seconds: float | None = None
    macs: int | None = None
    utilization: float | None = None
    traffic: dict[str, dict[str, int]] | None = None
    error: str | None = None
    crashed: bool = False
    units: dict[str, dict[str, int]] | None = None
    bounds: dict[str, int] | None = None
    layers: tuple[dict[str, Any], ...] | None = None
    host_seconds: float | None = field(default=None, compare=False)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One point of a store: its network by hash and name, the configuration, the swept keys, and what was measured."""

    key: str
    network: str
    network_name: str
    version: str
    effort: int
    configuration: dict[str, Any]
    parameters: dict[str, Any]
    measurement: Measurement


@cache
def release() -> str:
    """What a measurement depends on besides network and configuration: this package's version and source."""
    folder = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for part in _DECISIVE:
        for path in sorted((folder / part).rglob("*.py")):
            digest.update(path.read_bytes())
    return f"{__version__}+{digest.hexdigest()[:16]}"


def point_key(network: str, accelerator: Accelerator, effort: int) -> str:
    """What identifies a point: the network's hash, the configuration without its name, effort, and the release."""
    configuration = {key: value for key, value in accelerator.to_dict().items() if key != "name"}
    text = json.dumps([network, configuration, effort, release()], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


class Store:
    """An SQLite file with a table `points`; created where it does not exist. Raises SweepError for any other file.

    Each row carries a sum of its content, so that one which a disk or another program has changed is found.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        connection = None
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.path.exists() and not self.path.is_file():
                raise SweepError(f"{self.path}: is no file; give another with --store")
            connection = sqlite3.connect(self.path, timeout=30)
            self._connection = connection
            self._check()
            # Readers and a second sweep on the same file do not wait for one another's commits.
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(_SCHEMA.replace("TABLE", "TABLE IF NOT EXISTS"))
        except (OSError, ValueError, sqlite3.Error, SweepError) as error:
            if connection is not None:
                connection.close()
            if isinstance(error, SweepError):
                raise
            raise SweepError(
                f"{self.path}: cannot be used as the store of a sweep ({error}); give another with --store"
            ) from None

    def _check(self) -> None:
        """Raises SweepError for a database that is no store: a trigger would run what somebody else wrote."""
        self._connection.execute("PRAGMA trusted_schema = OFF")
        self._connection.execute("PRAGMA cell_size_check = ON")
        found = self._connection.execute("SELECT type, name, sql FROM sqlite_master").fetchall()
        tables = {name: sql for kind, name, sql in found if kind == "table" and not str(name).startswith("sqlite_")}
        if found and (tables != {"points": _SCHEMA} or any(kind == "trigger" for kind, _, _ in found)):
            raise SweepError(
                f"{self.path}: a database, but no store of this version's sweeps; give another with --store"
            )

    @classmethod
    @contextmanager
    def opened(cls, path: str | Path) -> Iterator[Store]:
        """The store, closed again at the end."""
        store = cls(path)
        try:
            yield store
        finally:
            store.close()

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def get(self, network: str, accelerator: Accelerator, effort: int) -> Measurement | None:
        """The point's measurement, None if it has not been finished. Raises SweepError for a damaged file."""
        key = point_key(network, accelerator, effort)
        for row in self._raw("WHERE key = ?", (key,)):
            try:
                return _measurement(row)
            except (ValueError, TypeError):
                raise SweepError(_changed(self.path, key)) from None
        return None

    def host_seconds(self, network: str, effort: int) -> float | None:
        """What a point of the network has taken on average; None if none is known. Raises SweepError."""
        try:
            row = self._connection.execute(
                "SELECT avg(host_seconds) FROM points WHERE network = ? AND effort = ?", (network, effort)
            ).fetchone()
        except sqlite3.Error as error:
            raise SweepError(f"{self.path}: damaged ({error}); give another with --store") from None
        return row[0] if isinstance(row[0], float) and math.isfinite(row[0]) else None

    def put(
        self,
        network: str,
        accelerator: Accelerator,
        effort: int,
        parameters: dict[str, Any],
        measurement: Measurement,
        name: str = "",
    ) -> None:
        """Write one finished point of the network `name`; when this returns it survives the end of the process.

        Raises SweepError. One that crashed never takes the place of one that did not, which another sweep may have
        finished meanwhile.
        """
        row = dict.fromkeys(_COLUMNS) | {
            "key": point_key(network, accelerator, effort),
            "network": network,
            "network_name": _plain_text(name),
            "version": release(),
            "configuration": json.dumps(accelerator.to_dict()),
            "effort": effort,
            "parameters": json.dumps(parameters),
            "cycles": measurement.cycles,
            "seconds": _real(measurement.seconds),
            "macs": measurement.macs,
            "utilization": _real(measurement.utilization),
            "error": None if measurement.error is None else _plain_text(measurement.error),
            "crashed": int(measurement.crashed),
            "host_seconds": _real(measurement.host_seconds),
        }
        row |= {part: _json(getattr(measurement, part)) for part in ("units", "bounds", "layers")}
        for memory, moved in (measurement.traffic or {}).items():
            row |= {f"{memory}_{way}": moved[way] for way in ("read", "written")}
        del row["digest"]
        self._write([row | {"digest": _digest(row)}])

    def rows(self) -> Iterator[Row]:
        """Every point in the order in which they were written. Raises SweepError for a damaged file."""
        for row in self._raw("ORDER BY rowid", ()):
            try:
                configuration, parameters = from_json(row["configuration"]), from_json(row["parameters"])
                if not isinstance(configuration, dict) or not isinstance(parameters, dict):
                    raise ValueError("no mapping")
                yield Row(
                    key=row["key"],
                    network=row["network"],
                    network_name=row["network_name"],
                    version=row["version"],
                    effort=row["effort"],
                    configuration=configuration,
                    parameters=parameters,
                    measurement=_measurement(row),
                )
            except (ValueError, TypeError):
                raise SweepError(_changed(self.path, row["key"])) from None

    def merge(self, other: Store) -> int:
        """Take over the points of `other`, all or none; returns how many are new or take the place of a crash.

        Of a point that both hold this store's stays, unless it crashed. Raises SweepError.
        """
        before = self._connection.total_changes
        rows = ({**row, "digest": _digest(row)} for row in other._raw("ORDER BY rowid", ()))
        self._write(rows, "crashed AND NOT excluded.crashed")
        return self._connection.total_changes - before

    def _raw(self, chosen: str, values: tuple[str, ...]) -> Iterator[dict[str, Any]]:
        """The rows without their sums, each of which is right. Raises SweepError."""
        names = ", ".join(_COLUMNS)
        try:
            for row in self._connection.execute(f"SELECT {names} FROM points {chosen}", values):
                found = dict(zip(_COLUMNS, row, strict=True))
                if found.pop("digest") != _digest(found):
                    raise SweepError(_changed(self.path, found["key"]))
                yield found
        except (sqlite3.Error, UnicodeDecodeError, OverflowError) as error:
            raise SweepError(
                f"{self.path}: damaged ({error}); `sqlite3 {self.path} .recover` may save its rows; give another with "
                "--store"
            ) from None

    def _write(self, rows: Iterable[dict[str, Any]], replaces: str = "crashed OR NOT excluded.crashed") -> None:
        """Write rows with their sums, all or none; one takes the place of another where the words `replaces` hold."""
        names = list(_COLUMNS)
        marks, changes = ", ".join("?" for _ in names), ", ".join(f"{name} = excluded.{name}" for name in names)
        statement = (
            f"INSERT INTO points ({', '.join(names)}) VALUES ({marks}) ON CONFLICT (key) DO UPDATE SET {changes} "
            f"WHERE {replaces}"
        )
        try:
            with self._connection:
                self._connection.executemany(statement, ([row[name] for name in names] for row in rows))
        except (sqlite3.Error, OverflowError) as error:
            raise SweepError(
                f"{self.path}: cannot be written ({error}); free its disk or give another with --store"
            ) from None


def _changed(path: Path, key: object) -> str:
    said = f"{path}: the row of the point {shown(key)[1:-1]} was changed after it was measured; delete it, and it is "
    where = f"key = '{key}'" if isinstance(key, str) and key.isalnum() else "..."
    return f'{said}measured anew: sqlite3 {path} "DELETE FROM points WHERE {where}"'


def _measurement(row: dict[str, Any]) -> Measurement:
    if row["error"] is not None:
        return Measurement(error=row["error"], crashed=bool(row["crashed"]))
    # Without an L2 there is nothing in its columns.
    found = [memory for memory in MEMORIES if row[f"{memory}_read"] is not None]
    traffic = {m: {way: row[f"{m}_{way}"] for way in ("read", "written")} for m in found}
    return Measurement(
        row["cycles"],
        row["seconds"],
        row["macs"],
        row["utilization"],
        traffic,
        units=_from_json(row["units"]),
        bounds=_from_json(row["bounds"]),
        layers=None if row["layers"] is None else tuple(_from_json(row["layers"])),
        host_seconds=row["host_seconds"],
    )


def _json(data: Any) -> str | None:
    return None if data is None else json.dumps(data)


def _from_json(text: str | None) -> Any:
    """What `_json` wrote. Raises ValueError for anything else."""
    return None if text is None else from_json(text)


def _real(number: float | None) -> float | None:
    """A number as SQLite gives it back from a column of real numbers."""
    return None if number is None else float(number)


def _digest(row: dict[str, Any]) -> str:
    """A sum of all columns but itself."""
    return hashlib.sha256(json.dumps(row, sort_keys=True, default=repr).encode()).hexdigest()


def _plain_text(text: str) -> str:
    """Text that SQLite takes: without lone surrogates."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
