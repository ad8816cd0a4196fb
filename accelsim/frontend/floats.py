"""Float tensors between quantised ones as values in binary32, and the nodes of the vector unit that make them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from accelsim.arithmetic.affine import FLOAT, Affine, quantization_of
from accelsim.arithmetic.vector import MOST_OPERANDS, MOST_STEPS, Operand, Register, Statistic, Writer
from accelsim.network import Constant, Node, Reshape, vector_node
from accelsim.network.vector import shape_of

from .builder import Builder, FloatInput, Floats, Real, Unrounded
from .calls import Call

#: Writes the steps of a node, given what it reads; its result.
Write = Callable[..., Operand]

#: Whole numbers up to here are binary32 numbers.
_WHOLE = 1 << 24


class FloatCall:
    """The nodes of one call on float tensors."""

    def __init__(self, builder: Builder, call: Call) -> None:
        self.builder, self.call = builder, call

    def argument(self, name: str, default: Any = None) -> Any:
        """The call's argument of that name."""
        return self.call.argument(name, default)

    @property
    def result(self) -> torch.Tensor:
        """The first tensor that the call makes."""
        return self.call.results[0]

    # Operands

    def source(self, operand: Any) -> str | float | None:
        """The value that a tensor is: numbers in binary32, or codes that dequantising makes it of; the number that
        stands for a tensor of one constant, or is given as one. None for what is none of these."""
        if not isinstance(operand, torch.Tensor):
            return float(operand) if isinstance(operand, int | float) else None
        reference = self.builder.reference(operand)
        if isinstance(reference, Floats):
            return reference.name
        if isinstance(reference, Real):
            return reference.name if reference.is_dequantized else self._made_again(operand)
        if isinstance(reference, Unrounded):
            return self._unrounded(operand, reference)
        if isinstance(reference, FloatInput) and operand.dtype == torch.float32:
            return self.builder.float_input(reference)
        return self._constant(operand) if reference is None else None

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a value."""
        return self.builder.value(name).shape

    def _constant(self, tensor: torch.Tensor) -> str | float | None:
        if tensor.is_quantized or tensor.is_complex():
            return None
        array = tensor.detach().cpu().numpy()
        if array.dtype.kind not in "f" and np.abs(array.astype(np.int64)).max(initial=0) > _WHOLE:
            return None
        if tensor.numel() == 1 and not tensor.dim():
            return float(np.float32(array))
        return self.constant(array.astype(np.float32))

    def constant(self, array: np.ndarray) -> str:
        """A value that holds numbers which the model brings along."""
        name = self.builder.unused(self.call, "constant")
        content = np.ascontiguousarray(array, np.float32)
        return self.builder.internal(Constant(name, (), content), content.shape, FLOAT)

    def _unrounded(self, tensor: torch.Tensor, reference: Unrounded) -> str | None:
        """The value of what a torch.export graph has in float: a layer's sum, or what its call makes of others."""
        from .chains import LayerSum
        from .exported_layers import float_sum

        if isinstance(reference, LayerSum) and reference.floats[0] is tensor:
            return float_sum(self.builder, reference)
        return self._made_again(tensor)

    def _made_again(self, tensor: torch.Tensor) -> str | None:
        """The value in binary32 of what has been taken for a function of one code so far."""
        builder = self.builder
        if id(tensor) not in builder.floats:
            builder.floats[id(tensor)] = self._computed(tensor)
        return builder.floats[id(tensor)]

    def _computed(self, tensor: torch.Tensor) -> str | None:
        from .float_operators import compute

        builder, maker = self.builder, self.builder.flow.maker(tensor)
        if maker is None:
            return None
        before = [(item, builder.reference(item)) for item in maker.results]
        with builder.back_at(maker):
            made = compute(builder, maker)
        reference = builder.reference(tensor)
        for item, was in before:
            if was is not None:
                builder.assign(item, was)
        return reference.name if made and isinstance(reference, Floats) else None

    # Nodes

    def node(
        self,
        operator: str,
        operands: Sequence[str | float],
        write: Write,
        *,
        statistic: Statistic = Statistic.NONE,
        axes: Sequence[int] = (),
        affine: Affine = FLOAT,
    ) -> tuple[Callable[[str], Node], tuple[int, ...]] | None:
        """What makes a node, and its value's shape; None where it takes more than one instruction does."""
        names = tuple(dict.fromkeys(item for item in operands if isinstance(item, str)))
        if not 1 <= len(names) <= MOST_OPERANDS:
            return None
        writer = Writer()
        registers = {
            name: writer.dequantized(Register(number), self.builder.value(name).affine)
            for number, name in enumerate(names)
        }
        made = write(
            writer, *(registers[item] if isinstance(item, str) else float(np.float32(item)) for item in operands)
        )
        if affine.is_float and not (writer.steps or isinstance(made, Register)):
            return None
        writer.quantized(made, affine, quantization_of(self.builder.engine))
        if len(writer.steps) > MOST_STEPS:
            return None
        shapes = [self.shape(name) for name in names]
        rank = max(map(len, shapes))
        axes = tuple(sorted(axis % rank for axis in axes))

        def make(name: str) -> Node:
            return vector_node(name, names, operator, writer.program, statistic, axes)

        return make, shape_of(shapes, axes)

    def internal(self, operator: str, operands: Sequence[str | float], write: Write, **more: Any) -> str:
        """A node whose value PyTorch never makes as a tensor; it must not take more than one instruction does."""
        found = self.node(operator, operands, write, **more)
        assert found is not None, f"{operator} is more than one instruction"
        make, shape = found
        return self.builder.internal(make(self.builder.unused(self.call, operator)), shape, FLOAT)

    def finish(self, operator: str, operands: Sequence[str | float], write: Write, **more: Any) -> bool:
        """The node whose value is the call's result; False where none can be."""
        found = self.node(operator, operands, write, **more)
        if found is None:
            return False
        make, shape = found
        result = tuple(self.result.shape)
        if shape != result and not _same_elements(shape, result):
            return False
        if shape == result:
            self.builder.emit_float(self.call, make, self.result)
        else:
            name = self.builder.internal(make(self.builder.unused(self.call, operator)), shape, FLOAT)
            self.as_result(name)
        return True

    def quantize(self, operator: str, operands: Sequence[str | float], write: Write, affine: Affine) -> None:
        """The node whose value is the call's result in codes; it must not take more than one instruction does."""
        found = self.node(operator, operands, write, affine=affine)
        assert found is not None, f"{operator} is more than one instruction"
        self.builder.emit(self.call, found[0], self.result)

    def as_result(self, name: str) -> None:
        """The call's result is that value under another shape."""
        self.builder.emit_float(self.call, lambda own: Reshape(own, (name,)), self.result)

    def map(self, operands: Sequence[Any], write: Write) -> bool:
        """The call's result is made element by element of its operands; False where that is not possible."""
        sources = [self.source(operand) for operand in operands]
        if any(source is None for source in sources):
            return False
        return self.finish(self.call.operator.split(".")[1].strip("_"), [s for s in sources if s is not None], write)

    def reshaped(self, name: str, shape: Sequence[int]) -> str:
        """A value under another shape."""
        value = self.builder.value(name)
        if tuple(shape) == value.shape:
            return name
        node = Reshape(self.builder.unused(self.call, "reshape"), (name,))
        return self.builder.internal(node, tuple(shape), value.affine)


def _same_elements(shape: Sequence[int], result: Sequence[int]) -> bool:
    """Whether two shapes differ in axes of one element only."""
    return [size for size in shape if size != 1] == [size for size in result if size != 1]


def quantize_floats(builder: Builder, call: Call, name: str, affine: Affine) -> None:
    """The call quantises a value in binary32."""
    FloatCall(builder, call).quantize("quantize", [name], lambda _writer, x: x, affine)


def output_value(builder: Builder, tensor: torch.Tensor) -> str | None:
    """The value in binary32 of a float output of the model, None where there is none."""
    call = builder.flow.maker(tensor)
    if call is None:
        return None
    source = FloatCall(builder, call).source(tensor)
    return source if isinstance(source, str) else None
