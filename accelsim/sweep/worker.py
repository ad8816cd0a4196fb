"""One worker process of a sweep: it loads the network once, then compiles and times it for each configuration it gets.

The process never imports torch, and ends when its parent does, however that ended.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import threading
from multiprocessing.connection import Connection
from typing import Any

from accelsim.errors import AccelsimError
from accelsim.hardware import Accelerator
from accelsim.network import Network

from .store import Measurement

_network: Network | None = None  # the process's own: set once by `start`, before its first point


def start(path: str, lifeline: Connection) -> None:
    """Prepare the process: read the network, and watch the parent through the pipe that closes when it ends."""
    global _network
    # A Ctrl-C reaches the whole group; the parent alone decides what becomes of the points under way.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, args=(lifeline,), daemon=True).start()
    _network = Network.load(path)


def _end_with_parent(lifeline: Connection) -> None:
    lifeline.poll(None)
    os._exit(1)


def run_point(configuration: dict[str, Any], effort: int) -> Measurement:
    """Compile and time the process's network for a configuration."""
    assert _network is not None
    return measure(_network, Accelerator.from_dict(configuration), effort)


def measure(network: Network, accelerator: Accelerator, effort: int) -> Measurement:
    """Compile and time `network`; what cannot be compiled or run is a measurement with its error."""
    from accelsim.compiler import compile
    from accelsim.machine import simulate

    try:
        result = simulate(compile(network, accelerator, effort=effort))
    except AccelsimError as error:
        return Measurement(error=f"{type(error).__name__}: {error}")
    return Measurement(
        cycles=result.cycles,
        seconds=result.cycles / (accelerator.clock_mhz * 1e6),
        macs=result.macs,
        utilization=result.utilization,
        traffic={memory: dataclasses.asdict(moved) for memory, moved in result.traffic.items()},
    )
