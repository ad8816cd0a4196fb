"""The program of a .pt2 file as a module of PyTorch, which is run call by call: first on shapes alone, then on data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from accelsim.errors import AccelsimError, FormatError, InputError, ModelError
from accelsim.limits import DEFAULT
from accelsim.reading import shown

from .container import Meta, Node, Of, Program, Stored, Word
from .operators import check_arguments, find, of_sizes

#: Bytes of file for which one byte of an input that the user gives counts. With it a segmentation network of 512 x 512
#: pixels (4 GB of float results for an input of 3 MB) passes; an eighth of it would refuse that.
_A_BYTE_OF_INPUT = 128


class StoredProgram(nn.Module):  # type: ignore[misc]  # torch is not looked into
    """A file's program; its parameters have the names that they had in the model.

    `input_names`: as the graph has them. Raises FormatError where the file's parts do not fit together.
    """

    def __init__(self, program: Program) -> None:
        super().__init__()
        self.program, self.input_names = program, program.inputs
        self._operators = [of_sizes(node.target) or find(self._where(node), node.target) for node in program.nodes]
        self._stored: dict[str, torch.Tensor] = {}
        known: dict[int, torch.Tensor] = {}
        for name, stored in program.stored.items():
            if id(stored) not in known:
                known[id(stored)] = self._register(stored)
            self._stored[name] = known[id(stored)]

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The outputs, always a tuple. Raises what PyTorch's operators raise."""
        return self._run(inputs, self._stored)

    def check(self, inputs: Sequence[torch.Tensor], given: int) -> None:
        """Run on shapes alone: what each call makes is what the file says, and all of it is not too much.

        `given`: bytes of inputs that do not come from the file. Raises InputError for inputs of other shapes than the
        file's, FormatError where the file says what is not so, ModelError for what takes too much.
        """
        program = self.program
        if len(inputs) != len(program.inputs):
            names = ", ".join(program.inputs)
            raise InputError(
                f"{len(inputs)} inputs; the program in {program.path} takes {len(program.inputs)} ({names})"
            )
        for name, tensor in zip(program.inputs, inputs, strict=True):
            if not _fits(program.metas[name], tensor):
                raise InputError(f"input {shown(name)}: {_said(tensor)}; the file says {_meant(program.metas[name])}")
        stored = {name: tensor.to("meta") for name, tensor in self._stored.items()}
        for name, tensor in stored.items():
            self._check_said(f"{program.path}: {shown(name)}", name, tensor)
        allowed = program.size + _A_BYTE_OF_INPUT * given
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            self._run([tensor.to("meta") for tensor in inputs], stored, DEFAULT.memory_for(allowed))
        products = counter.get_total_flops() // 2
        # A product counts as a sixteenth of an operation, as in a run of the network.
        if products // 16 > DEFAULT.operations_for(allowed):
            raise ModelError(f"{program.path}: a run takes {products:,} products, too many for a file of its size")

    def _run(
        self, inputs: Sequence[torch.Tensor], stored: dict[str, torch.Tensor], allowed: int | None = None
    ) -> tuple[torch.Tensor, ...]:
        """The outputs. `allowed`: check every result, and that all of them have no more bytes together."""
        values: dict[str, Any] = {**stored, **dict(zip(self.program.inputs, inputs, strict=True))}
        for node, operator in zip(self.program.nodes, self._operators, strict=True):
            made = self._call(node, operator, values, checked=allowed is not None)
            for name, value in self._results(node, made):
                values[name] = value
                if allowed is not None:
                    allowed -= self._check(node, name, value)
                    if allowed < 0:
                        raise ModelError(
                            f"{self._where(node)}: with it the results take more memory than a file of "
                            f"{self.program.size:,} bytes justifies; give an example of your own (--input), whose "
                            "size counts, or a smaller one"
                        )
        return tuple(values[name] for name in self.program.outputs)

    def _call(self, node: Node, operator: Any, values: dict[str, Any], *, checked: bool) -> Any:
        where = self._where(node)
        try:
            if isinstance(operator, torch._ops.OpOverload):
                args, kwargs = _arguments(where, node, operator, values, checked=checked)
                check_arguments(where, operator, [*args, *kwargs.values()])
                return operator(*args, **kwargs)
            return operator(*(_value(value, values) for _, value in node.arguments))
        except AccelsimError:
            raise
        except NotImplementedError:
            if not checked:
                raise
            raise ModelError(f"{where}: its result's shape depends on data; a network's shapes are fixed") from None
        except (RuntimeError, TypeError, ValueError, IndexError, ArithmeticError, KeyError) as error:
            reason = str(error).strip().partition("\n")[0][:200]
            raise FormatError(f"{where}: PyTorch refuses what it is given ({reason}); export the model again") from None

    def _results(self, node: Node, made: Any) -> Iterator[tuple[str, Any]]:
        whole = made if len(node.results) != 1 and isinstance(made, tuple) else (made,)
        if node.results and len(whole) != len(node.results):
            raise FormatError(f"{self._where(node)}: makes {len(whole)} results; the file names {len(node.results)}")
        for names, value in zip(node.results, whole, strict=False):
            if isinstance(names, str):
                if names:
                    yield names, value
            elif not isinstance(value, list | tuple) or len(value) != len(names):
                raise FormatError(f"{self._where(node)}: the file names {len(names)} tensors of its result")
            else:
                yield from zip(names, value, strict=True)

    def _check(self, node: Node, name: str, value: Any) -> int:
        """The bytes of a result, which must be what the file says."""
        if isinstance(value, torch.Tensor):
            self._check_said(self._where(node), name, value)
            return value.numel() * value.element_size()
        if type(value) is not int or not -(2**63) <= value < 2**63:
            raise FormatError(f"{self._where(node)}: makes no tensor and no size; export the model again")
        return 0

    def _check_said(self, where: str, name: str, tensor: torch.Tensor) -> None:
        meta = self.program.metas.get(name)
        if meta is None or not _fits(meta, tensor):
            said = "nothing" if meta is None else _meant(meta)
            raise FormatError(f"{where}: {_said(tensor)}, and the file says {said} of it; export the model again")

    def _where(self, node: Node) -> str:
        return f"{self.program.path}: {node.where}"

    def _register(self, stored: Stored) -> torch.Tensor:
        """A stored tensor, under its name in the model, as it lay there: kernels lay results by its strides."""
        meta, dtype = stored.meta, getattr(torch, stored.meta.dtype)
        if stored.content:
            flat = torch.frombuffer(bytearray(stored.content), dtype=dtype)
            tensor = flat.as_strided(meta.shape, meta.strides, meta.offset)
        else:
            tensor = torch.zeros(meta.shape, dtype=dtype)
        parameter = stored.is_parameter and tensor.is_floating_point()
        tensor = nn.Parameter(tensor, requires_grad=False) if parameter else tensor
        *path, name = stored.key.split(".")
        module: nn.Module = self
        try:
            for part in path:
                if part not in module._modules:
                    module.add_module(part, nn.Module())
                module = module._modules[part]
            if parameter:
                module.register_parameter(name, tensor)
            else:
                module.register_buffer(name, tensor)
        except (KeyError, TypeError) as error:
            raise FormatError(f"{self.program.path}: {shown(stored.key)} is no name of a parameter ({error})") from None
        return tensor


def _arguments(
    where: str, node: Node, operator: Any, values: dict[str, Any], *, checked: bool
) -> tuple[list[Any], dict[str, Any]]:
    """The arguments of a call by position, as its schema has them; `checked`: everything on the device "meta"."""
    given = dict(node.arguments)
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for position, argument in enumerate(operator._schema.arguments):
        if argument.name in given:
            value = _value(given.pop(argument.name), values)
            if argument.kwarg_only or len(args) < position:
                kwargs[argument.name] = value
            else:
                args.append(value)
    if given or len(node.arguments) != len(args) + len(kwargs):
        raise FormatError(f"{where}: has arguments that this operator does not take; export the model again")
    if checked and any(argument.name == "device" for argument in operator._schema.arguments):
        kwargs["device"] = "meta"
    return args, kwargs


def _value(item: Any, values: dict[str, Any]) -> Any:
    if isinstance(item, Of):
        return values[item.name]
    if isinstance(item, Word):
        return torch.device("cpu") if item.kind == "device" else getattr(torch, item.name)
    return [_value(part, values) for part in item] if isinstance(item, list) else item


def _fits(meta: Meta, tensor: torch.Tensor) -> bool:
    return (
        tensor.dtype == getattr(torch, meta.dtype)
        and tensor.dim() == len(meta.shape)
        and all(size in (None, own) for size, own in zip(meta.shape, tensor.shape, strict=True))
    )


def _said(tensor: torch.Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} of shape {tuple(tensor.shape)}"


def _meant(meta: Meta) -> str:
    return f"{meta.dtype} of shape {tuple('any' if size is None else size for size in meta.shape)}"
