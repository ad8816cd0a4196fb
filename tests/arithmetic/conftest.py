"""The witness as a fixture, and a summary of how many outputs were compared with PyTorch's."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from witness import PyTorch

_COMPARED: Counter[tuple[str, str]] = Counter()


#: Comparisons draw their cases anew in each part; `make test` takes the first, `make test-full` all of them.
PARTS = 5


@pytest.fixture(params=[0, *[pytest.param(part, marks=pytest.mark.full) for part in range(1, PARTS)]])
def part(request: pytest.FixtureRequest) -> int:
    """Seeds the cases of a comparison together with the comparison's own number."""
    return int(request.param)


@pytest.fixture(scope="session")
def pytorch() -> Iterator[PyTorch]:
    witness = PyTorch()
    yield witness
    witness.close()
    _COMPARED.update(witness.compared)


def pytest_sessionfinish(session: pytest.Session) -> None:
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["compared"] = [(operator, engine, count) for (operator, engine), count in _COMPARED.items()]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    for operator, engine, count in getattr(node, "workeroutput", {}).get("compared", ()):
        _COMPARED[operator, engine] += count


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if not _COMPARED:
        return
    engines = sorted({engine for _, engine in _COMPARED})
    terminalreporter.section("outputs compared with PyTorch's kernels, by operator and engine")
    terminalreporter.line(f"{'':28}" + "".join(f"{engine:>14}" for engine in engines))
    for operator in sorted({operator for operator, _ in _COMPARED}):
        counts = "".join(f"{_COMPARED[operator, engine]:>14,}" for engine in engines)
        terminalreporter.line(f"{operator:28}{counts}")
    terminalreporter.line(f"{'total':28}{sum(_COMPARED.values()):>14,}")
