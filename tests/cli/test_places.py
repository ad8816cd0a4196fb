"""Where files go is checked before the work, decided by no name in a file, and a failure costs nothing else."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from accelsim import files
from accelsim.isa import Program, assemble
from accelsim.network import Network
from accelsim.report import plots

from ..report.builders import linear_network
from .calling import EDGE, ROOT, call

TWO_LAYERS = ROOT / "programs" / "two_layers.asm"
HOSTILE = ["../../x", "{}/elsewhere", "a$\\frac$[red]\x1b[31m\u202e", "\0\ud800", "漢" * 300]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder two below the one that is watched, with a network, an input and a program."""
    place = tmp_path / "a" / "place"
    place.mkdir(parents=True)
    monkeypatch.chdir(place)
    linear_network().save("net")
    np.save("x.npy", np.linspace(-1, 1, 10, dtype=np.float32).reshape(2, 5))
    return place


@pytest.mark.parametrize("name", HOSTILE, ids=[str(number) for number in range(len(HOSTILE))])
def test_a_name_inside_a_file_is_no_path_and_no_mark_up(name: str, place: Path, tmp_path: Path) -> None:
    name = name.format(tmp_path)
    program: Program = assemble(TWO_LAYERS.read_text())
    layers = tuple(f"{name}{index}" for index in range(len(program.layers)))
    outputs = tuple(replace(port, name=name) for port in program.outputs)
    replace(program, name=name, layers=layers, outputs=outputs).save("program")
    called = call("run", EDGE, "program", "--json")
    assert (called.status, called.err) == (0, "")
    pictures = [Path(path) for path in json.loads(called.out)["pictures"]]
    assert [path.parent for path in pictures] == [Path("results")] * 2
    assert all(path.is_file() and path.name.isascii() for path in pictures)
    assert sorted(tmp_path.iterdir()) == [tmp_path / "a"]
    assert sorted((tmp_path / "a").iterdir()) == [place]
    shown = call("disassemble", "program", "--data")
    assert shown.status == 0
    assert shown.out.isascii()
    assert assemble(shown.out) == Program.load("program")


def test_names_are_shown_as_they_are_in_tables_and_errors(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "utilization_figure", lambda result: plots.new_figure(1, 1))
    text = TWO_LAYERS.read_text().replace(".layer fc1", '.layer "[red]\\u001b[31m:smile:[/]"')
    Path("p.asm").write_text(text)
    shown = call("run", EDGE, "p.asm").out
    assert "[red]\\x1b[31m:smile:[/]" in shown
    assert "\x1b" not in shown
    called = call("explain", "net", "--layers", "\x1b[31mfc1", "--input", "x.npy")
    assert called.status == 2
    assert "error: --layers \\x1b[31mfc1: no such layer" in called.err
    called = call("run", EDGE, "net", "\x1b[31m")
    assert called.status == 2
    assert "\\x1b[31m" in called.err
    assert "\x1b" not in called.err


def test_a_saved_network_of_any_names_is_the_same_network(place: Path) -> None:
    network = linear_network()
    names = {"x": "\ud800", "fc1": "a\0b/../c", "fc2": "é\\\"'"}
    values = {names[name]: replace(value, name=names[name]) for name, value in network.values.items()}
    nodes = tuple(
        replace(node, name=names[node.name], inputs=tuple(names[source] for source in node.inputs))
        for node in network.nodes
    )
    odd = replace(network, values=values, nodes=nodes, inputs=(names["x"],), outputs=(names["fc2"],), name="\ud800")
    odd.save("odd")
    loaded = Network.load("odd")
    assert (loaded.name, loaded.inputs) == ("\ud800", ("\ud800",))
    assert [node.name for node in loaded.nodes] == [names["fc1"], names["fc2"]]
    for words in (["run", EDGE, "odd"], ["extract", "odd", "--out", "o.npz", "--format", "npz"], ["certify", "odd"]):
        for json_too in ([], ["--json"]):
            called = call(*words, *json_too)
            assert called.status == 0, called
            assert all(char.isprintable() or char == "\n" for char in called.out)
    with np.load("o.npz") as arrays:
        assert not any("/" in name or "\0" in name for name in arrays)
    page = call("explain", "odd", "--layers", "a\0b", "--input", "x.npy")  # NUL is no word of a command
    assert page.status == 2
    page = call("explain", "odd", "--layers", names["fc2"], "--input", "x.npy", "--markdown", "page.md")
    assert page.status == 0, page
    assert Path("page.md").read_text(encoding="utf-8").startswith("# One output, worked through: é\\\\\"'\n")


#: Calls whose place cannot be written, and what is said of it.
EARLY = {
    "picture in a file": (["run", EDGE, "slow:model", "--plot", "net/x.png"], "not a folder"),
    "picture of another kind": (["run", EDGE, "slow:model", "--plot", "x.pdf"], ".png and .svg"),
    "picture without a name": (["run", EDGE, "slow:model", "--plot", "."], ".png and .svg"),
    "program in no folder": (["compile", EDGE, "slow:model", "--out", "absent/p.bin"], "no folder absent"),
    "program on a folder": (["compile", EDGE, "slow:model", "--out", ".."], "is a folder"),
    "network in no folder": (["extract", "slow:model", "--out", "absent/n"], "no folder absent"),
    "header in no folder": (["extract", "slow:model", "--format", "c", "--out", "absent/n.h"], "no folder absent"),
    "header on its manifest": (["extract", "slow:model", "--format", "c", "--out", "n.json"], "manifest"),
    "memory on a file": (["extract", "slow:model", "--format", "mem", "--out", "net"], "no folder"),
    "constants of another kind": (["certify", "slow:model", "--out", "c.txt"], ".json or .safetensors"),
    "constants in no folder": (["certify", "slow:model", "--out", "absent/c.json"], "no folder absent"),
    "page in no folder": (["explain", "slow:model", "--layers", "a", "--markdown", "absent/p.md"], "no folder absent"),
    "map of another kind": (["sweep", EDGE, "slow:model", "--set", "mac_array.rows=4", "--plot", "x.gif"], ".png"),
    "too long": (["assemble", TWO_LAYERS, "--out", "x" * 300], "shorter name"),
}


@pytest.mark.parametrize("case", EARLY)
def test_a_place_that_cannot_be_written_is_said_before_the_work(
    case: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("slow.py").write_text("raise AssertionError('the work has begun')")
    monkeypatch.syspath_prepend(place)
    before = sorted(place.iterdir())
    words, said = EARLY[case]
    called = call(*words)
    assert (called.status, called.out) == (2, "")
    assert said in called.err
    assert sorted(place.iterdir()) == before


def test_a_picture_that_fails_does_not_cost_the_tables(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("no font")

    monkeypatch.setattr(plots, "utilization_figure", fails)
    called = call("run", EDGE, TWO_LAYERS)
    assert called.status == 2
    assert "111 162" in called.out
    assert called.err.startswith("error: results/two_layers_utilization.png: the picture cannot be drawn (RuntimeError")
    called = call("run", EDGE, TWO_LAYERS, "--json", "--plot", "x.png")
    assert called.status == 2
    assert json.loads(called.out)["outputs"][0]["codes"] == [[111, 162]]
    assert json.loads(called.out)["pictures"] == []


LATE = {
    "run": ["run", EDGE, TWO_LAYERS, "--plot", "x.png"],
    "compile": ["compile", EDGE, "net", "--out", "p.bin"],
    "extract": ["extract", "net", "--out", "n.h", "--format", "c"],
    "certify": ["certify", "net", "--out", "c.json"],
    "explain": ["explain", "net", "--layers", "fc1", "--input", "x.npy", "--markdown", "p.md"],
}


@pytest.mark.parametrize("command", LATE)
def test_a_disk_that_fills_up_costs_neither_the_tables_nor_the_old_file(
    command: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = LATE[command]
    old = Path(next(str(word) for word in words if str(word) in ("x.png", "p.bin", "n.h", "c.json", "p.md")))
    old.write_text("old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", full)
    before = sorted(place.iterdir())
    for as_json in ([], ["--json"]):
        called = call(*words, *as_json)
        assert called.status == 2
        assert called.err.startswith(f"error: {old}: cannot be written (no space left on device); make room")
        assert len(called.err.splitlines()) == 1
        assert json.loads(called.out) if as_json else len(called.out) > 100
        assert "written to" not in called.out
        assert old.read_text() == "old"
        assert sorted(place.iterdir()) == before


def test_a_device_takes_a_picture_and_a_program(place: Path) -> None:
    called = call("run", EDGE, TWO_LAYERS, "--plot", "/dev/null", "--json")
    assert (called.status, json.loads(called.out)["pictures"]) == (0, ["/dev/null"])
    assert call("assemble", TWO_LAYERS, "--out", "/dev/null").status == 0


def test_inputs_without_rows_are_refused_with_their_file(place: Path) -> None:
    np.save("none.npy", np.zeros((0, 5), np.float32))
    for words in (["run", EDGE, "net"], ["compare", "net"], ["explain", "net", "--layers", "fc1"]):
        called = call(*words, "--input", "none.npy")
        assert (called.status, called.out) == (2, "")
        assert "none.npy: shape (0, 5) has no elements" in called.err
