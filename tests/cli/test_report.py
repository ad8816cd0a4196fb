"""`accelsim report` on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .calling import EDGE, ROOT, call

TWO_LAYERS = ROOT / "programs" / "two_layers.asm"


def test_a_program_becomes_a_page_with_what_would_make_it_faster(tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    called = call("report", EDGE, TWO_LAYERS, "--out", out, "--json")
    assert called.status == 0, called.err
    document = json.loads(called.out)
    assert document["page"] == str(out)
    text = out.read_text(encoding="utf-8")
    assert f"{document['cycles']:,} cycles" in text
    # All of the program's transfers are short: it waits for DRAM's latency.
    assert document["faster"][0].startswith("Half the DRAM latency: ")
    assert document["faster"][0] in text
    assert "Nothing was compared" in text


def test_without_changes_nothing_is_simulated_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    called = call("report", EDGE, TWO_LAYERS, "--no-changes")
    assert called.status == 0, called.err
    assert "page: report.html" in called.out
    assert "What would make it faster" not in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_page_that_cannot_be_written_is_said_before_the_work(tmp_path: Path) -> None:
    called = call("report", EDGE, TWO_LAYERS, "--out", tmp_path)
    assert called.status == 2
    assert str(tmp_path) in called.err
    assert called.out == ""
