"""Programs on the command line: assembled, disassembled, run, and what the processes around it do to them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from .calling import EDGE, ROOT, call

TWO_LAYERS = ROOT / "programs" / "two_layers.asm"
PROGRAMS = sorted((ROOT / "programs").glob("*.asm"))
BIN = Path(sys.executable).parent


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_program_by_hand_runs_and_is_compared_with_nothing(tmp_path: Path) -> None:
    called = call("run", EDGE, TWO_LAYERS, "--json")
    assert called.status == 0
    document = json.loads(called.out)
    assert document["outputs"][0]["codes"] == [[111, 162]]  # as worked by hand in the file itself
    assert document["check"] is None
    assert document["verification"] is None
    assert sum(layer["cycles"] for layer in document["layers"]) == document["cycles"]
    for causes in document["units"].values():
        assert sum(causes.values()) == document["cycles"]
    assert [layer["macs"] for layer in document["layers"]] == [4 * 3, 3 * 2]
    assert document["layers"][0]["utilization"] == 12 / (document["layers"][0]["cycles"] * 16 * 16)
    assert [Path(path).is_file() for path in document["pictures"]] == [True, True]


def test_the_tables_hold_the_same_numbers() -> None:
    document = json.loads(call("run", EDGE, TWO_LAYERS, "--json").out)
    shown = call("run", EDGE, TWO_LAYERS).out
    assert "111 162" in shown
    assert f"{document['cycles']:,} cycles" in shown
    assert "results/two_layers_utilization.png, results/two_layers_utilization.svg" in shown


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_assembling_what_was_disassembled_gives_the_same_file(tmp_path: Path, path: Path) -> None:
    assert call("assemble", path, "--out", "a.bin").status == 0
    text = call("disassemble", "a.bin", "--data")
    assert text.status == 0
    Path("b.asm").write_text(text.out)
    assert call("assemble", "b.asm", "--out", "b.bin").status == 0
    assert Path("a.bin").read_bytes() == Path("b.bin").read_bytes()
    runs = [json.loads(call("run", EDGE, name, "--json").out) for name in (path, "a.bin", "b.asm")]
    assert runs[0] == runs[1] == runs[2]


def test_disassembling_tells_the_sizes_in_json(tmp_path: Path) -> None:
    document = json.loads(call("disassemble", TWO_LAYERS, "--json").out)
    assert document["instructions"] == 11
    assert document["code_bytes"] == 11 * 64
    assert document["assembly"].startswith(".program two_layers")
    counts = {name: count for layer in document["layers"] for name, count in layer["instructions"].items()}
    assert counts["halt"] == 1


def test_a_place_for_the_picture_can_be_chosen_and_need_not_be_there(tmp_path: Path) -> None:
    document = json.loads(call("run", EDGE, TWO_LAYERS, "--plot", "deep/er/picture.png", "--json").out)
    assert document["pictures"] == ["deep/er/picture.png", "deep/er/picture.svg"]
    assert Path("deep/er/picture.svg").is_file()
    assert not Path("results").exists()


def test_a_picture_nobody_asked_for_does_not_cost_the_result(tmp_path: Path) -> None:
    Path("results").write_text("in the way")
    called = call("run", EDGE, TWO_LAYERS, "--json")
    assert called.status == 0
    assert "no picture: results" in json.loads(called.out)["notes"][0]
    assert call("run", EDGE, TWO_LAYERS, "--plot", "results/here.png").status == 2


def accelsim(*words: object) -> subprocess.Popen[str]:
    """The console script in a process of its own."""
    command = [str(BIN / "accelsim"), *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_the_console_script_writes_the_result_to_stdout_alone(tmp_path: Path) -> None:
    process = accelsim("run", EDGE, TWO_LAYERS, "--json")
    out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")
    assert json.loads(out)["outputs"][0]["codes"] == [[111, 162]]


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    read, write = os.pipe()
    process = subprocess.Popen(
        [str(BIN / "accelsim"), "disassemble", str(TWO_LAYERS)], stdout=write, stderr=subprocess.PIPE, text=True
    )
    os.close(write)
    os.close(read)
    _, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")


def test_an_interrupt_ends_with_a_word_and_no_traceback(tmp_path: Path) -> None:
    Path("slow.py").write_text("import time\ndef model():\n    open('started', 'w').close()\n    time.sleep(600)\n")
    process = accelsim("run", EDGE, "slow:model")
    while not Path("started").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert out == ""
    assert err == "interrupted; finished work is kept\n"
