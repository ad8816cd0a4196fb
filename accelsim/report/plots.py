"""Pictures with matplotlib, without pyplot and its global state: where a run's cycles and bytes go."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from accelsim.errors import WriteError
from accelsim.escaping import picture_text
from accelsim.files import make_folder, replacing

from .causes import colour, label, ordered
from .places import picture_paths
from .tables import duration, percent

if TYPE_CHECKING:
    from accelsim.machine import LayerResult, Result

_READ, _WRITTEN = "#0072B2", "#E69F00"
_GREY = "#444444"
_OPTIONS: dict[str, dict[str, Any]] = {"png": {"dpi": 150}, "svg": {"metadata": {"Date": None}}}
_STYLE: Any = {"svg.hashsalt": "accelsim", "svg.fonttype": "none"}  # the same picture is the same file


#: Inches. At 150 dots an inch a picture as high takes 100 MB to draw.
_HIGHEST = 120
#: Bars in one picture; more could not be told apart.
_MOST_BARS = 300


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, `width` x `height` inches (120 at most), that lays itself out."""
    figure = Figure(figsize=(width, min(height, _HIGHEST)), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, path: str | Path) -> tuple[Path, ...]:
    """Write `figure` as PNG and as SVG beside each other, whichever of them `path` names; returns what was written.

    Raises WriteError where it cannot be drawn or written.
    """
    from matplotlib import rc_context

    paths = picture_paths(path)
    make_folder(paths[0].parent)
    with replacing() as put, rc_context(_STYLE), warnings.catch_warnings():
        # Names in letters that the font does not have, or so long that little room is left.
        warnings.filterwarnings("ignore", "Glyph .* missing from|constrained_layout not applied")
        for file in paths:
            content = io.BytesIO()
            form = "svg" if file.suffix == ".svg" else "png"
            try:
                figure.savefig(content, format=form, **_OPTIONS[form])
            except Exception as error:  # whatever matplotlib and its fonts raise
                raise WriteError(f"{file}: the picture cannot be drawn ({type(error).__name__}: {error})") from error
            put(file, content.getvalue())
    return paths


def utilization_figure(result: Result) -> Figure:
    """By layer the MAC array's cycles, busy and stalled by cause, and by memory the bytes of the run."""
    layers = [layer for layer in result.layers if layer.cycles]
    longest = sorted(range(len(layers)), key=lambda i: -layers[i].cycles)[:_MOST_BARS]
    left_out = len(layers) - len(longest)
    layers = [layers[i] for i in sorted(longest)]
    figure = new_figure(10, 3.5 + 0.36 * len(layers))
    cycles, traffic = figure.subplots(2, 1, height_ratios=(0.36 * len(layers) + 0.6, 2.1))
    array = result.accelerator.mac_array
    seconds = result.cycles / (result.accelerator.clock_mhz * 1e6)
    figure.suptitle(
        f"{picture_text(result.name)} on {picture_text(result.accelerator.name)}: {result.cycles:,} cycles, "
        f"{duration(seconds)} at {result.accelerator.clock_mhz:g} MHz, utilisation {percent(result.utilization)} "
        f"of {array.rows} x {array.columns} cells",
        fontsize=11,
        fontweight="bold",
    )
    _cycle_bars(cycles, layers)
    if left_out:
        cycles.set_title(f"the {len(layers)} longest layers; {left_out:,} shorter ones are left out", fontsize=9)
    _traffic_bars(traffic, result)
    return figure


def _cycle_bars(axes: Any, layers: list[LayerResult]) -> None:
    places = list(range(len(layers)))
    left = [0.0] * len(layers)
    for cause in (*BUSY, *ordered(cause for layer in layers for cause in layer.stalls)):
        widths = [cycles_of(layer, cause) for layer in layers]
        if any(widths):
            axes.barh(places, widths, 0.72, left, color=colour(cause), label=label(cause), edgecolor="white", lw=0.4)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    for place, layer in zip(places, layers, strict=True):
        said = f" {percent(layer.utilization)}, {short(layer.macs).strip()} MACs" if layer.macs else " no MACs"
        axes.text(layer.cycles, place, said, va="center", fontsize=8.5, color=_GREY)
    axes.set_yticks(places, [picture_text(layer.name) for layer in layers])
    axes.invert_yaxis()
    axes.set_xlim(0, max((layer.cycles for layer in layers), default=1) * 1.22)
    axes.set_xlabel("cycles of each layer, and what the MAC array did in them (% = utilisation)")
    axes.legend(fontsize=8.5, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.02))
    _tidy(axes, "x")


#: The array's busy cycles, split.
BUSY = ("working", "empty")


def cycles_of(layer: LayerResult, cause: str) -> float:
    """The cycles of the MAC array in a layer by cause, its busy ones split into `working` and `empty` cells."""
    if cause in BUSY:
        return max(getattr(layer, cause), 0.0)
    return layer.stalls.get(cause, 0)


def _traffic_bars(axes: Any, result: Result) -> None:
    memories = list(result.traffic)
    for offset, way, fill in ((-0.2, "read", _READ), (0.2, "written", _WRITTEN)):
        sizes = [getattr(result.traffic[memory], way) for memory in memories]
        places = [place + offset for place in range(len(memories))]
        axes.barh(places, sizes, 0.38, color=fill, label=way)
        for place, size in zip(places, sizes, strict=True):
            axes.text(size, place, f" {short(size)}B", va="center", fontsize=8, color=_GREY)
    largest = max((max(item.read, item.written) for item in result.traffic.values()), default=0)
    axes.set_yticks(range(len(memories)), memories)
    axes.invert_yaxis()
    axes.set_xlim(0, max(largest, 1) * 1.12)
    axes.set_xlabel("bytes read and written by memory")
    axes.legend(fontsize=8.5, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.02))
    _tidy(axes, "x")


def _tidy(axes: Any, along: str) -> None:
    """No box, a light grid along the measured axis, its numbers with prefixes."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=along, color="#dddddd", lw=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=9)
    getattr(axes, f"{along}axis").set_major_formatter(lambda value, _: short(value))


def short(value: float) -> str:
    """A number in at most four figures with a decimal prefix: 1.23 M."""
    for limit, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.3g} {prefix}"
    return f"{value:.3g} "
