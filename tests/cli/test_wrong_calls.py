"""Whatever the command line is given, it answers with a message and a status, and writes nothing to stdout."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from accelsim.cli import COMMANDS

from .calling import EDGE, ROOT, call

MODULE = """
import sys
import numpy as np
def raises(): raise ZeroDivisionError("on purpose")
def leaves(): sys.exit(3)
def nothing(): return None
def three(): return 1, 2, 3
def no_model(): return "model", np.zeros((1, 4), np.float32)
def needs(argument): return argument
number = 5
"""


def is_said(message: str) -> bool:
    """Whether an error is the command line's own, or that of the parser of its words."""
    return message.startswith(("error: ", "Usage: ")) or "─ Error ─" in message.splitlines()[0]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory to be in, with files of many wrong kinds and a module `odd_models`."""
    (tmp_path / "empty").touch()
    (tmp_path / "junk").write_bytes(random.Random(0).randbytes(2000))
    (tmp_path / "text").write_text("neither: this\n- nor that\n")
    (tmp_path / "list.yaml").write_text("- 1\n- 2\n")
    (tmp_path / "scalar.yaml").write_text("5\n")
    (tmp_path / "tag.yaml").write_text("!!python/object/apply:os.system ['true']\n")
    (tmp_path / "zip").write_bytes(b"PK\x03\x04" + bytes(100))
    (tmp_path / "header").write_bytes((2**40).to_bytes(8, "little") + b"{}")
    safetensors.numpy.save_file({"a": np.zeros(3)}, tmp_path / "other.safetensors")
    safetensors.numpy.save_file({"a": np.zeros(3)}, tmp_path / "odd.safetensors", {"accelsim": "[]"})
    forged = '{"format": "accelsim-network", "version": 1}'
    safetensors.numpy.save_file({"a": np.zeros(3)}, tmp_path / "forged_network", {"accelsim": forged})
    forged = '{"format": "accelsim-program", "version": 1}'
    safetensors.numpy.save_file({"a": np.zeros(3)}, tmp_path / "forged_program", {"accelsim": forged})
    (tmp_path / "bad.asm").write_text("mac nonsense=1\n")
    (tmp_path / "directory").mkdir()
    (tmp_path / "odd_models.py").write_text(MODULE)
    (tmp_path / "odd_import.py").write_text("raise RuntimeError('while importing')\n")
    (tmp_path / "odd_syntax.py").write_text("def (:\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


MODELS = {
    "odd_models:raises": (1, "ZeroDivisionError: on purpose"),
    "odd_models:leaves": (1, "SystemExit"),
    "odd_models:nothing": (1, "returned None"),
    "odd_models:three": (1, "a tuple of 3 (int, int, int)"),
    "odd_models:no_model": (1, "a tuple of 2 (str, ndarray)"),
    "odd_models:needs": (1, "called without arguments"),
    "odd_models:number": (2, "cannot be called"),
    "odd_models:absent": (2, "has no absent"),
    "odd_models:": (2, "module:callable"),
    ":quantized": (2, "module:callable"),
    "odd_import:anything": (1, "while importing"),
    "odd_syntax:anything": (1, "SyntaxError"),
    "no_such_module:anything": (2, "no module no_such_module"),
    "odd_models.sub:anything": (2, "no module odd_models.sub"),
    "no such file": (2, "no such file"),
    "directory": (2, "not a file"),
    "empty": (2, "empty"),
    "junk": (2, "junk"),
    "zip": (2, "zip"),
    "other.safetensors": (2, "other.safetensors"),
    "forged_network": (2, "forged_network"),
    "forged_program": (2, "holds a program"),
}


@pytest.mark.parametrize("model", MODELS)
def test_a_wrong_model_is_named(place: Path, model: str) -> None:
    status, said = MODELS[model]
    called = call("extract", model)
    assert (called.status, called.out) == (status, "")
    assert called.err.startswith("error: ")
    assert said in called.err


def test_a_model_that_asks_to_leave_or_fails_has_the_same_status_everywhere(place: Path) -> None:
    for words in (
        ["run", EDGE, "odd_models:raises"],
        ["compile", EDGE, "odd_models:raises", "--out", "x"],
        ["explain", "odd_models:raises", "--layers", "fc1"],
        ["verify", "odd_models:raises", "--config", EDGE],
        ["sweep", EDGE, "odd_models:raises", "--set", "mac_array.rows=4"],
    ):
        called = call(*words)
        assert (called.status, called.out) == (1, ""), words
        assert "on purpose" in called.err


@pytest.mark.parametrize(
    "words",
    [
        ["run", "absent.yaml", "x:y"],
        ["run", "directory", "x:y"],
        ["run", "empty", "x:y"],
        ["run", "junk", "x:y"],
        ["run", "text", "x:y"],
        ["run", "list.yaml", "x:y"],
        ["run", "scalar.yaml", "x:y"],
        ["run", "tag.yaml", "x:y"],
        ["run", EDGE, "absent.asm"],
        ["run", EDGE, "bad.asm"],
        ["run", EDGE, "forged_program"],
        ["run", EDGE, ROOT / "programs" / "two_layers.asm", "--engine", "fbgemm"],
        ["run", EDGE, ROOT / "programs" / "two_layers.asm", "--input", "absent.npy"],
        ["run", EDGE, ROOT / "programs" / "two_layers.asm", "--input", "junk"],
        ["run", EDGE, ROOT / "programs" / "two_layers.asm", "--input", "empty"],
        ["run", EDGE, "x:y", "--engine", "mkldnn"],
        ["run", EDGE, "x:y", "--lanes", "sse"],
        ["run", EDGE],
        ["run"],
        ["assemble", "absent.asm", "--out", "p.bin"],
        ["assemble", "directory", "--out", "p.bin"],
        ["assemble", "junk", "--out", "p.bin"],
        ["assemble", "bad.asm", "--out", "p.bin"],
        ["assemble", ROOT / "programs" / "two_layers.asm", "--out", "directory"],
        ["assemble", ROOT / "programs" / "two_layers.asm", "--out", "absent/p.bin"],
        ["assemble", ROOT / "programs" / "two_layers.asm", "--out", "p.bin", "--config", "list.yaml"],
        ["assemble", ROOT / "programs" / "two_layers.asm"],
        ["disassemble", "absent.bin"],
        ["disassemble", "directory"],
        ["disassemble", "empty"],
        ["disassemble", "junk"],
        ["disassemble", "forged_network"],
        ["verify", "forged_network", "--config", EDGE],
        ["verify", "x:y", "--config", "absent.yaml"],
        ["sweep", EDGE, "x:y"],
        ["sweep", EDGE, "x:y", "--set", "mac_array.rows=0"],
        ["sweep", EDGE, "x:y", "--set", "nothing"],
        ["sweep", EDGE, "x:y", "--set", "mac_array.rows=4", "--jobs", "0"],
        ["explain", "x:y"],
        ["explain", "x:y", "--layers"],
        ["explain", "x:y", "--layers", "fc1", "--element", "three"],
        ["frobnicate"],
        ["--frobnicate"],
        [],
    ],
    ids=lambda words: " ".join(Path(str(word)).name for word in words) or "nothing",
)
def test_a_wrong_call_has_status_2(place: Path, words: list[str]) -> None:
    called = call(*words)
    assert called.status == 2
    assert called.out == "" or not words  # without any word it prints the help
    assert not words or is_said(called.err)


def test_a_file_that_is_not_written_leaves_nothing(place: Path) -> None:
    before = sorted(place.iterdir())
    call("assemble", "bad.asm", "--out", "p.bin")
    call("compile", EDGE, "odd_models:nothing", "--out", "p.bin")
    call("extract", "odd_models:nothing", "--out", "n.accelsim")
    after = [path for path in place.iterdir() if path.name != "__pycache__"]
    assert sorted(after) == [path for path in before if path.name != "__pycache__"]


def test_no_mixture_of_wrong_files_gets_past_a_message(place: Path) -> None:
    """Every sub-command that takes a file, with every wrong file in every place."""
    wrong = ["absent", "directory", "empty", "junk", "text", "zip", "header", "odd.safetensors", "forged_network"]
    wrong += ["forged_program", "bad.asm", "list.yaml", "odd_models:three", "", "-", "--", "x" * 5000, "é:ü"]
    commands = [
        lambda a: ["run", EDGE, a],
        lambda a: ["run", a, a],
        lambda a: ["run", EDGE, a, "--json", "--input", a],
        lambda a: ["extract", a, "--json"],
        lambda a: ["compile", EDGE, a, "--out", "out.bin"],
        lambda a: ["assemble", a, "--out", "out.bin"],
        lambda a: ["disassemble", a],
        lambda a: ["explain", a, "--layers", a],
        lambda a: ["verify", a, "--config", EDGE],
        lambda a: ["sweep", EDGE, a, "--set", "mac_array.rows=4"],
        lambda a: ["sweep", EDGE, "x:y", "--set", a],
        lambda a: ["certify", a],
        lambda a: ["compare", a],
    ]
    for command, word in itertools.product(commands, wrong):
        called = call(*command(word))
        assert called.status in (1, 2), (command(word), called)
        assert called.out == "", command(word)
        assert is_said(called.err), (command(word), called.err)


def test_the_help_names_every_sub_command_of_the_contract() -> None:
    shown = call("--help").out
    names = set(COMMANDS)
    assert names >= {"run", "extract", "compile", "assemble", "disassemble", "explain", "verify", "sweep"}
    for name in names:
        assert name in shown
        called = call(name, "--help")
        assert called.status == 0
        assert "--json" in called.out


def test_the_version_is_the_packages() -> None:
    import accelsim

    assert call("--version").out == f"{accelsim.__version__}\n"
