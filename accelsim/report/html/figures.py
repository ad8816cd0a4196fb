"""The page's figures, each for a wide and for a narrow screen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, NullLocator

from accelsim.escaping import picture_text
from accelsim.machine import LayerResult, Result, Span, Traffic
from accelsim.report.causes import colour, label, ordered
from accelsim.report.plots import BUSY, cycles_of, new_figure, short
from accelsim.report.roofline import Roofline
from accelsim.report.tables import percent

from .svg import GRID, INK

WIDE, NARROW = 9.6, 4.0  # inches
#: Bars in one figure; more could not be told apart.
MOST_BARS = 300
#: Columns of a timeline: what a screen tells apart.
_BINS = 800
_FONT = 8.0
#: Okabe and Ito's set for what is no cause: operands and units of traffic.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")


def longest(layers: Sequence[LayerResult]) -> list[LayerResult]:
    """The layers with cycles, in order; of more than 300 the longest."""
    taking = [layer for layer in layers if layer.cycles]
    kept = sorted(range(len(taking)), key=lambda i: -taking[i].cycles)[:MOST_BARS]
    return [taking[i] for i in sorted(kept)]


def cycles_figure(layers: Sequence[LayerResult], width: float, *, shares: bool) -> Figure:
    """By layer the array's cycles stacked by cause; with `shares` of the layer's cycles, and its utilisation."""
    figure, axes = _bars(len(layers), width)
    causes = [*BUSY, *ordered(cause for layer in layers for cause in layer.stalls)]
    left, handles = np.zeros(len(layers)), []
    for cause in causes:
        widths = np.array([cycles_of(layer, cause) / (layer.cycles / 100 if shares else 1) for layer in layers])
        if widths.any():
            _stack(axes, widths, left, colour(cause), hatched=cause == "empty")
            handles.append(_patch(label(cause), colour(cause), hatched=cause == "empty"))
        left = left + widths
    for place, layer in enumerate(layers):
        said = percent(layer.utilization) if shares else f"{layer.cycles:,}"
        axes.text(100 if shares else layer.cycles, place, f" {said}", va="center", fontsize=_FONT - 1)
    _names(axes, [layer.name for layer in layers], width)
    most = 100 if shares else max((layer.cycles for layer in layers), default=1)
    axes.set_xlim(0, most * (1.14 if width > NARROW else 1.3))
    axes.set_xlabel("% of the layer's cycles (number: utilisation)" if shares else "cycles", fontsize=_FONT)
    if shares:
        axes.set_xticks(range(0, 101, 20))
    else:
        axes.xaxis.set_major_formatter(lambda value, _: short(value))
    _legend(figure, handles, width)
    return figure


def roofline_figure(roofline: Roofline, width: float) -> Figure:
    """Each layer's MACs a cycle over its MACs a byte of DRAM, under the ceilings of the array and of DRAM."""
    figure = new_figure(width, 4.2 if width > NARROW else 3.6)
    axes = figure.subplots()
    points = roofline.points
    xs = [point.intensity for point in points] or [1.0]
    ridge = roofline.peak / roofline.bandwidth
    ends = np.array([min(*xs, ridge) / 3, ridge, max(*xs, ridge) * 3])
    axes.plot(
        ends[:2],
        ends[:2] * roofline.bandwidth,
        color=INK,
        lw=1.4,
        ls="--",
        label=f"DRAM: {roofline.bandwidth:.4g} bytes a cycle",
    )
    axes.plot(ends[1:], [roofline.peak] * 2, color=INK, lw=1.4, label=f"MAC array: {roofline.peak:,} MACs a cycle")
    sizes = [12 + 120 * (point.cycles / max(point.cycles for point in points)) ** 0.5 for point in points]
    axes.scatter(
        xs[: len(points)],
        [point.rate for point in points],
        sizes,
        color="#0072B2",
        alpha=0.7,
        lw=0.5,
        edgecolor=INK,
        label="a layer (area: cycles; number: the table's)",
    )
    axes.set_xscale("log")
    axes.set_yscale("log")
    _log_ticks(axes.xaxis, width)
    _log_ticks(axes.yaxis, WIDE)
    _number(axes, roofline, 16 if width > NARROW else 8)
    axes.set_xlabel("MACs a byte of DRAM", fontsize=_FONT)
    axes.set_ylabel("MACs a cycle", fontsize=_FONT)
    _tidy(axes, "both")
    figure.legend(loc="outside upper left", fontsize=_FONT, frameon=False, ncols=3 if width > NARROW else 1)
    return figure


def _log_ticks(axis: Any, width: float) -> None:
    """Plain numbers, as many as there is room for."""
    low, high = np.log10(axis.get_view_interval())
    room = (9 if width > NARROW else 4) / max(high - low, 0.1)  # ticks a decade
    axis.set_major_locator(LogLocator(10, (1, 2, 5) if room >= 3 else (1, 3) if room >= 2 else (1,), numticks=20))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(lambda value, _: f"{value:,.6g}")


def _number(axes: Any, roofline: Roofline, most: int) -> None:
    """Numbers beside the longest layers, none where another number stands already."""
    placed: list[np.ndarray] = []
    for point in sorted(roofline.points, key=lambda point: -point.cycles):
        at = np.log10([point.intensity, point.rate])
        if len(placed) < most and all(np.abs(at - other).max() > 0.12 for other in placed):
            placed.append(at)
            where = (point.intensity, point.rate)
            axes.annotate(str(point.number), where, (5, 3), textcoords="offset points", fontsize=_FONT - 1)


def traffic_figure(operands: Mapping[str, Mapping[str, Traffic]], width: float) -> Figure:
    """Bytes read from and written to each memory, stacked by operand (DRAM) or unit (memories on the chip)."""
    bars = [
        (f"{memory} {way}", {what: getattr(moved, way) for what, moved in by.items()})
        for memory, by in operands.items()
        for way in ("read", "written")
    ]
    figure, axes = _bars(len(bars), width)
    names = list(dict.fromkeys(what for _, by in bars for what in by))
    left, handles = np.zeros(len(bars)), []
    for number, what in enumerate(names):
        sizes = np.array([by.get(what, 0) for _, by in bars], float)
        if sizes.any():
            fill, hatched = _COLOURS[number % len(_COLOURS)], number >= len(_COLOURS)
            _stack(axes, sizes, left, fill, hatched=hatched)
            handles.append(_patch(what, fill, hatched=hatched))
        left = left + sizes
    for place, total in enumerate(left):
        axes.text(total, place, f" {short(float(total))}B", va="center", fontsize=_FONT - 1)
    _names(axes, [name for name, _ in bars], width)
    axes.set_xlim(0, max(float(left.max(initial=0)), 1.0) * (1.12 if width > NARROW else 1.3))
    axes.xaxis.set_major_formatter(lambda value, _: short(value))
    axes.set_xlabel("bytes", fontsize=_FONT)
    _legend(figure, handles, width)
    return figure


def timeline_figure(result: Result, width: float) -> Figure:
    """For each unit the share of the time in which it has an instruction at work; above, the layers' windows."""
    units = [unit for unit in ("load", "mac", "post", "store") if unit in result.units]
    figure = new_figure(width, 0.75 * len(units) + 0.9)
    axes = figure.subplots(len(units), 1, sharex=True, squeeze=False)[:, 0]
    edges = np.linspace(0, result.cycles, min(_BINS, result.cycles) + 1)
    for number, (unit, row) in enumerate(zip(units, axes, strict=True)):
        share = at_work([span for span in result.timeline if span.unit == unit], edges)
        row.stairs(100 * share, edges, fill=True, color=_COLOURS[number])
        row.set_ylabel(unit, rotation=0, ha="right", va="center", fontsize=_FONT)
        row.set_ylim(0, 105)
        row.set_yticks([0, 100], ["0 %", "100 %"])
        for layer in result.layers:
            if layer.cycles >= result.cycles / 40:
                row.axvline(layer.start, color=GRID, lw=0.6)
        _tidy(row, "x")
    axes[-1].set_xlim(0, result.cycles)
    axes[-1].set_xlabel("cycle (thin lines: where the longer layers begin)", fontsize=_FONT)
    axes[-1].xaxis.set_major_formatter(lambda value, _: short(value))
    return figure


def at_work(spans: Iterable[Span], edges: np.ndarray) -> np.ndarray:
    """For each bin of time, from edge to edge in cycles, the share in which at least one of `spans` is at work."""
    covered = np.zeros(len(edges))
    reached = 0
    for span in sorted(spans, key=lambda span: span.start):
        start, end = max(span.start, reached), span.end
        if end > start:
            covered += np.clip(edges, start, end) - start
            reached = end
    return np.diff(covered) / np.diff(edges)


def _bars(count: int, width: float) -> tuple[Figure, Any]:
    figure = new_figure(width, 1.1 + 0.21 * count + (0.0 if width > NARROW else 0.4))
    axes = figure.subplots()
    axes.set_ylim(count - 0.4, -0.6)
    _tidy(axes, "x")
    return figure, axes


def _stack(axes: Any, widths: np.ndarray, left: np.ndarray, fill: str, *, hatched: bool) -> None:
    axes.barh(range(len(widths)), widths, 0.74, left, color=fill, edgecolor="white", lw=0.3, hatch=_hatch(hatched))


def _patch(name: str, fill: str, *, hatched: bool) -> Patch:
    return Patch(facecolor=fill, edgecolor="white", lw=0.3, label=name, hatch=_hatch(hatched))


def _hatch(hatched: bool) -> str | None:
    return "////" if hatched else None


def _names(axes: Any, names: Sequence[str], width: float) -> None:
    """Names of the bars; where there is little room, their ends, by which layers differ."""
    most = 60 if width > NARROW else 18
    shown = [name if len(name) <= most else f"…{name[1 - most :]}" for name in names]
    axes.set_yticks(range(len(names)), [picture_text(name) for name in shown], fontsize=_FONT)


def _legend(figure: Figure, handles: Sequence[Patch], width: float) -> None:
    if handles:
        columns = 6 if width > NARROW else 3
        figure.legend(handles=handles, loc="outside upper left", ncols=columns, fontsize=_FONT, frameon=False)


def _tidy(axes: Any, along: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=along, color=GRID, lw=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=_FONT)
