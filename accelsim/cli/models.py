"""What the MODEL argument names, as a network. torch is imported only where the argument needs it."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelsim.container import kind_of
from accelsim.errors import ModelError
from accelsim.escaping import whole_characters
from accelsim.network import Network

from .output import progress
from .status import CallError
from .streams import stdout_free


@dataclass(frozen=True)
class Source:
    """A network with the input to run it on (None if there is none) and, where PyTorch was involved, the model.

    `example`: what the model was recorded with.
    """

    network: Network
    x: Any
    model: Any = None
    example: Any = None

    def under(self, lanes: str) -> Network:
        """The model extracted again for other lanes. Raises ModelError where there are no rules for them."""
        with progress(f"extract for {lanes} lanes"), stdout_free():
            from accelsim.frontend import extract

            return extract(self.model, self.example, engine=self.network.engine, lanes=lanes)


def open_model(argument: str, engine: str | None = None, lanes: str = "host", x: Any = None) -> Source:
    """The network that `argument` names. `x` takes the place of its example input.

    Raises CallError for an argument that names nothing, and the errors of `Network.load` and `extract`.
    """
    kind = saved_kind(argument)
    if kind == "accelsim-network":
        network = Network.load(argument)
        if engine not in (None, network.engine):
            raise CallError(
                f"--engine {engine}: {argument} was extracted for {network.engine}; extract the model again for another"
            )
        return Source(network, x)
    if kind == "accelsim-program":
        raise CallError(f"{argument}: holds a program, not a model; `accelsim run` and `disassemble` take programs")
    with progress(f"load {argument}"), stdout_free():
        if Path(argument).exists():
            model, example = _script(argument, x), x
        else:
            model, example = _called(argument, engine)
    with progress("extract"), stdout_free():
        from accelsim.frontend import extract

        network = extract(model, example, engine=engine, lanes=lanes)
    return Source(network, example if x is None else x, model, example)


def _script(argument: str, x: Any) -> Any:
    """A TorchScript model from a file."""
    if not Path(argument).is_file():
        raise CallError(f"{argument}: not a file; give module:callable, a TorchScript file or a saved network")
    if whole_characters(argument) != argument:
        raise CallError(f"{argument}: PyTorch opens only files whose names are UTF-8; rename it")
    from accelsim.frontend.load import load_script

    model = load_script(argument)
    if x is None:
        raise CallError(f"{argument}: a TorchScript file carries no example input; give one with --input")
    return model


def _called(argument: str, engine: str | None) -> tuple[Any, Any]:
    """What `module:callable` returns: a model and its example input. PyTorch's engine is `engine` while it runs.

    Raises CallError where there is no such callable, ModelError where it fails or returns something else.
    """
    function = _callable(argument)
    with contextlib.ExitStack() as stack:
        if engine is not None:
            from accelsim.frontend.recording import quantized_engine

            stack.enter_context(quantized_engine(engine))
        try:
            returned = function()
        except (Exception, SystemExit) as error:
            raise ModelError(
                f"{argument}: it raised {type(error).__name__}: {error}; it is called without arguments and must "
                "return (model, example_input)"
            ) from error
    if not isinstance(returned, tuple) or len(returned) != 2 or not callable(returned[0]):
        raise ModelError(
            f"{argument}: it returned {_description(returned)}; it must return (model, example_input): "
            "a model that can be called, and a tensor or a tuple of tensors to call it with"
        )
    return returned


def _callable(argument: str) -> Callable[[], Any]:
    name, colon, attribute = argument.partition(":")
    if not colon or not attribute or not all(part.isidentifier() for part in name.split(".")):
        raise CallError(
            f"{argument}: no such file, and not module:callable; give for example examples.digits:quantized, "
            "a TorchScript file or a saved network"
        )
    try:
        found = importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):  # a package on the way to it is missing, or is no package
        found = False
    if not found:
        raise CallError(f"{argument}: there is no module {name}; it is looked for in {Path.cwd()} and in Python's path")
    try:
        target: Any = importlib.import_module(name)
    except (Exception, SystemExit) as error:
        raise ModelError(f"{argument}: importing {name} raised {type(error).__name__}: {error}") from error
    for part in attribute.split("."):
        if not hasattr(target, part):
            raise CallError(f"{argument}: {name} has no {attribute}")
        target = getattr(target, part)
    if not callable(target):
        raise CallError(f"{argument}: {attribute} is {_description(target)}, which cannot be called")
    return target


def _description(item: Any) -> str:
    if isinstance(item, tuple):
        return f"a tuple of {len(item)} ({', '.join(type(part).__name__ for part in item)})"
    return "None" if item is None else f"a {type(item).__name__}"


def saved_kind(argument: str) -> str | None:
    """What a file that this package wrote holds; None for every other file, and for no file."""
    return kind_of(argument)
