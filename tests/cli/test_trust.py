"""Which files execute code, and that none of them does before it is allowed to; what models do beside computing."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch
from torch import nn
from torch.ao import quantization

from ..sweep.networks import linear
from .calling import EDGE, call

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
BIN = Path(sys.executable).parent


def accelsim(*words: object, here: Path, **more: Any) -> subprocess.CompletedProcess[str]:
    """The program in a process of its own."""
    command = [sys.executable, "-P", "-c", "from accelsim.cli import main; main()", *map(str, words)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path and path != str(here))}
    options: dict[str, Any] = {"cwd": here, "env": environment, "text": True, "timeout": 300, "check": False}
    return subprocess.run(command, capture_output=True, **(options | more))


class Marks(nn.Module):
    """Leaves a file when it is loaded, and another when it is run."""

    def __init__(self, loaded: str, run: str) -> None:
        super().__init__()
        self.loaded, self.run = loaded, run

    @torch.jit.export
    def __getstate__(self) -> tuple[str, str, bool]:
        return (self.loaded, self.run, self.training)

    @torch.jit.export
    def __setstate__(self, state: tuple[str, str, bool]) -> None:
        self.loaded, self.run, self.training = state[0], state[1], state[2]
        torch.save(torch.zeros(1), state[0])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        torch.save(x, self.run)
        return x


COMMANDS = (
    ["run", EDGE, "{}"],
    ["extract", "{}"],
    ["compile", EDGE, "{}", "--out", "out.bin"],
    ["certify", "{}"],
    ["explain", "{}", "--layers", "fc"],
    ["verify", "{}", "--config", EDGE],
    ["compare", "{}"],
    ["sweep", EDGE, "{}", "--set", "mac_array.rows=4"],
)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda words: words[0])
def test_torchscript_runs_only_after_trust(command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = torch.jit.script(Marks("loaded", "run"))
    model.save("evil.accelsim")  # its name decides nothing
    np.save("x.npy", np.zeros((1, 3), np.float32))
    words = [word.replace("{}", "evil.accelsim") for word in command]
    for more in ([], ["--input", "x.npy"], ["--engine", "qnnpack"]):
        called = call(*words, *more)
        assert (called.status, called.out) == (2, "")
        assert "evil.accelsim: a TorchScript file, which executes code" in called.err
        assert "--trust" in called.err
    called = call(*words, "--trust")
    assert called.status == 2
    assert "--input" in called.err
    assert not Path("loaded").exists()
    assert not Path("run").exists()
    call(*words, "--trust", "--input", "x.npy")
    assert Path("loaded").exists()
    assert Path("run").exists()


def test_a_torchscript_file_is_loaded_under_its_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.backends.quantized, "engine", "qnnpack")
    torch.manual_seed(0)
    model = nn.Sequential(quantization.QuantStub(), nn.Conv2d(1, 4, 3), nn.ReLU(), quantization.DeQuantStub())
    model.qconfig = quantization.get_default_qconfig("qnnpack")
    x = torch.randn(2, 1, 5, 5)
    quantization.prepare(model.eval(), inplace=True)
    model(x)
    quantization.convert(model, inplace=True)
    traced = torch.jit.trace(model, x)
    traced.save("t.pt")
    torch.jit.freeze(traced).save("frozen.pt")
    expected = model[2](model[1](model[0](x))).int_repr()
    np.save("x.npy", x.numpy())
    torch.backends.quantized.engine = "x86"
    for path in ("t.pt", "frozen.pt"):
        words = ["run", EDGE, path, "--engine", "qnnpack", "--input", "x.npy", "--trust", "--plot", "p.png", "--json"]
        called = call(*words)
        assert called.status == 0, called.err
        document = json.loads(called.out)
        assert (document["verification"]["engine"], document["verification"]["mismatches"]) == ("qnnpack", 0)
        assert document["outputs"][0]["codes"] == expected.tolist()
        assert torch.backends.quantized.engine == "x86"


def test_an_engine_that_a_model_cannot_have_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.jit.trace(nn.ReLU(), torch.zeros(1, 3)).save("t.pt")
    np.save("x.npy", np.zeros((1, 3), np.float32))
    for model in (["t.pt", "--trust", "--input", "x.npy"], ["examples.digits:quantized"]):
        called = call("extract", *model, "--engine", "onnxruntime")
        assert (called.status, called.out) == (1, "")
        assert called.err.startswith(
            "error: engine 'onnxruntime': the arithmetic of ONNX files, no engine of PyTorch's"
        )


def files(folder: Path) -> dict[str, str]:
    """Files that are no model, and what is said of each."""
    torch.save({"a": torch.zeros(2)}, folder / "state")
    torch.save({"a": torch.zeros(2)}, folder / "old", _use_new_zipfile_serialization=False)
    np.save(folder / "array", np.zeros(3))
    np.savez(folder / "arrays", np.zeros(3))
    safetensors.numpy.save_file({"a": np.zeros(3)}, folder / "deep", {"accelsim": "[" * 100_000})
    (folder / "pickle").write_bytes(b"\x80\x04\x95")
    (folder / "mobile").write_bytes(b"\x20\0\0\0PTMF")
    (folder / "net.pte").write_bytes(b"\x28\0\0\0ET12" + bytes(40))
    (folder / "net.tflite").write_bytes(b"\x20\0\0\0TFL3" + bytes(40))
    (folder / "net.gguf").write_bytes(b"GGUF\3" + bytes(40))
    (folder / "net.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(40))
    (folder / "empty").touch()
    (folder / "text").write_text("model")
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe")

    return {
        "state": "a state_dict, which has no graph",
        "old": "before 1.6",
        "array.npy": "--input",
        "arrays.npz": "archive of arrays",
        "deep": "no known kind",
        "pickle": "a pickle, which executes code",
        "mobile": "mobile devices",
        "net.pte": "a program of ExecuTorch",
        "net.tflite": "TensorFlow Lite, which is not read; convert it to ONNX",
        "net.gguf": "GGUF, without a graph",
        "net.h5": "an HDF5 file",
        "empty": "an empty file; give module:callable",
        "text": "no known kind; give module:callable",
        "folder": "a directory, not a file",
        "pipe": "a pipe or a device",
        "/dev/zero": "a pipe or a device",
        "x" * 5000: "File name too long",
    }


def test_what_a_file_is_decides_its_content_and_nothing_endless_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, said in files(tmp_path).items():
        called = call("certify", name, "--trust")
        assert (called.status, called.out) == (2, ""), name
        assert called.err.startswith("error: ")
        assert said in called.err, (name, called.err)
        assert call("extract", name).status == (0 if name == "state" else 2), name


def test_a_saved_network_is_known_whatever_its_first_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are the length of its header, which may begin as a pickle (80), or as a zip archive ("PK", 50 4b)."""
    monkeypatch.chdir(tmp_path)
    network = linear()
    for first, longest in ((b"\x80", 300), (b"PK", 18_100)):
        # The header, and with it its length, grows with a note.
        for count in range(longest, longest - 300, -4):
            dataclasses.replace(network, notes=("x" * count,)).save("net")
            if Path("net").read_bytes().startswith(first):
                break
        else:
            pytest.fail(f"no header has the length {first!r}")
        called = call("extract", "net")
        assert called.status == 0, called.err


def test_a_state_dict_is_listed_whatever_is_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    content = {
        "half": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
        "empty": torch.zeros(0, 3),
        "complex": torch.tensor([1j]),
        "flag": torch.tensor([True, False]),
        "sparse": torch.eye(2).to_sparse(),
        "huge": torch.zeros(1).expand(10**12),
        "epoch": 7,
    }
    torch.save(content, "c.pt")
    rows = {row["key"]: row for row in json.loads(call("extract", "c.pt", "--json").out)["parameters"]}
    assert list(rows) == list(content)
    assert (rows["half"]["stored"], rows["half"]["dtype"], rows["half"]["shape"]) == ("bfloat16", "float32", [2])
    assert (rows["empty"]["shape"], rows["sparse"]["shape"]) == ([0, 3], None)
    assert "sparse" in rows["sparse"]["reason"]
    shown = call("extract", "c.pt")
    assert shown.status == 0
    line = next(line for line in shown.out.splitlines() if "half" in line)
    assert line.split() == ["half", "bfloat16", "2", "-2", "1.5"]
    refused = call("extract", "c.pt", "--format", "npz", "--out", "c.npz")
    assert refused.status == 2
    assert "sparse: a sparse tensor" in refused.err
    assert not Path("c.npz").exists()
    for key in ("sparse", "huge"):
        del content[key]
    torch.save(content, "c.pt")
    assert call("extract", "c.pt", "--format", "npz", "--out", "c.npz").status == 0
    with np.load("c.npz") as back:
        assert back["half"].tolist() == [1.5, -2.0]
        assert set(back) == {"half", "empty", "complex", "flag"}


NPY = b"\x93NUMPY\x01\x00"


def header(text: str) -> bytes:
    return NPY + len(text).to_bytes(2, "little") + text.encode()


ARRAYS = {
    "objects": (header("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}") + b"\x80\x04N.", "pickle"),
    "larger": (header("{'descr': '<f4', 'fortran_order': False, 'shape': (100000000000,)}"), "400,000,000,000 bytes"),
    "overflow": (header("{'descr': '<f4', 'fortran_order': False, 'shape': (2147483647,)*3}"), "not an array"),
    "past": (header(f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({2**62}, {2**62})}}"), "no possible shape"),
    "nothing": (header(f"{{'descr': '<f4', 'fortran_order': False, 'shape': (0, {2**62})}}"), "no possible shape"),
    "negative": (header("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}"), "no possible shape"),
    "short": (header("{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}") + b"\0" * 7, "holds 7"),
    "long": (header("{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}") + b"\0" * 9, "holds 9"),
    "text": (header("{'descr': '<U9', 'fortran_order': False, 'shape': (0,)}"), "its elements are"),
    "fields": (header("{'descr': [('a', '<f4', (1000,))], 'fortran_order': False, 'shape': (0,)}"), "elements"),
    "deep": (header("(" * 5000), "not an array"),
    "version": (b"\x93NUMPY\x09\x00", "another version"),
    "cut": (NPY, "not an array"),
    "other": (b"not one", "not an array"),
    "empty": (b"", "not an array"),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_an_input_file_that_lies_is_said(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    content, said = ARRAYS[name]
    Path("x.npy").write_bytes(content)
    called = call("certify", "no.such:model", "--input", "x.npy")
    assert called.status == 2
    assert called.err.startswith("error: x.npy: ")
    assert said in called.err
    assert len(called.err) < 500


def test_input_files_that_have_no_end_or_no_content_are_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    np.savez(tmp_path / "several.npz", np.zeros(1), np.zeros(1))
    for path in ("/dev/zero", tmp_path / "pipe", tmp_path, tmp_path / "absent", tmp_path / "several.npz"):
        called = call("certify", "no.such:model", "--input", path)
        assert called.status == 2
        assert str(path) in called.err


LOUD = """
import atexit, ctypes, os, sys, threading, time, warnings
import torch

print("imported")
atexit.register(print, "at the end")
libc = ctypes.CDLL(None)

def shout(where):
    print(where, "by print")
    os.write(1, b"by descriptor\\n")
    os.system("echo by a child")
    libc.printf(b"by a buffer of C\\n")
    print("by the first stdout", file=sys.__stdout__)
    warnings.warn("by a warning")

class Model(torch.nn.Module):
    def forward(self, x):
        shout("forward")
        return torch.ops.quantized.add(x, x, 0.1, 128)

def model():
    shout("made")
    threading.Thread(target=lambda: (time.sleep(1), print("by a thread"))).start()
    return Model(), torch.quantize_per_tensor(torch.ones(1, 4), 0.1, 128, torch.quint8)
"""


@pytest.mark.parametrize("command", [["run", EDGE, "loud:model", "--plot", "p.png"], ["verify", "loud:model"]])
def test_what_a_model_prints_by_whatever_way_is_not_in_the_result(command: list[str], tmp_path: Path) -> None:
    (tmp_path / "loud.py").write_text(LOUD)
    more = ["--config", EDGE] if command[0] == "verify" else []
    done = accelsim(*command, *more, "--json", here=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)
    for way in ("imported", "made by print", "forward by print", "by descriptor", "by a child", "by a buffer of C"):
        assert way in done.stderr
    for way in ("by the first stdout", "by a warning", "by a thread", "at the end"):
        assert way in done.stderr


def test_a_result_that_nobody_reads_does_not_go_into_a_file(tmp_path: Path) -> None:
    """With stdout closed, descriptor 1 is free, and the next file that is opened would get what the model prints."""
    (tmp_path / "loud.py").write_text(LOUD)
    command = f"{sys.executable} -c 'from accelsim.cli import main; main()' extract loud:model --out n.accelsim >&-"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    subprocess.run(command, shell=True, cwd=tmp_path, env=environment, capture_output=True, timeout=300, check=False)
    assert call("extract", tmp_path / "n.accelsim", "--json").status == 0


LEAVING = """
import torch

class Leaves(torch.nn.Module):
    def __init__(self, how):
        super().__init__()
        self.how = how
    def forward(self, x):
        raise self.how

class Own(BaseException):
    pass

def leaves():
    return Leaves(SystemExit(0)), torch.zeros(1)

def leaves_otherwise():
    return Leaves(Own("mine")), torch.zeros(1)
"""


@pytest.mark.parametrize(("name", "said"), [("leaves", "SystemExit: 0"), ("leaves_otherwise", "Own: mine")])
def test_a_model_that_ends_the_process_is_an_error(
    name: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "leaving.py").write_text(LEAVING)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for command in COMMANDS:
        called = call(*(word.replace("{}", f"leaving:{name}") for word in command))
        assert called.status == 1, (command, called)
        assert called.out == ""
        assert said in called.err


def test_a_library_in_the_current_directory_is_no_library(tmp_path: Path) -> None:
    """The current directory is on Python's path only if the module that is named lies in it."""
    for name in ("torch", "simpy", "matplotlib", "zipfile", "here_too"):
        (tmp_path / f"{name}.py").write_text("open('imported', 'a').write(__name__)\n")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "model_elsewhere.py").write_text("def nothing(): return None\n")
    paths = os.pathsep.join([str(tmp_path / "elsewhere"), *filter(None, sys.path)])
    for model in ("absent.accelsim", "model_elsewhere:nothing"):
        done = accelsim("extract", model, here=tmp_path, env=os.environ | {"PYTHONPATH": paths})
        assert done.returncode in (1, 2)
        assert done.stderr.startswith("error: ")
        assert not (tmp_path / "imported").exists()
    assert "has no model" in accelsim("extract", "here_too:model", here=tmp_path).stderr
    assert (tmp_path / "imported").read_text() == "here_too"
