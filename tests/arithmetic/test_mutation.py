"""The tests notice when a rounding, a constant or a comparison of the arithmetic is off by one."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from mutation import TESTS, mutants

SCRIPT = Path(__file__).with_name("mutation.py")


def killed(*arguments: str) -> tuple[int, int, str]:
    """How many mutants were killed, of how many, and the report; in a process that has not imported accelsim."""
    run = subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, check=False)
    count = re.search(r"^(\d+) of (\d+) mutants killed", run.stdout, re.MULTILINE)
    assert count, run.stdout + run.stderr
    return int(count[1]), int(count[2]), run.stdout


def test_sampled_mutants_are_killed() -> None:
    dead, chosen, report = killed("--share", "0.2", "--seed", "1", "matmul")
    assert dead == chosen == round(0.2 * len(mutants("matmul"))), report


@pytest.mark.full
@pytest.mark.parametrize("module", list(TESTS))
def test_four_fifths_of_all_mutants_are_killed(module: str) -> None:
    # Some changes compute the same: a comparison with a number that does not occur, a default that callers override.
    dead, every, report = killed(module)
    assert every == len(mutants(module))
    assert dead >= 0.8 * every, report
