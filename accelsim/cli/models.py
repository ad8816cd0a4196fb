"""What the MODEL argument names, as a network. torch is imported only where the argument needs it."""

from __future__ import annotations

import contextlib
import importlib
import importlib.machinery
import importlib.util
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from accelsim.arithmetic.engines import XNNPACK
from accelsim.errors import AccelsimError, ModelError
from accelsim.escaping import whole_characters
from accelsim.frontend import packages
from accelsim.frontend.archive import EXPORTED, SCRIPT
from accelsim.frontend.packages import pytorch
from accelsim.network import Network
from accelsim.network.topology import read_topology

from .kinds import NETWORK, ONNX, PROGRAM, TOPOLOGY, file_kind, is_there, no_model
from .output import progress
from .status import CallError
from .streams import give_stdout_away

TAKEN = (
    "module:callable (for example examples.digits:quantized), an ONNX file, a .pt2 file (torch.export.save), a "
    "TorchScript file with --trust, a topology (CSV), or a saved network"
)


#: How PyTorch's words on its own old quantisation begin: it says them of every quantised model, whoever made it.
_SWAMPING = (
    r"torch\.ao\.quantization is deprecated",
    r"torch\.quantize_per_tensor, torch\.quantize_per_channel and other quantized tensor creation functions",
    r"Please use quant_min and quant_max to specify the range for observers",
)


@dataclass(frozen=True)
class Source:
    """A network with the input to run it on (None if there is none) and, where PyTorch is a witness, the model.

    `example`: what the model was recorded with.
    """

    network: Network
    x: Any
    model: Any = None
    example: Any = None

    def under(self, lanes: str) -> Network:
        """The model extracted again for other lanes. Raises ModelError where there are no rules for them."""
        with progress(f"extract for {lanes} lanes"):
            from accelsim.frontend import extract

            return extract(self.model, self.example, engine=self.network.engine, lanes=lanes)


def no_example(argument: str) -> CallError:
    """The error for a file that does not say what to run its model on."""
    return CallError(f"{argument}: this file carries no example input; give one with --input")


def open_model(
    argument: str, engine: str | None = None, lanes: str = "host", x: Any = None, *, trust: bool = False
) -> Source:
    """The network that `argument` names. `x` takes the place of its example input.

    `trust`: whether a file that executes code may be loaded. Raises CallError for an argument that names nothing, and
    the errors of `Network.load` and `extract`.
    """
    with unswamped():
        return _opened(argument, engine, lanes, x, trust)


@contextlib.contextmanager
def unswamped() -> Iterator[None]:
    """Inside of a `with` PyTorch does not warn of its own old quantisation."""
    with warnings.catch_warnings():
        for said in _SWAMPING:
            warnings.filterwarnings("ignore", said)
        yield


def _opened(argument: str, engine: str | None, lanes: str, x: Any, trust: bool) -> Source:
    kind = file_kind(argument)
    if kind == NETWORK:
        network = Network.load(argument)
        if engine not in (None, network.engine):
            raise CallError(
                f"--engine {engine}: {argument} was extracted for {network.engine}; extract the model again for another"
            )
        return Source(network, x)
    if kind == PROGRAM:
        raise CallError(f"{argument}: holds a program, not a model; `accelsim run` and `disassemble` take programs")
    if kind == TOPOLOGY:
        return Source(read_topology(argument), x)
    if kind == ONNX:
        with progress(f"read {argument}"):
            from accelsim.frontend import extract

            return Source(extract(argument, x, engine=engine), x)
    with progress(f"load {argument}"):
        if kind == EXPORTED:
            model, example = _program(argument, x)
        elif kind == SCRIPT:
            model, example = _script(argument, engine, x, trust), x
        elif is_there(argument):
            raise no_model(argument, kind, TAKEN)
        else:
            model, example = _called(argument, engine)
    with progress("extract"):
        from accelsim.frontend import extract

        network = extract(model, example, engine=engine, lanes=lanes)
    if kind == EXPORTED:
        network = replace(network, name=Path(argument).stem)
    if network.engine == XNNPACK:  # of which PyTorch's own run is no witness
        return Source(network, example if x is None else x)
    return Source(network, example if x is None else x, model, example)


def _program(argument: str, x: Any) -> tuple[Any, Any]:
    """The program of a .pt2 file, and what to run it on: `x`, the file's own example, or numbers of its shapes."""
    pytorch()
    from accelsim.frontend.pt2 import open_pt2

    model, example = open_pt2(argument, x)
    return model, example if x is None else x


def _script(argument: str, engine: str | None, x: Any, trust: bool) -> Any:
    """A TorchScript model from a file; nothing of it is loaded before everything that can be refused is."""
    if not trust:
        raise CallError(
            f"{argument}: a TorchScript file, which executes code when it is loaded and run; if you trust whoever made "
            "it, say --trust"
        )
    if whole_characters(argument) != argument:
        raise CallError(f"{argument}: PyTorch opens only files whose names are UTF-8; rename it")
    if x is None:
        raise no_example(argument)
    give_stdout_away()
    pytorch()
    from accelsim.frontend.load import load_script

    return load_script(argument, engine)


def _called(argument: str, engine: str | None) -> tuple[Any, Any]:
    """What `module:callable` returns: a model and its example input. PyTorch's engine is `engine` while it runs.

    Raises CallError where there is no such callable, ModelError where it fails or returns something else.
    """
    function = _callable(argument)
    with contextlib.ExitStack() as stack:
        if engine is not None:
            pytorch()
            from accelsim.frontend.recording import quantized_engine

            stack.enter_context(quantized_engine(engine))
        with _guest(f"{argument}: it", "; it is called without arguments and must return (model, example_input)"):
            returned = function()
    if not isinstance(returned, tuple) or len(returned) != 2 or not callable(returned[0]):
        raise ModelError(
            f"{argument}: it returned {_description(returned)}; it must return (model, example_input): "
            "a model that can be called, and a tensor or a tuple of tensors to call it with"
        )
    return returned


def _callable(argument: str) -> Callable[[], Any]:
    name, colon, attribute = argument.partition(":")
    if not colon or not attribute or not all(part.isidentifier() for part in name.split(".")):
        raise CallError(f"{argument}: no such file, and not module:callable; give {TAKEN}")
    here = _add_current_directory(name)
    give_stdout_away()
    with _guest(f"{argument}: importing {name}"):
        try:
            found = importlib.util.find_spec(name) is not None
        except (ImportError, ValueError):  # a package on the way to it is missing, or is no package
            found = False
        if not found:
            raise CallError(f"{argument}: there is no module {name}; it is looked for in {here} and in Python's path")
        target: Any = importlib.import_module(name)
        for part in attribute.split("."):
            if not hasattr(target, part):
                raise CallError(f"{argument}: {name} has no {attribute}")
            target = getattr(target, part)
    if not callable(target):
        raise CallError(f"{argument}: {attribute} is {_description(target)}, which cannot be called")
    return target


def _add_current_directory(name: str) -> str:
    """Put the current directory first on Python's path, as `python -m` does, if the module that is named lies there.

    Only then: a file in a directory that somebody else filled must not stand in for a library. Returns the directory.
    """
    try:
        here = os.getcwd()
    except FileNotFoundError:
        return "the current directory (deleted)"
    lies_here = importlib.machinery.PathFinder.find_spec(name.partition(".")[0], [here]) is not None
    if lies_here and here not in sys.path:
        sys.path.insert(0, here)
    return here


@contextlib.contextmanager
def _guest(who: str, instead: str = "") -> Iterator[None]:
    """Around code that somebody else wrote: whatever it raises, also to end the process, is a ModelError."""
    try:
        yield
    except (AccelsimError, KeyboardInterrupt):
        raise
    except BaseException as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "torch":
            instead = f"; install it: {packages.remedy('torch')}"
        raise ModelError(f"{who} raised {type(error).__name__}: {error}{instead}") from error


def _description(item: Any) -> str:
    if isinstance(item, tuple):
        return f"a tuple of {len(item)} ({', '.join(type(part).__name__ for part in item)})"
    return "None" if item is None else f"a {type(item).__name__}"
