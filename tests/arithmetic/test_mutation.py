"""The tests notice when a rounding, a constant or a comparison of the arithmetic is off by one."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from mutation import EQUIVALENT, PACKAGE, TESTS, mutants

SCRIPT = Path(__file__).with_name("mutation.py")


def killed(*arguments: str) -> tuple[int, int, str]:
    """How many mutants were killed, of how many, and the report; in a process that has not imported accelsim."""
    run = subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, check=False)
    count = re.search(r"^(\d+) of (\d+) mutants killed", run.stdout, re.MULTILINE)
    assert count, run.stdout + run.stderr
    return int(count[1]), int(count[2]), run.stdout


def wanted(module: str) -> int:
    return sum(not mutant.equivalent for mutant in mutants(module))


def test_sampled_mutants_are_killed() -> None:
    dead, chosen, report = killed("--share", "0.3", "--seed", "1", "saturation")
    assert dead == chosen == round(0.3 * wanted("saturation")), report


def test_every_module_with_rules_of_its_own_is_mutated() -> None:
    assert set(TESTS) == {path.stem for path in PACKAGE.glob("*.py") if mutants(path.stem)}


@pytest.mark.parametrize("module", EQUIVALENT)
def test_every_change_called_equivalent_is_one_that_there_is(module: str) -> None:
    there = mutants(module)
    for source, changes, _ in EQUIVALENT[module]:
        for change in changes:
            assert any(m.source.startswith(source) and m.change == change for m in there), (source, change)


@pytest.mark.full
@pytest.mark.parametrize("module", list(TESTS))
def test_all_mutants_are_killed_that_are_not_equivalent(module: str) -> None:
    dead, chosen, report = killed(module)
    assert dead == chosen == wanted(module), report
