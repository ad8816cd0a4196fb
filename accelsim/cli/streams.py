"""stdout carries the result alone: what a model's code writes to it, by whatever way, goes to stderr."""

from __future__ import annotations

import os
import sys
from typing import TextIO

_results: TextIO | None = None  # once stdout is given away: where it led


def results() -> TextIO | None:
    """Where the result of a call is written; None where stdout was closed from the start."""
    return _results if sys.stdout is sys.stderr else sys.stdout


def give_stdout_away() -> None:
    """From here on, `sys.stdout` and file descriptor 1 are stderr; `results()` alone still leads to stdout.

    Called before code of others runs, and never taken back: what that code leaves behind (threads, handlers that run
    at the end, buffers of C libraries) writes later. Under a test's stdout the descriptors are left alone.
    """
    global _results
    if sys.stdout is sys.stderr:
        return
    _results = _with_own_descriptor(sys.stdout) if sys.stdout is sys.__stdout__ else sys.stdout
    sys.stdout = sys.stderr


def _with_own_descriptor(stream: TextIO | None) -> TextIO | None:
    """The same stream on another descriptor, so that 1 can be stderr. A closed 1 is never left for a file to take."""
    own = None
    if stream is not None:
        stream.flush()
        own = os.fdopen(os.dup(stream.fileno()), "w", encoding=stream.encoding, errors=stream.errors)
    try:
        os.dup2(2, 1)
    except OSError:  # stderr is closed
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
    return own
