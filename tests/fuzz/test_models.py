"""Random small models: the network and the machine give PyTorch's outputs on inputs that were not recorded, or the
model is refused by an AccelsimError."""

from __future__ import annotations

import re
from collections import Counter
from functools import partial

import pytest
from checking import Outcome, check
from models import Case
from shrinking import shrink
from writer import random_case

#: Models of one test, and tests of `make test-full`; `make test` has the first of them.
MODELS, TESTS = 100, 24
#: Share of the models that must be taken: else the generator writes what nobody can take, and shows nothing.
TAKEN = 0.3


@pytest.mark.parametrize("part", [0, *(pytest.param(part, marks=pytest.mark.full) for part in range(1, TESTS))])
def test_random_models_are_pytorchs_or_refused(part: int) -> None:
    outcomes: list[Outcome] = []
    faults: list[str] = []
    for seed in range(part * MODELS, (part + 1) * MODELS):
        case = random_case(seed)
        outcome = check(case, verified=seed % 8 == 0)
        outcomes.append(outcome)
        if outcome.is_fault:
            smaller = shrink(case, partial(_fails_alike, kind=outcome.kind))
            faults.append(f"seed {seed}: {outcome.reason}\nmade smaller: {check(smaller).reason}\n{smaller.report}")
    print(_table(outcomes))
    assert not faults, "\n".join(faults)
    assert sum(outcome.kind == "right" for outcome in outcomes) >= TAKEN * MODELS


def _fails_alike(case: Case, *, kind: str) -> bool:
    return check(case).kind == kind


def _table(outcomes: list[Outcome]) -> str:
    """How many models came to what, and why, the most frequent first."""
    counts = Counter((outcome.kind, re.sub(r"[\d.]+", "#", outcome.reason)[:100]) for outcome in outcomes)
    return "\n".join(f"{count:5}  {kind:9} {reason}" for (kind, reason), count in counts.most_common())
