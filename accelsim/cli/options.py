"""Arguments and options that several sub-commands share, and the reading of what they name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_args

import numpy as np
import typer

from accelsim.arithmetic.engines import ENGINES, AtenKernels
from accelsim.errors import InputError

_LANES = ("host", *get_args(AtenKernels))


def one_of(names: tuple[str, ...]) -> Callable[[str], str]:
    """A parser that takes these words alone."""

    def parse(text: str) -> str:
        if text not in names:
            raise typer.BadParameter(f"{text!r} is not one of {', '.join(names)}")
        return text

    return parse


Config = Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file of the accelerator.", show_default=False)]
Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="module:callable that returns (model, example_input), a TorchScript file, or a saved network.",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Write one JSON document to stdout instead of tables.")]
Engine = Annotated[
    str | None,
    typer.Option(
        parser=one_of(ENGINES),
        metavar="|".join(ENGINES),
        help="Whose arithmetic is meant; PyTorch's quantised engine is set to it while the model is made. "
        "By default that engine as the model's callable leaves it.",
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
Input = Annotated[
    list[Path] | None,
    typer.Option(
        "--input",
        metavar="X.npy",
        help="Input in place of the example: floats, or codes of the input's dtype. Once for each input.",
        show_default=False,
    ),
]


def read_inputs(paths: list[Path] | None) -> Any:
    """The arrays of `--input`: None without any, one array, or a tuple of several. Raises InputError."""
    if not paths:
        return None
    arrays = tuple(_read_array(path) for path in paths)
    return arrays if len(arrays) > 1 else arrays[0]


def _read_array(path: Path) -> np.ndarray:
    try:
        array = np.load(path, allow_pickle=False)
    except Exception as error:  # numpy raises what its parsers raise: many kinds
        raise InputError(f"{path}: not an array ({error}); numpy.save writes one") from None
    if not isinstance(array, np.ndarray):
        raise InputError(f"{path}: holds several arrays; give one .npy file for each input")
    if not array.size:
        raise InputError(f"{path}: shape {array.shape} has no elements; give at least one row")
    return array
