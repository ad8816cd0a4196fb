"""Mutated files at every door: right, or an error that says what is wrong, where, and what to do.

An input with another outcome is written to `regressions/<door>-<seed>`, where it stays a test.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from .doors import DOORS, REGRESSIONS, WrongOutcomeError, check, mutated

#: Inputs of a test, and tests of a door: 10^4 inputs in all for `make test`, 10^6 for `make test-full`.
INPUTS = 250
TESTS, ALL_TESTS = 10, 1000


def batches() -> list[object]:
    numbers = [*range(TESTS), *(pytest.param(number, marks=pytest.mark.full) for number in range(TESTS, ALL_TESTS))]
    return [
        pytest.param(door, number, marks=getattr(part, "marks", ()))
        for door in DOORS
        for part in numbers
        for number in [part if isinstance(part, int) else part.values[0]]
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
