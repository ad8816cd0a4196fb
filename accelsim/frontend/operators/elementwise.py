"""Operators that act on each element alone, sums and products of two tensors, and concatenation."""

from __future__ import annotations

import torch
from torch._prims_common import suggest_memory_format

from accelsim.errors import ModelError
from accelsim.frontend.builder import Builder, FloatInput, Floats, Foreign, Real
from accelsim.frontend.calls import Call
from accelsim.frontend.concatenation import concatenate
from accelsim.frontend.floats import quantize_floats
from accelsim.frontend.layouts import order_of
from accelsim.frontend.lookups import check_kernels, look_up, placed_step, step_of, tables_for, tables_of_layout
from accelsim.frontend.loops import row_length
from accelsim.frontend.tables import Layout, Program
from accelsim.network import Add, Lookup, Multiply, Permute, Reshape
from accelsim.network.graph import Maximum
from accelsim.network.rounding import channels_last_order

from .table import on_dequantized, operator

QUANTIZE = ("aten.quantize_per_tensor",)


@operator("aten.dequantize")
def _(builder: Builder, call: Call) -> None:
    source = call.tensors[0]
    step = step_of(call, {id(source): 0})
    assert step is not None
    builder.assign(call.results[0], Real(builder.codes(call, source), (step,), 1, call))


@operator(
    "aten.celu",
    "aten.clamp",
    "aten.clamp_max",
    "aten.clamp_min",
    "aten.elu",
    "aten.gelu",
    "aten.hardsigmoid",
    "aten.hardswish",
    "aten.hardtanh",
    "aten.leaky_relu",
    "aten.relu",
    "aten.sigmoid",
    "aten.tanh",
    "aten.threshold",
    "quantized.add_scalar",
    "quantized.add_scalar_relu",
    "quantized.celu",
    "quantized.clamp",
    "quantized.elu",
    "quantized.hardswish",
    "quantized.leaky_relu",
    "quantized.mul_scalar",
    "quantized.mul_scalar_relu",
    "quantized.relu6",
    "quantized.sigmoid",
    "quantized.threshold",
)
def _one_operand(builder: Builder, call: Call) -> None:
    given = call.tensors[0]
    step = step_of(call, {id(given): 0})
    if step is None:
        raise ModelError(f"{builder.where(call)}: {call.operator} with a tensor of several constants is not supported")
    name = call.operator.split(".")[1].removesuffix("_")
    source = builder.codes(call, given)
    if _forgets_order(builder, call, given):
        _clamp_of_memory(builder, call, source, (step,), name)
        return
    look_up(builder, call, source, (step,), given, operator=name, named=call)


#: QNNPACK's clamp, which the others call.
_CLAMPS = frozenset({"aten.clamp", "aten.hardtanh", "quantized.clamp", "quantized.relu6"})


def _forgets_order(builder: Builder, call: Call, given: torch.Tensor) -> bool:
    """Whether PyTorch takes the result, which QNNPACK wrote in the memory order of `given`, for a contiguous tensor."""
    if builder.engine != "qnnpack" or call.operator.removesuffix("_") not in _CLAMPS or given.dtype != torch.quint8:
        return False
    return suggest_memory_format(given) != torch.contiguous_format


def _clamp_of_memory(builder: Builder, call: Call, source: str, program: Program, name: str) -> None:
    """The elements as they lie in memory, looked up, and taken for a contiguous tensor (ATen `qclamp.cpp`)."""
    given, result = call.tensors[0], call.results[0]
    order, affine = channels_last_order(given.dim()), builder.value(source).affine
    shape = tuple(given.shape[axis] for axis in order)
    moved = builder.internal(Permute(builder.unused(call, "memory"), (source,), order), shape, affine)
    layout = Layout(shape, result.contiguous().reshape(shape).stride(), tuple(range(len(shape))))
    tables = tables_for(builder, program, affine, layout)
    lookup = Lookup(builder.unused(call, "clamp"), (moved,), name, tables.tables, tables.spans)
    clamped = builder.internal(lookup, shape, affine)
    builder.emit(call, lambda own: Reshape(own, (clamped,)), result)
    builder.notes.append(
        f"{builder.where(call)}: under qnnpack PyTorch's {call.operator} returns the elements of a channels_last "
        f"tensor in another order; this is reproduced"
    )


def quantize(builder: Builder, call: Call) -> None:
    """`quantize_per_tensor` of a float tensor: an input of the network, or the end of a chain of float operators."""
    given = call.tensors[0]
    reference = builder.reference(given)
    if isinstance(reference, FloatInput):
        builder.quantized_input(call, reference, call.results[0])
    elif isinstance(reference, Real):
        program = _quantized(reference, call)
        names = [step.operator.split(".")[1] for step in program[1:-1]]
        named = reference.last if names else call
        look_up(builder, call, reference.name, program, given, operator="-".join(names) or "requantize", named=named)
    elif isinstance(reference, Floats):
        quantize_floats(builder, call, reference.name, builder.affine(call, call.results[0]))
    elif isinstance(reference, Foreign):
        raise ModelError(
            f"{reference.reason}; give it a qconfig so that it is quantised, or "
            + (
                "apply it before the network: leave it out of the model, whose input is then its result"
                if reference.early
                else "make two models of it, one for the layers before it and one for those after it"
            )
        )


def _quantized(real: Real, call: Call) -> Program:
    """The steps of a float tensor and its quantisation."""
    step = step_of(call, {id(call.tensors[0]): real.index})
    if step is None:
        raise ModelError(f"{call.scope or 'the model'}: {call.operator} with several scales is not supported")
    return (*real.program, step)


@operator("quantized.add", "quantized.add_relu", "quantized.mul", "quantized.mul_relu")
def _(builder: Builder, call: Call) -> None:
    a, b = call.args[:2]
    if not (isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor)):
        _one_operand(builder, call)
        return
    result = call.results[0]
    names = (builder.codes(call, a), builder.codes(call, b))
    relu = call.operator.endswith("_relu")
    kind = Multiply if ".mul" in call.operator else Add
    builder.emit(call, lambda own: kind(own, names, relu, row_length(result, a, b)), result)


@on_dequantized("aten.maximum", "aten.minimum")
def _(builder: Builder, call: Call) -> bool:
    """Of two tensors of one affine map: dequantising keeps the order, so the larger code is the larger value's."""
    operands = [reference for tensor in call.tensors if isinstance(reference := builder.reference(tensor), Real)]
    result = call.results[0]
    if len(operands) < 2 or len({operand.name for operand in operands}) < 2 or not result.numel():
        return False
    maps = {builder.value(operand.name).affine for operand in operands}
    if len(maps) > 1 or not all(operand.is_dequantized for operand in operands):
        return False
    (affine,), (first, second) = maps, operands
    node = Maximum(builder.name(call), (first.name, second.name), call.operator == "aten.minimum")
    made = builder.internal(node, tuple(result.shape), affine, like=result)
    builder.assign(result, Real(made, first.program[: first.index], first.index, call))
    return True


@operator(
    "quantized.prelu",
    *(f"quantized.batch_norm{rank}{relu}" for rank in ("", "1d", "2d", "3d") for relu in ("", "_relu")),
)
def _(builder: Builder, call: Call) -> None:
    """A function of the code and of the channel."""
    given, result = call.tensors[0], call.results[0]
    name = call.operator.split(".")[1]
    step = placed_step(call, {id(given): 0})
    check_kernels(builder, call, name)
    source = builder.codes(call, given)
    layout = Layout(tuple(given.shape), given.stride(), order_of(result))
    tables = tables_of_layout(builder, (step,), builder.value(source).affine, layout, merge=False)
    builder.emit(call, lambda own: Lookup(own, (source,), name, tables.tables, tables.spans), result)


@operator("quantized.cat", "quantized.cat_relu", "aten.cat", "aten.stack")
def _(builder: Builder, call: Call) -> None:
    concatenate(builder, call)
