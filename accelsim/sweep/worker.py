"""One worker process of a sweep: it loads the network once, then compiles and times it for each configuration it gets.

The process never imports torch, and ends when its parent does, however that ended.
"""

from __future__ import annotations

import dataclasses
import os
import resource
import signal
import threading
import time
from multiprocessing.connection import Connection
from typing import Any

from accelsim.errors import AccelsimError
from accelsim.hardware import Accelerator
from accelsim.limits import Limits, is_over
from accelsim.network import Network

from .store import Measurement

_LONGEST_REASON = 1000


def work(path: str, effort: int, memory: int | None, limits: Limits, lifeline: Connection, points: Connection) -> None:
    """Answer each configuration that comes through `points` with a Measurement; True says that the network is loaded.

    `lifeline` is a pipe that closes when the parent ends. `memory` in bytes is what the process may take at most.
    """
    # A Ctrl-C reaches the whole group; the parent alone decides what becomes of the points under way.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.dup2(2, 1)  # the parent's stdout carries its result alone
    threading.Thread(target=_end_with_parent, args=(lifeline,), daemon=True).start()
    if memory is not None:
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    network = Network.load(path)
    points.send(True)
    while True:
        try:
            configuration = points.recv()
        except EOFError:
            return
        points.send(run_point(network, configuration, effort, limits))


def _end_with_parent(lifeline: Connection) -> None:
    lifeline.poll(None)
    os._exit(1)


def run_point(network: Network, configuration: dict[str, Any], effort: int, limits: Limits) -> Measurement:
    """Compile and time `network`; whatever prevents that is a measurement with its reason."""
    from accelsim.compiler import compile
    from accelsim.machine import simulate

    begun = time.perf_counter()
    try:
        accelerator = Accelerator.from_dict(configuration)
        result = simulate(compile(network, accelerator, effort=effort, limits=limits), limits=limits)
    except AccelsimError as error:
        # With a higher limit it may run: --retry tries it again.
        return Measurement(error=_said(error), crashed=is_over(error))
    except MemoryError as error:
        said = f"{_said(error)} (out of memory; --jobs 1 leaves more to each point)"
        return Measurement(error=said, crashed=True)
    except BaseException as error:
        return Measurement(error=f"{_said(error)} (a bug in accelsim; please report it)", crashed=True)
    return Measurement(
        cycles=result.cycles,
        seconds=result.cycles / (accelerator.clock_mhz * 1e6),
        macs=result.macs,
        utilization=result.utilization,
        traffic={memory: dataclasses.asdict(moved) for memory, moved in result.traffic.items()},
        units={unit: dict(causes) for unit, causes in result.units.items()},
        bounds=dict(result.bounds),
        layers=tuple(
            {"name": layer.name, "cycles": layer.cycles, "macs": layer.macs, "stalls": dict(layer.stalls)}
            for layer in result.layers
        ),
        host_seconds=time.perf_counter() - begun,
    )


def _said(error: BaseException) -> str:
    said = str(error)
    return f"{type(error).__name__}: {said}"[:_LONGEST_REASON] if said else type(error).__name__
