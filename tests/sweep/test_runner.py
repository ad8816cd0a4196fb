"""A sweep runs in processes of its own, keeps every finished point, and goes on where it was killed."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

import accelsim
from accelsim.errors import SweepError
from accelsim.hardware import Accelerator
from accelsim.limits import Limits
from accelsim.network import Network
from accelsim.sweep import Estimate, run_sweep

from . import hostile
from .networks import linear

ROOT = Path(__file__).parents[2]
EDGE = Accelerator.from_yaml(ROOT / "configs" / "edge_16x16.yaml")
SIXTEEN = ["mac_array.rows=2,4,8,16", "mac_array.columns=2,4,8,16"]

#: Sweeps, and does what argv[3] says after the third finished point.
SCRIPT = """
import os, signal, sys
from accelsim import Accelerator, Network
from accelsim.sweep import Estimate, run_sweep

def advance(done, total):
    print(done, total, flush=True)
    if done == 3:
        {at_three}

if __name__ == "__main__":
    run_sweep(Network.load(sys.argv[1]), Accelerator.from_yaml(sys.argv[2]), {settings}, store=sys.argv[3], jobs=1,
              effort=0, on_progress=advance)
"""


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "net.accelsim"
    linear().save(path)
    return path


def interrupted(saved: Path, store: Path, at_three: str) -> subprocess.CompletedProcess[str]:
    """A sweep of sixteen points in a process that ends itself after three of them."""
    script = saved.with_name("sweep_script.py")
    script.write_text(SCRIPT.format(at_three=at_three, settings=SIXTEEN))
    command = [sys.executable, str(script), str(saved), str(ROOT / "configs" / "edge_16x16.yaml"), str(store)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_sixteen_points_are_what_compiling_and_timing_each_gives(tmp_path: Path) -> None:
    network = linear()
    calls: list[tuple[int, int]] = []
    done = run_sweep(
        network,
        EDGE,
        SIXTEEN,
        store=tmp_path / "s.sqlite",
        jobs=2,
        effort=0,
        on_progress=lambda a, b: calls.append((a, b)),
    )
    assert calls == [(count, 16) for count in range(17)]
    assert done.reused == 0
    assert len(done.points) == 16
    for point in done.points:
        machine = EDGE.replace(**point.parameters)
        alone = accelsim.simulate(accelsim.compile(network, machine, effort=0))
        assert point.measurement.cycles == alone.cycles
        assert point.measurement.macs == 40 * 24
        cells = machine.mac_array.rows * machine.mac_array.columns
        assert point.measurement.utilization == pytest.approx(40 * 24 / (alone.cycles * cells))
        assert point.measurement.traffic is not None
        assert point.measurement.traffic["dram"]["read"] == alone.traffic["dram"].read
    assert done.best is not None
    assert done.best.measurement.cycles == min(point.measurement.cycles or 0 for point in done.points)


def test_a_sweep_that_was_killed_goes_on_where_it_was(saved: Path, tmp_path: Path) -> None:
    store = tmp_path / "s.sqlite"
    # Workers inherit the pipes that `interrupted` reads to their ends: it returns once the last of them is gone.
    killed = interrupted(saved, store, "os.kill(os.getpid(), signal.SIGKILL)")
    assert killed.returncode == -signal.SIGKILL
    with sqlite3.connect(store) as connection:
        assert connection.execute("SELECT count(*) FROM points").fetchone() == (3,)
    network = Network.load(saved)
    calls: list[int] = []
    again = run_sweep(
        network, EDGE, SIXTEEN, store=store, jobs=1, effort=0, on_progress=lambda done, _: calls.append(done)
    )
    assert again.reused == 3
    assert calls == list(range(3, 17))
    whole = run_sweep(network, EDGE, SIXTEEN, store=tmp_path / "other.sqlite", jobs=2, effort=0)
    assert [point.to_dict() for point in again.points] == [point.to_dict() for point in whole.points]


def test_an_interrupt_keeps_the_points_and_leaves_no_process(saved: Path, tmp_path: Path) -> None:
    store = tmp_path / "s.sqlite"
    stopped = interrupted(saved, store, "raise KeyboardInterrupt")
    assert stopped.returncode != 0
    assert stopped.stdout.split("\n")[3] == "3 16"
    with sqlite3.connect(store) as connection:
        assert connection.execute("SELECT count(*) FROM points").fetchone() == (3,)


def test_another_network_or_effort_is_run_anew(tmp_path: Path) -> None:
    store = tmp_path / "s.sqlite"
    first = run_sweep(linear(24), EDGE, ["mac_array.rows=8"], store=store, jobs=1)
    same = run_sweep(linear(24), EDGE, ["mac_array.rows=8"], store=store, jobs=1)
    other = run_sweep(linear(25), EDGE, ["mac_array.rows=8"], store=store, jobs=1)
    least = run_sweep(linear(24), EDGE, ["mac_array.rows=8"], store=store, jobs=1, effort=0)
    assert (first.reused, same.reused, other.reused, least.reused) == (0, 1, 0, 0)
    assert least.points[0].measurement.cycles != same.points[0].measurement.cycles
    machine = EDGE.replace(**{"mac_array.rows": 8})
    for effort, swept in ((0, least), (1, same)):
        alone = accelsim.simulate(accelsim.compile(linear(24), machine, effort=effort))
        assert swept.points[0].measurement.cycles == alone.cycles


def test_a_point_that_cannot_run_is_kept_with_its_reason(tmp_path: Path) -> None:
    settings = ["buffers.accumulator.bytes=4,64KiB", "buffers.activation.bytes=1,128KiB"]
    done = run_sweep(linear(), EDGE, settings, store=tmp_path / "s.sqlite", jobs=1, effort=0)
    errors = [point.measurement.error for point in done.points]
    assert errors[3] is None
    assert errors[2] is not None
    assert "CompileError" in errors[2]
    assert done.best is done.points[3] or done.points[1].measurement.error is None


def test_a_point_that_crashes_is_a_row_with_its_reason_and_costs_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("accelsim.sweep.pool.work", hostile.work)
    rows = ["mac_array.rows=1,2,4,8,16,32,64,128"]
    store = tmp_path / "s.sqlite"
    done = run_sweep(linear(), EDGE, rows, store=store, jobs=2, effort=0, memory=3 * 2**30)
    measured = {point.parameters["mac_array.rows"]: point.measurement for point in done.points}
    for count, reason in {
        2: "killed by SIGKILL",
        4: "ended with exit status 0",
        8: "SystemExit: 0",
        16: "KeyboardInterrupt",
        32: "out of memory",
        64: "ZeroDivisionError: on purpose (a bug in accelsim",
    }.items():
        assert reason in (measured[count].error or ""), count
        assert measured[count].crashed
    alone = {
        n: accelsim.simulate(accelsim.compile(linear(), EDGE.replace(**{"mac_array.rows": n}), effort=0))
        for n in (1, 128)
    }
    assert {n: measured[n].cycles for n in alone} == {n: result.cycles for n, result in alone.items()}
    assert (done.crashed, done.to_dict()["crashed"]) == (6, 6)
    # The next one takes each row as it is, and runs crashed ones again only if it is told to.
    again = run_sweep(linear(), EDGE, rows, store=store, jobs=2, effort=0)
    assert (again.reused, again.crashed) == (8, 6)
    monkeypatch.undo()
    retried = run_sweep(linear(), EDGE, rows, store=store, jobs=2, effort=0, retry=True)
    assert (retried.reused, retried.crashed) == (2, 0)
    assert all(point.measurement.cycles for point in retried.points)


def test_a_sweep_goes_on_when_its_process_is_killed_from_outside(tmp_path: Path) -> None:
    def kill_workers(done: int, total: int) -> None:
        if done == 1:
            for child in children():
                os.kill(child, signal.SIGKILL)

    done = run_sweep(linear(), EDGE, SIXTEEN, store=tmp_path / "s.sqlite", jobs=1, effort=0, on_progress=kill_workers)
    assert len(done.points) == 16
    assert done.crashed <= 1  # the point under way, if there was one
    for point in done.points:
        assert (point.measurement.cycles is None) == point.measurement.crashed


def test_processes_that_cannot_start_are_said(tmp_path: Path) -> None:
    with pytest.raises(SweepError, match="before their first point"):
        run_sweep(linear(), EDGE, SIXTEEN, store=tmp_path / "s.sqlite", jobs=1, memory=2**20)


def kill_after(saved: Path, store: Path, seconds: float, sweeps: int) -> int:
    """Kill so many sweeps on one store, with all their processes, so long after they began; the most points that one
    of them had said were done."""
    script = saved.with_name("sweep_script.py")
    script.write_text(SCRIPT.format(at_three="pass", settings=SIXTEEN))
    command = [sys.executable, str(script), str(saved), str(ROOT / "configs" / "edge_16x16.yaml"), str(store)]
    processes = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) for _ in range(sweeps)
    ]
    outputs = [process.stdout for process in processes if process.stdout is not None]
    first = [output.readline() for output in outputs]
    time.sleep(seconds)
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    said = [[line, *output.readlines()] for line, output in zip(first, outputs, strict=True)]
    for process in processes:
        process.wait(timeout=60)
    return max(int(line.split()[0]) for lines in said for line in lines if line.endswith("\n"))


@pytest.mark.parametrize("draw", [0, *(pytest.param(n, marks=pytest.mark.full) for n in range(1, 20))])
def test_no_finished_point_is_lost_to_kills_at_any_time(saved: Path, tmp_path: Path, draw: int) -> None:
    """Five kills a draw, every second time of two sweeps that share the store."""
    store = tmp_path / "s.sqlite"
    times = random.Random(draw)
    for kill in range(5):
        said = kill_after(saved, store, times.uniform(0.0, 1.5), 1 + kill % 2)
        with sqlite3.connect(store) as connection:
            (held,) = connection.execute("SELECT count(*) FROM points").fetchone()
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert held >= said
    whole = run_sweep(linear(), EDGE, SIXTEEN, store=store, jobs=1, effort=0)
    assert whole.reused == held
    assert whole.crashed == 0
    assert all(point.measurement.cycles for point in whole.points)


def test_what_is_ahead_is_said_before_the_first_point(tmp_path: Path) -> None:
    said: list[object] = []
    options = {"store": tmp_path / "s.sqlite", "jobs": 2, "effort": 0}
    run_sweep(
        linear(), EDGE, SIXTEEN[:1], **options, on_estimate=said.append, on_progress=lambda *done: said.append(done)
    )
    guess = said[0]
    assert isinstance(guess, Estimate)
    assert said[1] == (0, 4)
    assert (guess.points, guess.held, guess.jobs, guess.measured) == (4, 0, 2, False)
    assert guess.seconds > 0
    run_sweep(linear(), EDGE, SIXTEEN, **options, on_estimate=said.append)
    measured = said[-1]
    assert isinstance(measured, Estimate)
    assert (measured.points, measured.held, measured.measured) == (16, 4, True)
    run_sweep(linear(), EDGE, SIXTEEN, **options, on_estimate=said.append)
    assert said[-1] == Estimate(16, 16, 0.0, 1, True)


def test_points_that_are_one_machine_are_run_once(tmp_path: Path) -> None:
    settings = ["mac_array.columns=8,16", "buffers.accumulator.banks=columns,8"]
    done = run_sweep(linear(), EDGE, settings, store=tmp_path / "s.sqlite", jobs=1, effort=0)
    with sqlite3.connect(tmp_path / "s.sqlite") as connection:
        assert connection.execute("SELECT count(*) FROM points").fetchone() == (3,)
    assert done.points[0].measurement == done.points[1].measurement
    assert done.plateaus[1][0].key == "buffers.accumulator.banks"


def children() -> list[int]:
    """The spawned workers of this process."""
    return [child.pid for child in multiprocessing.active_children() if child.pid is not None]


def test_a_point_over_a_limit_is_a_row_and_runs_again_with_a_higher_one(tmp_path: Path) -> None:
    store = tmp_path / "s.sqlite"
    settings = ["mac_array.rows=4,8"]
    low = run_sweep(linear(), EDGE, settings, store=store, jobs=1, effort=0, limits=Limits(cycles=20))
    assert low.crashed == 2
    assert all("--limit cycles=" in str(point.measurement.error) for point in low.points)
    kept = run_sweep(linear(), EDGE, settings, store=store, jobs=1, effort=0)
    assert (kept.reused, kept.crashed) == (2, 2)
    again = run_sweep(linear(), EDGE, settings, store=store, jobs=1, effort=0, retry=True)
    assert (again.reused, again.crashed) == (0, 0)
    assert all(point.measurement.cycles > 20 for point in again.points if point.measurement.cycles is not None)
