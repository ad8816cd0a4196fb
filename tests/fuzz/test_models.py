"""Random small models: the network and the machine give PyTorch's outputs on inputs that were not recorded, or the
model is refused by an AccelsimError."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

#: Models of one test, and tests of `make test-full`; `make test` has the first of them.
MODELS, TESTS = 100, 24
#: Share of the models that must be taken: else the generator writes what nobody can take, and shows nothing.
TAKEN = 0.3
#: So many models of a test PyTorch itself may end the process with.
ENDED = 5


@pytest.mark.parametrize("part", [0, *(pytest.param(part, marks=pytest.mark.full) for part in range(1, TESTS))])
def test_random_models_are_pytorchs_or_refused(part: int) -> None:
    outcomes: Counter[tuple[str, str]] = Counter()
    faults: list[str] = []
    start, stop = part * MODELS, (part + 1) * MODELS
    while start < stop:
        events, errors = _worker(start, stop)
        for event in events:
            if event["step"] == "outcome":
                outcomes[event["kind"], re.sub(r"[\d.]+", "#", event["reason"])[:100]] += 1
            if event["step"] == "smaller" or event.get("kind") in ("wrong", "failed"):
                faults.append(f"seed {event['seed']}, {event['step']}: {event['reason']}\n{event['report']}")
        assert events, errors
        last = events[-1]
        start = int(last["seed"]) + 1
        if last["step"] == "written":
            outcomes["ended", "PyTorch ended the process"] += 1
        elif last["step"] != "end":
            faults.append(f"seed {last['seed']}: the process ended\n{last.get('report', '')}{errors[-2000:]}")
    print("\n".join(f"{count:5}  {kind:9} {reason}" for (kind, reason), count in outcomes.most_common()))
    assert not faults, "\n".join(faults)
    kinds = Counter(kind for kind, _ in outcomes.elements())
    assert kinds.total() == MODELS
    assert kinds["ended"] <= ENDED
    assert kinds["right"] >= TAKEN * MODELS


def _worker(start: int, stop: int) -> tuple[list[dict[str, Any]], str]:
    """What the worker says of those seeds, and what it writes as errors."""
    worker, root = Path(__file__).with_name("models_worker.py"), Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, str(worker), str(start), str(stop)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root)},
        check=False,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("{") and line.endswith("}")]
    return [json.loads(line) for line in lines], done.stderr
