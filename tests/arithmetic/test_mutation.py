"""The tests notice when a rounding, a constant or a comparison of the arithmetic is off by one."""

from __future__ import annotations

from pathlib import Path

import pytest
from mutation import TESTS, mutants, sample, survivors


def test_sampled_mutants_are_killed(tmp_path: Path) -> None:
    assert not survivors(sample(0.2, 1, ["softmax"]), str(tmp_path))


@pytest.mark.full
@pytest.mark.parametrize("module", list(TESTS))
def test_nine_tenths_of_all_mutants_are_killed(module: str, tmp_path: Path) -> None:
    # Some changes compute the same: a comparison with a number that does not occur, a default that callers override.
    every = mutants(module)
    alive = [f"{mutant.line}: {mutant.change}" for mutant in survivors(every, str(tmp_path))]
    assert len(alive) <= len(every) / 10, f"{len(alive)} of {len(every)} mutants of {module}.py survive: {alive}"
