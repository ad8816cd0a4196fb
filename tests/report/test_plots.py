"""The pictures are written as PNG and as SVG, the same bytes for the same result, and show the result's numbers."""

from __future__ import annotations

import struct
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import pytest

from accelsim.errors import WriteError
from accelsim.report.places import check_picture
from accelsim.report.plots import save, short, utilization_figure
from accelsim.report.sweep_plots import sweep_figure
from accelsim.sweep.grid import Axis
from accelsim.sweep.runner import Point, Sweep
from accelsim.sweep.store import Measurement

from .builders import EDGE, result


def texts(svg: Path) -> list[str]:
    """The text elements, in order."""
    root = ElementTree.parse(svg).getroot()
    return ["".join(item.itertext()) for item in root.iter("{http://www.w3.org/2000/svg}text")]


def swept(*axes: Axis) -> Sweep:
    points = []
    combinations = [{}]
    for axis in axes:
        combinations = [{**left, axis.key: value} for left in combinations for value in axis.values]
    for number, parameters in enumerate(combinations):
        measured = Measurement(100 + number, 1e-6, 50, 0.01 * number, {}) if number else Measurement(error="too small")
        points.append(Point(parameters, measured))
    return Sweep("net", EDGE, axes, tuple(points), 0)


def test_a_picture_is_a_png_and_an_svg_and_the_same_each_time(tmp_path: Path) -> None:
    first = save(utilization_figure(result()), tmp_path / "deep" / "a.png")
    again = save(utilization_figure(result()), tmp_path / "b")
    assert [path.name for path in first] == ["a.png", "a.svg"]
    for one, other in zip(first, again, strict=True):
        assert one.read_bytes() == other.read_bytes()
    header = first[0].read_bytes()[:24]
    assert header[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", header[16:])
    assert width == 1500
    assert height > 300


def test_the_utilisation_picture_names_layers_causes_and_bytes(tmp_path: Path) -> None:
    _, svg = save(utilization_figure(result()), tmp_path / "a")
    said = texts(svg)
    for text in ("conv", "pool", "working", "fill", "wait load", "odd cause", "dram", "activation", "written"):
        assert text in said
    assert any("500 cycles" in text and "20.0 %" in text and "16 x 16" in text for text in said)
    assert any("50.0 %, 25.6 k MACs" in text for text in said)


def test_a_heat_map_has_a_number_in_each_field_and_says_which_point_cannot_run(tmp_path: Path) -> None:
    sweep = swept(Axis("mac_array.rows", (4, 8)), Axis("buffers.weight.bytes", (16384, 2048)))
    said = texts(save(sweep_figure(sweep), tmp_path / "s")[1])
    assert {"101", "102", "103", "1.0", "2.0", "3.0", "16KiB", "2KiB", "4", "8"} <= set(said)
    assert said.count("cannot run") == 2  # once for cycles, once for utilisation


def test_one_axis_is_a_curve_and_three_are_several_maps(tmp_path: Path) -> None:
    line = texts(save(sweep_figure(swept(Axis("dram.latency", (10, 20, 30)))), tmp_path / "l")[1])
    assert {"101", "102", "cannot run", "dram.latency"} <= set(line)
    three = swept(Axis("mac_array.rows", (4, 8)), Axis("mac_array.columns", (4, 8)), Axis("dram.latency", (0, 9)))
    said = texts(save(sweep_figure(three), tmp_path / "t")[1])
    assert "cycles, dram.latency = 0" in said
    assert "utilisation in %, dram.latency = 9" in said
    assert {str(value) for value in range(101, 108)} <= set(said)


def test_numbers_keep_three_figures_and_a_prefix() -> None:
    assert [short(value) for value in (7, 1234, 5_670_000, 2.5e9)] == ["7 ", "1.23 k", "5.67 M", "2.5 G"]


def test_a_sweep_in_which_nothing_runs_is_still_a_picture(tmp_path: Path) -> None:
    axes = (Axis("mac_array.rows", (4, 8)), Axis("mac_array.columns", (4, 8)))
    points = tuple(
        Point({"mac_array.rows": r, "mac_array.columns": c}, Measurement(error="no")) for r in (4, 8) for c in (4, 8)
    )
    said = texts(save(sweep_figure(Sweep("net", EDGE, axes, points, 0)), tmp_path / "n")[1])
    assert said.count("cannot run") == 8


def test_names_of_any_characters_are_drawn_as_they_are(tmp_path: Path) -> None:
    names = ["a$\\frac$", "\0\ud800\x1b", "<b>&", "漢\ufffe", "y" * 300]
    made, (layer, *_) = result(), result().layers
    odd = replace(made, name="$x$ $", layers=tuple(replace(layer, name=name) for name in names))
    said = texts(save(utilization_figure(odd), tmp_path / "a")[1])
    assert {"a$\\frac$", "\\x00\\ud800\\x1b", "<b>&", "漢\\ufffe", "y" * 59 + "…"} <= set(said)
    assert any(text.startswith("$x$ $ on") for text in said)


def test_of_very_many_layers_the_longest_are_drawn() -> None:
    made, (layer, *_) = result(), result().layers
    many = replace(made, layers=tuple(replace(layer, name=str(i), cycles=200 + i) for i in range(20_000)))
    figure = utilization_figure(many)
    assert figure.get_figheight() <= 120
    shown = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert shown == [str(i) for i in range(19_700, 20_000)]
    assert "19,700 shorter ones are left out" in figure.axes[0].get_title()


@pytest.mark.parametrize("name", ["x.pdf", "model.v1", ".", "absent.png/x.gif"])
def test_other_endings_are_refused_before_and_after(name: str, tmp_path: Path) -> None:
    for attempt in (check_picture, lambda path: save(utilization_figure(result()), path)):
        with pytest.raises(WriteError, match=r"\.png and \.svg"):
            attempt(Path(name) if name == "." else tmp_path / name)
    assert list(tmp_path.iterdir()) == []
