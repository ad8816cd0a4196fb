"""The program `accelsim`: its sub-commands, and what becomes of an error or an interrupt in any of them."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Annotated, ParamSpec

import typer

import accelsim
from accelsim.errors import AccelsimError

from .output import say
from .status import INTERRUPTED, WRONG_CALL, WRONG_OUTPUTS, status_of

_Parameters = ParamSpec("_Parameters")

application = typer.Typer(
    name="accelsim",
    help="Run quantised PyTorch models on a simulated compute unit, equal to PyTorch in every bit. "
    "Exit status: 0 all is well, 1 the model or the outputs are wrong, 2 the call is wrong.",
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
        print(accelsim.__version__)
        raise typer.Exit


def guarded(command: Callable[_Parameters, int]) -> Callable[_Parameters, None]:
    """A sub-command whose result is the exit status, with every expected error said in one message on stderr."""

    @functools.wraps(command)
    def run(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> None:
        try:
            status = command(*args, **kwargs)
        except AccelsimError as error:
            say(f"error: {error}")
            status = status_of(error)
        except OSError as error:
            # What the package itself reads raises its own errors; this is a file that cannot be written.
            say(f"error: {error.filename or 'a file'}: {error.strerror or error}")
            status = WRONG_CALL
        except KeyboardInterrupt:
            say("interrupted; finished work is kept")
            status = INTERRUPTED
        except Exception as error:
            if os.environ.get("ACCELSIM_TRACEBACK"):
                raise
            say(
                f"internal error, a bug in accelsim: {type(error).__name__}: {error}\n"
                "With ACCELSIM_TRACEBACK=1 in the environment it says where; please report that."
            )
            status = WRONG_OUTPUTS
        raise typer.Exit(status)

    return run


def main() -> None:
    """Entry of the console script."""
    application(prog_name="accelsim")
