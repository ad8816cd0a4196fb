"""Mutated files at every door: right, or an error that says what is wrong, where, and what to do.

An input with another outcome is written to `regressions/<door>-<seed>`, where it stays a test.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from .doors import DOORS, REGRESSIONS, WrongOutcomeError, check, mutated

#: Inputs of a test.
INPUTS = 250

#: Tests of each door in `make test`, 10^4 inputs in all: fewer where one takes longer. A door that is not named has 2.
TESTS = {"network": 14, "program": 14, "configuration": 8, "assembly": 4}

#: Tests of each door in `make test-full`: 10^6 inputs with four doors.
ALL_TESTS = 1000


def batches() -> list[Any]:
    return [
        pytest.param(door, number, marks=() if number < TESTS.get(door, 2) else pytest.mark.full)
        for door in DOORS
        for number in range(ALL_TESTS)
    ]


@pytest.mark.parametrize(("door", "batch"), batches())
def test_a_mutated_file_is_taken_rightly_or_refused_in_words(door: str, batch: int, tmp_path: Path) -> None:
    outcomes = set()
    for seed in range(batch * INPUTS, (batch + 1) * INPUTS):
        content = mutated(DOORS[door], seed)
        try:
            outcomes.add(check(DOORS[door], content, tmp_path) == "accepted")
        except WrongOutcomeError as error:
            found = REGRESSIONS / f"{door}-{seed}"
            found.write_bytes(content)
            pytest.fail(f"{error}\nthe input is {found}: it is a test from now on")
    assert outcomes == {True, False}, "both outcomes come up, or the mutations reach nothing"


@pytest.mark.parametrize("path", sorted(REGRESSIONS.iterdir()), ids=lambda path: path.name)
def test_what_was_found_stays_mended(path: Path, tmp_path: Path) -> None:
    check(DOORS[path.name.split("-")[0]], path.read_bytes(), tmp_path)


@pytest.mark.parametrize("door", DOORS)
def test_the_files_that_are_mutated_are_good(door: str, tmp_path: Path) -> None:
    for sample in DOORS[door].samples():
        assert check(DOORS[door], sample, tmp_path) == "accepted"
