"""Sums and products of two quantised tensors, and functions of one whose values are known to the bit."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from accelsim.arithmetic import onnxruntime
from accelsim.arithmetic.affine import Affine
from accelsim.arithmetic.binary32 import Float32
from accelsim.arithmetic.onnxruntime import AddForm
from accelsim.errors import ModelError
from accelsim.frontend.onnx.builder import MIXED, Builder
from accelsim.frontend.onnx.container import Call
from accelsim.frontend.onnx.references import Constant, Parameter, Pending, Real, Reference, Shape
from accelsim.network import Add, Multiply

from .table import operator

Function = Callable[[Float32], Float32]


@operator("Add", "Mul")
def _(builder: Builder, call: Call) -> None:
    a, b = builder.reference(call, 0), builder.reference(call, 1)
    if isinstance(a, Real) and isinstance(b, Real):
        if not (a.plain and b.plain):
            raise ModelError(
                f"{call.where}: an operand is a float function of codes, so that ONNX Runtime adds or multiplies in "
                "float; quantise both operands (a QuantizeLinear and a DequantizeLinear before the node)"
            )
        return builder.assign(call, of_two(builder, call, a.name, b.name, call.operator, builder.form(call, a.name)))
    if Parameter in (type(a), type(b)) and Real in (type(a), type(b)):
        return builder.assign(call, _with_parameter(builder, call, a, b))
    return _with_number(builder, call, a, b)


@operator("Sub", "Div")
def _(builder: Builder, call: Call) -> None:
    _with_number(builder, call, builder.reference(call, 0), builder.reference(call, 1))


def broadcast(call: Call, *shapes: Shape) -> Shape:
    """The shape of an element-wise operator's result."""
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        raise ModelError(f"{call.where}: shapes {' and '.join(map(str, shapes))} do not broadcast") from None


def of_two(builder: Builder, call: Call, a: str, b: str, operator: str, form: AddForm = "codes") -> Pending:
    """A sum or a product of two values."""
    first, second = builder.values[a].shape, builder.values[b].shape
    shape = broadcast(call, first, second)
    names = (b, a) if operator == "Add" and swaps(first, second, shape) else (a, b)

    def emit(builder: Builder, name: str, affine: Affine, relu: bool) -> str:
        if operator == "Add":
            return builder.add(Add(builder.unique(name), names, relu, form=form), shape, affine)
        if form == "float":
            builder.computed_in_float(name, MIXED)
        if form != "unsigned":
            return builder.add(Multiply(builder.unique(name), names, relu), shape, affine)
        # ONNX Runtime multiplies to uint8 there, and the zero point has a part in the rounding.
        unsigned = Affine(affine.scale, affine.zero_point + 128, "uint8")
        made = builder.add(Multiply(builder.unique(f"{name}.unsigned"), names, relu), shape, unsigned)
        signed = (np.arange(256, dtype=np.uint8) ^ 0x80)[None]
        return builder.look_up(call, made, signed, affine, "int8", name)

    return Pending(call.name, call.operator, shape, emit)


def swaps(first: Shape, second: Shape, shape: Shape) -> bool:
    """Whether ONNX Runtime takes the second operand of a sum for the first: where the first is one number in a run."""
    sides = [(*(1 for _ in range(len(shape) - len(side))), *side) for side in (first, second)]
    for a, b, size in reversed(list(zip(*sides, shape, strict=True))):
        if size > 1:
            return a == 1 and b > 1
    return False


def _with_parameter(builder: Builder, call: Call, a: Reference | None, b: Reference | None) -> Pending:
    """A sum or a product with a constant that is quantised: a table for each of its codes."""
    real, parameter = (a, b) if isinstance(a, Real) else (b, a)
    assert isinstance(real, Real)
    assert isinstance(parameter, Parameter)
    if not real.plain:
        raise ModelError(f"{call.where}: an operand is a float function of codes; quantise it before the node")
    return with_constant(builder, call, real.name, parameter, constant_first=real is b)


def with_constant(
    builder: Builder, call: Call, name: str, parameter: Parameter, *, constant_first: bool, operator: str = ""
) -> Pending:
    """As `_with_parameter`, of the value `name`; `operator`: Add or Mul, the call's own if it is not given."""
    operator = operator or call.operator
    if parameter.axis is not None or parameter.codes.dtype == np.int32:
        raise ModelError(f"{call.where}: its constant operand must be int8 or uint8, with one scale")
    codes, value = parameter.codes, builder.values[name]
    grid = Affine(float(parameter.scale[0]), int(parameter.zero_point[0]), str(codes.dtype))  # type: ignore[arg-type]
    shape = broadcast(call, value.shape, codes.shape)
    if shape != value.shape:
        raise ModelError(f"{call.where}: its constant operand, of shape {codes.shape}, widens {value.shape}")
    first_shape, second_shape = (codes.shape, value.shape) if constant_first else (value.shape, codes.shape)
    constant_first ^= operator == "Add" and swaps(first_shape, second_shape, shape)
    different, which = np.unique(codes, return_inverse=True)
    every = np.arange(256, dtype=np.uint8).view(value.affine.dtype)

    in_float = call.operator == operator and builder.form(call, name) == "float"

    def emit(builder: Builder, made: str, affine: Affine, relu: bool) -> str:
        if in_float:
            own = onnxruntime.dequantized(grid)[different.view(np.uint8)][:, None]
            real = np.add if operator == "Add" else np.multiply
            made_of = real(builder.real(name).values, own)
            tables = onnxruntime.table(np.maximum(made_of, 0) if relu else made_of, affine)[0]
        else:
            rule = onnxruntime.add_rule if operator == "Add" else onnxruntime.multiply_rule
            operands = [(value.affine, every[None]), (grid, different[:, None])]
            first, second = reversed(operands) if constant_first else operands
            left, right = np.broadcast_arrays(first[1], second[1])
            tables = rule(first[0], second[0], affine, relu).apply(left, right).astype(affine.dtype).view(np.uint8)
        label = f"{operator.lower()} constant"
        return builder.look_up_by_place(call, name, tables, which.reshape(codes.shape), shape, affine, label)

    return Pending(call.name, operator, shape, emit)


def _with_number(builder: Builder, call: Call, a: Reference | None, b: Reference | None) -> None:
    """A float operator of a function of codes and one constant number: another function of the codes."""
    real, constant = (a, b) if isinstance(a, Real) else (b, a)
    if not isinstance(real, Real) or not isinstance(constant, Constant):
        raise ModelError(
            f"{call.where}: one of its operands is not quantised; put a QuantizeLinear and a DequantizeLinear before it"
        )
    if (
        constant.array.size != 1
        or constant.array.dtype != np.float32
        or constant.array.ndim > 1 + len(builder.values[real.name].shape)
    ):
        raise ModelError(
            f"{call.where}: its float operand has shape {constant.array.shape}; one number is supported, or a constant "
            "that is quantised"
        )
    number = np.float32(constant.array.reshape(-1)[0])
    compute = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide}[call.operator]
    shape = broadcast(call, builder.values[real.name].shape, constant.array.shape)
    if shape != builder.values[real.name].shape:
        raise ModelError(f"{call.where}: its constant operand of shape {constant.array.shape} adds axes; reshape it")
    with np.errstate(all="ignore"):
        values = compute(real.values, number) if real is a else compute(number, real.values)
    builder.assign(call, Real(real.name, np.asarray(values, np.float32), (*real.steps, call.operator.lower())))


@operator("Relu")
def _(builder: Builder, call: Call) -> None:
    clamp(builder, call, 0.0, None)


@operator("Clip")
def _(builder: Builder, call: Call) -> None:
    ends = []
    for place in (1, 2):
        end = builder.constant(call, place)
        if end is not None and (end.size != 1 or end.dtype != np.float32):
            raise ModelError(f"{call.where}: its ends must be single numbers of float32")
        ends.append(None if end is None else float(end.reshape(-1)[0]))
    clamp(builder, call, *ends)


def clamp(builder: Builder, call: Call, low: float | None, high: float | None) -> None:
    """A clamp of a function of codes, or of what is not quantised yet."""
    reference = builder.reference(call, 0)
    if isinstance(reference, Real):
        values = reference.values
        values = values if low is None else np.maximum(values, np.float32(low))
        values = values if high is None else np.minimum(values, np.float32(high))
        step = "relu" if (low, high) == (0, None) else "clip"
        return builder.assign(call, Real(reference.name, values, (*reference.steps, step)))
    if not isinstance(reference, Pending):
        raise ModelError(f"{call.where}: its input is not quantised")
    if low != 0 or reference.ceiling is not None or (high is not None and not high > 0):
        raise ModelError(
            f"{call.where}: a clamp to {low} .. {high} behind {reference.operator}; from 0 on is supported"
        )
    kept = Pending(reference.name, reference.operator, reference.shape, reference.emit, True, high, reference.moves)
    return builder.assign(call, kept)


def _leaky(call: Call) -> Function:
    slope = np.float32(call.attribute("alpha", 0.01))
    return lambda x: np.where(x >= 0, x, x * slope)


def _hard_sigmoid(slope: float, offset: float) -> Function:
    a, b = np.float32(slope), np.float32(offset)
    return lambda x: np.maximum(np.float32(0), np.minimum(np.float32(1), x * a + b))


def _hard_swish(call: Call) -> Function:
    gate = _hard_sigmoid(1 / 6, 0.5)
    return lambda x: x * gate(x)


#: Functions whose values in ONNX Runtime are known to the bit.
FUNCTIONS: dict[str, Callable[[Call], Function]] = {
    "Neg": lambda call: np.negative,
    "Abs": lambda call: np.abs,
    "LeakyRelu": _leaky,
    "Sigmoid": lambda call: onnxruntime.sigmoid,
    "Tanh": lambda call: onnxruntime.tanh,
    "HardSigmoid": lambda call: _hard_sigmoid(call.attribute("alpha", 0.2), call.attribute("beta", 0.5)),
    "HardSwish": _hard_swish,
}


@operator(*FUNCTIONS)
def _(builder: Builder, call: Call) -> None:
    reference = builder.reference(call, 0)
    if not isinstance(reference, Real):
        raise ModelError(
            f"{call.where}: its input is not quantised; put a QuantizeLinear and a DequantizeLinear before it"
        )
    with np.errstate(all="ignore"):
        values = np.asarray(FUNCTIONS[call.operator](call)(reference.values), np.float32)
    builder.assign(call, Real(reference.name, values, (*reference.steps, call.operator.lower())))
