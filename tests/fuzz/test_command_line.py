"""Random and mutated command lines: each ends with status 0, 1 or 2 and a word, none with a traceback or a bug."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.main import get_command

from accelsim.cli import application
from accelsim.isa import assemble
from accelsim.report import plots

from ..cli.calling import ROOT, call
from ..report.builders import linear_network

#: Copies, since any word may come after `--out`.
EDGE, TWO_LAYERS = "edge.yaml", "two.asm"

#: Words that users, scripts and files bring: numbers, names, paths, and what is hardly any of them.
WORDS = (
    *("", " ", "-", "--", "---", "-1", "0", "1", "2", "31", "32", "99999999999999999999", "1e9", "nan", "0x10", "٣"),
    *(".", "..", "/", "../x", "/dev/null", "/dev/stdin/x", "results", "folder", "folder/x", "absent/x"),
    *("a\0b", "\0", "\udcff", "\ud800", "\x1b[31m", "\u202e", "é:ü", "a\nb", "[red]", "[/]", ":smile:", "$x$", "%s"),
    *("x" * 300, "y" * 5000, "a/" * 600, "~", "*", "a=b", "=", ",", "a,b", "fc1", "fc1,fc2", "fc1,", ",,"),
    *("net", "cut", "program", "program.cut", "x.npy", "wide.npy", "none.npy", "object.npy", "text", TWO_LAYERS, EDGE),
    *("mac_array.rows=4", "mac_array.rows=", "mac_array.rows=4,4", "a.b=1", "name=[", "clock_mhz=.inf", "name={a: 1}"),
    *("no_module:f", "os:getcwd", "json:loads", "sys:exit", "math:pi", "host", "uniform", "textbook", "fixed_point"),
    *("npz", "c", "mem", "safetensors", "out.json", "out.png", "out.svg", "out.pdf", "out.bin", "out"),
)

#: Calls that work, without the options that only choose where things go.
CALLS = (
    ("run", EDGE, "net", "--input", "x.npy", "--json"),
    ("run", EDGE, "program", "--plot", "out.png"),
    ("run", EDGE, TWO_LAYERS, "--input", "x.npy"),
    ("extract", "net", "--out", "out.npz", "--format", "npz", "--json"),
    ("extract", "net", "--format", "mem", "--out", "out"),
    ("compile", EDGE, "net", "--out", "out.bin", "--explain", "--dump-after", "lower", "--effort", "0"),
    ("assemble", TWO_LAYERS, "--out", "out.bin", "--config", EDGE),
    ("disassemble", "program", "--data", "--json"),
    ("explain", "net", "--layers", "fc1", "fc2", "--element", "1", "--input", "x.npy", "--markdown", "out.md"),
    ("certify", "net", "--multiplier-bits", "12", "--out", "out.json"),
    ("compare", "net", "--with", "textbook", "--input", "x.npy", "--labels", "labels.npy"),
    ("verify", "net", "--config", EDGE),
)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to be in, with a network, a program and inputs, whole and damaged."""
    tmp_path = tmp_path / "place"  # whose parent `../x` may write to
    tmp_path.mkdir()
    monkeypatch.chdir(tmp_path)
    # Pictures have tests of their own, and take most of the time.
    monkeypatch.setattr(plots, "utilization_figure", lambda result: plots.new_figure(1, 1))
    fill(tmp_path)
    return tmp_path


def fill(tmp_path: Path) -> None:
    """The files in the folder, as they are before anything overwrites them."""
    shutil.copy(ROOT / "configs" / "edge_16x16.yaml", tmp_path / EDGE)
    shutil.copy(ROOT / "programs" / "two_layers.asm", tmp_path / TWO_LAYERS)
    linear_network().save(tmp_path / "net")
    assemble((tmp_path / TWO_LAYERS).read_text()).save(tmp_path / "program")
    for name in ("net", "program"):
        content = (tmp_path / name).read_bytes()
        (tmp_path / ("cut" if name == "net" else "program.cut")).write_bytes(content[: len(content) * 2 // 3])
    np.save(tmp_path / "x.npy", np.linspace(-1, 1, 10, dtype=np.float32).reshape(2, 5))
    np.save(tmp_path / "wide.npy", np.zeros((2, 6), np.float32))
    np.save(tmp_path / "none.npy", np.zeros((0, 5), np.float32))
    np.save(tmp_path / "object.npy", np.array([None, 1]), allow_pickle=True)
    np.save(tmp_path / "labels.npy", np.array([0, 1]))
    (tmp_path / "text").write_text("; a comment\nmac nonsense=1\n")
    (tmp_path / "folder").mkdir(exist_ok=True)


def options() -> dict[str, dict[str, bool]]:
    """By sub-command its options, and whether a word follows them."""
    commands = get_command(application).commands
    return {
        name: {option: not param.is_flag for param in command.params for option in param.opts if "--" in option}
        for name, command in commands.items()
    }


def mutated(draw: random.Random, known: dict[str, dict[str, bool]]) -> list[str]:
    """A call with one to three changes: words replaced, dropped, doubled, swapped, lengthened, options added."""
    words = list(draw.choice(CALLS))
    own = known[words[0]]
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        at = draw.randrange(len(words))
        values = [place for place, word in enumerate(words) if place and not word.startswith("--")]
        change = draw.randrange(10)
        if change < 4 and values:
            words[draw.choice(values)] = draw.choice(WORDS)
        elif change < 8:
            option = draw.choice(list(own))
            words += [option, draw.choice(WORDS)] if own[option] else [option]
        elif change == 8:
            words[at : at + draw.randrange(3)] = draw.choices((*WORDS, *words), k=draw.randrange(2))
        else:
            words[at] += draw.choice((*WORDS, *words))
    return words


def test_calls_that_are_mutated_work(place: Path) -> None:
    for words in CALLS[:-1]:
        if words != CALLS[2]:
            called = call(*words)
            assert called.status == 0, (words, called)
    assert call(*CALLS[-1]).status == 2  # verify needs the model


@pytest.mark.parametrize(
    "seed", [pytest.param(0), *(pytest.param(seed, marks=pytest.mark.full) for seed in range(1, 41))]
)
def test_no_command_line_gets_past_a_message(place: Path, seed: int) -> None:
    draw, known = random.Random(seed), options()
    assert {"--input", "--layers", "--markdown"} <= set(known["explain"])
    statuses = set()
    for _ in range(150):
        words = mutated(draw, known)
        called = call(*words)
        statuses.add(called.status)
        assert called.status in (0, 1, 2), words
        assert "internal error" not in called.err, (words, called.err)
        assert "Traceback" not in called.err, (words, called.err)
        assert called.status == 0 or called.err.strip() or called.out.strip(), words
        shown = called.out + called.err
        assert all(char.isprintable() or char in "\n\t" for char in shown), (words, shown)
        if "--out" in words or "--markdown" in words or "--plot" in words:
            fill(place)
    assert {0, 2} <= statuses
