"""The table of a sweep: a row a point, with what bounds it and where a key made no difference."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table

from .causes import label
from .tables import duration, percent, plain_table, value_text

if TYPE_CHECKING:
    from accelsim.sweep import Axis, Point, Sweep
    from accelsim.sweep.search import Search
    from accelsim.sweep.store import Row

#: Measures by which rows can be sorted, and whether more is better.
_MEASURES: Mapping[str, tuple[Callable[[Point], float], bool]] = {
    "cycles": (lambda point: point.measurement.cycles or 0, False),
    "time": (lambda point: point.measurement.seconds or 0.0, False),
    "utilization": (lambda point: point.measurement.utilization or 0.0, True),
    "dram": (lambda point: sum((point.measurement.traffic or {}).get("dram", {}).values()), False),
}

#: Resources of a point that its row names: those with a tenth of the cycles, and so many at most.
_NAMED, _LEAST = 2, 0.1


def sort_keys(axes: Sequence[Axis]) -> tuple[str, ...]:
    """What the rows can be sorted by."""
    return (*_MEASURES, *(key for axis in axes for key in axis.keys))


def sorted_numbers(sweep: Sweep, by: str | None) -> list[int]:
    """The points' numbers: as they are, or from the best on by a measure, or by a key's values; those that could not
    run come last."""
    numbers = list(range(len(sweep.points)))
    if by is None:
        return numbers

    def order(number: int) -> tuple[bool, float]:
        point = sweep.points[number]
        if by in _MEASURES:
            measure, more = _MEASURES[by]
            return point.measurement.error is not None, -measure(point) if more else measure(point)
        axis = next(axis for axis in sweep.axes if by in axis.keys)
        return point.measurement.error is not None, axis.values.index(point.parameters[axis.key])

    return sorted(numbers, key=order)


def sweep_table(sweep: Sweep, sort: str | None = None) -> Table:
    """A row a point: the swept values, cycles, time, utilisation, DRAM bytes and what bounds it, or why it cannot run.

    `sort`: one of `sort_keys`.
    """
    keys = [axis.key for axis in sweep.axes]
    table = plain_table(
        f"{sweep.network} on variants of {sweep.accelerator.name}",
        (*(",\n".join(axis.keys) for axis in sweep.axes), *_COLUMNS),
        left=0,
    )
    for column in table.columns[-2:]:
        column.justify = "left"
    table.columns[-2].no_wrap = True
    table.columns[-1].min_width = 20 if sweep.plateaus else None
    best = sweep.best
    for number in sorted_numbers(sweep, sort):
        point = sweep.points[number]
        found = point.measurement
        values = [setting_text(key, point.parameters.get(key, "-")) for key in keys]
        if found.error is not None or found.traffic is None:
            table.add_row(*values, *["-"] * 6, found.error, style="red")
            continue
        dram = found.traffic["dram"]
        flat = [f"{_short(f.key, keys)} no difference: {label(f.held_by)}" for f in sweep.plateaus.get(number, ())]
        table.add_row(
            *values,
            f"{found.cycles:,}",
            duration(found.seconds or 0.0),
            percent(found.utilization or 0.0),
            f"{dram['read']:,}",
            f"{dram['written']:,}",
            bounds_text(found.bounds or {}),
            "; ".join([*(["best"] if point is best else []), *flat]),
            style="bold green" if point is best else "",
        )
    return table


def front_table(search: Search) -> Table:
    """The points of a search than which none is better in every objective, from the best in the first one on."""
    keys = [axis.key for axis in search.sweep.axes]
    columns = (*(",\n".join(axis.keys) for axis in search.sweep.axes), *search.objectives, "bound by")
    table = plain_table(f"{search.sweep.network}: best points ({', '.join(search.objectives)})", columns, left=0)
    table.columns[-1].justify = "left"
    for number in search.front:
        point, values = search.sweep.points[number], search.values[number] or ()
        swept = [setting_text(key, point.parameters.get(key, "-")) for key in keys]
        measured = [f"{abs(value):,.6g}" if value % 1 else f"{abs(value):,.0f}" for value in values]
        table.add_row(*swept, *measured, bounds_text(point.measurement.bounds or {}))
    return table


def best_table(sweeps: Sequence[Sweep]) -> Table:
    """A row for each sweep of a study: its network and configuration, and the best of its points."""
    table = plain_table("Best points", ("network", "configuration", "cycles", "time", "utilisation", "where"), left=2)
    table.columns[-1].justify = "left"
    for sweep in sweeps:
        if sweep.best is None:
            table.add_row(sweep.network, sweep.accelerator.name, "-", "-", "-", "no point can run", style="red")
            continue
        found = sweep.best.measurement
        where = ", ".join(f"{key} = {setting_text(key, value)}" for key, value in sweep.best.parameters.items())
        cycles, time = f"{found.cycles:,}", duration(found.seconds or 0.0)
        table.add_row(sweep.network, sweep.accelerator.name, cycles, time, percent(found.utilization or 0.0), where)
    return table


def _short(key: str, keys: Sequence[str]) -> str:
    """The last part of a key, where no other of the keys ends in it."""
    last = key.rpartition(".")[2]
    return last if [each.rpartition(".")[2] for each in keys].count(last) == 1 else key


_COLUMNS: Sequence[str] = ("cycles", "time", "utilisation", "DRAM read", "DRAM written", "bound by", "")


def bounds_text(bounds: Mapping[str, int]) -> str:
    """The resources that take most of a run's cycles, with their shares."""
    total = sum(bounds.values())
    most = sorted(bounds.items(), key=lambda item: -item[1])
    named = [item for number, item in enumerate(most) if not number or item[1] >= _LEAST * total][:_NAMED]
    return ", ".join(f"{label(name)} {percent(cycles / total)}" for name, cycles in named)


def setting_text(key: str, value: Any) -> str:
    """A swept value as a person writes it: a group of keys in braces."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {setting_text(name, part)}" for name, part in value.items()) + "}"
    return value_text(key, value)


def results_table(rows: Sequence[Row]) -> Table:
    """A row a point of a store: network, configuration, the swept values, and what was measured, or why nothing was."""
    columns = ("network", "configuration", "swept", "effort", "cycles", "time", "utilisation", "bound by", "")
    table = plain_table("Points of sweeps", columns, left=3)
    for column in table.columns[-2:]:
        column.justify = "left"
    for row in rows:
        found = row.measurement
        swept = ", ".join(f"{key} = {setting_text(key, value)}" for key, value in row.parameters.items())
        where = row.network_name, str(row.configuration.get("name", "")), swept, str(row.effort)
        if found.cycles is None:
            table.add_row(*where, "-", "-", "-", "-", found.error, style="red")
            continue
        measured = f"{found.cycles:,}", duration(found.seconds or 0.0), percent(found.utilization or 0.0)
        table.add_row(*where, *measured, bounds_text(found.bounds or {}), "")
    return table
