"""PyTorch's kernels as witnesses: one process for each kernel set, chosen by environment variables, and a count."""

from __future__ import annotations

import hashlib
import os
import pickle
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from accelsim.arithmetic.affine import Affine
from accelsim.arithmetic.engines import ENGINES, KernelSet

__all__ = [
    "ENGINES",
    "KERNEL_SETS",
    "STYLES",
    "Case",
    "PyTorch",
    "affine",
    "answers",
    "codes",
    "pair",
    "question",
    "zero_points",
]

KERNEL_SETS = (
    KernelSet("default", "avx2"),
    KernelSet("avx2", "avx2"),
    KernelSet("avx512", "avx512"),
    KernelSet("avx512", "vnni"),
)
#: The environment variable that names a directory where answers are kept.
KEPT = "ACCELSIM_KEPT_ANSWERS"
FBGEMM = {"avx2": "AVX2", "avx512": "AVX512", "vnni": "AVX512_E1"}
ONEDNN = {"avx2": "AVX2", "avx512": "AVX512_CORE", "vnni": "AVX512_CORE_VNNI"}


def pair(affine: Affine) -> tuple[float, int]:
    """Scale and zero point, as the worker takes them."""
    return affine.scale, affine.zero_point


@dataclass(frozen=True)
class Case:
    """One call of a function of the worker, and what accelsim says about its result."""

    function: str
    arguments: tuple[Any, ...]
    check: Callable[[Any], np.ndarray]  # from the answer (codes, or codes first) to our codes
    keywords: dict[str, Any] = field(default_factory=dict)
    note: Any = None


class PyTorch:
    """Asks the workers, compares, and counts what was compared by operator and engine."""

    def __init__(self) -> None:
        self.compared: Counter[tuple[str, str]] = Counter()
        self._workers: dict[KernelSet, subprocess.Popen[bytes]] = {}

    def ask(self, engine: str, kernels: KernelSet, cases: list[Case]) -> list[Any]:
        """The answers of PyTorch's kernels. Skips the test if the host cannot run them."""
        self._require(engine, kernels)
        return self._send(kernels, engine, [(case.function, case.arguments, case.keywords) for case in cases])

    def compare(self, operator: str, engine: str, kernels: KernelSet, cases: list[Case]) -> list[Any]:
        """Every case's codes must be equal; returns the answers. A case that PyTorch refuses is a failure."""
        answers = self.ask(engine, kernels, cases)
        for case, answer in zip(cases, answers, strict=True):
            if isinstance(answer, Exception):
                pytest.fail(f"{operator} of {engine}: PyTorch refuses {case.note}: {answer}")
            expected = np.asarray(answer[0] if isinstance(answer, tuple) else answer)
            ours = np.asarray(case.check(answer))
            assert ours.shape == expected.shape, (operator, engine, kernels, case.note, ours.shape, expected.shape)
            wrong = np.argwhere(ours != expected)
            if len(wrong):
                index = tuple(wrong[0])
                pytest.fail(
                    f"{operator} of {engine}, {kernels}: {len(wrong)} of {expected.size} differ, first at {index}: "
                    f"PyTorch {expected[index]}, accelsim {ours[index]}; {case.note}"
                )
            self.compared[operator, engine] += expected.size
        return answers

    def close(self) -> None:
        for worker in self._workers.values():
            assert worker.stdin is not None
            worker.stdin.close()
            worker.wait(timeout=30)

    def _worker(self, kernels: KernelSet) -> subprocess.Popen[bytes]:
        if kernels in self._workers:
            return self._workers[kernels]
        environment = dict(
            os.environ,
            ATEN_CPU_CAPABILITY=kernels.aten,
            FBGEMM_ENABLE_INSTRUCTIONS=FBGEMM[kernels.matrix],
            ONEDNN_MAX_CPU_ISA=ONEDNN[kernels.matrix],
            OMP_NUM_THREADS="2",
        )
        self._workers[kernels] = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("torch_worker.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        return self._workers[kernels]

    def _require(self, engine: str, kernels: KernelSet) -> None:
        (host,) = self._send(KERNEL_SETS[0], "fbgemm", [("host", (), {})])
        for wanted in (kernels.aten, kernels.matrix):
            if not host.get(wanted, True):
                pytest.skip(f"this host has no {wanted} kernels")
        if engine == "x86" and host["vnni"] != (kernels.matrix == "vnni"):
            # ATen asks the processor, not the environment, whether x86 means oneDNN.
            pytest.skip("x86 chooses by the processor, which the environment cannot change")

    def _send(self, kernels: KernelSet, engine: str, cases: list[Any]) -> list[Any]:
        """The worker's answers, or those that were kept of the same question (mutation.py asks it many times)."""
        question = pickle.dumps((engine, cases))
        kept = None
        if KEPT in os.environ:
            name = hashlib.sha256(repr(kernels).encode() + question).hexdigest()
            kept = Path(os.environ[KEPT]) / name
            if kept.exists():
                return list(pickle.loads(kept.read_bytes()))
        worker = self._worker(kernels)
        assert worker.stdin is not None
        assert worker.stdout is not None
        worker.stdin.write(question)
        worker.stdin.flush()
        answers: list[Any] = pickle.load(worker.stdout)
        if kept is not None:
            kept.write_bytes(pickle.dumps(answers))
        return answers


def question(function: str, *arguments: Any, **keywords: Any) -> Case:
    """A call whose answer is compared with other answers of PyTorch, not with accelsim's."""
    return Case(function, arguments, lambda answer: answer, keywords)


def answers(pytorch: PyTorch, engine: str, kernels: KernelSet, questions: list[Case]) -> list[np.ndarray]:
    """The codes of each question; one that PyTorch refuses is a failure."""
    given = pytorch.ask(engine, kernels, questions)
    refused = [answer for answer in given if isinstance(answer, Exception)]
    assert not refused, (engine, kernels, refused[:1])
    return [np.asarray(answer[0] if isinstance(answer, tuple) else answer) for answer in given]


#: How scales are chosen: exact ties (powers of two), one or two ulps beside them, and three kinds without ties.
STYLES = ("ties", "near ties", "random", "tiny", "huge")


def scale(rng: np.random.Generator, style: str) -> float:
    """One scale."""
    if style in ("ties", "near ties"):
        value = np.float32(2.0 ** rng.integers(-6, 3))
        for _ in range(int(rng.integers(1, 3)) if style == "near ties" else 0):
            value = np.nextafter(value, np.float32(rng.choice([0.0, 1e9])))
        # PyTorch keeps scales in binary64: half of them are no binary32 numbers.
        return float(value) * (1 + float(rng.uniform(-1e-7, 1e-7)) * float(style != "ties" and rng.random() < 0.5))
    if style == "random":
        return float(rng.uniform(0.001, 0.1))
    return float(rng.uniform(0.5, 2.0) * (1e-30 if style == "tiny" else 1e30))


def zero_points(rng: np.random.Generator, dtype: str, index: int) -> int:
    """Every zero point in turn, so that odd and even ones and the ends are all met."""
    limits = np.iinfo(dtype)
    return int(limits.min + (index * 37 + int(rng.integers(0, 2))) % 256)


def affine(rng: np.random.Generator, style: str, dtype: str, index: int) -> Affine:
    """An affine map with a scale of the style and the zero point of the turn."""
    return Affine(scale(rng, style), zero_points(rng, dtype, index), dtype)  # type: ignore[arg-type]


def codes(rng: np.random.Generator, shape: Any, dtype: str, low: int | None = None, high: int | None = None) -> Any:
    """Uniform codes of the dtype, or of the range `low..high`."""
    limits = np.iinfo(dtype)
    return rng.integers(limits.min if low is None else low, (limits.max if high is None else high) + 1, shape, dtype)


def styles(count: int) -> Iterator[tuple[int, str]]:
    """`count` case numbers, with the styles in turn; two fifths of them are ties."""
    order = ("ties", "near ties", "ties", "random", "ties", "near ties", "tiny", "ties", "huge", "ties")
    for index in range(count):
        yield index, order[index % len(order)]
