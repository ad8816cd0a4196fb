"""One run of a model, recorded call by call: what PyTorch's dispatcher really executed, whatever front end made it."""

from __future__ import annotations

import contextlib
import inspect
import threading
from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch.ao.nn.quantized import QFunctional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from accelsim.arithmetic.engines import ENGINES, EXPORTED, ONNXRUNTIME
from accelsim.errors import ModelError

from .calls import QUANTIZE, Call, Escape, Recording, codes_of, returned, tensors_in
from .layouts import copy_of, storage_of
from .pt2.module import StoredProgram
from .versions import Versions, written_tensors

#: Children of these kinds hold parameters or do nothing: a module with no others is where the work is done.
_SILENT = ("Identity", "LinearPackedParams")

#: Methods that hand a tensor's elements to something that is no operator of PyTorch.
_ESCAPES = frozenset({"tolist", "numpy", "__array__", "__dlpack__", "data_ptr", "untyped_storage", "storage"})
#: Operators that ask a tensor what does not depend on its elements.
_ABOUT = frozenset(
    f"aten.{name}"
    for name in (
        "dim",
        "is_contiguous",
        "is_same_size",
        "numel",
        "q_per_channel_axis",
        "q_scale",
        "q_zero_point",
        "qscheme",
        "size",
        "stride",
        "sym_numel",
        "sym_size",
        "sym_storage_offset",
        "sym_stride",
    )
)

#: Whose arithmetic is none of PyTorch's.
_FILES_OF = {ONNXRUNTIME: "ONNX files"}

#: PyTorch's engine and number of threads belong to the process: one thread at a time may choose them.
ENGINE_LOCK = threading.RLock()


class _Recorder(TorchDispatchMode):  # type: ignore[misc]  # torch is not looked into
    """Keeps every call, and with it a snapshot of every tensor, whose identity is its own for the whole recording."""

    def __init__(self, *, keep_codes: bool, keep_floats: Collection[int] = ()) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self.scopes: list[tuple[str, bool]] = [("", False)]
        self.versions = Versions()
        self.escape: Escape | None = None
        self.thread = threading.get_ident()
        self._results: list[Any] = []
        self._keep_codes, self._keep_floats = keep_codes, keep_floats

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # What is asked of tensors here is not the model's doing, which `_Watch` would take it for.
        with torch._C.DisableTorchFunction():
            return self._called(func, tuple(args), kwargs or {})

    def _called(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        versions = self.versions
        seen, given = versions.taken((args, kwargs)), tensors_in((args, kwargs))
        depends = versions.depends(given)
        constants = tuple(None if versions.depends(tensor) else versions.mark(tensor) for tensor in given)
        written = written_tensors(func, args, kwargs)
        versions.before_write(written)
        result = func(*args, **kwargs)
        if not func._schema.is_mutable:  # a flag `inplace` may have been ignored
            written = [
                tensor for tensor in written if any(storage_of(tensor) == storage_of(r) for r in tensors_in(result))
            ]
        versions.after_write(written, len(self.calls), dependent=depends)
        made, (scope, leaf) = versions.made(result, dependent=depends), self.scopes[-1]
        call = Call(func, seen[0], seen[1], made, scope, leaf, constants=constants, depends=depends)
        if self._keep_codes:
            plain = call.operator.startswith(QUANTIZE) or len(self.calls) in self._keep_floats
            call = replace(call, codes=tuple(codes_of(tensor, plain=plain) for tensor in call.results))
        if depends and self._tells(call, args, result):
            self.escapes(call.operator)
        self.calls.append(call)
        self._results.append(result)
        return result

    def _tells(self, call: Call, args: tuple[Any, ...], result: Any) -> bool:
        """Whether a call makes a number, or the size of a tensor, of the elements of its operands."""
        if torch.Tag.dynamic_output_shape in call.function.tags:
            return call.operator != "aten.index" or self.versions.depends(args[1])
        numbers = any(leaf is not None and not isinstance(leaf, torch.Tensor) for leaf in tree_leaves(result))
        return numbers and call.operator not in _ABOUT

    def claim(self, tensor: Any, scope: str) -> None:
        """The call that just made `tensor` was `scope`'s, although the dispatcher could not know."""
        for position in range(len(self.calls) - 1, -1, -1):
            if self._results[position] is tensor:
                self.calls[position] = replace(self.calls[position], scope=scope, leaf=True)
                return

    def escapes(self, what: str) -> None:
        """Elements that depend on the inputs are about to leave PyTorch's operators."""
        if self.escape is None:
            self.escape = Escape(len(self.calls), self.scopes[-1][0], what)


class _Watch(TorchFunctionMode):  # type: ignore[misc]
    """Sees the methods that hand elements out without an operator."""

    def __init__(self, recorder: _Recorder) -> None:
        super().__init__()
        self._recorder = recorder

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name in _ESCAPES and self._recorder.versions.depends(args[:1]):
            self._recorder.escapes(f"Tensor.{name}")
        return func(*args, **(kwargs or {}))


def record(
    model: Any,
    inputs: tuple[torch.Tensor, ...],
    engine: str,
    *,
    keep_codes: bool = False,
    keep_floats: Collection[int] = (),
    threads: int = 1,
) -> Recording:
    """Run `model` once under `engine` in evaluation mode without gradients, and put back all that this changes.

    `inputs` are copied first: a model may write into what it is given. `keep_codes`: keep the codes of every quantised
    tensor, and what the outputs hold at the end; `keep_floats`: the numbers of the calls whose float results are kept,
    too. Raises ModelError for whatever the model raises.
    """
    with ENGINE_LOCK, _put_back() as written:
        return _record(model, inputs, engine, written, keep_codes=keep_codes, keep_floats=keep_floats, threads=threads)


def record_twice(
    model: Any, inputs: tuple[torch.Tensor, ...], others: tuple[torch.Tensor, ...], engine: str
) -> tuple[Recording, Recording | ModelError]:
    """As `record`, and a second run on other inputs, which finds what the first one has left behind: a state that the
    model keeps shows. For the second run, a ModelError that it raised may be returned."""
    with ENGINE_LOCK, _put_back() as written, torch.random.fork_rng(devices=[]):
        first = _record(model, inputs, engine, written)
        try:
            return first, _record(model, others, engine, written)
        except ModelError as error:
            return first, error


@contextlib.contextmanager
def _put_back() -> Iterator[list[Versions]]:
    """The memory that runs inside of a `with` write into, and that is older, holds what it held before."""
    written: list[Versions] = []
    try:
        yield written
    finally:
        for versions in reversed(written):
            versions.restore()


def _record(
    model: Any,
    inputs: tuple[torch.Tensor, ...],
    engine: str,
    written: list[Versions],
    *,
    keep_codes: bool = False,
    keep_floats: Collection[int] = (),
    threads: int = 1,
) -> Recording:
    recorder = _Recorder(keep_codes=keep_codes, keep_floats=keep_floats)
    versions, given = recorder.versions, tuple(map(copy_of, inputs))
    written.append(versions)
    taken = tuple(map(versions.input, given))
    try:
        with _settings(model, engine, threads), _scopes(model, recorder), _Watch(recorder), recorder:
            outputs = tree_leaves(model(*given))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # sys.exit in a model would end the process, with status 0
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in inputs)
        raise ModelError(
            f"the model, called with inputs of shape {shapes}, raised {type(error).__name__}: {error}"
        ) from error
    return Recording(
        tuple(recorder.calls),
        taken,
        _input_names(model, len(inputs)),
        tuple(versions.taken(outputs)),
        tuple(map(returned, outputs)) if keep_codes else (),
        frozenset(versions.dependent),
        dict(versions.overwritten),
        recorder.escape,
    )


@contextlib.contextmanager
def quantized_engine(engine: str) -> Iterator[None]:
    """PyTorch's quantised engine inside of a `with`; torch.export graphs have none.

    Raises ModelError as `check_engine` does.
    """
    check_engine(engine)
    before = torch.backends.quantized.engine
    torch.backends.quantized.engine = before if engine in EXPORTED else engine
    try:
        yield
    finally:
        torch.backends.quantized.engine = before


def check_engine(engine: str | None) -> str:
    """The engine that is meant. Raises ModelError if it is unknown, or this PyTorch was built without it."""
    chosen = torch.backends.quantized.engine if engine is None else engine
    if chosen in EXPORTED:
        return chosen
    if chosen not in ENGINES:
        what = f"the arithmetic of {_FILES_OF[chosen]}, no engine of PyTorch's" if chosen in _FILES_OF else "unknown"
        raise ModelError(f"engine {chosen!r}: {what}; allowed are {', '.join((*ENGINES, *EXPORTED))}")
    if chosen not in torch.backends.quantized.supported_engines:
        supported = ", ".join(torch.backends.quantized.supported_engines)
        raise ModelError(f"engine {chosen!r}: this PyTorch was built without it; it has {supported}")
    return chosen


@contextlib.contextmanager
def _settings(model: Any, engine: str, threads: int) -> Iterator[None]:
    modules = list(model.modules()) if isinstance(model, torch.nn.Module) else []
    training = [module for module in modules if getattr(module, "training", False)]  # a frozen module has none
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
        if threading.get_ident() != recorder.thread:
            return  # another thread runs the same module
        if owner and args:
            # A QFunctional's methods are no forward; it only passes their result through its observer's place.
            recorder.claim(args[0], owner)
        recorder.scopes.append((path, leaf))

    return hook


def _leave(recorder: _Recorder) -> Any:
    def hook(module: Any, args: Any, result: Any) -> None:
        if threading.get_ident() == recorder.thread:
            recorder.scopes.pop()

    return hook


def _input_names(model: Any, count: int) -> tuple[str, ...]:
    """The names of the parameters of `forward`, as far as they can be had."""
    names: list[str] = []
    if isinstance(model, StoredProgram):
        names = list(model.input_names)
    elif isinstance(model, torch.jit.ScriptModule):
        names = [argument.name for argument in model.forward.schema.arguments[1:]]
    elif isinstance(model, torch.nn.Module):
        with contextlib.suppress(TypeError, ValueError):
            parameters = inspect.signature(model.forward).parameters.values()
            names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if len(names) < count:
        names = ["input"] if count == 1 else [f"input_{position}" for position in range(count)]
    return tuple(name.split(".")[0] for name in names[:count])
