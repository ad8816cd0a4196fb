"""Arguments and options that several sub-commands share, and the reading of what they name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from accelsim.arithmetic.engines import ARITHMETICS, AtenKernels
from accelsim.limits import DEFAULT, Limits

from .arrays import read_array
from .status import CallError

_LIMITS = tuple(item.name for item in fields(Limits))
_LANES = ("host", *get_args(AtenKernels))


def one_of(names: tuple[str, ...]) -> Callable[[str], str]:
    """A parser that takes these words alone."""

    def parse(text: str) -> str:
        if text not in names:
            raise typer.BadParameter(f"{text!r} is not one of {', '.join(names)}")
        return text

    return parse


CONFIG_HELP = "YAML file of the accelerator, or the name of one that comes along (`accelsim configs`)."
Config = Annotated[str, typer.Argument(metavar="CONFIG", help=CONFIG_HELP, show_default=False)]
Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="module:callable that returns (model, example_input), an ONNX file, a .pt2 file (torch.export.save), a "
        "TorchScript file (with --trust), a topology of shapes alone (CSV), or a saved network.",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Write one JSON document to stdout instead of tables.")]
Trust = Annotated[
    bool,
    typer.Option(
        "--trust",
        help="Load a model from a file that executes code (TorchScript). Say it only of files whose maker you trust.",
    ),
]
Engine = Annotated[
    str | None,
    typer.Option(
        parser=one_of(ARITHMETICS),
        metavar="|".join(ARITHMETICS),
        help="Whose arithmetic is meant; PyTorch's quantised engine is set to it while the model is made. "
        "By default that engine as the model's callable leaves it. ONNX files have onnxruntime's alone, torch.export "
        "graphs pt2e's or, with int8 activations, xnnpack's.",
        show_default=False,
    ),
]
Lanes = Annotated[
    str,
    typer.Option(
        parser=one_of(_LANES),
        metavar="|".join(_LANES),
        help="PyTorch kernel set whose vector lanes decide roundings; host is this computer's.",
    ),
]
Effort = Annotated[
    int, typer.Option(min=0, max=2, help="How many ways to cut a layer are compared, and how many programs are timed.")
]
Limit = Annotated[
    list[str] | None,
    typer.Option(
        "--limit",
        metavar="NAME=N",
        help=f"Another limit of what a run may cost: {', '.join(_LIMITS)}. May be given several times.",
        show_default=False,
    ),
]
Input = Annotated[
    list[Path] | None,
    typer.Option(
        "--input",
        metavar="X.npy",
        help="Input in place of the example: floats, or codes of the input's dtype. Once for each input.",
        show_default=False,
    ),
]


def limits_of(items: list[str] | None) -> Limits:
    """The limits of `--limit`. Raises CallError for a name or a number that is none."""
    given: dict[str, int] = {}
    for item in items or ():
        name, _, number = item.partition("=")
        if name not in _LIMITS or name in given or not (number.isascii() and number.isdigit() and int(number[:40])):
            raise CallError(f"--limit {item}: takes NAME=N once for a name, N above 0; names are {', '.join(_LIMITS)}")
        given[name] = int(number[:40])
    return replace(DEFAULT, **given)


def read_inputs(paths: list[Path] | None) -> Any:
    """The arrays of `--input`: None without any, one array, or a tuple of several. Raises InputError."""
    if not paths:
        return None
    arrays = tuple(read_array(path) for path in paths)
    return arrays if len(arrays) > 1 else arrays[0]
