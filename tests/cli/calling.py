"""Calls of the command line in this process."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from typer.main import get_command
from typer.testing import CliRunner

from accelsim.cli import application

ROOT = Path(__file__).parents[2]
EDGE = str(ROOT / "configs" / "edge_16x16.yaml")
_COMMAND = get_command(application)


@dataclass(frozen=True)
class Called:
    """What a call left: its exit status, and what it wrote."""

    status: int
    out: str
    err: str


def call(*words: object) -> Called:
    """Run `accelsim` with these words. An exception that escapes it is raised here."""
    # Not the runner's `invoke`, which makes the commands of all functions anew for each call.
    with CliRunner().isolation() as streams:
        try:
            _COMMAND.main([str(word) for word in words], prog_name="accelsim")
            status = 0
        except SystemExit as end:
            status = int(end.code or 0)
        sys.stdout.flush()
        sys.stderr.flush()
        out, err = (stream.getvalue().decode("utf-8", "surrogateescape") for stream in streams[:2])
    return Called(status, out, err)
