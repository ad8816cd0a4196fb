"""A worker process in which some points do what no point should."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import numpy as np

import accelsim.machine
from accelsim.sweep import worker


def _do(rows: int) -> None:
    if rows == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    elif rows == 4:
        os._exit(0)
    elif rows == 8:
        sys.exit(0)
    elif rows == 16:
        raise KeyboardInterrupt
    elif rows == 32:
        np.zeros(2**34, np.uint8)  # the test leaves less
    elif rows == 64:
        raise ZeroDivisionError("on purpose")


def work(*arguments: Any) -> None:
    """The real one, with a simulator that does by the number of rows what `_do` says."""
    simulate = accelsim.machine.simulate

    def hostile(program: Any, **options: Any) -> Any:
        _do(program.accelerator.mac_array.rows)
        return simulate(program, **options)

    accelsim.machine.simulate = hostile
    worker.work(*arguments)
