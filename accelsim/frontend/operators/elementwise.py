"""Operators that act on each element alone, sums and products of two tensors, and concatenation."""

from __future__ import annotations

from accelsim.errors import ModelError
from accelsim.network import Add, Multiply

from ..builder import Builder, FloatInput, Foreign, Real, order_of
from ..concatenation import concatenate
from ..lookups import look_up, step_of
from ..recording import Call
from ..tables import Program
from .table import operator

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
def _(builder: Builder, call: Call) -> None:
    given = call.tensors[0]
    step = step_of(call, {id(given): 0})
    if step is None:
        raise ModelError(f"{builder.where(call)}: {call.operator} with a tensor of several constants is not supported")
    name = call.operator.split(".")[1].removesuffix("_")
    look_up(builder, call, builder.codes(call, given), (step,), given, operator=name, named=call)


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
    elif isinstance(reference, Foreign):
        raise ModelError(
            f"{reference.reason}; give it a qconfig so that it is quantised, or keep it before the first quantised "
            f"layer"
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
    result = call.results[0]
    names = (builder.codes(call, a), builder.codes(call, b))
    relu, product = call.operator.endswith("_relu"), ".mul" in call.operator
    fixed = builder.engine == "qnnpack" and builder.value(names[0]).affine.dtype == "uint8"
    alike = all(tensor.shape == result.shape and order_of(tensor) == order_of(result) for tensor in (a, b))
    if not alike and not product and not fixed and builder.kernels.aten != "uniform":
        raise ModelError(
            f"{builder.where(call)}: {call.operator} of operands of shapes {tuple(a.shape)} and {tuple(b.shape)} that "
            f"do not lie in memory in the same order: which of PyTorch's lanes rounds which element is not known; "
            f"bring both to one shape and memory format, or use lanes='uniform'"
        )
    kind = Multiply if product else Add
    builder.emit(call, lambda own: kind(own, names, relu), result)


@operator("quantized.cat", "aten.cat")
def _(builder: Builder, call: Call) -> None:
    concatenate(builder, call)
