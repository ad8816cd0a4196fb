"""`accelsim trace` on the command line."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

import accelsim

from .calling import EDGE, ROOT, call

TWO_LAYERS = ROOT / "programs" / "two_layers.asm"


def test_a_program_becomes_a_trace(tmp_path: Path) -> None:
    pytest.importorskip("perfetto")
    out = tmp_path / "run.perfetto-trace"
    called = call("trace", EDGE, TWO_LAYERS, "--out", out, "--json")
    assert called.status == 0, called.err
    document = json.loads(called.out)
    program = accelsim.assemble(TWO_LAYERS.read_text(encoding="utf-8"))
    assert document["cycles"] == accelsim.simulate(program, accelerator=accelsim.Accelerator.from_yaml(EDGE)).cycles
    assert out.stat().st_size > 1000


def test_without_the_package_it_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "perfetto", None)
    for name in [name for name in sys.modules if name.startswith("perfetto.")]:
        monkeypatch.delitem(sys.modules, name)
    called = call("trace", EDGE, TWO_LAYERS, "--out", tmp_path / "a")
    assert called.status == 2
    assert "pip install 'accelsim[trace]'" in called.err
    assert list(tmp_path.iterdir()) == []
