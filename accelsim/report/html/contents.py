"""The page's tables: plain rows, each cell with the text that is shown and the number behind it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from accelsim.machine import Result, Traffic
from accelsim.report.causes import label, ordered
from accelsim.report.faster import Outcome
from accelsim.report.roofline import Roofline
from accelsim.report.tables import percent, value_text

if TYPE_CHECKING:
    from accelsim.verification import Verification


@dataclass(frozen=True)
class Cell:
    """`value`: the exact number, by which the column is sorted; None for text."""

    text: str
    value: float | None = None


@dataclass(frozen=True)
class Sheet:
    """A table of the page. `key` is its id. `total`: a last row that stays last."""

    key: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    total: tuple[Cell, ...] = ()


def count(value: int) -> Cell:
    """A whole number."""
    return Cell(f"{value:,}", value)


def real(value: float, text: str | None = None) -> Cell:
    """A number of which some digits are shown."""
    return Cell(f"{value:,.4g}" if text is None else text, value)


def layer_sheet(result: Result) -> Sheet:
    """By layer: MACs, cycles, utilisation, and the array's cycles by cause, busy split into working and empty."""
    causes = ordered(cause for layer in result.layers for cause in layer.stalls)
    rows = [
        (
            count(number),
            Cell(layer.name),
            count(layer.macs),
            count(layer.cycles),
            real(layer.utilization, percent(layer.utilization)),
            *(real(part, f"{part:,.0f}") for part in (layer.working, layer.empty)),
            *(count(layer.stalls.get(cause, 0)) for cause in causes),
        )
        for number, layer in enumerate(result.layers, 1)
    ]
    working, empty = (sum(getattr(layer, part) for layer in result.layers) for part in ("working", "empty"))
    total = (
        Cell(""),
        Cell("total"),
        count(result.macs),
        count(result.cycles),
        real(result.utilization, percent(result.utilization)),
        *(real(part, f"{part:,.0f}") for part in (working, empty)),
        *(count(sum(layer.stalls.get(cause, 0) for layer in result.layers)) for cause in causes),
    )
    heads = ("#", "layer", "MACs", "cycles", "utilisation", "working", "empty", *map(label, causes))
    return Sheet("layers", "Cycles of the MAC array by layer and cause", heads, tuple(rows), total)


def array_sheet(result: Result) -> Sheet:
    """By layer with MACs: how it lies on the array, and the cells of its busy cycles."""
    array = result.accelerator.mac_array
    size = array.rows * array.columns
    rows = tuple(
        (
            count(number),
            Cell(layer.name),
            count(use.folds),
            real(use.vectors_per_fold),
            real(use.rows),
            real(use.columns),
            count(use.unroll_pixels),
            count(use.unroll_groups),
            count(layer.busy),
            *(
                real(cells / size, f"{cells / size:,.0f}")
                for cells in (use.working, use.empty_rows, use.empty_columns, use.empty_between)
            ),
        )
        for number, layer in enumerate(result.layers, 1)
        if (use := layer.array).vectors
    )
    heads = (
        *("#", "layer", "folds", "vectors a fold", f"rows used of {array.rows}", f"columns used of {array.columns}"),
        *("unrolled pixels", "unrolled groups", "busy", "working (ideal)"),
        *("empty by rows", "empty by columns", "empty in between"),
    )
    return Sheet("array", "How the layers lie on the array, in cycles of all its cells", heads, rows)


def unit_sheet(result: Result) -> Sheet:
    """By unit: the run's cycles by cause."""
    causes = ordered(cause for found in result.units.values() for cause in found)
    rows = tuple(
        (Cell(unit), *(count(found.get(cause, 0)) for cause in causes)) for unit, found in result.units.items()
    )
    return Sheet("units", "Cycles of each unit by cause", ("unit", *map(label, causes)), rows)


def layer_unit_sheet(result: Result) -> Sheet:
    """By layer and unit beside the array: cycles by cause in the layer's window."""
    others = [unit for unit in result.units if unit != "mac"]
    causes = ordered(cause for unit in others for cause in result.units[unit])
    rows = tuple(
        (count(number), Cell(layer.name), Cell(unit), *(count(found.get(cause, 0)) for cause in causes))
        for number, layer in enumerate(result.layers, 1)
        if layer.cycles
        for unit in others
        if (found := layer.units.get(unit)) is not None
    )
    heads = ("#", "layer", "unit", *map(label, causes))
    return Sheet("layer-units", "Cycles of the other units in each layer's window", heads, rows)


def traffic_sheet(result: Result) -> Sheet:
    """By layer: bytes read from and written to each memory."""
    ways = [(memory, way) for memory in result.traffic for way in ("read", "written")]

    def cells(traffic: Mapping[str, Traffic]) -> Iterable[Cell]:
        return (count(getattr(traffic[memory], way)) for memory, way in ways)

    rows = tuple(
        (count(number), Cell(layer.name), *cells(layer.traffic)) for number, layer in enumerate(result.layers, 1)
    )
    total = (Cell(""), Cell("total"), *cells(result.traffic))
    heads = ("#", "layer", *(f"{memory} {way}" for memory, way in ways))
    return Sheet("traffic", "Bytes by layer and memory", heads, rows, total)


def operand_sheet(operands: Mapping[str, Mapping[str, Traffic]]) -> Sheet:
    """By memory and operand or unit: bytes read and written."""
    rows = tuple(
        (Cell(memory), Cell(what), count(moved.read), count(moved.written))
        for memory, by in operands.items()
        for what, moved in by.items()
    )
    return Sheet("operands", "Bytes by memory and operand", ("memory", "operand or unit", "read", "written"), rows)


def roofline_sheet(roofline: Roofline) -> Sheet:
    """By layer with MACs: its place under the roofline."""
    rows = tuple(
        (
            count(point.number),
            Cell(point.name),
            real(point.intensity),
            real(point.rate),
            real(point.ceiling),
            real(point.rate / point.ceiling, percent(point.rate / point.ceiling)),
            Cell(point.bound),
        )
        for point in roofline.points
    )
    heads = ("#", "layer", "MACs a byte of DRAM", "MACs a cycle", "ceiling", "share of it", "the lower ceiling")
    return Sheet("roofline", "The layers under the roofline", heads, rows)


def change_sheet(outcomes: Sequence[Outcome], cycles: int) -> Sheet:
    """What was changed, and the cycles with it."""
    rows = tuple(
        (
            Cell(outcome.change.what),
            Cell(", ".join(f"{key} = {value_text(key, value)}" for key, value in outcome.change.values.items())),
            count(outcome.cycles) if outcome.cycles is not None else Cell(f"cannot run: {outcome.error}"),
            real(outcome.speedup(cycles), f"{outcome.speedup(cycles):.3f} x" if outcome.cycles else "-"),
        )
        for outcome in outcomes
    )
    return Sheet("changes", "The same work, simulated again", ("change", "keys", "cycles", "speed-up"), rows)


def verification_sheet(verification: Verification) -> Sheet:
    """By layer: outputs compared with PyTorch's, and those that differ."""
    rows = tuple(
        (
            Cell(name),
            *(count(part) for part in (layer.compared, layer.differing, layer.explained, layer.mismatches)),
            Cell(layer.cause),
        )
        for name, layer in verification.rows
    )
    heads = ("layer", "outputs compared", "differing", "explained", "unexplained", "cause")
    return Sheet("verification", f"Every layer beside PyTorch's own ({verification.engine})", heads, rows)


def configuration_sheet(data: Mapping[str, Any]) -> Sheet:
    """Every key of the configuration with its value, defaults included."""

    def flat(part: Mapping[str, Any], prefix: str) -> Iterable[tuple[str, Any]]:
        for name, value in part.items():
            if isinstance(value, Mapping):
                yield from flat(value, f"{prefix}{name}.")
            else:
                yield prefix + name, value

    rows = tuple((Cell(key), Cell(value_text(key, value))) for key, value in flat(data, ""))
    return Sheet("configuration", "The configuration as used", ("key", "value"), rows)
