"""What a sub-command writes: one JSON document or tables to stdout, everything else to stderr."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, Task, TextColumn, TimeElapsedColumn
from rich.text import Text

from .streams import results

_WIDTH_WITHOUT_TERMINAL = 140


#: Called with how many steps are done and how many there are.
Advance = Callable[[int, int], None]


def write_json(document: Any) -> None:
    """The one JSON document of a call."""
    _write(json.dumps(document, indent=2, default=_plain, allow_nan=False) + "\n")


def write_tables(*parts: RenderableType) -> None:
    """Tables and lines for people, in colour on a terminal."""
    stdout = results()
    terminal = stdout is not None and stdout.isatty()
    width = shutil.get_terminal_size().columns if terminal else _WIDTH_WITHOUT_TERMINAL
    console = Console(file=io.StringIO(), width=width, force_terminal=terminal, soft_wrap=False, highlight=False)
    for part in parts:
        console.print(part, markup=False)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    _write(text if terminal else "\n".join(line.rstrip() for line in text.split("\n")))


def write_text(text: str) -> None:
    """Text as it is."""
    _write(text)


def say(message: str) -> None:
    """A remark beside the result, on stderr."""
    print(message, file=sys.stderr)


def _write(text: str) -> None:
    """Write to stdout. A reader that has gone away (`| head`) is no error: the rest is dropped."""
    stdout = results()
    if stdout is None:
        return
    try:
        stdout.write(text)
        stdout.flush()
    except BrokenPipeError:
        # The interpreter flushes stdout once more at its end; that must find an open file.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stdout.fileno())


def _plain(item: Any) -> Any:
    """numpy's numbers and arrays as Python's."""
    return item.tolist()


class _Count(MofNCompleteColumn):
    """Nothing where it is not known how many steps there are."""

    def render(self, task: Task) -> Text:
        return Text() if task.total is None else super().render(task)


@contextmanager
def progress(what: str) -> Iterator[Advance]:
    """A progress bar on stderr, if that is a terminal, once the work has taken a second."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), _Count(), TimeElapsedColumn())
    # The bar starts while stdout may be redirected, and must not put that back later.
    bar = Progress(*columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False)
    task = bar.add_task(what, total=None)
    late = threading.Timer(1.0, bar.start)
    late.daemon = True
    if console.is_terminal:
        late.start()
    try:
        yield lambda done, total: bar.update(task, completed=done, total=total)
    finally:
        late.cancel()
        if console.is_terminal:
            late.join()
            bar.stop()
