"""One run of a model, recorded call by call: what PyTorch's dispatcher really executed, whatever front end made it."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch.ao.nn.quantized import QFunctional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from accelsim.arithmetic.engines import ENGINES, PT2E
from accelsim.errors import ModelError

#: Children of these kinds hold parameters or do nothing: a module with no others is where the work is done.
_SILENT = ("Identity", "LinearPackedParams")

#: How the operators of quantised torch.export graphs begin.
QUANTIZE, DEQUANTIZE = "quantized_decomposed.quantize_per_", "quantized_decomposed.dequantize_per_"


@dataclass(frozen=True)
class Call:
    """One operator call. `scope` is the path of the module that made it, "" for the model itself.

    `leaf`: the module has no parts of its own, so that its path names the operator. `codes`: the integers of each
    quantised result tensor at that moment, if they were asked for.
    """

    function: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    result: Any
    scope: str
    leaf: bool
    codes: tuple[np.ndarray | None, ...]

    @property
    def operator(self) -> str:
        """Such as "quantized.conv2d_relu", without the overload."""
        return str(self.function._schema.name).replace("::", ".")

    @property
    def tensors(self) -> list[torch.Tensor]:
        """The tensors that go in, those inside of lists too."""
        return [leaf for leaf in tree_leaves((self.args, self.kwargs)) if isinstance(leaf, torch.Tensor)]

    @property
    def results(self) -> list[torch.Tensor]:
        """The tensors that come out."""
        return [leaf for leaf in tree_leaves(self.result) if isinstance(leaf, torch.Tensor)]

    def argument(self, name: str, default: Any = None) -> Any:
        """The argument of that name in the operator's schema, or its default."""
        for position, argument in enumerate(self.function._schema.arguments):
            if argument.name == name:
                if position < len(self.args):
                    return self.args[position]
                declared = argument.default_value if argument.has_default_value() else default
                return self.kwargs.get(name, declared)
        return default


@dataclass(frozen=True)
class Recording:
    """The calls of one run in order; `inputs` and `outputs` are the tensors that went in and came out."""

    calls: tuple[Call, ...]
    inputs: tuple[torch.Tensor, ...]
    input_names: tuple[str, ...]
    outputs: tuple[Any, ...]

    @property
    def is_exported(self) -> bool:
        """Whether the model is a quantised torch.export graph (PT2E)."""
        return any(call.operator.startswith((QUANTIZE, DEQUANTIZE)) for call in self.calls)


class _Recorder(TorchDispatchMode):  # type: ignore[misc]  # torch is not looked into
    """Keeps every call, and with it every tensor, so that a tensor's identity is its own for the whole recording."""

    def __init__(self, *, keep_codes: bool) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self.scopes: list[tuple[str, bool]] = [("", False)]
        self._keep_codes = keep_codes

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        call = Call(func, tuple(args), kwargs or {}, result, *self.scopes[-1], ())
        if self._keep_codes:
            exported = call.operator.startswith(QUANTIZE)
            call = replace(call, codes=tuple(codes_of(tensor, exported=exported) for tensor in call.results))
        self.calls.append(call)
        return result

    def claim(self, tensor: Any, scope: str) -> None:
        """The call that just made `tensor` was `scope`'s, although the dispatcher could not know."""
        for position in range(len(self.calls) - 1, -1, -1):
            if self.calls[position].result is tensor:
                self.calls[position] = replace(self.calls[position], scope=scope, leaf=True)
                return


def codes_of(tensor: torch.Tensor, *, exported: bool) -> np.ndarray | None:
    """The integers of a quantised tensor; `exported`: of a plain one that a torch.export graph quantised."""
    if exported:
        return tensor.numpy().copy()
    return tensor.int_repr().numpy() if tensor.is_quantized else None


def record(
    model: Any, inputs: tuple[torch.Tensor, ...], engine: str, *, keep_codes: bool = False, threads: int = 1
) -> Recording:
    """Run `model` once under `engine` in evaluation mode without gradients, and put back all that this changes.

    Raises ModelError for whatever the model raises.
    """
    recorder = _Recorder(keep_codes=keep_codes)
    with _settings(model, engine, threads), _scopes(model, recorder), recorder:
        try:
            outputs = model(*inputs)
        except Exception as error:
            shapes = ", ".join(str(tuple(tensor.shape)) for tensor in inputs)
            raise ModelError(
                f"the model, called with inputs of shape {shapes}, raised {type(error).__name__}: {error}"
            ) from error
    return Recording(tuple(recorder.calls), inputs, _input_names(model, len(inputs)), tuple(tree_leaves(outputs)))


@contextlib.contextmanager
def quantized_engine(engine: str) -> Iterator[None]:
    """PyTorch's quantised engine inside of a `with`; torch.export graphs ("pt2e") have none."""
    before = torch.backends.quantized.engine
    torch.backends.quantized.engine = before if engine == PT2E else engine
    try:
        yield
    finally:
        torch.backends.quantized.engine = before


def check_engine(engine: str | None) -> str:
    """The engine that is meant. Raises ModelError if it is unknown, or this PyTorch was built without it."""
    chosen = torch.backends.quantized.engine if engine is None else engine
    if chosen == PT2E:
        return chosen
    if chosen not in ENGINES:
        raise ModelError(f"engine {chosen!r}: unknown; allowed are {', '.join(ENGINES)}")
    if chosen not in torch.backends.quantized.supported_engines:
        supported = ", ".join(torch.backends.quantized.supported_engines)
        raise ModelError(f"engine {chosen!r}: this PyTorch was built without it; it has {supported}")
    return chosen


@contextlib.contextmanager
def _settings(model: Any, engine: str, threads: int) -> Iterator[None]:
    modules = list(model.modules()) if isinstance(model, torch.nn.Module) else []
    training = [module for module in modules if module.training]
    threads_before = torch.get_num_threads()
    try:
        for module in training:
            module.training = False
        # The number of threads moves the ends of the vector loops, where PyTorch rounds otherwise.
        torch.set_num_threads(threads)
        with torch.no_grad(), quantized_engine(engine):
            yield
    finally:
        torch.set_num_threads(threads_before)
        for module in training:
            module.training = True


@contextlib.contextmanager
def _scopes(model: Any, recorder: _Recorder) -> Iterator[None]:
    """Hooks that tell the recorder which module is running."""
    handles: list[Any] = []
    modules = dict(model.named_modules()) if isinstance(model, torch.nn.Module) else {}
    try:
        for path, module in modules.items():
            if isinstance(module, torch.jit.ScriptModule) or not path:
                continue
            leaf = all(type(child).__name__ in _SILENT for child in module.children())
            parent = modules.get(path.rpartition(".")[0])
            owner = path.rpartition(".")[0] if isinstance(parent, QFunctional) else ""
            handles.append(module.register_forward_pre_hook(_enter(recorder, path, leaf, owner)))
            handles.append(module.register_forward_hook(_leave(recorder), always_call=True))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _enter(recorder: _Recorder, path: str, leaf: bool, owner: str) -> Any:
    def hook(module: Any, args: tuple[Any, ...]) -> None:
        if owner and args:
            # A QFunctional's methods are no forward; it only passes their result through its observer's place.
            recorder.claim(args[0], owner)
        recorder.scopes.append((path, leaf))

    return hook


def _leave(recorder: _Recorder) -> Any:
    def hook(module: Any, args: Any, result: Any) -> None:
        recorder.scopes.pop()

    return hook


def _input_names(model: Any, count: int) -> tuple[str, ...]:
    """The names of the parameters of `forward`, as far as they can be had."""
    names: list[str] = []
    if isinstance(model, torch.jit.ScriptModule):
        names = [argument.name for argument in model.forward.schema.arguments[1:]]
    elif isinstance(model, torch.nn.Module):
        with contextlib.suppress(TypeError, ValueError):
            parameters = inspect.signature(model.forward).parameters.values()
            names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if len(names) < count:
        names = ["input"] if count == 1 else [f"input_{position}" for position in range(count)]
    return tuple(name.split(".")[0] for name in names[:count])
