"""The program `accelsim`. It imports nothing large before it can be interrupted without a traceback."""

from __future__ import annotations

import os
import signal
from types import FrameType

INTERRUPTED = 130


def _leave(signal_number: int, frame: FrameType | None) -> None:
    """The end at an interrupt while nothing is in work: there is nothing to put away, so nothing is unwound."""
    os.write(2, b"interrupted\n")
    os._exit(INTERRUPTED)


def main() -> None:
    """Entry of the console script."""
    # A shell's background job does not hear interrupts, and is not made to.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)
    from .cli import main as run

    try:
        run()
    except SystemExit as end:
        if end.code == INTERRUPTED:
            # All is said and put away. The interpreter's own end would be the signal where it hit code below Python.
            os._exit(INTERRUPTED)
        raise


if __name__ == "__main__":
    main()
