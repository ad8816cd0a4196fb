"""Points of stores as flat records: chosen by expressions, sorted, and written as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from accelsim.errors import SweepError
from accelsim.hardware.expressions import Expression, Value, parse, resolve
from accelsim.hardware.relations import as_value, named
from accelsim.machine.bounds import RESOURCES

from .store import MEMORIES, Row

Record = Mapping[str, Any]


def record(row: Row) -> Record:
    """Everything of a point by name: network, configuration keys, measures, bytes, cycles by resource, what went wrong.

    What was not measured is None.
    """
    found = row.measurement
    traffic = found.traffic or {}
    configuration = named(row.configuration)
    return {
        "network": row.network_name,
        "configuration": configuration.pop("name", ""),
        "effort": row.effort,
        "cycles": found.cycles,
        "seconds": found.seconds,
        "macs": found.macs,
        "utilization": found.utilization,
        **{f"{m}_{way}": traffic.get(m, {}).get(way) for m in MEMORIES for way in ("read", "written")},
        **{f"bounds.{name}": None if found.bounds is None else found.bounds.get(name, 0) for name in RESOURCES},
        **configuration,
        "error": found.error,
        "crashed": found.crashed,
        "host_seconds": found.host_seconds,
        "version": row.version,
        "network_hash": row.network,
        "key": row.key,
    }


def chosen(rows: Iterable[Row], where: Sequence[str]) -> list[Row]:
    """The rows of which every expression holds; one with a name that a row has no value of does not hold there.

    Raises SweepError for an expression that is none, or with a name that no row has.
    """
    constraints = [_parsed(text) for text in where]
    kept: list[Row] = []
    unknown: dict[str, str] = dict.fromkeys(where, "")
    any_row = False
    for row in rows:
        any_row = True
        values = {key: as_value(value) for key, value in record(row).items() if value is not None}
        verdicts = [_holds(expression, values, unknown) for expression in constraints]
        if all(verdicts):
            kept.append(row)
    for text, reason in unknown.items():
        if reason and any_row:
            raise SweepError(f"--where {text}: {reason}")
    return kept


def by(rows: Iterable[Row], name: str) -> list[Row]:
    """The rows from the least value of a name on (of utilisation, from the most), those without one last.

    Raises SweepError for a name that no row has.
    """
    found = [(row, record(row)) for row in rows]
    names = dict.fromkeys(key for _, each in found for key in each)
    try:
        key = resolve(name, names) if names else name
    except ValueError as error:
        raise SweepError(f"--sort {name}: {error}") from None

    def order(item: tuple[Row, Record]) -> tuple[bool, bool, Any]:
        value = item[1].get(key)
        if value is None:
            return True, False, 0
        if isinstance(value, int | float):
            return False, False, -value if key == "utilization" else value
        return False, True, str(value)

    return [row for row, _ in sorted(found, key=order)]


def to_csv(rows: Iterable[Row]) -> str:
    """A line a point under the names of all of them; what a point has no value of is empty."""
    records = [record(row) for row in rows]
    names = list(dict.fromkeys(name for each in records for name in each))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()


def _parsed(text: str) -> Expression:
    try:
        return parse(text)
    except ValueError as error:
        raise SweepError(f"--where {text}: {error}") from None


def _holds(expression: Expression, values: Mapping[str, Value], unknown: dict[str, str]) -> bool:
    """Whether it holds. `unknown`: by text why it has held nowhere yet; emptied where it was worked out, for good."""
    text = expression.text
    try:
        value = expression.value(lambda name: values[resolve(name, values)])
    except ValueError as error:
        if text in unknown:
            unknown[text] = unknown[text] or str(error)
        return False
    if not isinstance(value, bool):
        raise SweepError(f"--where {text}: is neither true nor false; write a comparison")
    unknown.pop(text, None)
    return value
