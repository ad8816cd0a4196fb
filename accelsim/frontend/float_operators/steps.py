"""Steps that several operators write."""

from __future__ import annotations

from accelsim.arithmetic.vector import Operand, Operation, Writer


def same(_writer: Writer, x: Operand) -> Operand:
    """The number as it is."""
    return x


def added(writer: Writer, a: Operand, b: Operand) -> Operand:
    """a + b."""
    return writer.step(Operation.ADD, a, b)


def multiplied(writer: Writer, a: Operand, b: Operand) -> Operand:
    """a * b."""
    return writer.step(Operation.MULTIPLY, a, b)


def divided(writer: Writer, a: Operand, b: Operand) -> Operand:
    """a / b."""
    return writer.step(Operation.DIVIDE, a, b)


def squared(writer: Writer, x: Operand) -> Operand:
    """x * x."""
    return writer.step(Operation.MULTIPLY, x, x)


def scaled_and_shifted(writer: Writer, x: Operand, scale: Operand, shift: Operand) -> Operand:
    """x * scale + shift, each rounded."""
    return writer.step(Operation.ADD, writer.step(Operation.MULTIPLY, x, scale), shift)


def power(writer: Writer, x: Operand, largest: Operand) -> Operand:
    """exp(x - the largest), as in a softmax."""
    return writer.function("exp", writer.step(Operation.SUBTRACT, x, largest))
