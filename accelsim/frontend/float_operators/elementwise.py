"""Operators that act on each element alone, and those that repeat elements or lay tensors beside one another."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from accelsim.arithmetic.vector import Operand, Operation, Writer
from accelsim.frontend.floats import FloatCall
from accelsim.network import Concatenate

from .steps import added, divided, multiplied, same, squared
from .table import operator


def _unary(name: str, write: Callable[[Writer, Operand], Operand]) -> None:
    operator(name)(lambda call: call.map(call.call.args[:1], write))


def _function(name: str) -> None:
    _unary(name, lambda writer, x: writer.function(name, x))


# PyTorch's square root is its vector library's, which need not round correctly.
for _name in ("exp", "log", "tanh", "sigmoid", "erf", "silu", "hardswish", "hardsigmoid", "sqrt", "rsqrt"):
    _function(_name)
_unary("relu", lambda writer, x: writer.step(Operation.MAXIMUM, x, 0.0))
_unary("relu6", lambda writer, x: _between(writer, x, 0.0, 6.0))
_unary("neg", lambda writer, x: writer.step(Operation.MULTIPLY, x, -1.0))
_unary("abs", lambda writer, x: writer.step(Operation.ABSOLUTE, x))
_unary("square", squared)
_unary("reciprocal", lambda writer, x: writer.step(Operation.DIVIDE, 1.0, x))


def _between(writer: Writer, x: Operand, low: float, high: float) -> Operand:
    if low > -math.inf:
        x = writer.step(Operation.MAXIMUM, x, low)
    return writer.step(Operation.MINIMUM, x, high) if high < math.inf else x


@operator("hardtanh", "clamp", "clamp_min", "clamp_max")
def _(call: FloatCall) -> bool:
    low, high = ("min_val", "max_val") if "hardtanh" in call.call.operator else ("min", "max")
    ends = [call.argument(low), call.argument(high)]
    if any(end is not None and not isinstance(end, int | float) for end in ends):
        return False
    least, most = (
        default if end is None else float(end) for end, default in zip(ends, (-math.inf, math.inf), strict=True)
    )
    return call.map(call.call.args[:1], lambda writer, x: _between(writer, x, least, most))


@operator("gelu")
def _(call: FloatCall) -> bool:
    name = "gelu_tanh" if call.argument("approximate", "none") == "tanh" else "gelu"
    return call.map(call.call.args[:1], lambda writer, x: writer.function(name, x))


@operator("softplus")
def _(call: FloatCall) -> bool:
    if (call.argument("beta", 1), call.argument("threshold", 20)) != (1, 20):
        return False
    return call.map(call.call.args[:1], lambda writer, x: writer.function("softplus", x))


@operator("leaky_relu")
def _(call: FloatCall) -> bool:
    slope = float(call.argument("negative_slope", 0.01))

    def write(writer: Writer, x: Operand) -> Operand:
        above = writer.step(Operation.LESS, 0.0, x)
        return writer.step(Operation.SELECT, above, x, writer.step(Operation.MULTIPLY, x, float(np.float32(slope))))

    return call.map(call.call.args[:1], write)


@operator("pow")
def _(call: FloatCall) -> bool:
    power = call.call.args[1]
    if power == 2:
        return call.map(call.call.args[:1], squared)
    if power == 0.5:
        return call.map(call.call.args[:1], lambda writer, x: writer.function("sqrt", x))
    return False


def _binary(name: str, write: Callable[[Writer, Operand, Operand], Operand]) -> None:
    def handler(call: FloatCall) -> bool:
        if call.argument("alpha", 1) != 1 or call.argument("rounding_mode") is not None:
            return False
        return call.map(call.call.args[:2], write)

    operator(name)(handler)


_binary("add", added)
_binary("sub", lambda writer, a, b: writer.step(Operation.SUBTRACT, a, b))
_binary("rsub", lambda writer, a, b: writer.step(Operation.SUBTRACT, b, a))
_binary("mul", multiplied)
_binary("div", divided)
_binary("maximum", lambda writer, a, b: writer.step(Operation.MAXIMUM, a, b))
_binary("minimum", lambda writer, a, b: writer.step(Operation.MINIMUM, a, b))
_binary("lt", lambda writer, a, b: writer.step(Operation.LESS, a, b))
_binary("gt", lambda writer, a, b: writer.step(Operation.LESS, b, a))


@operator("where")
def _(call: FloatCall) -> bool:
    if len(call.call.args) != 3:
        return False
    return call.map(call.call.args, lambda writer, c, a, b: writer.step(Operation.SELECT, c, a, b))


@operator("masked_fill")
def _(call: FloatCall) -> bool:
    x, mask, value = call.call.args[:3]
    return call.map((mask, value, x), lambda writer, m, v, x: writer.step(Operation.SELECT, m, v, x))


@operator("_to_copy", "dequantize")
def _(call: FloatCall) -> bool:
    return call.map(call.call.args[:1], same)


@operator("expand", "repeat")
def _(call: FloatCall) -> bool:
    """Where only axes of one element grow: one more operand of zeros, of which nothing is taken, has the shape."""
    name = call.source(call.call.tensors[0])
    if not isinstance(name, str):
        return False
    have, want = call.shape(name), tuple(call.result.shape)
    padded = (1,) * (len(want) - len(have)) + have
    if any(size not in (1, wanted) for size, wanted in zip(padded, want, strict=True)):
        return False
    zeros = call.constant(np.zeros(tuple(w if s == 1 else 1 for s, w in zip(padded, want, strict=True)), np.float32))
    return call.finish("expand", [name, zeros], lambda writer, x, zero: writer.step(Operation.SELECT, 1.0, x, zero))


@operator("cat", "stack")
def _(call: FloatCall) -> bool:
    tensors = call.argument("tensors")
    axis = int(call.argument("dim", 0)) % call.result.dim()
    names = []
    for tensor in tensors:
        source = call.source(tensor)
        if not isinstance(source, str):
            return False
        if not call.builder.value(source).affine.is_float:
            source = call.internal("dequantize", [source], same)
        if call.call.operator == "aten.stack":
            shape = list(call.shape(source))
            shape.insert(axis, 1)
            source = call.reshaped(source, shape)
        names.append(source)
    call.builder.emit_float(call.call, lambda own: Concatenate(own, tuple(names), axis), call.result)
    return True
