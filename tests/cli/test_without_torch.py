"""Saved networks and programs need no PyTorch; what needs it says what to install."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest
import torch

import accelsim

ROOT = Path(__file__).parents[2]

#: Python in which these packages cannot be imported.
HIDING = """
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchao", "onnx", "onnxruntime", "sklearn"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Hidden())
from accelsim.cli import main
main()
"""


class Model(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.ops.quantized.relu6(torch.quantize_per_tensor(x, 0.1, 3, torch.quint8))


@pytest.fixture
def place(tmp_path: Path) -> Path:
    x = torch.linspace(-1, 9, 8).reshape(1, 8)
    network = accelsim.extract(Model(), x)
    network.save(tmp_path / "net.accelsim")
    np.save(tmp_path / "x.npy", x.numpy())
    torch.jit.trace(Model(), x).save(tmp_path / "script.pt")
    (tmp_path / "mine.py").write_text("import torch\ndef model(): pass\n")
    (tmp_path / "float8.pt").write_bytes(b"")
    torch.save({"w": torch.ones(4).to(torch.float8_e4m3fn)}, tmp_path / "float8.pt")
    return tmp_path


def without(place: Path, line: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", HIDING, *line.split()]
    return subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)


CALLS = (
    "--help",
    "configs",
    "run teaching_4x4 net.accelsim --input x.npy --effort 0",
    "compile teaching_4x4 net.accelsim --effort 0 --out p.bin",
    "run teaching_4x4 p.bin --input x.npy --plot p.png",
    "disassemble p.bin",
    "extract net.accelsim",
    "certify net.accelsim",
    "compare net.accelsim --input x.npy",
    "sweep teaching_4x4 net.accelsim --set vector_unit.lanes=2,4 --effort 0 --store s.sqlite --plot s.png",
)


def test_saved_networks_and_programs_go_through(place: Path) -> None:
    for line in CALLS:
        ran = without(place, line)
        assert ran.returncode == 0, (line, ran.stderr)
        assert ran.stdout, line


@pytest.mark.parametrize(
    ("line", "extra"),
    [
        ("run teaching_4x4 mine:model", "torch"),
        ("run teaching_4x4 mine:model --engine qnnpack", "torch"),
        ("extract script.pt --trust --input x.npy", "torch"),
        ("extract float8.pt", "torch"),
        ("extract net.onnx", "onnx"),
    ],
)
def test_what_needs_a_package_says_which(place: Path, line: str, extra: str) -> None:
    (place / "net.onnx").write_bytes(bytes.fromhex("0808120474657374") + b"\x3a\x02\x12\x00")
    ran = without(place, line)
    assert ran.returncode in (1, 2), (ran.stdout, ran.stderr)
    assert f"pip install 'accelsim[{extra}]'" in ran.stderr, ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.full
def test_an_installed_package_runs_where_there_is_no_torch(place: Path, tmp_path: Path) -> None:
    """A wheel in an environment of its own: the configurations are in it, and PyTorch is not asked for."""
    python = tmp_path / "venv" / "bin" / "python"
    venv.create(tmp_path / "venv", with_pip=True)
    install = [str(python), "-m", "pip", "install", "--quiet", "--constraint", str(ROOT / "constraints.txt"), str(ROOT)]
    subprocess.run(install, check=True)
    listed = subprocess.run([str(python), "-m", "pip", "list"], check=True, capture_output=True, text=True).stdout
    assert "torch" not in listed
    for line in CALLS:
        command = [str(python), "-m", "accelsim", *line.split()]
        ran = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, (line, ran.stderr)
