"""What a sub-command writes: one JSON document or tables to stdout, everything else to stderr."""

from __future__ import annotations

import contextlib
import io
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.text import Text

from accelsim.errors import AccelsimError, WriteError
from accelsim.escaping import json_text, printable

from .status import WRONG_CALL
from .streams import results, write_stdout

_WIDTH_WITHOUT_TERMINAL = 140


class Advance(Protocol):
    """Called with how many steps are done, how many there are, and what is to be said beside them."""

    def __call__(self, done: int, total: int, said: str = "") -> None: ...


def write_json(document: Any) -> None:
    """The one JSON document of a call."""
    write_stdout(json_text(document, indent=2) + "\n")


def write_tables(*parts: RenderableType) -> None:
    """Tables and lines for people, in colour on a terminal."""
    stdout = results()
    terminal = stdout is not None and stdout.isatty()
    width = shutil.get_terminal_size().columns if terminal else _WIDTH_WITHOUT_TERMINAL
    page = _Page()
    console = Console(file=page, width=width, force_terminal=terminal, soft_wrap=False, highlight=False)
    for part in parts:
        console.print(Text(printable(part, lines=True)) if isinstance(part, str) else part, markup=False)
    text = page.getvalue()
    write_stdout(text if terminal else "\n".join(line.rstrip() for line in text.split("\n")))


def write_text(text: str) -> None:
    """Text as it is, but for what a terminal would not show as characters."""
    write_stdout(printable(text, lines=True))


def say(message: str) -> None:
    """A remark beside the result, on stderr."""
    with contextlib.suppress(OSError):  # a full or closed stderr cannot be told of
        print(printable(message, lines=True), file=sys.stderr, flush=True)


class Failures:
    """What could not be written after the work: it is said once the rest of the result is out."""

    def __init__(self) -> None:
        self._errors: list[AccelsimError] = []

    @contextmanager
    def kept(self) -> Iterator[None]:
        """A file that cannot be written does not cost the rest of the result."""
        try:
            yield
        except WriteError as error:
            self._errors.append(error)

    def __bool__(self) -> bool:
        return bool(self._errors)

    def status(self, status: int) -> int:
        """The exit status of a command that would end with `status`; says what failed."""
        for error in self._errors:
            say(f"error: {error}")
        return status or (WRONG_CALL if self._errors else status)


class _Page(io.StringIO):
    """Text for stdout: rich draws lines of what its encoding has."""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return getattr(results(), "encoding", None) or "utf-8"


class _Rate(ProgressColumn):
    """Steps a second and the time left, once some are done."""

    def render(self, task: Task) -> Text:
        if task.total is None or not task.speed:
            return Text()
        return Text(f"{task.speed:.3g}/s, {task.time_remaining or 0:.0f} s left")


class _Count(MofNCompleteColumn):
    """Nothing where it is not known how many steps there are."""

    def render(self, task: Task) -> Text:
        return Text() if task.total is None else super().render(task)


@contextmanager
def progress(what: str) -> Iterator[Advance]:
    """A progress bar on stderr, if that is a terminal, once the work has taken a second."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), _Count(), TimeElapsedColumn(), _Rate())
    # The bar starts while stdout may be redirected, and must not put that back later.
    bar = Progress(*columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False)
    task = bar.add_task(printable(what), total=None)
    late = threading.Timer(1.0, bar.start)
    late.daemon = True
    if console.is_terminal:
        late.start()
    try:

        def advance(done: int, total: int, said: str = "") -> None:
            bar.update(task, completed=done, total=total, description=printable(f"{what}{said}"))

        yield advance
    finally:
        late.cancel()
        if console.is_terminal:
            late.join()
            bar.stop()
