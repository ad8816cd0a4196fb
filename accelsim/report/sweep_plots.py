"""Pictures of a sweep: a heat map over two axes, a line over one, small multiples over more."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from accelsim.escaping import picture_text

from .plots import new_figure, short
from .tables import value_text

if TYPE_CHECKING:
    from accelsim.sweep import Axis, Point, Sweep

_MEASURES: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("cycles", "cycles", lambda value: short(value).strip()),
    ("utilization", "utilisation in %", lambda value: f"{value:.1f}"),
)


def sweep_figure(sweep: Sweep) -> Figure:
    """Cycles on the left, utilisation on the right; a row for each combination of the axes past the first two."""
    if len(sweep.axes) == 1:
        return _lines(sweep)
    down, across, *others = sweep.axes
    combinations = list(itertools.product(*(axis.values for axis in others)))
    height = 0.55 * len(down.values) + 1.3
    figure = new_figure(10, 0.5 + max(height, 2.4) * len(combinations))
    figure.suptitle(_title(sweep), fontsize=11, fontweight="bold")
    panels = figure.subplots(len(combinations), 2, squeeze=False)
    for row, combination in zip(panels, combinations, strict=True):
        fixed = dict(zip((axis.key for axis in others), combination, strict=True))
        for axes, measure in zip(row, _MEASURES, strict=True):
            _heat_map(axes, sweep, down, across, fixed, measure)
    return figure


def _value(point: Point, name: str) -> float:
    """The measured value, NaN where the network cannot run."""
    value = getattr(point.measurement, name)
    if value is None:
        return float("nan")
    return float(value) * (100 if name == "utilization" else 1)


def _title(sweep: Sweep) -> str:
    return f"{picture_text(sweep.network)} on variants of {picture_text(sweep.accelerator.name)}"


def _heat_map(axes: Any, sweep: Sweep, down: Axis, across: Axis, fixed: dict[str, Any], measure: Any) -> None:
    name, title, text = measure
    grid = np.full((len(down.values), len(across.values)), np.nan)
    swept = np.zeros(grid.shape, bool)
    for point in sweep.points:
        if all(point.parameters[key] == value for key, value in fixed.items()):
            place = down.values.index(point.parameters[down.key]), across.values.index(point.parameters[across.key])
            grid[place], swept[place] = _value(point, name), True
    axes.set_facecolor("#dddddd")
    # Few cycles and high utilisation are both good, and both dark. Cycles span magnitudes, so their shades are equal
    # ratios.
    few = name == "cycles"
    measured = np.isfinite(grid)
    scale = LogNorm if few and measured.any() else Normalize
    image = axes.imshow(grid, cmap="cividis" if few else "cividis_r", aspect="auto", norm=scale())
    for (row, column), value in np.ndenumerate(grid):
        dark = measured[row, column] and (image.norm(value) if few else 1 - image.norm(value)) < 0.5
        said = text(value) if measured[row, column] else "cannot run" if swept[row, column] else ""
        axes.text(column, row, said, ha="center", va="center", fontsize=9, color="white" if dark else "black")
    axes.set_xticks(range(len(across.values)), [picture_text(value_text(across.key, value)) for value in across.values])
    axes.set_yticks(range(len(down.values)), [picture_text(value_text(down.key, value)) for value in down.values])
    axes.set_xlabel(across.key)
    axes.set_ylabel(down.key)
    where = [f"{key} = {picture_text(value_text(key, value))}" for key, value in fixed.items()]
    axes.set_title(", ".join([title, *where]), fontsize=10)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelsize=9)


def _lines(sweep: Sweep) -> Figure:
    (axis,) = sweep.axes
    figure = new_figure(10, 3.6)
    figure.suptitle(_title(sweep), fontsize=11, fontweight="bold")
    # A constraint may leave out values.
    points = {axis.values.index(point.parameters[axis.key]): point for point in sweep.points}
    shown = [axis.values[number] for number in sorted(points)]
    places = list(range(len(shown)))
    for axes, (name, title, text) in zip(figure.subplots(1, 2), _MEASURES, strict=True):
        values = [_value(points[number], name) for number in sorted(points)]
        axes.plot(places, values, marker="o", color="#0072B2")
        for place, value in zip(places, values, strict=True):
            if np.isfinite(value):
                said, height = text(value), value
            else:
                said, height = "cannot run", 0.0
            axes.annotate(said, (place, height), (0, 6), textcoords="offset points", ha="center", fontsize=8.5)
        axes.set_xticks(places, [picture_text(value_text(axis.key, value)) for value in shown])
        axes.set_xlim(-0.5, len(places) - 0.5)
        top = max((value for value in values if np.isfinite(value)), default=1.0)
        axes.set_ylim(0, 1.18 * top)
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.yaxis.set_major_formatter(lambda value, _: short(value))
        axes.set_xlabel(axis.key)
        axes.set_title(title, fontsize=10)
        axes.grid(axis="y", color="#dddddd", lw=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=9)
    return figure
