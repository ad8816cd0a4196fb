"""Run the points of a sweep in local processes, and keep each as it finishes."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import hashlib
import multiprocessing
import os
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelsim.errors import SweepError
from accelsim.hardware import Accelerator
from accelsim.network import Network

from .grid import Axis, Candidate, grid
from .store import Measurement, Store
from .worker import run_point, start


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

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "network": self.network,
            "accelerator": self.accelerator.to_dict(),
            "axes": {axis.key: list(axis.values) for axis in self.axes},
            "points": [point.to_dict() for point in self.points],
            "best": None if self.best is None else self.best.parameters,
            "reused": self.reused,
        }


def run_sweep(
    network: Network,
    accelerator: Accelerator,
    settings: Sequence[str],
    *,
    store: str | Path,
    jobs: int | None = None,
    effort: int = 1,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Sweep:
    """Compile, with `effort`, and time `network` for every combination of `settings` (`key=value,value`), in `jobs`
    processes.

    Points that `store` holds are taken from it, each other one is written to it as it finishes; one that cannot run
    is kept with its error. `jobs` is the number of processors by default. `on_progress(done, total)` is called in this
    process, first with what the store held. Raises SweepError for settings or a store that are wrong, and when a
    worker process dies. On an interrupt the finished points are in the store.

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
                i: found for i, item in enumerate(candidates) if (found := kept.get(digest, item.accelerator, effort))
            }
            reused = len(done)
            on_progress(reused, len(candidates))
            missing = {i: item for i, item in enumerate(candidates) if i not in done}

            def finish(index: int, measurement: Measurement) -> None:
                kept.put(digest, candidates[index].accelerator, effort, candidates[index].parameters, measurement)
                done[index] = measurement
                on_progress(len(done), len(candidates))

            if missing:
                _run_missing(path, missing, min(jobs or os.cpu_count() or 1, len(missing)), effort, finish)
        finally:
            kept.close()
    points = tuple(Point(item.parameters, done[i]) for i, item in enumerate(candidates))
    return Sweep(network.name, accelerator, axes, points, reused)


def _run_missing(
    path: Path, missing: dict[int, Candidate], jobs: int, effort: int, finish: Callable[[int, Measurement], None]
) -> None:
    """Run the points in a pool, and hand each to `finish` as it comes back."""
    context = multiprocessing.get_context("spawn")
    lifeline, held = context.Pipe(duplex=False)
    pool = concurrent.futures.ProcessPoolExecutor(jobs, context, start, (str(path), lifeline))
    try:
        futures = {pool.submit(run_point, item.accelerator.to_dict(), effort): i for i, item in missing.items()}
        for future in concurrent.futures.as_completed(futures):
            finish(futures[future], future.result())
    except BaseException as error:
        # Points that nobody waits for any more (an interrupt, an error) end now: the workers see the pipe close.
        held.close()
        if isinstance(error, BrokenProcessPool):
            raise SweepError(
                "a worker process died (out of memory?); the finished points are kept: "
                "start the sweep again, with fewer --jobs"
            ) from None
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        held.close()
        lifeline.close()
