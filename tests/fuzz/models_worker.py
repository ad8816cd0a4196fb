"""Checks the models of some seeds in a process of its own, since some of PyTorch's kernels end theirs.

`python models_worker.py START STOP` prints a line of JSON at each step of each seed.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from typing import Any

from checking import check
from models import Case
from shrinking import shrink
from writer import random_case


def main(start: int, stop: int) -> None:
    """The steps of a seed: "written" before PyTorch, "began" when the package takes over, then the outcome."""
    for seed in range(start, stop):
        say(seed=seed, step="written")
        case = random_case(seed)
        outcome = check(case, verified=seed % 8 == 0, began=partial(say, seed=seed, step="began", report=case.report))
        say(seed=seed, step="outcome", kind=outcome.kind, reason=outcome.reason, report=case.report)
        if outcome.is_fault:
            smaller = shrink(case, partial(fails_alike, kind=outcome.kind))
            say(seed=seed, step="smaller", reason=check(smaller).reason, report=smaller.report)
    say(seed=stop, step="end")


def fails_alike(case: Case, *, kind: str) -> bool:
    return check(case).kind == kind


def say(**event: Any) -> None:
    print(json.dumps(event), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
