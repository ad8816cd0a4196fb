"""Every command and every program in README.md runs as it stands there."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from accelsim.cli import COMMANDS, application

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """The code blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    """The lines of the shell blocks, continued ones joined, without remarks."""
    text = "".join(blocks("sh")).replace("\\\n", " ")
    return [" ".join(shlex.split(line, comments=True)) for line in text.splitlines() if line.strip()]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory to be in, with what the commands read, so that what they write does not stay."""
    for name in ("configs", "programs", "examples"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    before = torch.backends.quantized.engine
    yield tmp_path
    torch.backends.quantized.engine = before


def run(line: str) -> str:
    """Run an `accelsim` command; its stdout. Each starts with PyTorch's own default engine, as a new process does."""
    torch.backends.quantized.engine = "x86"
    program, *words = shlex.split(line)
    assert program == "accelsim"
    ran = CliRunner().invoke(application, words)
    assert ran.exit_code == 0, f"{line}\n{ran.stdout}\n{ran.stderr}\n{ran.exception}"
    return ran.stdout


def test_the_machine_runs_a_network(place: Path) -> None:
    (text,) = blocks("yaml")
    (place / "mine.yaml").write_text(text)
    document = json.loads(run("accelsim run mine.yaml examples.digits:quantized --plot mine.png --json"))
    assert document["effect"]["layers"]
    wrong = text.replace("weight_stationary", "row_stationary")
    (place / "mine.yaml").write_text(wrong)
    called = CliRunner().invoke(application, ["run", "mine.yaml", "programs/two_layers.asm"])
    assert called.exit_code == 2
    assert "output_stationary" in called.stderr


def test_every_accelsim_command_runs(place: Path) -> None:
    calls = [line for line in commands() if line.startswith("accelsim ")]
    for line in calls:
        assert run(line).strip(), line
    names = set(COMMANDS)
    assert names == {line.split()[1] for line in calls}


def test_the_python_program_runs(place: Path) -> None:
    (program,) = blocks("python")
    ran = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert "0 differing bits" in ran.stdout


def test_every_other_command_is_a_target_of_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    others = [line for line in commands() if not line.startswith("accelsim ")]
    assert others
    for line in others:
        program, target = line.split()
        assert program == "make"
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), line


def test_every_link_leads_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_the_cycles_it_names_are_what_the_command_below_them_says(place: Path) -> None:
    found = re.search(r"([\d,]+) cycles, and comes from\s+```sh\n(.*?)\n```", README, re.DOTALL)
    assert found is not None
    said = json.loads(run(f"{found[2]} --json"))
    assert int(found[1].replace(",", "")) == said["cycles"], "measure it again, and draw the picture again"
