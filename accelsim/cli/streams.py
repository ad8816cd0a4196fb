"""The standard streams of the process: closed ones, full ones, and those that cannot hold every character."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TextIO

from accelsim.errors import WriteError
from accelsim.escaping import in_encoding

_results: TextIO | None = None  # once stdout is given away: where it led


def open_streams() -> None:
    """Give the places of closed standard streams to the null device, before a file of ours takes one of them."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is this one
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 (as long as the process)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):  # None, or put there by another program
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def write_stdout(text: str) -> None:
    """Write to stdout, what its encoding cannot hold as escapes. Raises WriteError where it is closed or full.

    A reader that has gone away (`| head`) is no error: the rest is dropped.
    """
    stdout = results()
    if stdout is None or stdout.closed:
        raise WriteError("the result cannot be written: standard output is closed; send it to a file or a pipe")
    try:
        stdout.write(in_encoding(text, stdout.encoding or "utf-8"))
        stdout.flush()
    except BrokenPipeError:
        drop_stdout()
    except OSError as error:
        drop_stdout()
        raise WriteError(
            f"standard output cannot be written ({(error.strerror or str(error)).lower()}); send it to another place"
        ) from None


def drop_stdout() -> None:
    """Send what is left to the null device: the interpreter flushes stdout once more at its end."""
    stdout = results()
    with contextlib.suppress(OSError, ValueError):  # a stream without a descriptor
        if stdout is not None:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, stdout.fileno())
            os.close(null)


def lasting(word: str) -> str:
    """A word of the call; a name of stdout becomes one that leads there still when descriptor 1 is given away."""
    option, equals, path = word.rpartition("=")
    if path in ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1") and (not equals or option.startswith("--")):
        with contextlib.suppress(OSError):  # closed: writing to it says so
            return f"{option}{equals}/dev/fd/{os.dup(1)}"
    return word


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
