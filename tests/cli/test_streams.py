"""Closed, full and narrow streams, and interrupts at any time: a status and at most a message, never a traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from .calling import EDGE, ROOT, call

TWO_LAYERS = str(ROOT / "programs" / "two_layers.asm")
ACCELSIM = [sys.executable, "-m", "accelsim"]
DISASSEMBLE = ["disassemble", TWO_LAYERS]

needs_full = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full on this system")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "noisy", raising=False)
    # The package may be imported from the folder of the tests.
    before = [os.environ["PYTHONPATH"]] if os.environ.get("PYTHONPATH") else []
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(ROOT), *before]))


def shell(redirection: str, words: list[str]) -> tuple[int, str]:
    """Exit status and what was said on stderr, with a redirection of the shell's."""
    process = subprocess.run(
        ["sh", "-c", f'exec "$@" {redirection}', "sh", *ACCELSIM, *words],
        capture_output=True,
        text=True,
        timeout=120,
    )
    return process.returncode, process.stderr


def test_a_closed_stdout_is_said() -> None:
    said = "error: the result cannot be written: standard output is closed; send it to a file or a pipe\n"
    assert shell(">&-", DISASSEMBLE) == (2, said)


@needs_full
def test_a_full_stdout_is_said() -> None:
    said = "error: standard output cannot be written (no space left on device); send it to another place\n"
    assert shell("> /dev/full", DISASSEMBLE) == (2, said)


def test_closed_streams_are_taken_by_no_file() -> None:
    assert shell("<&- >&- 2>&-", ["assemble", TWO_LAYERS, "--out", "p.bin", "--json"]) == (2, "")
    assert call("disassemble", "p.bin").status == 0


def test_what_goes_to_a_closed_stderr_does_not_come_out_with_the_result() -> None:
    command = ["sh", "-c", 'exec "$@" 2>&-', "sh", *ACCELSIM, "disassemble", "absent"]
    process = subprocess.run(command, stdout=subprocess.PIPE, timeout=120)
    assert (process.returncode, process.stdout) == (2, b"")


def test_a_narrow_stdout_gets_every_word_in_ascii(tmp_path: Path) -> None:
    text = Path(TWO_LAYERS).read_text().replace(".layer fc1", '.layer "f\\u00fc1"')
    Path("umlaut.asm").write_text(text)
    process = subprocess.run(
        [*ACCELSIM, "run", EDGE, "umlaut.asm"],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        timeout=120,
    )
    assert (process.returncode, process.stderr) == (0, b"")
    shown = process.stdout.decode("ascii")
    assert "f\\xfc1" in shown
    assert "111 162" in shown
    assert "\\u2500" not in shown  # lines are drawn of what there is


def test_an_interrupt_while_modules_are_imported_ends_with_a_word(tmp_path: Path) -> None:
    Path("yaml.py").write_text("import time\nopen('started', 'w').close()\ntime.sleep(600)\n")  # in place of PyYAML
    process = subprocess.Popen([*ACCELSIM, "configs"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not Path("started").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=120) == ("", "interrupted\n")
    assert process.returncode == 130


NOISY = """
import os, sys, torch
class Model(torch.nn.Module):
    def forward(self, x):
        print("python"); os.write(1, b"descriptor\\n"); os.system("echo child")
        return torch.ops.quantized.relu6(torch.quantize_per_tensor(x, 0.1, 3, torch.quint8))
class Leaves(Model):
    def forward(self, x): sys.exit(0)
def model(): return Model(), torch.ones(1, 4)
def leaves(): return Leaves(), torch.ones(1, 4)
"""


def test_a_model_that_leaves_is_an_error() -> None:
    Path("noisy.py").write_text(NOISY)
    called = call("extract", "noisy:leaves")
    assert (called.status, called.out) == (1, "")
    assert "SystemExit" in called.err


@needs_full
def test_a_disk_that_is_full_is_said_with_the_file() -> None:
    called = call("assemble", TWO_LAYERS, "--out", "/dev/full")
    assert (called.status, called.out) == (2, "")
    assert called.err.startswith("error: /dev/full: cannot be written (no space left on device); make room")


def test_a_file_that_is_stdout_is_still_that_when_a_model_has_got_the_descriptor() -> None:
    program = (
        "from accelsim import files; from accelsim.cli.streams import give_stdout_away, lasting; "
        "paths = [lasting(word) for word in ('/dev/stdout', '--out=/dev/stdout')]; give_stdout_away(); print('model'); "
        "[files.write(path.rpartition('=')[2], 'file ') for path in paths]"
    )
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert (process.returncode, process.stdout, process.stderr) == (0, "file file ", "model\n")
