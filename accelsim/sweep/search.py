"""Guided search: Optuna proposes the points of a space, and those that no other is better than are the answer."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from accelsim.errors import SweepError
from accelsim.hardware import Accelerator
from accelsim.hardware.expressions import Expression, parse, resolve
from accelsim.hardware.relations import as_value
from accelsim.limits import DEFAULT, Limits
from accelsim.machine.bounds import RESOURCES
from accelsim.network import Network

from .grid import Axis, Candidate, Space, split
from .pool import Pool
from .results import record
from .runner import Estimate, Sweep, estimate, kept_points, point_of, saved
from .store import MEMORIES, Measurement, Row, Store

_PACKAGE = "optuna"

#: Of the trials: so many are spread over the space before the first is guided. Half of them leave the model of a
#: small space without a base, twice as many leave it too few trials.
_SPREAD = 0.3


@dataclass(frozen=True)
class Objective:
    """An expression of measures and keys that is to be as small as possible; `utilization` alone as large."""

    expression: Expression

    @property
    def text(self) -> str:
        """As it was written."""
        return self.expression.text

    def value(self, row: Row) -> float:
        """What is minimised. Raises ValueError for a name that the point has no value of, and for what is no number."""
        known = {key: as_value(value) for key, value in record(row).items() if value is not None}
        value = self.expression.value(lambda name: known[resolve(name, known)])
        if isinstance(value, bool | str):
            raise ValueError(f"{self.text} is no number")
        return -float(value) if self.text == "utilization" else float(value)


@dataclass(frozen=True)
class Search:
    """The points that were looked at, the last ones guided by the first; `front`: the numbers of those than which none
    is better in every objective, from the best in the first objective on."""

    sweep: Sweep
    objectives: tuple[str, ...]
    values: tuple[tuple[float, ...] | None, ...]
    front: tuple[int, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return self.sweep.to_dict() | {"objectives": list(self.objectives), "front": list(self.front)}


def objectives_of(text: str, accelerator: Accelerator) -> tuple[Objective, ...]:
    """`cycles,rows * columns` to its objectives. Raises SweepError for one that is none of any point."""
    found = []
    traffic = {memory: {"read": 1, "written": 1} for memory in MEMORIES}
    measured = Measurement(1, 1.0, 1, 1.0, traffic, bounds=dict.fromkeys(RESOURCES, 1), host_seconds=1.0)
    example = _row("", accelerator.to_dict(), 0, {}, measured)
    for part in split(text):
        try:
            objective = Objective(parse(part.strip()))
            objective.value(example)
        except ValueError as error:
            raise SweepError(f"--optimize {part.strip()}: {error}") from None
        found.append(objective)
    if len({objective.text for objective in found}) < len(found):
        raise SweepError(f"--optimize {text}: an objective is given twice")
    return tuple(found)


def search(
    network: Network,
    accelerator: Accelerator,
    space: Space,
    objectives: Sequence[Objective],
    *,
    trials: int,
    store: str | Path,
    seed: int = 0,
    jobs: int | None = None,
    effort: int = 1,
    retry: bool = False,
    memory: int | None = None,
    limits: Limits = DEFAULT,
    on_estimate: Callable[[Estimate], None] = lambda ahead: None,
    on_point: Callable[[Measurement], None] = lambda measurement: None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Search:
    """Look at up to `trials` points of a space, none of them twice, each where Optuna's tree-structured Parzen
    estimator expects most of what is known by then. The points that the store holds are known from the start.

    The other arguments, and what becomes of points and interrupts, as in `run_sweep`. Raises SweepError also where
    Optuna is not installed.
    """
    axes, candidates = space.candidates(accelerator)
    jobs = jobs or os.cpu_count() or 1
    with saved(network) as (path, digest), Store.opened(store) as kept:
        done = kept_points(kept, digest, candidates, effort, retry)
        reused, total = len(done), max(len(done), min(trials, len(candidates)))

        def values(number: int, measurement: Measurement) -> tuple[float, ...] | None:
            if measurement.error is not None:
                return None
            item = candidates[number]
            row = _row(network.name, item.accelerator.to_dict(), effort, item.parameters, measurement)
            try:
                return tuple(objective.value(row) for objective in objectives)
            except ValueError as error:
                raise SweepError(f"--optimize {','.join(item.text for item in objectives)}: {error}") from None

        guide = _Guide(axes, candidates, len(objectives), seed, max(2, round(_SPREAD * trials)))
        for number, measurement in done.items():
            guide.tell(number, values(number, measurement))
        on_estimate(estimate(kept, network, digest, effort, total, reused, total - reused, jobs))
        on_progress(reused, total)

        def ask(most: int) -> Mapping[int, dict[str, Any]]:
            return {n: candidates[n].accelerator.to_dict() for n in guide.ask(min(most, total - guide.taken))}

        def finish(number: int, measurement: Measurement) -> Mapping[int, dict[str, Any]]:
            item = candidates[number]
            kept.put(digest, item.accelerator, effort, item.parameters, measurement, network.name)
            done[number] = measurement
            on_point(measurement)
            guide.tell(number, values(number, measurement))
            on_progress(len(done), total)
            return ask(1)

        first = ask(jobs)
        if first:
            Pool(path, jobs, effort, memory, limits).run(first, finish)
    points = tuple(point_of(candidates[number], measurement) for number, measurement in done.items())
    found = tuple(values(number, measurement) for number, measurement in done.items())
    sweep = Sweep(network.name, accelerator, axes, points, reused)
    return Search(sweep, tuple(objective.text for objective in objectives), found, front(found))


def front(values: Sequence[tuple[float, ...] | None]) -> tuple[int, ...]:
    """The numbers of the values than which no others are as good in all places and better in one; of equal ones the
    first. From the best in the first place on."""
    found: list[int] = []
    order = sorted((each, number) for number, each in enumerate(values) if each is not None)
    for each, number in order:
        if not any(all(a <= b for a, b in zip(values[other] or (), each, strict=True)) for other in found):
            found.append(number)
    return tuple(found)


class _Guide:
    """Which candidate to look at next: the nearest of those not yet looked at to what Optuna proposes.

    So no point is looked at twice, and constraints cost no trials.
    """

    def __init__(
        self, axes: Sequence[Axis], candidates: Sequence[Candidate], objectives: int, seed: int, spread: int
    ) -> None:
        self._optuna = optuna = optuna_package()
        distributions = optuna.distributions
        self._distributions = {}
        for axis in axes:
            # The place of a number is a number; a word's place says nothing.
            numbers = all(isinstance(value, int | float) for value in axis.values)
            last = len(axis.values) - 1
            self._distributions[axis.key] = (
                distributions.IntDistribution(0, last)
                if numbers
                else distributions.CategoricalDistribution(tuple(range(last + 1)))
            )
        self._ordered = np.array(
            [isinstance(each, distributions.IntDistribution) for each in self._distributions.values()]
        )
        self._places = np.array(
            [[axis.values.index(item.parameters.get(axis.key, axis.values[0])) for axis in axes] for item in candidates]
        )
        self._sizes = np.maximum(self._places.max(axis=0), 1)
        self._free = np.ones(len(candidates), bool)
        sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=spread)
        self._study = optuna.create_study(directions=["minimize"] * objectives, sampler=sampler)
        self.taken = 0

    def ask(self, count: int) -> list[int]:
        """So many candidates that nobody has looked at, or as many as are left."""
        found = []
        for _ in range(min(count, int(self._free.sum()))):
            trial = self._study.ask(self._distributions)
            wanted = np.array([trial.params[name] for name in self._distributions])
            self._study.tell(trial, state=self._optuna.trial.TrialState.FAIL)  # what is known is added by `tell`
            steps = np.abs(self._places - wanted)
            distance = np.where(self._ordered, steps / self._sizes, steps > 0).sum(axis=1)
            number = int(np.argmin(np.where(self._free, distance, np.inf)))
            self._take(number)
            found.append(number)
        return found

    def tell(self, number: int, values: tuple[float, ...] | None) -> None:
        """What a candidate came to; None where it could not run."""
        if self._free[number]:
            self._take(number)
        if values is None:
            return
        parameters = dict(zip(self._distributions, map(int, self._places[number]), strict=True))
        self._study.add_trial(
            self._optuna.trial.create_trial(params=parameters, distributions=self._distributions, values=list(values))
        )

    def _take(self, number: int) -> None:
        self._free[number] = False
        self.taken += 1


def optuna_package() -> Any:
    """Optuna, told to be quiet. Raises SweepError where it is not installed."""
    try:
        optuna = importlib.import_module(_PACKAGE)
    except ImportError as error:
        if error.name != _PACKAGE:
            raise
        raise SweepError(
            f"--optimize needs the package {_PACKAGE}, which is not installed: pip install 'accelsim[{_PACKAGE}]'"
        ) from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def _row(
    name: str, configuration: dict[str, Any], effort: int, parameters: dict[str, Any], measurement: Measurement
) -> Row:
    return Row(
        key="",
        network="",
        network_name=name,
        version="",
        effort=effort,
        configuration=configuration,
        parameters=parameters,
        measurement=measurement,
    )
