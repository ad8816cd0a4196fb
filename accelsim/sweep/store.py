"""Finished points in SQLite: one row a point, written when it finishes, so that a sweep that was killed goes on."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from accelsim import __version__
from accelsim.errors import SweepError
from accelsim.hardware import Accelerator

MEMORIES = ("dram", "activation", "weight", "accumulator", "parameter")
_TRAFFIC = tuple(f"{memory}_{way}" for memory in MEMORIES for way in ("read", "written"))
_COLUMNS = {
    "key": "TEXT PRIMARY KEY",
    "network": "TEXT NOT NULL",
    "version": "TEXT NOT NULL",
    "configuration": "TEXT NOT NULL",  # JSON: json_extract(configuration, '$.mac_array.rows')
    "effort": "INTEGER NOT NULL",  # the compiler's
    "parameters": "TEXT NOT NULL",  # JSON: the swept keys only
    "cycles": "INTEGER",
    "seconds": "REAL",
    "macs": "INTEGER",
    "utilization": "REAL",
    **dict.fromkeys(_TRAFFIC, "INTEGER"),
    "error": "TEXT",  # why the network cannot run there; then the measured columns are NULL
}
#: The floors whose code decides cycles and bytes.
_DECISIVE = ("arithmetic", "hardware", "network", "isa", "compiler", "machine")


@dataclass(frozen=True)
class Measurement:
    """What one configuration does with the network: cycles, utilisation and bytes, or the `error` that prevents it."""

    cycles: int | None = None
    seconds: float | None = None
    macs: int | None = None
    utilization: float | None = None
    traffic: dict[str, dict[str, int]] | None = None
    error: str | None = None


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
    """An SQLite file with a table `points`; created where it does not exist. Raises SweepError for any other file."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        columns = ", ".join(f"{name} {kind}" for name, kind in _COLUMNS.items())
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(self.path, timeout=30)
            found = [row[1] for row in self._connection.execute("PRAGMA table_info(points)")]
            if found not in ([], list(_COLUMNS)):
                self._connection.close()
                raise SweepError(f"{self.path}: its table `points` is not a sweep's; give another file with --store")
            # Readers and a second sweep on the same file do not wait for one another's commits.
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute(f"CREATE TABLE IF NOT EXISTS points ({columns})")
        except (OSError, sqlite3.Error) as error:
            raise SweepError(f"{self.path}: cannot be used as the store of a sweep ({error})") from None

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def get(self, network: str, accelerator: Accelerator, effort: int) -> Measurement | None:
        """The point's measurement, None if it has not been finished."""
        names = ("cycles", "seconds", "macs", "utilization", "error", *_TRAFFIC)
        query = f"SELECT {', '.join(names)} FROM points WHERE key = ?"
        row = self._connection.execute(query, (point_key(network, accelerator, effort),)).fetchone()
        if row is None:
            return None
        found = dict(zip(names, row, strict=True))
        traffic = None
        if found["error"] is None:
            traffic = {m: {way: found[f"{m}_{way}"] for way in ("read", "written")} for m in MEMORIES}
        return Measurement(
            found["cycles"], found["seconds"], found["macs"], found["utilization"], traffic, found["error"]
        )

    def put(
        self,
        network: str,
        accelerator: Accelerator,
        effort: int,
        parameters: dict[str, Any],
        measurement: Measurement,
    ) -> None:
        """Write one finished point; when this returns it survives the end of the process. Raises SweepError."""
        row = {
            "key": point_key(network, accelerator, effort),
            "network": network,
            "version": release(),
            "configuration": json.dumps(accelerator.to_dict()),
            "effort": effort,
            "parameters": json.dumps(parameters),
            "cycles": measurement.cycles,
            "seconds": measurement.seconds,
            "macs": measurement.macs,
            "utilization": measurement.utilization,
            "error": measurement.error,
        }
        for memory, moved in (measurement.traffic or {}).items():
            row |= {f"{memory}_{way}": moved[way] for way in ("read", "written")}
        names = ", ".join(row)
        marks = ", ".join("?" for _ in row)
        try:
            with self._connection:
                self._connection.execute(f"INSERT OR REPLACE INTO points ({names}) VALUES ({marks})", (*row.values(),))
        except sqlite3.Error as error:
            raise SweepError(f"{self.path}: cannot be written ({error})") from None
