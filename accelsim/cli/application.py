"""The program `accelsim`: its sub-commands, and what becomes of an error or an interrupt in any of them."""

from __future__ import annotations

import functools
import importlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, ParamSpec

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command_from_info

import accelsim
from accelsim.errors import AccelsimError
from accelsim.escaping import printable

from .output import say, write_text
from .status import INTERRUPTED, WRONG_CALL, WRONG_OUTPUTS, status_of
from .streams import drop_stdout, lasting, open_streams

_Parameters = ParamSpec("_Parameters")


#: The sub-commands in the order of the help, each with the first line of its own: none is imported to be listed.
COMMANDS = {
    "run": "Simulate a model or a program, check its layers, and show where cycles and bytes go.",
    "report": "Write a run as one HTML page: utilisation, cycles, roofline, traffic, timeline, what would be faster.",
    "trace": "Write a run in time as a trace for ui.perfetto.dev: units, instructions, bandwidths, semaphores.",
    "extract": "List every parameter of a model: key, shape, dtype, scales, zero points, range.",
    "compile": "Compile a model for an accelerator and save the program.",
    "assemble": "Assemble a program from text and save it.",
    "disassemble": "Print a program as assembly text.",
    "explain": "Work through one output of each layer: sum, zero points, bias, roundings.",
    "certify": "Find fixed-point constants that equal the engine's roundings, or what they get wrong.",
    "compare": "Count by layer how many outputs other arithmetics change, by how much, and why.",
    "verify": "Compare every layer's outputs with PyTorch's, bit for bit.",
    "selftest": "Compare every rule of every engine with this installation's own kernels.",
    "sweep": "Time models for combinations of configuration values.",
    "results": "List, choose and export the points that sweeps have kept, and merge stores.",
    "configs": "List the configurations that come along, or print one.",
}


class _Listed(TyperCommand):
    """A sub-command as the help of all lists it; its file is imported when it is called."""

    def make_context(self, info_name: Any, args: Any, parent: Any = None, **extra: Any) -> Any:
        assert self.name is not None
        return _command(self.name).make_context(info_name, args, parent, **extra)


def _command(name: str) -> Any:
    """The sub-command of that name, of the file of that name, which adds it to the application."""
    importlib.import_module(f"accelsim.cli.{name}")
    (found,) = (info for info in application.registered_commands if info.callback and info.callback.__name__ == name)
    return get_command_from_info(found, pretty_exceptions_short=False, rich_markup_mode=application.rich_markup_mode)


class _Commands(TyperGroup):
    """The sub-commands, for words that the system can take as names."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        return _Listed(cmd_name, help=COMMANDS[cmd_name]) if cmd_name in COMMANDS else None

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        for word in args:
            try:
                if "\0" in word:
                    raise ValueError("it holds a NUL character")
                os.fsencode(word)
            except ValueError as error:
                say(f"error: {word!r} cannot be a word of a command: {error}; leave that character out")
                raise typer.Exit(WRONG_CALL) from None
        with _words_shown():
            return super().parse_args(ctx, [lasting(word) for word in args])

    def invoke(self, ctx: Any) -> Any:
        with _words_shown():
            return super().invoke(ctx)


@contextmanager
def _words_shown() -> Iterator[None]:
    """An error of the parser quotes words of the call; it does so as a terminal can show them."""
    try:
        yield
    except Exception as error:
        if hasattr(error, "format_message"):
            said = printable(error.format_message(), lines=True)
            error.format_message = lambda: said
        raise


application = typer.Typer(
    name="accelsim",
    cls=_Commands,
    help="Run quantised PyTorch models on a simulated compute unit, equal to PyTorch in every bit. "
    "Exit status: 0 all is well, 1 the model or the outputs are wrong, 2 the call is wrong or a file cannot be "
    "written.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@application.callback(invoke_without_command=True)
def _options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.", is_eager=True)] = False,
) -> None:
    if version:
        write_text(f"{accelsim.__version__}\n")
        raise typer.Exit


def guarded(command: Callable[_Parameters, int]) -> Callable[_Parameters, None]:
    """A sub-command whose result is the exit status, with every expected error said in one message on stderr."""

    @functools.wraps(command)
    def run(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> None:
        with _interrupts_raised():
            status = _status(lambda: command(*args, **kwargs))
        raise typer.Exit(status)

    return run


def _status(command: Callable[[], int]) -> int:
    """The exit status of a command, or of the error that ends it, which is said."""
    try:
        return command()
    except AccelsimError as error:
        say(f"error: {error}")
        return status_of(error)
    except OSError as error:
        # What the package reads and writes raises its own errors; this comes from what it uses.
        place = f"{error.filename}: " if error.filename else ""
        say(f"error: {place}{error.strerror or error}; the system refused what a library asked of it")
        return WRONG_CALL
    except MemoryError as error:
        say(f"error: out of memory{f' ({error})' if str(error) else ''}; give smaller inputs, or a smaller model")
        return WRONG_CALL
    except KeyboardInterrupt:
        say("interrupted; finished work is kept")
        return INTERRUPTED
    except Exception as error:
        if os.environ.get("ACCELSIM_TRACEBACK"):
            raise
        say(
            f"internal error, a bug in accelsim: {type(error).__name__}: {error}\n"
            "With ACCELSIM_TRACEBACK=1 in the environment it says where; please report that."
        )
        return WRONG_OUTPUTS
    except BaseException as error:  # SystemExit, or a class of the model's own
        say(f"error: the model's code ended the program ({type(error).__name__}: {error}); it must return instead")
        return WRONG_OUTPUTS


@contextmanager
def _interrupts_raised() -> Iterator[None]:
    """Ctrl-C raises KeyboardInterrupt while a command works. Before and after it, the process just ends."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        yield
        return
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def main() -> None:
    """Run the program with the words of this process."""
    open_streams()
    try:
        application(prog_name="accelsim")
    except AccelsimError as error:
        say(f"error: {error}")
        sys.exit(status_of(error))
    except OSError as error:  # of the help, which typer prints by itself
        drop_stdout()
        say(f"error: standard output cannot be written ({(error.strerror or str(error)).lower()})")
        sys.exit(WRONG_CALL)
