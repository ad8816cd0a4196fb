"""The page of a run: its figures read back equal the result's, it needs nothing else, and no name breaks it."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from tempfile import TemporaryDirectory
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml

import accelsim
from accelsim.hardware import Accelerator
from accelsim.isa import Memory, Program
from accelsim.machine import Result, Span
from accelsim.network.topology import read_topology
from accelsim.report.faster import Change, Outcome, best, changes, sentence, try_changes
from accelsim.report.html.figures import at_work
from accelsim.report.html.page import page
from accelsim.report.operands import operand_traffic
from accelsim.report.roofline import roofline

from .builders import EDGE, result

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
TOPOLOGY = """Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, Strides,
first, 18, 16, 3, 3, 4, 24, 1,
<b>second</b>, 8, 8, 1, 1, 24, 20, 1,
"""


@cache
def ran() -> tuple[Program, Result]:
    """Two convolutions on the edge machine."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "net.csv"
        path.write_text(TOPOLOGY)
        network = read_topology(str(path))
    program = accelsim.compile(network, EDGE, effort=0)
    return program, accelsim.simulate(program)


class Reader(HTMLParser):
    """Tables by id, each a list of rows of (text, data-value); every id; text of the figures; what a page may load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: dict[str, list[list[tuple[str, str | None]]]] = {}
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: Counter[str] = Counter()
        self.words: list[str] = []
        self.labels: list[str] = []
        self._rows: list[list[tuple[str, str | None]]] = []
        self._cell = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags[tag] += 1
        self.ids += [found["id"] or ""] if "id" in found else []
        self.links += [found[key] or "" for key in ("src", "href", "action", "data") if key in found]
        if tag == "table":
            self._rows = self.tables[found["id"] or ""] = []
        elif tag == "tr":
            self._rows.append([])
        elif tag in ("td", "th"):
            self._rows[-1].append(("", found.get("data-value")))
            self._cell = True
        elif tag == "svg":
            self.labels.append(found.get("aria-label") or "")

    def handle_endtag(self, tag: str) -> None:
        self._cell = self._cell and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        self.words.append(data.strip())
        if self._cell:
            text, value = self._rows[-1][-1]
            self._rows[-1][-1] = text + data, value

    def column(self, table: str, head: str) -> list[str]:
        """The texts of a column, the total left out."""
        heads, *rows = self.tables[table]
        at = [text for text, _ in heads].index(head)
        return [row[at][0] for row in rows if row[1][0] != "total"]

    def values(self, table: str, head: str) -> list[float]:
        """The numbers behind a column, the total's last."""
        heads, *rows = self.tables[table]
        at = [text for text, _ in heads].index(head)
        return [float(row[at][1] or "nan") for row in rows]


@cache
def read() -> tuple[str, Reader]:
    bandwidth = Change("twice the DRAM bandwidth", "bandwidth", {"dram.bytes_per_cycle": 32})
    outcomes = (Outcome(bandwidth, 600), Outcome(Change("less", "bytes", {"dram.latency": 1}), None, "no room"))
    text = page(*ran(), outcomes=outcomes, checked=(20, 0))
    return text, Reader(text)


def test_every_figure_of_a_layer_is_the_results() -> None:
    _, made = ran()
    reader = read()[1]
    assert reader.column("layers", "layer") == [layer.name for layer in made.layers] == ["first", "<b>second</b>"]
    assert reader.column("layers", "cycles") == [f"{layer.cycles:,}" for layer in made.layers]
    assert reader.values("layers", "cycles") == [*(layer.cycles for layer in made.layers), made.cycles]
    assert reader.values("layers", "MACs") == [16 * 14 * 9 * 4 * 24, 8 * 8 * 24 * 20, made.macs]
    assert reader.values("layers", "utilisation") == [*(item.utilization for item in made.layers), made.utilization]
    for cause in {cause for layer in made.layers for cause in layer.stalls}:
        shown = reader.values("layers", cause.replace("_", " "))
        assert shown[:-1] == [layer.stalls.get(cause, 0) for layer in made.layers]
        assert shown[-1] == sum(shown[:-1])
    # A row's parts are its cycles.
    for row, layer in zip(reader.tables["layers"][1:], made.layers, strict=False):
        assert sum(float(value or 0) for _, value in row[5:]) == pytest.approx(layer.cycles)


def test_every_figure_of_array_units_and_traffic_is_the_results() -> None:
    made = ran()[1]
    reader = read()[1]
    assert reader.values("array", "folds") == [layer.array.folds for layer in made.layers]
    assert reader.values("array", "busy") == [layer.array.vectors for layer in made.layers]
    # Two pixels unrolled: 3 lines x 4 pixels x 4 channels are 48 terms, three chunks of 16; 2 x 8 outputs are 16
    # columns. 24 terms lie on 16 and on 8 rows, 20 outputs on 16 and on 4 columns.
    assert reader.values("array", "unrolled pixels") == [2, 1]
    assert reader.values("array", "rows used of 16") == [16, 12]
    assert reader.values("array", "columns used of 16") == [16, 10]
    for row in reader.tables["units"][1:]:
        assert [float(value or 0) for _, value in row[1:]].count(0) < len(row)
        assert sum(float(value or 0) for _, value in row[1:]) == made.cycles
    rows = reader.tables["layer-units"][1:]
    assert len(rows) == 2 * 4
    for row in rows:
        layer = made.layers[int(row[0][0]) - 1]
        assert sum(float(value or 0) for _, value in row[3:]) == layer.cycles
    for memory, moved in made.traffic.items():
        by_layer = [layer.traffic[memory].read for layer in made.layers]
        assert reader.values("traffic", f"{memory} read") == [*by_layer, moved.read]
        assert reader.values("traffic", f"{memory} written")[-1] == moved.written
    assert {row[0][0] for row in reader.tables["operands"][1:]} == {memory.label for memory in Memory}


def test_bytes_by_operand_add_up_and_are_the_tensors() -> None:
    program, made = ran()
    operands = operand_traffic(program, EDGE)
    for memory, moved in made.traffic.items():
        assert sum(item.read for item in operands[memory].values()) == moved.read
        assert sum(item.written for item in operands[memory].values()) == moved.written
    dram = operands["dram"]
    assert dram["weights"].read == 9 * 4 * 24 + 24 * 20
    assert dram["activations"].written == 16 * 14 * 24 + 8 * 8 * 20
    assert dram["instructions"].read == 64 * len(program.instructions)


def test_the_bars_are_as_long_as_the_cycles() -> None:
    """The rectangles of the figure of cycles, read from its paths, in units of the longest layer's number."""
    text, _ = read()
    layers = ran()[1].layers
    (found,) = re.findall(r"<svg[^>]*>(?:(?!</svg>).)*cycles-w-(?:(?!</svg>).)*</svg>", text, re.DOTALL)
    root = ElementTree.fromstring(found)
    widths = []
    for group in root.iter("{http://www.w3.org/2000/svg}g"):
        if group.get("id", "").startswith("cycles-w-patch_"):
            for path in group.iter("{http://www.w3.org/2000/svg}path"):
                points = re.findall(r"[ML] ([\d.]+) ([\d.]+)", path.get("d", ""))
                if len(points) == 4 and "clip-path" in path.attrib:
                    xs = [float(x) for x, _ in points]
                    widths.append(max(xs) - min(xs))
    expected = []
    for part in ("working", "empty"):
        expected += [getattr(layer, part) for layer in layers]
    expected += [cycles for layer in layers for cycles in layer.stalls.values()]
    drawn, known = sorted(width for width in widths if width > 0.01), sorted(part for part in expected if part > 0)
    assert len(drawn) == len(known)
    scale = sum(drawn) / sum(known)
    assert np.allclose(drawn, np.array(known) * scale, rtol=0.01, atol=0.01)


def test_the_page_needs_nothing_else_and_says_what_its_figures_show() -> None:
    text, reader = read()
    assert all(link.startswith(("#", "data:")) for link in reader.links)
    assert not re.search(r"url\((?!#)|@import", text)
    assert "default-src 'none'" in text
    assert max(Counter(reader.ids).values()) == 1
    assert len(reader.labels) == 2 * 5
    assert all(len(label) > 40 for label in reader.labels)
    words = set(reader.words)
    assert {"MAC array: 256 MACs a cycle", "DRAM: 16 bytes a cycle", "working", "load", "store"} <= words
    assert reader.tags["b"] == 0  # of the layer's name
    (configuration,) = re.findall(r'<pre id="yaml">(.*?)</pre>', text, re.DOTALL)
    assert Accelerator.from_dict(yaml.safe_load(configuration)) == EDGE


def test_a_run_without_macs_has_a_page_and_no_name_breaks_it() -> None:
    program = accelsim.assemble(".program idle\n.layer nothing\nhalt\n")
    made = accelsim.simulate(program, accelerator=EDGE)
    (layer,) = made.layers
    names = ("</script><script>alert(1)</script>", '\ud800\x1b\0$\\frac{id="x" {{ 7 * 7 }}')
    layers = tuple(replace(layer, name=name) for name in names)
    text = page(program, replace(made, name="<i>&\ud800", layers=layers), outcomes=())
    reader = Reader(text)
    text.encode("utf-8")
    assert reader.tags["script"] == 1
    assert reader.tags["i"] == 0
    assert reader.column("layers", "layer") == [names[0], '\\ud800\\x1b\\x00$\\frac{id="x" {{ 7 * 7 }}']
    assert "No layer of this run has MACs and bytes of DRAM." in reader.words
    assert "None of 0 changes makes this run faster by 1 % or more." in reader.words
    assert reader.values("layers", "cycles") == [made.cycles] * 3


def test_a_layer_lies_under_the_roofline() -> None:
    """25,600 MACs, 1,000 bytes of DRAM, 200 cycles: 25.6 MACs a byte, 128 a cycle; 256 cells, 16 bytes a cycle."""
    found = roofline(result())
    assert (found.peak, found.bandwidth) == (256, 16)
    (point,) = found.points
    assert (point.number, point.name, point.intensity, point.rate) == (1, "conv", 25.6, 128)
    assert (point.ceiling, point.bound) == (256, "MAC array")
    starved = roofline(replace(result(), accelerator=EDGE.replace(**{"dram.bytes_per_cycle": 8})))
    assert (starved.points[0].ceiling, starved.points[0].bound) == (8 * 25.6, "DRAM")


def test_the_share_of_time_at_work_counts_a_cycle_once() -> None:
    spans = [Span(0, "mac", "a", 2, 6), Span(1, "mac", "a", 4, 9), Span(2, "mac", "a", 20, 21)]
    assert at_work(spans, np.array([0, 5, 10, 20, 30])).tolist() == [0.6, 0.8, 0, 0.1]


def test_the_changes_named_are_one_a_resource_and_no_larger_than_needed() -> None:
    """A run that takes 10,000 cycles a share of min(columns, accumulator banks), and 1,000 more for DRAM's bytes."""
    plain = Accelerator.from_dict(EDGE.to_dict(), "plain")  # banks and lanes as numbers: they do not follow the columns

    def timed(accelerator: Accelerator) -> int:
        array, banks = accelerator.mac_array, accelerator.buffers.accumulator.banks
        if accelerator.requant_unit.lanes > 16 and array.columns == 16 and array.rows == 16:
            raise accelsim.AccelsimError("no such lanes\nmore")
        return 160_000 // min(array.columns, banks) + 16_000 // accelerator.dram.bytes_per_cycle

    before = timed(plain)
    assert before == 11_000
    outcomes = try_changes(plain, timed)
    assert len(outcomes) == len(changes(plain))
    assert outcomes[-1].cycles is None
    assert outcomes[-1].error == "no such lanes"
    named = best(outcomes, before)
    assert [outcome.change.what for outcome in named] == [
        "twice the columns of the array with twice the banks and lanes",
        "twice the DRAM bandwidth",
    ]
    assert [outcome.cycles for outcome in named] == [6_000, 10_500]
    said = "Twice the DRAM bandwidth: 1.05 x, 10,500 cycles (dram.bytes_per_cycle 16 → 32)."
    assert sentence(named[1], before, plain) == said
    assert best([Outcome(Change("no more", "banks", {}), before - 100)], before) == ()  # 0.9 %


def test_the_page_says_what_would_be_faster() -> None:
    reader = read()[1]
    assert reader.values("changes", "cycles")[0] == 600
    assert reader.column("changes", "cycles")[1] == "cannot run: no room"
    assert any(word.startswith("Twice the DRAM bandwidth: ") for word in reader.words)
    assert "20 outputs were compared with the integer reference: 0 differ." in reader.words


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
@pytest.mark.parametrize("width", [400, 1200])
def test_a_browser_shows_it_without_an_error_and_sorts_its_tables(width: int, tmp_path: Path) -> None:
    text = read()[0]
    probe = """<script>
for (const one of document.querySelectorAll("details")) one.open = true;
const cells = () => [...document.querySelectorAll("#layers tbody tr")].map(row => row.cells[3].dataset.value);
const before = cells(), head = document.querySelectorAll("#layers th button")[3];
head.click(); const up = cells(); head.click(); const down = cells();
const shown = [...document.querySelectorAll("svg")].filter(one => one.checkVisibility()).length;
document.body.style.width = "%dpx";
const own = [...document.body.querySelectorAll("*")].filter(one => !one.closest("script") && !one.matches("svg *")
  && (!one.closest(".scroll, pre") || one.matches(".scroll, pre")));
const left = document.body.getBoundingClientRect().left;
const right = Math.max(...own.map(one => one.getBoundingClientRect().right)) - left;
document.title = JSON.stringify([right, shown, before, up, down]);
</script></body>"""
    file = tmp_path / "page.html"
    file.write_text(text.replace("</body>", probe % width), encoding="utf-8")
    assert CHROMIUM is not None
    words = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", f"--window-size={width},900"]
    ran_browser = subprocess.run(
        [CHROMIUM, *words, f"--user-data-dir={tmp_path / 'user'}", "--dump-dom", file.as_uri()],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert "CONSOLE" not in ran_browser.stderr
    (title,) = re.findall(r"<title>(.*?)</title>", ran_browser.stdout)
    right, shown, before, up, down = yaml.safe_load(title)
    assert 0.8 * width <= right <= width  # nothing sticks out
    assert shown == 5  # of each pair one
    assert sorted(map(int, before)) == list(map(int, up)) == list(map(int, down))[::-1]
