"""Draws the pictures of docs/architecture.md.

    python docs/draw_architecture.py

The timelines are computed by the machine's own timing rules.
"""

from __future__ import annotations

from itertools import pairwise, product
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch, Rectangle

from accelsim.hardware import Accelerator
from accelsim.isa import Mac
from accelsim.machine.array.timing import mac_occupancy
from accelsim.machine.occupancy import Occupancy

IMAGES = Path(__file__).parent / "images"
CONTROL, UNIT, MEMORY, CELL = "#EEEEEE", "#CFE3F3", "#FBE8C8", "#D8EFE3"
INK = "#333333"
ORANGE, BLUE, SKY, GREY = "#E69F00", "#0072B2", "#56B4E9", "#BBBBBB"


def box(axes: Axes, x: float, y: float, width: float, height: float, text: str, colour: str, size: float = 8.5) -> None:
    """A labelled box."""
    shape = "round,pad=0,rounding_size=0.08"
    axes.add_patch(FancyBboxPatch((x, y), width, height, boxstyle=shape, facecolor=colour, edgecolor=INK, linewidth=1))
    axes.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=size, color="black")


def arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    """An arrow, behind the boxes."""
    style = {"arrowstyle": "-|>", "color": INK, "linewidth": 1, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", end, start, arrowprops=style, zorder=0.5)


def canvas(width: float, height: float, x: float, y: float) -> tuple[plt.Figure, Axes]:
    """A figure of `width` x `height` inches with coordinates up to `x` and `y`."""
    figure, axes = plt.subplots(figsize=(width, height))
    axes.set_xlim(0, x)
    axes.set_ylim(0, y)
    axes.axis("off")
    return figure, axes


def machine() -> plt.Figure:
    """Units, queues, memories and who reads and writes what."""
    figure, axes = canvas(9.6, 6.6, 12, 8.2)
    box(axes, 0.2, 0.1, 11.6, 0.7, "DRAM: one data bus, bytes_per_cycle wide, latency cycles to the first byte", MEMORY)
    box(
        axes,
        0.2,
        1.3,
        11.6,
        0.55,
        "arbiter: bursts of burst_beats; first come, first served; fetch, load, store",
        CONTROL,
    )
    arrow(axes, (6, 0.8), (6, 1.3))
    arrow(axes, (6.4, 1.3), (6.4, 0.8))
    box(
        axes,
        0.2,
        7.0,
        11.6,
        0.9,
        "fetcher: prefetch buffer of 64-byte words, one word a cycle handed out in order",
        CONTROL,
    )
    axes.annotate("", (0.45, 7.0), (0.45, 1.85), arrowprops={"arrowstyle": "-|>", "color": INK})
    units = [("load", 0.9), ("mac", 4.0), ("post", 7.1), ("store", 10.2)]
    for name, x in units:
        box(axes, x, 6.05, 1.4, 0.5, "queue", CONTROL, 7.5)
        arrow(axes, (x + 0.7, 7.0), (x + 0.7, 6.55))
        arrow(axes, (x + 0.7, 6.05), (x + 0.7, 5.75))
        box(axes, x, 4.95, 1.4, 0.8, name, UNIT, 11)
    for (_, x), (_, other) in pairwise(units):
        axes.annotate(
            "", (other, 5.35), (x + 1.4, 5.35), arrowprops={"arrowstyle": "<|-|>", "color": "#AA4499", "linestyle": ":"}
        )
        axes.text((x + 1.4 + other) / 2, 5.5, "semaphores", ha="center", fontsize=6.5, color="#AA4499")
    bars = [
        ("weight buffer", 1.75, 4.45, 3.9),
        ("accumulators, 32 bit", 4.75, 7.45, 3.9),
        ("activation buffer", 1.4, 11.1, 3.1),
        ("parameter buffer", 1.15, 8.6, 2.3),
    ]
    for name, left, right, y in bars:
        box(axes, left, y, right - left, 0.5, name, MEMORY)
    # Which unit (bottom at 4.95) writes (down) and reads (up) which memory: one line a port. One passes behind a bar.
    writes = [(2.1, 4.4), (1.58, 3.6), (1.28, 2.8), (5.2, 4.4), (7.95, 3.6)]
    reads = [(4.2, 4.4), (4.6, 3.6), (4.95, 4.4), (7.25, 4.4), (7.65, 3.6), (8.3, 2.8), (10.5, 3.6)]
    for x, y in writes:
        arrow(axes, (x, 4.95), (x, y))
    for x, y in reads:
        arrow(axes, (x, y), (x, 4.95))
    arrow(axes, (1.0, 1.85), (1.0, 4.95))
    arrow(axes, (11.35, 4.95), (11.35, 1.85))
    return figure


def array() -> plt.Figure:
    """The array with its edges, and a cell of each kind."""
    figure, axes = canvas(9.6, 5.4, 12, 6.75)
    for i in range(3):
        for j in range(3):
            x, y = 3.0 + j * 1.0, 4.0 - i * 0.9
            box(axes, x, y, 0.7, 0.6, f"{i},{j}", CELL)
            if j:
                arrow(axes, (x - 0.3, y + 0.3), (x, y + 0.3))
            if i:
                arrow(axes, (x + 0.35, y + 0.9), (x + 0.35, y + 0.6))
        for d in range(i):
            axes.add_patch(Rectangle((2.45 - d * 0.3, 4.2 - i * 0.9), 0.2, 0.2, facecolor="white", edgecolor=INK))
        for d in range(i):
            axes.add_patch(Rectangle((3.25 + i * 1.0, 4.95 + d * 0.3), 0.2, 0.2, facecolor="white", edgecolor=INK))
        for d in range(2 - i):
            axes.add_patch(Rectangle((3.25 + i * 1.0, 1.65 - d * 0.3), 0.2, 0.2, facecolor="white", edgecolor=INK))
        arrow(axes, (1.25, 4.3 - i * 0.9), (2.45 - (i - 1) * 0.3 if i else 3.0, 4.3 - i * 0.9))
        if i:
            arrow(axes, (2.65, 4.3 - i * 0.9), (3.0, 4.3 - i * 0.9))
        arrow(axes, (3.35 + i * 1.0, 6.0), (3.35 + i * 1.0, 4.85 + 0.3 * i if i else 4.6))
        if i:
            arrow(axes, (3.35 + i * 1.0, 4.9), (3.35 + i * 1.0, 4.6))
        arrow(axes, (3.35 + i * 1.0, 2.2), (3.35 + i * 1.0, 1.9))
    box(axes, 2.9, 6.0, 3.0, 0.5, "edge register (top)", CONTROL)
    box(axes, 0.2, 2.2, 1.05, 2.4, "edge\nregister\n(left)", CONTROL)
    box(axes, 2.9, 0.2, 3.0, 0.8, "align, add to the old word,\nwrite: accumulator port", MEMORY)
    axes.text(2.05, 1.75, "skew: i registers\nfor row i", fontsize=7, ha="center", color=INK)
    axes.text(6.1, 5.3, "skew: j registers\nfor column j", fontsize=7, color=INK)
    axes.text(6.1, 1.4, "C - 1 - j registers", fontsize=7, color=INK)
    axes.text(7.7, 6.45, "registers of a cell", fontsize=9, weight="bold", color=INK)
    cells = [
        (
            "weight (input) stationary",
            "stream: activation (weight), swap\npassing: weight (activation), who keeps it\n"
            "shadow, active\nsum = sum above + stream x active",
        ),
        (
            "output stationary",
            "activation, clear, finish    weight\nsum = (clear ? 0 : sum) + activation x weight\n"
            "result: takes sum with finish\nleaving: result of the row that its token names",
        ),
    ]
    for number, (name, text) in enumerate(cells):
        y = 4.0 - number * 2.2
        axes.add_patch(Rectangle((7.7, y), 4.2, 1.5, facecolor=CELL, edgecolor=INK))
        axes.text(7.8, y + 1.6, name, fontsize=8.5, color=INK)
        axes.text(7.85, y + 0.75, text, fontsize=7.5, va="center", linespacing=1.5)
    axes.text(
        7.7,
        1.05,
        "What is needed behind the array (accumulator address,\n"
        "add or write, end of instruction) goes beside it, through a\nline of R + C - 1 registers (L, of stages).",
        fontsize=7.5,
        va="center",
        color=INK,
    )
    return figure


def overlap() -> plt.Figure:
    """Three MAC instructions on a 16x16 weight-stationary array, overlapped by the timing rules."""
    accelerator = Accelerator.from_yaml(Path(__file__).parents[1] / "configs" / "edge_16x16.yaml")
    mac = Mac(
        activation=0, line_pitch=1024, pixel_pitch=16, out_height=1, out_width=40, width=40, channels=16, outputs=16,
        weight=0, weight_pitch_k=16, accumulator=0,
    )  # fmt: skip
    figure, axes = plt.subplots(figsize=(9.6, 2.3))
    start, before = 0, Occupancy(0, 0, 0, 0)
    for row in range(3):
        now = start + before.free
        start, before = now, mac_occupancy(mac, accelerator, before.since(now - start))
        first = start + before.issue - mac.pixels
        for left, right, colour in (
            (start, first, ORANGE),
            (first, start + before.issue, BLUE),
            (start + before.issue, start + before.cycles, SKY),
        ):
            axes.barh(-row, right - left, left=left, color=colour, edgecolor="white", height=0.7)
    axes.set_yticks([0, -1, -2], ["mac 1", "mac 2", "mac 3"])
    axes.set_xlabel("cycle")
    for spine in ("top", "right", "left"):
        axes.spines[spine].set_visible(False)
    handles = [Rectangle((0, 0), 1, 1, color=colour) for colour in (ORANGE, BLUE, SKY)]
    names = ["preload, then wait in the shadow registers", "vectors enter", "drain"]
    axes.legend(handles, names, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncol=3, frameon=False, fontsize=8)
    return figure


def unrolled() -> plt.Figure:
    """One line of three taps, two depthwise groups, four pixels unrolled: which cell holds which weight."""
    taps, groups, pixels = 3, 2, 4
    figure, axes = canvas(9.6, 4.4, 12, 5.5)
    colours = (UNIT, MEMORY)
    width, height, left, top = 0.8, 0.34, 3.2, 4.6
    for pixel, group in product(range(pixels), range(groups)):
        column = pixel * groups + group
        x = left + column * width
        axes.text(x + width / 2, top + 0.12, f"group {group}", ha="center", fontsize=6.5, color=INK)
        for place, channel in product(range(taps + pixels - 1), range(groups)):
            tap = place - pixel
            mine = channel == group and 0 <= tap < taps
            y = top - (place * groups + channel + 1) * height
            colour = colours[group] if mine else "white"
            axes.add_patch(Rectangle((x, y), width, height, facecolor=colour, edgecolor=GREY, linewidth=0.6))
            text = f"w[{group}, {tap}]" if mine else "0"
            axes.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=6.5, color=INK)
    for pixel in range(pixels):
        x = left + (pixel + 0.5) * groups * width
        axes.text(x, top + 0.42, f"output ox + {pixel}", ha="center", fontsize=8, color=INK)
        axes.plot([left + pixel * groups * width] * 2, [top, top - 12 * height], color=INK, linewidth=1)
    for place, channel in product(range(taps + pixels - 1), range(groups)):
        y = top - (place * groups + channel + 0.5) * height
        axes.text(
            left - 0.1, y, f"pixel x + {place}, channel {channel}", ha="right", va="center", fontsize=7, color=INK
        )
    return figure


def main() -> None:
    """Write the pictures."""
    IMAGES.mkdir(exist_ok=True)
    plt.rcParams.update({"svg.hashsalt": "accelsim", "font.family": "DejaVu Sans"})
    for name, draw in (("machine", machine), ("array", array), ("overlap", overlap), ("unrolled", unrolled)):
        figure = draw()
        figure.savefig(IMAGES / f"{name}.svg", bbox_inches="tight", metadata={"Date": None})
        plt.close(figure)


if __name__ == "__main__":
    main()
