"""Run the points of a sweep in local processes, and keep each as it finishes."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelsim.hardware import Accelerator
from accelsim.limits import DEFAULT, Limits
from accelsim.network import Network

from .grid import Axis, grid
from .pool import Pool
from .store import Measurement, Store


@dataclass(frozen=True)
class Point:
    """One combination of the swept values and what was measured there."""

    parameters: dict[str, Any]
    measurement: Measurement

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {"parameters": self.parameters, **dataclasses.asdict(self.measurement)}


@dataclass(frozen=True)
class Sweep:
    """All points of a grid, the last axis running fastest. `reused` of them were in the store before."""

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

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "network": self.network,
            "accelerator": self.accelerator.to_dict(),
            "axes": {axis.key: list(axis.values) for axis in self.axes},
            "points": [point.to_dict() for point in self.points],
            "best": None if self.best is None else self.best.parameters,
            "reused": self.reused,
            "crashed": self.crashed,
        }


def run_sweep(
    network: Network,
    accelerator: Accelerator,
    settings: Sequence[str],
    *,
    store: str | Path,
    jobs: int | None = None,
    effort: int = 1,
    retry: bool = False,
    memory: int | None = None,
    limits: Limits = DEFAULT,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Sweep:
    """Compile, with `effort`, and time `network` for every combination of `settings` (`key=value,value`), in `jobs`
    processes of at most `memory` bytes each, within `limits`.

    Points that `store` holds are taken from it, each other one is written to it as it finishes. One that cannot run is
    kept with its error; so is one that crashed: that ran out of memory, whose process was killed, or in which
    something raised what it should not. The sweep goes on, and a later one takes the row as it is, unless `retry` says
    that crashed points are run again. `jobs` is the number of processors by default. `on_progress(done, total)` is
    called in this process, first with what the store held, then after each point is in the store. Raises SweepError
    for settings or a store that are wrong, and if no process can be started. On an interrupt the finished points are
    in the store.

    The processes are spawned, so a script that calls this needs `if __name__ == "__main__":`.
    """
    axes, candidates = grid(accelerator, settings)
    with tempfile.TemporaryDirectory(prefix="accelsim-sweep-") as folder:
        path = Path(folder) / "network.accelsim"
        network.save(path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        kept = Store(store)
        try:
            done = {
                number: found
                for number, item in enumerate(candidates)
                if (found := kept.get(digest, item.accelerator, effort)) and not (retry and found.crashed)
            }
            reused = len(done)
            on_progress(reused, len(candidates))

            def finish(number: int, measurement: Measurement) -> None:
                item = candidates[number]
                kept.put(digest, item.accelerator, effort, item.parameters, measurement)
                done[number] = measurement
                on_progress(len(done), len(candidates))

            missing = {i: item.accelerator.to_dict() for i, item in enumerate(candidates) if i not in done}
            if missing:
                Pool(path, jobs or os.cpu_count() or 1, effort, memory, limits).run(missing, finish)
        finally:
            kept.close()
    points = tuple(Point(item.parameters, done[i]) for i, item in enumerate(candidates))
    return Sweep(network.name, accelerator, axes, points, reused)
