"""What objects say of themselves: one to ten lines in a terminal, a table in a notebook, a data frame of a result."""

from __future__ import annotations

import sys
from dataclasses import replace
from html.parser import HTMLParser
from types import SimpleNamespace
from typing import Any

import pytest

import accelsim
from accelsim.errors import MachineError
from accelsim.summary import Shown, Summary, tensors
from accelsim.verification import LayerVerification, Verification

from .report.builders import EDGE, ROOT, linear_network, result


class Cells(HTMLParser):
    """The text of the cells, and every tag."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.cells: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        self.cells += [""] if tag in ("td", "th") else []

    def handle_data(self, data: str) -> None:
        if self.cells:
            self.cells[-1] += data


def test_a_network_in_a_few_lines() -> None:
    network = linear_network()
    assert repr(network).splitlines() == [
        "<Network two_linear: 2 layers, engine fbgemm, kernels default",
        "  inputs: x 2 x 5 uint8",
        "  outputs: fc2 2 x 3 uint8",
        "  layers: 2 Linear",
        "  weights: 32 bytes>",  # 5 * 4 + 4 * 3
    ]
    assert {"fc1", "Linear", "2 x 4", "0.07", "3"} <= set(Cells(network._repr_html_()).cells)


def test_a_program_in_a_few_lines() -> None:
    program = accelsim.assemble((ROOT / "programs" / "two_layers.asm").read_text(), EDGE)
    lines = repr(program).splitlines()
    count = len(program.instructions)
    assert lines[0] == f"<Program two_layers for edge_16x16: {count} instructions, 2 layers"
    assert "2 mac" in lines[1]
    assert "1 halt" in lines[1]
    assert lines[3:] == ["  inputs: none", "  outputs: y 1 x 2 uint8>"]
    assert "any accelerator" in repr(replace(program, accelerator=None))
    assert "halt" in Cells(program._repr_html_()).cells


def test_a_result_in_a_few_lines() -> None:
    assert repr(result()).splitlines() == [
        "<Result two on edge_16x16: 500 cycles, 1 µs, utilisation 20.0% of 16 x 16 cells",
        "  MAC array: wait_post 58.0%, busy 20.0%, wait_load 12.0%, fill 8.0%",
        "  DRAM: 1,000 bytes read, 64 written",
        "  longest layers: pool 300, conv 200",
        "  outputs: pool 1 x 20 uint8>",
    ]
    cells = Cells(result()._repr_html_()).cells
    assert cells[-14:-7] == ["conv", "25,600", "200", "50.0%", "100", "0", "wait_load 60, fill 40"]


def test_an_accelerator_in_a_few_lines() -> None:
    assert repr(EDGE) == str(EDGE)
    assert repr(EDGE).splitlines() == [
        "<Accelerator edge_16x16, 500 MHz",
        "  array: 16 x 16, weight stationary",
        "  buffers: activation 128 KiB in 16 banks, weight 64 KiB in 16 banks, accumulator 64 KiB in 16 banks, "
        "parameter 16 KiB …",
        "  post unit: 16 + 16 lanes, float32_exact",
        "  DRAM: flat, 16 bytes a cycle, latency 60>",
    ]
    cells = Cells(EDGE._repr_html_()).cells
    assert cells[cells.index("buffers.weight.banks") + 1] == "16"


def test_a_verification_names_what_differs_most_and_stays_short() -> None:
    layers = tuple(LayerVerification(f"l{n}", 100, n, n, 0, "") for n in range(20))
    lines = repr(Verification("fbgemm", layers, ())).splitlines()
    assert lines[0] == (
        "<Verification beside fbgemm: 2,000 elements compared, 190 differing bits, 190 unexplained differences"
    )
    assert lines[2] == "  l19: 19 of 100 differ, 19 unexplained"
    assert lines[-1] == "  and: 13 more rows that differ>"
    assert len(lines) == 9
    clean = repr(Verification("x86", layers[:1], ()))
    assert clean.splitlines()[1:] == ["  arithmetic: float32_exact>"]


def test_any_names_and_any_number_of_rows_are_shown() -> None:
    class Many(Shown):
        def summary(self) -> Summary:
            facts = [("<b>\x1b", "y" * 500)] * 50
            return Summary("<script>\ud800", facts, ("a", "b"), [("<i>", str(n)) for n in range(250)])

    text, shown = repr(Many()), Many()._repr_html_()
    assert len(text.splitlines()) == 10
    assert max(map(len, text.splitlines())) <= 121
    assert "\x1b" not in text + shown
    shown.encode("utf-8")
    found = Cells(shown)
    assert not {"script", "b", "i"} & set(found.tags)
    assert found.cells.count("<i>") == 100
    assert "150 more" in shown


def test_of_many_tensors_the_first_are_named() -> None:
    assert tensors([]) == "none"
    assert tensors([("x", (), "int8")]) == "x scalar int8"
    assert tensors((f"x{n}", (n, 2), "int8") for n in range(6)).endswith("x3 3 x 2 int8 and 2 more")


def test_a_data_frame_has_a_row_a_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    monkeypatch.setitem(sys.modules, "pandas", None)
    monkeypatch.setitem(sys.modules, "polars", SimpleNamespace(DataFrame=made.append))
    result().to_dataframe()
    ((conv, pool),) = made
    assert list(conv) == list(pool)
    assert (conv["name"], conv["cycles"], conv["busy"], conv["working"], conv["empty"]) == ("conv", 200, 100, 100, 0)
    assert (conv["array.folds"], conv["mac.wait_load"], pool["mac.wait_load"]) == (2, 60, 0)
    assert (conv["dram.read"], pool["dram.written"], pool["mac.odd_cause"]) == (1000, 64, 10)
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(MachineError, match="pip install pandas"):
        result().to_dataframe()


@pytest.mark.parametrize("package", ["pandas", "polars"])
def test_a_data_frame_of_the_real_package(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = pytest.importorskip(package)
    if package == "polars":
        monkeypatch.setitem(sys.modules, "pandas", None)
    frame = result().to_dataframe()
    assert isinstance(frame, frames.DataFrame)
    assert list(frame["cycles"]) == [200, 300]
    assert list(frame["mac.wait_post"]) == [0, 290]
