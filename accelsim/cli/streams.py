"""The standard streams of the process: closed ones, full ones, and those that cannot hold every character."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator

from accelsim.errors import WriteError
from accelsim.escaping import in_encoding


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
    if sys.stdout is None or sys.stdout.closed:
        raise WriteError("the result cannot be written: standard output is closed; send it to a file or a pipe")
    try:
        sys.stdout.write(in_encoding(text, sys.stdout.encoding or "utf-8"))
        sys.stdout.flush()
    except BrokenPipeError:
        drop_stdout()
    except OSError as error:
        drop_stdout()
        raise WriteError(
            f"standard output cannot be written ({(error.strerror or str(error)).lower()}); send it to another place"
        ) from None


def drop_stdout() -> None:
    """Send what is left to the null device: the interpreter flushes stdout once more at its end."""
    with contextlib.suppress(OSError, ValueError):  # a stream without a descriptor
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


@contextlib.contextmanager
def stdout_free() -> Iterator[None]:
    """stdout carries the result alone: what a model's code prints meanwhile, in Python or below it, goes to stderr."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        stack.enter_context(_descriptor_free())
        yield


@contextlib.contextmanager
def _descriptor_free() -> Iterator[None]:
    try:
        kept = os.dup(1)
    except OSError:  # closed: nothing can reach it
        yield
        return
    try:
        os.dup2(2, 1)
        yield
    finally:
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).fflush(None)  # what C's streams hold back would come out behind us
        os.dup2(kept, 1)
        os.close(kept)
