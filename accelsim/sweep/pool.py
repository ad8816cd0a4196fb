"""The worker processes of a sweep, each with one point at a time: one that dies takes its own point with it, no other.

The pools of the standard library hold all work for lost when one process dies.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

from accelsim.errors import SweepError
from accelsim.limits import Limits

from .store import Measurement
from .worker import work

#: Takes a point's number and what was measured there; may return more points.
Finish = Callable[[int, Measurement], Mapping[int, dict[str, Any]] | None]
#: Seconds in which a process that has closed its pipe ends by itself.
_GRACE = 5.0
#: A process may be killed while it starts, as any may; so many in a row say that none can start.
_MOST_FAILED_STARTS = 3


@dataclass
class _Worker:
    """A process, and the number of the point that it works on: None while it starts, and between two points."""

    process: SpawnProcess
    points: Connection
    point: int | None = None
    started: bool = False


class Pool:
    """`jobs` processes that time the network in the file `path`. `memory`: bytes that each may take at most."""

    def __init__(self, path: Path, jobs: int, effort: int, memory: int | None, limits: Limits) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._lifeline, self._held = self._context.Pipe(duplex=False)
        self._arguments = (str(path), effort, memory, limits, self._lifeline)
        self._jobs = jobs
        self._workers: list[_Worker] = []
        self._failed_starts = 0  # one after the other

    def run(self, points: Mapping[int, dict[str, Any]], finish: Finish) -> None:
        """Run the configurations in `points`, and hand each to `finish` as it comes back, which may give more of them.

        A point whose process dies is measured as crashed, with the reason. Raises SweepError where processes cannot
        even start. Ends the processes, also on an interrupt.
        """
        points = dict(points)
        waiting = deque(points)

        def report(number: int, measurement: Measurement) -> None:
            more = finish(number, measurement) or {}
            points.update(more)
            waiting.extend(more)

        try:
            while waiting or self._workers:
                while waiting and len(self._workers) < min(self._jobs, len(waiting) + self._busy()):
                    self._workers.append(self._start())
                found = wait([worker.points for worker in self._workers])
                for worker in [worker for worker in self._workers if worker.points in found]:
                    try:
                        answer = worker.points.recv()
                    except (EOFError, OSError):
                        self._bury(worker, report)
                        continue
                    if worker.started:
                        number, worker.point = worker.point, None
                        assert number is not None
                        report(number, answer)
                    worker.started, self._failed_starts = True, 0
                    if waiting:
                        self._give(worker, waiting, points)
                    else:
                        self._end(worker)
        finally:
            for worker in list(self._workers):
                self._end(worker)
            self._held.close()
            self._lifeline.close()

    def _busy(self) -> int:
        return sum(worker.point is not None for worker in self._workers)

    def _start(self) -> _Worker:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=work, args=(*self._arguments, theirs), daemon=True)
        # A Ctrl-C while the process starts is the parent's alone: what is blocked here stays blocked there.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        return _Worker(process, ours)

    def _give(self, worker: _Worker, waiting: deque[int], points: dict[int, dict[str, Any]]) -> None:
        worker.point = waiting.popleft()
        try:
            worker.points.send(points[worker.point])
        except OSError:  # it died between two points; this one is not to blame, and the pipe's end is read next
            waiting.appendleft(worker.point)
            worker.point = None

    def _bury(self, worker: _Worker, report: Callable[[int, Measurement], None]) -> None:
        """A process that has died: say how, of its point."""
        worker.process.join(_GRACE)
        how = _how(worker.process.exitcode)
        self._end(worker)
        if not worker.started:
            self._failed_starts += 1
        if self._failed_starts == _MOST_FAILED_STARTS:
            raise SweepError(
                f"the sweep's processes end before their first point (the last {how}); a script that sweeps needs "
                "`if __name__ == '__main__':`, and a limit of memory must leave room for Python and the network"
            )
        if worker.point is not None:
            report(worker.point, Measurement(error=f"its process {how}", crashed=True))

    def _end(self, worker: _Worker) -> None:
        """End a process; it holds nothing that could be lost."""
        self._workers.remove(worker)
        worker.process.kill()
        worker.process.join()
        worker.points.close()


def _how(exit_code: int | None) -> str:
    if exit_code is None:
        return "closed its pipe"
    if exit_code >= 0:
        return f"ended with exit status {exit_code}"
    if -exit_code == signal.SIGKILL:
        return "was killed by SIGKILL (by hand, or by the system when memory ran out; --jobs 1 leaves more to each)"
    try:
        return f"was killed by {signal.Signals(-exit_code).name}"
    except ValueError:
        return f"was killed by signal {-exit_code}"
