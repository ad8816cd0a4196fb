"""From recorded calls to nodes: what each tensor of the recording stands for, and names for what is made of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

from accelsim.arithmetic.affine import FLOAT, Affine
from accelsim.arithmetic.engines import KernelSet
from accelsim.errors import ModelError
from accelsim.network import Gather, Network, Node, Permute, Reshape, Slice, Unfold, Value

from .calls import QUANTIZE, Call, Recording
from .decomposed import exported_affine
from .flow import Flow
from .layouts import is_dense, order_of
from .tables import Program

if TYPE_CHECKING:
    from .kernels import Kernel

_DTYPES = {torch.quint8: "uint8", torch.qint8: "int8"}


@dataclass(frozen=True)
class Codes:
    """A quantised tensor: the value of that name."""

    name: str


@dataclass(frozen=True)
class Real:
    """A float tensor: a function of the value of that name, element by element.

    It is result `index` of `program`, whose first step dequantises; `last` is the call that made it.
    """

    name: str
    program: Program
    index: int
    last: Call

    @property
    def is_dequantized(self) -> bool:
        """Whether nothing but dequantising was done to the value's codes."""
        return self.program[self.index - 1].operator.split(".")[1].startswith("dequantize")


@dataclass(frozen=True)
class Floats:
    """A float tensor: the value of that name, numbers in binary32."""

    name: str


@dataclass(frozen=True)
class Move:
    """A pure movement of elements to a tensor of that shape; `node` makes it, given a name and what it reads."""

    node: Callable[[str, tuple[str, ...]], Node]
    shape: tuple[int, ...]


@dataclass(frozen=True)
class FloatInput:
    """An input of the model before its quantisation, after some movements."""

    position: int
    moves: tuple[tuple[Call, tuple[Move, ...]], ...] = ()


@dataclass(frozen=True)
class Foreign:
    """A tensor that no integer node stands for, and why. `early`: nothing from which it is computed was quantised."""

    reason: str
    early: bool = False


@dataclass(frozen=True, kw_only=True)
class Unrounded:
    """A float tensor of a torch.export graph that gets codes where it is quantised, after some movements."""

    moves: tuple[tuple[Call, tuple[Move, ...]], ...] = ()


Reference = Codes | Real | Floats | FloatInput | Foreign | Unrounded


def affine_of(layer: str, tensor: torch.Tensor) -> Affine:
    """Raises ModelError for codes that are not 8 bits wide, or that have several scales."""
    if tensor.dtype not in _DTYPES or tensor.qscheme() not in (torch.per_tensor_affine, torch.per_tensor_symmetric):
        raise ModelError(
            f"{layer}: activations of {tensor.dtype} ({tensor.qscheme()}) are not supported; "
            f"quantise activations per tensor to torch.quint8 or torch.qint8"
        )
    return Affine(tensor.q_scale(), tensor.q_zero_point(), "uint8" if tensor.dtype == torch.quint8 else "int8")


class Builder:
    """Collects nodes and values while the calls of a recording are gone through in order."""

    def __init__(self, recording: Recording, engine: str, kernels: KernelSet, keys: dict[int, str]) -> None:
        self.engine, self.kernels, self.keys = engine, kernels, keys
        self.values: dict[str, Value] = {}
        self.nodes: list[Node] = []
        self.inputs: dict[int, str] = {}
        self._numbers: dict[str, int] = {}
        #: For each value that PyTorch made: the number of the call, and which of its results.
        self.places: dict[str, tuple[int, int]] = {}
        self.notes: list[str] = []
        #: The kernels that a torch.export graph is lowered to, by the number of the call whose result is theirs.
        self.lowered: dict[int, Kernel] = {}
        #: For what was taken for a function of one code: the value of its numbers in binary32, None if there is none.
        self.floats: dict[int, str | None] = {}
        #: Layers whose sums are values in binary32, by the number of their call.
        self.sums: dict[int, str] = {}
        self._recording = recording
        self._references: dict[int, Reference] = {}
        self._position = 0
        for snapshot, position in recording.overwritten.items():
            self._references[snapshot] = Foreign(self._overwriting(position))
        for position, tensor in enumerate(recording.inputs):
            if tensor.is_quantized:
                name = self._input(position, tensor)
                self.assign(tensor, Codes(name))
            else:
                self.assign(tensor, FloatInput(position))

    @property
    def position(self) -> int:
        """The number of the call that is gone through."""
        return self._position

    @cached_property
    def flow(self) -> Flow:
        """What the recorded calls make and take."""
        return Flow(self._recording)

    def at(self, position: int) -> Call:
        """Go to a call."""
        self._position = position
        return self._recording.calls[position]

    @contextmanager
    def back_at(self, call: Call) -> Iterator[None]:
        """Inside of a `with` an earlier call is gone through again."""
        before, self._position = self._position, self.flow.position(call)
        try:
            yield
        finally:
            self._position = before

    # What tensors stand for

    def reference(self, tensor: Any) -> Reference | None:
        """What a tensor stands for; None for constants and parameters."""
        found = self._references.get(id(tensor))
        if found is None and id(tensor) in self._recording.dependent:
            return Foreign(
                "a tensor that depends on the model's inputs was made in a way that no integer node describes"
            )
        return found

    def foreign(self, call: Call, why: str) -> Foreign:
        """What the results of a call stand for that no integer node does."""
        taken = [reference for tensor in call.tensors if (reference := self.reference(tensor)) is not None]
        early = all(isinstance(one, FloatInput) or (isinstance(one, Foreign) and one.early) for one in taken)
        return Foreign(f"{self.where(call)}: {call.operator} {why}", early)

    def assign(self, tensor: torch.Tensor, reference: Reference) -> None:
        """From here on `tensor` stands for `reference`."""
        self._references[id(tensor)] = reference

    def _overwriting(self, position: int | None) -> str:
        if position is None:
            return (
                "the elements of a tensor were changed by something that is no operator of PyTorch, such as numpy; "
                "change them by operators"
            )
        call = self._recording.calls[position]
        return (
            f"{self.where(call)}: {call.operator} overwrote a tensor of which another is a view; "
            f"use the operator that is not in place"
        )

    def codes(self, call: Call, tensor: Any) -> str:
        """The name of the value that a quantised operand stands for. Raises ModelError if there is none."""
        reference = self.reference(tensor)
        if isinstance(reference, Codes):
            return reference.name
        if isinstance(reference, Foreign):
            raise ModelError(reference.reason)
        if isinstance(reference, Unrounded):
            raise ModelError(f"{self.where(call)}: {call.operator} takes a float tensor that is not quantised yet")
        raise ModelError(
            f"{self.where(call)}: {call.operator} takes a constant tensor; only values that depend on the model's "
            f"inputs are supported as operands"
        )

    def value(self, name: str) -> Value:
        """The value of that name."""
        return self.values[name]

    # Names

    def where(self, call: Call) -> str:
        """How messages name the place of a call."""
        return f"layer {call.scope!r}" if call.scope else "the model"

    @contextmanager
    def located(self, call: Call) -> Iterator[None]:
        """Inside of a `with` a ModelError is told with the place of a call."""
        try:
            yield
        except ModelError as error:
            raise ModelError(f"{self.where(call)}: {error}") from error

    def name(self, call: Call, suggestion: str = "") -> str:
        """A name of its own: the module's path, for what several modules' code calls with the operator's name."""
        operator = call.operator.split(".")[1].strip("_").removeprefix("quantized_")
        stem = suggestion or (call.scope if call.leaf else f"{call.scope}.{operator}".lstrip("."))
        return self._unique(stem)

    def _unique(self, stem: str) -> str:
        name, number = stem, self._numbers.get(stem, 1)
        while name in self.values:
            number += 1
            name = f"{stem}_{number}"
        self._numbers[stem] = number  # lower ones are taken
        return name

    # Nodes

    def emit(
        self,
        call: Call,
        make: Callable[[str], Node],
        result: torch.Tensor,
        *,
        which: int = 0,
        name: str = "",
    ) -> None:
        """Add the node that `make` gives for its name; it produces `result`, the call's result number `which`."""
        if not result.numel():
            raise ModelError(_empty(self.where(call), call))
        name = name or self.name(call)
        affine = self.affine(call, result)
        self.values[name] = Value(name, tuple(result.shape), affine, order_of(result), is_dense(result))
        self.nodes.append(make(name))
        self.places[name] = (self._position, which)
        self.assign(result, Codes(name))

    def emit_float(self, call: Call, make: Callable[[str], Node], result: torch.Tensor) -> None:
        """Add the node that `make` gives for its name; it produces `result`, the call's first result, in binary32."""
        name = self.name(call)
        self.internal(make(name), tuple(result.shape), FLOAT, result)
        self.places[name] = (self._position, 0)
        self.assign(result, Floats(name))

    def affine(self, call: Call, result: torch.Tensor) -> Affine:
        """The affine map of a call's quantised result."""
        if call.operator.startswith(QUANTIZE):
            return exported_affine(self.where(call), call)
        return affine_of(self.where(call), result)

    def made(self, name: str) -> None:
        """The first result of the call that is gone through is the value `name`, if none before it was."""
        self.places.setdefault(name, (self._position, 0))

    def internal(self, node: Node, shape: tuple[int, ...], affine: Affine, like: torch.Tensor | None = None) -> str:
        """Add a node whose value PyTorch never makes as a tensor of its own; in memory it would lie as `like`."""
        order, dense = (tuple(range(len(shape))), True) if like is None else (order_of(like), is_dense(like))
        self.values[node.name] = Value(node.name, shape, affine, order, dense)
        self.nodes.append(node)
        return node.name

    def unused(self, call: Call, operator: str) -> str:
        """A name for an internal node of a call."""
        stem = call.scope if call.leaf else f"{call.scope}.{call.operator.split('.')[1]}".lstrip(".")
        return self._unique(f"{stem}.{operator}")

    def move(
        self,
        call: Call,
        source: torch.Tensor,
        results: Sequence[tuple[torch.Tensor, tuple[Move, ...]]],
        reference: Reference | None = None,
    ) -> None:
        """Each of the results is `source` moved; a movement commutes with what is done element by element.

        `reference`: what `source` stands for, if not what it was assigned.
        """
        reference = reference or self.reference(source)
        for which, (result, moves) in enumerate(results):
            if not result.numel():
                self.assign(result, Foreign(_empty(self.where(call), call)))
            elif isinstance(reference, FloatInput | Unrounded):
                self.assign(result, replace(reference, moves=(*reference.moves, (call, moves))) if moves else reference)
            elif isinstance(reference, Codes | Real | Floats):
                real = isinstance(reference, Real)
                name = self._moved(call, reference.name, moves, result, None if real else which)
                self.assign(result, replace(reference, name=name))
            else:
                self.assign(result, reference or Foreign(self._constant(call)))

    def _moved(
        self, call: Call, source: str, moves: Sequence[Move], result: torch.Tensor | None, which: int | None
    ) -> str:
        affine = self.values[source].affine
        for position, move in enumerate(moves):
            last = position == len(moves) - 1
            name = self.name(call) if last else self.unused(call, type(move.node("", ())).__name__.lower())
            source = self.internal(move.node(name, (source,)), move.shape, affine, result if last else None)
            if last and which is not None:
                self.places[name] = (self._position, which)
        return source

    def _constant(self, call: Call) -> str:
        return f"{self.where(call)}: {call.operator} moves a constant tensor, which is not supported as an operand"

    # The ends

    def quantized_input(self, call: Call, reference: FloatInput, result: torch.Tensor) -> None:
        """The model quantises one of its inputs: that is where the network begins."""
        affine = self.affine(call, result)
        if reference.position in self.inputs:
            name = self.inputs[reference.position]
            if self.values[name].affine.is_float:
                self._quantize_later(call, self.float_input(reference), affine)
                return
            if self.values[name].affine != affine:
                raise ModelError(
                    f"{self.where(call)}: input {name!r} is quantised twice, to {self.values[name].affine} and to "
                    f"{affine}; quantise it once, and share the result"
                )
        else:
            name = self._input(reference.position, self._recording.inputs[reference.position], affine)
            if not reference.moves:
                self.places[name] = (self._position, 0)
        self.moved_to(call, name, reference.moves, result)

    def float_input(self, reference: FloatInput) -> str | None:
        """The value in binary32 of an input that the model works on before it quantises it, after its movements; None
        where the network takes its codes."""
        name = self.inputs.get(reference.position)
        if name is None:
            name = self._input(reference.position, self._recording.inputs[reference.position], FLOAT)
        if not self.values[name].affine.is_float:
            return None
        for call, moves in reference.moves:
            name = self._moved(call, name, moves, None, None) if moves else name
        return name

    def _quantize_later(self, call: Call, name: str | None, affine: Affine) -> None:
        from .floats import quantize_floats

        assert name is not None
        quantize_floats(self, call, name, affine)

    def moved_to(
        self, call: Call, name: str, movements: Sequence[tuple[Call, tuple[Move, ...]]], result: torch.Tensor
    ) -> None:
        """`result`, which `call` quantises, is the value `name` after what was done to it in float."""
        movements = [(made_by, moves) for made_by, moves in movements if moves]
        for position, (made_by, moves) in enumerate(movements):
            last = position == len(movements) - 1
            name = self._moved(made_by, name, moves, result if last else None, 0 if last else None)
        self.assign(result, Codes(name))

    def _input(self, position: int, tensor: torch.Tensor, affine: Affine | None = None) -> str:
        name = self._unique(self._recording.input_names[position])
        if not tensor.numel():
            raise ModelError(f"input {name!r}: shape {tuple(tensor.shape)}; an example has at least one element")
        affine = affine or affine_of(f"input {name!r}", tensor)
        self.values[name] = Value(name, tuple(tensor.shape), affine, order_of(tensor), is_dense(tensor))
        self.inputs[position] = name
        return name

    def network(self, name: str) -> Network:
        """The finished network: only what its outputs depend on. Raises ModelError for float outputs."""
        outputs = [self._output(output) for output in self._recording.outputs]
        if not outputs:
            raise ModelError("the model returns no tensor")
        needed = set(outputs)
        nodes: list[Node] = []
        for node in reversed(self.nodes):
            if node.name in needed:
                nodes.append(node)
                needed.update(node.inputs)
        inputs = tuple(self.inputs[position] for position in sorted(self.inputs))
        if all(self.values[name].affine.is_float for name in needed):
            raise ModelError(f"the model computes in float alone; {NOTHING_QUANTISED}")
        for position in range(len(self._recording.inputs)):
            if position not in self.inputs:
                raise ModelError(
                    f"input {self._recording.input_names[position]!r} reaches no quantised operator; "
                    f"leave it out of the model"
                )
        return Network(
            engine=self.engine,
            kernels=self.kernels,
            values={name: value for name, value in self.values.items() if name in needed or name in inputs},
            nodes=tuple(reversed(nodes)),
            inputs=inputs,
            outputs=tuple(outputs),
            name=name,
            notes=tuple(dict.fromkeys(self.notes)),
        )

    def make_float(self, tensor: torch.Tensor) -> str | None:
        """The value in binary32 that a float tensor stands for, made where it is a function of codes so far."""
        from .floats import output_value

        return output_value(self, tensor)

    def make_float_outputs(self) -> None:
        """Make the values in binary32 that the model's outputs are where they are functions of codes so far."""
        for output in self._recording.outputs:
            reference = self.reference(output)
            if isinstance(reference, Unrounded) or (isinstance(reference, Real) and not reference.is_dequantized):
                self.make_float(output)

    def _output(self, output: Any) -> str:
        reference = self.reference(output)
        if isinstance(reference, Codes):
            return reference.name
        if isinstance(reference, Floats):
            return reference.name
        if isinstance(reference, Real):
            if reference.is_dequantized:
                return reference.name
            if (made := self.make_float(output)) is not None:
                return made
            reason = f"{self.where(reference.last)}: {reference.last.operator} computes in float"
            raise ModelError(f"{reason} after the last quantised operator; {AFTERWARDS}")
        if isinstance(reference, Foreign):
            raise ModelError(f"{reference.reason}; {NOTHING_QUANTISED if reference.early else AFTERWARDS}")
        if isinstance(reference, Unrounded):
            if (made := self.make_float(output)) is not None:
                return made
            raise ModelError(
                "an output of the model is a sum in float that no node makes; quantise it "
                "(torch.ops.quantized_decomposed.quantize_per_tensor) in a function around the model, before it is "
                "exported"
            )
        if isinstance(reference, FloatInput):
            raise ModelError("an output of the model is an input that was not quantised")
        raise ModelError(f"the model returns {type(output).__name__}, which no quantised operator made")


def _empty(where: str, call: Call) -> str:
    return f"{where}: the result of {call.operator} has no elements; leave out what computes with it"


NOTHING_QUANTISED = (
    "nothing before it is quantised: quantise the model (torchao's PT2E, or torch.ao.quantization: prepare, "
    "calibrate, convert), or leave out what needs no quantised layer"
)
AFTERWARDS = "leave it out of the model and apply it to the outputs' dequantize(), or quantise its result"


def reshape(shape: Sequence[int]) -> Move:
    """To another shape, elements in logical order."""
    return Move(lambda name, inputs: Reshape(name, inputs), tuple(shape))


def permute(shape: Sequence[int], axes: Sequence[int]) -> Move:
    """`shape` is the shape before."""
    axes = tuple(axes)
    return Move(lambda name, inputs: Permute(name, inputs, axes), tuple(shape[axis] for axis in axes))


def cut(shape: Sequence[int], axis: int, start: int, stop: int, step: int = 1) -> Move:
    """`shape` is the shape before."""
    after = [len(range(start, stop, step)) if i == axis else size for i, size in enumerate(shape)]
    return Move(lambda name, inputs: Slice(name, inputs, axis, start, stop, step), tuple(after))


def windows(shape: Sequence[int], axis: int, size: int, step: int) -> Move:
    """`shape` is the shape before."""
    count = (shape[axis] - size) // step + 1
    after = (*shape[:axis], count, *shape[axis + 1 :], size)
    return Move(lambda name, inputs: Unfold(name, inputs, axis, size, step), after)


def gather(shape: Sequence[int], axis: int, indices: Sequence[int]) -> Move:
    """`shape` is the shape before."""
    chosen = tuple(int(index) for index in indices)
    after = (*shape[:axis], len(chosen), *shape[axis + 1 :])
    return Move(lambda name, inputs: Gather(name, inputs, axis, chosen), after)
