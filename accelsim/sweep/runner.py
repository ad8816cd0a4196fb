"""Run the points of a sweep in local processes, and keep each as it finishes."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from accelsim.hardware import Accelerator
from accelsim.limits import DEFAULT, Limits
from accelsim.network import Network

from .grid import Axis, Candidate, Space
from .plateaus import Plateau, held_by, plateaus
from .pool import Pool
from .store import Measurement, Store, point_key

#: Seconds that a layer of a point takes, by the compiler's effort, before the first point of a network was measured:
#: ResNet-50 and MobileNet v2 on 16 x 16 cells on a processor of 2020. Smaller networks take less, larger arrays more.
_SECONDS_A_LAYER = (0.06, 0.2, 0.5)
#: Seconds until a process has started and has the network.
_START = 1.5


@dataclass(frozen=True)
class Point:
    """One combination of the swept values and what was measured there.

    `held_by`: the resource that takes most of the cycles besides the array's own work (`plateaus.held_by`).
    """

    parameters: dict[str, Any]
    measurement: Measurement
    held_by: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain data: everything but the layers and the host's seconds, which the store has."""
        found = dataclasses.asdict(self.measurement)
        del found["layers"], found["host_seconds"]
        mac = (self.measurement.units or {}).get("mac", {})
        stalls = {cause: cycles for cause, cycles in mac.items() if cause != "busy"}
        return {"parameters": self.parameters, **found, "stalls": stalls, "held_by": self.held_by}


@dataclass(frozen=True)
class Sweep:
    """All points of a sweep, the last axis running fastest. `reused` of them were in the store before."""

    network: str
    accelerator: Accelerator
    axes: tuple[Axis, ...]
    points: tuple[Point, ...]
    reused: int

    @property
    def best(self) -> Point | None:
        """The point with the fewest cycles, of equals the one with the highest utilisation; None if none could run."""
        ran = [point for point in self.points if point.measurement.error is None]
        return min(ran, key=lambda p: (p.measurement.cycles, -(p.measurement.utilization or 0)), default=None)

    @property
    def crashed(self) -> int:
        """Points without a result for reasons that may not last; `run_sweep(retry=True)` runs them again."""
        return sum(point.measurement.crashed for point in self.points)

    @cached_property
    def plateaus(self) -> dict[int, tuple[Plateau, ...]]:
        """Where keys make no difference, by the number of the point."""
        return plateaus(self.axes, self.points)

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        points = [
            point.to_dict() | {"plateaus": [dataclasses.asdict(flat) for flat in self.plateaus.get(number, ())]}
            for number, point in enumerate(self.points)
        ]
        return {
            "network": self.network,
            "accelerator": self.accelerator.to_dict(),
            "axes": {key: list(axis.values) for axis in self.axes for key in axis.keys},
            "points": points,
            "best": None if self.best is None else self.best.parameters,
            "reused": self.reused,
            "crashed": self.crashed,
        }


@dataclass(frozen=True)
class Estimate:
    """What is ahead: `points`, of which `held` are in the store, and the `seconds` that the others take in `jobs`
    processes, by those of this network in the store; `measured` is False where there are none, and it is a guess."""

    points: int
    held: int
    seconds: float
    jobs: int
    measured: bool


def run_sweep(
    network: Network,
    accelerator: Accelerator,
    settings: Sequence[str] | Space,
    *,
    store: str | Path,
    jobs: int | None = None,
    effort: int = 1,
    retry: bool = False,
    memory: int | None = None,
    limits: Limits = DEFAULT,
    on_estimate: Callable[[Estimate], None] = lambda ahead: None,
    on_point: Callable[[Measurement], None] = lambda measurement: None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Sweep:
    """Compile, with `effort`, and time `network` for every point of a space, in `jobs` processes of at most `memory`
    bytes each, within `limits`. `settings` (`key=value,value`) are the space of all their combinations.

    Points that `store` holds are taken from it, each other one is written to it as it finishes. One that cannot run is
    kept with its error; so is one that crashed: that ran out of memory, whose process was killed, or in which
    something raised what it should not. The sweep goes on, and a later one takes the row as it is, unless `retry` says
    that crashed points are run again. `jobs` is the number of processors by default. `on_estimate` is called before
    the first point runs, `on_point` with each that has run and is in the store. `on_progress(done, total)` is called in
    this process, first with what the store held, then after each point. Raises SweepError for settings or a store that
    are wrong, and if no process can be started. On an interrupt the finished points are in the store.

    The processes are spawned, so a script that calls this needs `if __name__ == "__main__":`.
    """
    space = settings if isinstance(settings, Space) else Space.of(settings)
    axes, candidates = space.candidates(accelerator)
    jobs = jobs or os.cpu_count() or 1
    with saved(network) as (path, digest), Store.opened(store) as kept:
        done = kept_points(kept, digest, candidates, effort, retry)
        reused = len(done)
        alike = _alike(candidates, done)
        on_estimate(estimate(kept, network, digest, effort, len(candidates), reused, len(alike), jobs))
        on_progress(reused, len(candidates))

        def finish(number: int, measurement: Measurement) -> None:
            item = candidates[number]
            kept.put(digest, item.accelerator, effort, item.parameters, measurement, network.name)
            done.update(dict.fromkeys(alike[number], measurement))
            on_point(measurement)
            on_progress(len(done), len(candidates))

        if alike:
            missing = {number: candidates[number].accelerator.to_dict() for number in alike}
            Pool(path, jobs, effort, memory, limits).run(missing, finish)
    points = tuple(point_of(item, done[number]) for number, item in enumerate(candidates))
    return Sweep(network.name, accelerator, axes, points, reused)


def point_of(candidate: Candidate, measurement: Measurement) -> Point:
    """What was measured at a candidate, and what held it."""
    return Point(candidate.parameters, measurement, held_by(measurement.bounds, candidate.accelerator))


@contextmanager
def saved(network: Network) -> Iterator[tuple[Path, str]]:
    """The network in a file for the processes of a sweep, and its hash."""
    with tempfile.TemporaryDirectory(prefix="accelsim-sweep-") as folder:
        path = Path(folder) / "network.accelsim"
        network.save(path)
        yield path, hashlib.sha256(path.read_bytes()).hexdigest()


def kept_points(
    store: Store, digest: str, candidates: Sequence[Candidate], effort: int, retry: bool
) -> dict[int, Measurement]:
    """What the store has of the candidates, by number; with `retry` without those that crashed."""
    return {
        number: found
        for number, item in enumerate(candidates)
        if (found := store.get(digest, item.accelerator, effort)) and not (retry and found.crashed)
    }


def _alike(candidates: Sequence[Candidate], done: dict[int, Measurement]) -> dict[int, list[int]]:
    """The points that are not done, by the first of those that are the same machine: it is run for all of them."""
    groups: dict[str, list[int]] = {}
    for number, item in enumerate(candidates):
        if number not in done:
            groups.setdefault(point_key("", item.accelerator, 0), []).append(number)
    return {numbers[0]: numbers for numbers in groups.values()}


def estimate(
    store: Store, network: Network, digest: str, effort: int, points: int, held: int, missing: int, jobs: int
) -> Estimate:
    """What is ahead of a sweep of `points`, of which `held` are in the store and `missing` machines are to be run."""
    measured = store.host_seconds(digest, effort)
    each = len(network.nodes) * _SECONDS_A_LAYER[min(effort, 2)] if measured is None else measured
    used = max(1, min(jobs, missing))
    seconds = _START + each * -(-missing // used) if missing else 0.0
    return Estimate(points, held, seconds, used, measured is not None)
