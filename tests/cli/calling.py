"""Calls of the command line in this process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from typer.testing import CliRunner

from accelsim.cli import application

ROOT = Path(__file__).parents[2]
EDGE = str(ROOT / "configs" / "edge_16x16.yaml")


@dataclass(frozen=True)
class Called:
    """What a call left: its exit status, and what it wrote."""

    status: int
    out: str
    err: str


def call(*words: object) -> Called:
    """Run `accelsim` with these words. An exception that escapes it is raised here."""
    result = CliRunner().invoke(application, [str(word) for word in words], prog_name="accelsim")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Called(result.exit_code, result.stdout, result.stderr)
