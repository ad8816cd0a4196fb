"""Steps of which an algorithm is a list, and the one place that executes them.

A value is a binary32 word or a two's complement integer of at most 64 bits. A step that is wiring in hardware (a field of a
word, a constant shift, a sign) takes no time; every other one is one step of the vector unit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..binary32 import Float32, f32, fma

Integers = NDArray[np.int64]
Operand = str | int | np.float32 | tuple[Any, ...]

#: 1.5 * 2**23: added to a value below 2**22 it leaves its nearest integer in the low bits of the sum's word.
MAGIC = np.float32(12582912.0)

#: What a NaN looks like that a function returns, on every host.
_NAN = np.uint32(0x7FC00000)

#: Elements that are computed at a time, so that the values of an algorithm stay in a cache.
_SLICE = 1 << 14


@dataclass(frozen=True)
class Table:
    """Read-only memory: one row an index, its columns binary32 words. `words` has shape (rows, columns)."""

    name: str
    columns: tuple[str, ...]
    words: tuple[tuple[int, ...], ...] = field(repr=False)

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.words)

    @property
    def bytes(self) -> int:
        """Size of the memory."""
        return 4 * self.rows * len(self.columns)

    def values(self) -> Float32:
        """The words as numbers, shape (columns, rows)."""
        return np.ascontiguousarray(np.array(self.words, np.uint32).view(np.float32).T)


@dataclass(frozen=True)
class Step:
    """`result = operation(operands)`; an operand is the name of an earlier result, a constant, or a field's width."""

    result: str
    operation: str
    operands: tuple[Operand, ...]
    note: str = ""


@dataclass(frozen=True)
class Algorithm:
    """Steps from the input `x` to the result of the last one. `tables` are what the look-ups read, by name."""

    steps: tuple[Step, ...]
    tables: tuple[Table, ...] = ()

    def count(self) -> int:
        """Steps of the vector unit that an element takes."""
        return sum(OPERATIONS[step.operation].steps for step in self.steps)

    def counts(self) -> dict[str, int]:
        """How often an element takes each operation that is not wiring."""
        counts: dict[str, int] = {}
        for step in self.steps:
            if OPERATIONS[step.operation].steps:
                counts[step.operation] = counts.get(step.operation, 0) + 1
        return counts

    def table_bytes(self) -> int:
        """Size of all read-only memories."""
        return sum(table.bytes for table in self.tables)


@dataclass(frozen=True)
class Operation:
    """What a step does: `execute` takes arrays and constants; `steps` is 0 for wiring; `text` says it in words."""

    execute: Callable[..., Any]
    steps: int
    text: str


def _bits(x: Float32) -> Integers:
    """The word as an unsigned integer."""
    return np.ascontiguousarray(x).view(np.uint32).astype(np.int64)


def _number(word: Integers) -> Float32:
    return (word & 0xFFFFFFFF).astype(np.uint32).view(np.float32)


def _low_bits(x: Float32, count: int) -> Integers:
    """The low `count` bits of the word as a signed integer."""
    shift = 64 - count
    return (np.ascontiguousarray(x).view(np.uint32).astype(np.int64) << shift) >> shift


def _power(n: Integers) -> NDArray[np.float64]:
    """2**n in binary64, exact for -1022 <= n <= 1023."""
    return ((n + 1023) << 52).view(np.float64)


def _scale(x: Float32, n: Integers) -> Float32:
    """IEEE scaleB: x * 2**n, rounded once."""
    return f32(x.astype(np.float64) * _power(np.clip(n, -600, 600)))


def _logb(x: Float32) -> Integers:
    """IEEE logB as an integer; of zeros -1023, of infinities and NaN 1024."""
    return ((np.abs(x.astype(np.float64)).view(np.int64) >> 52) & 0x7FF) - 1023


def _significand(x: Float32) -> Float32:
    return _scale(x, -_logb(x))


def _bit_length(n: Integers) -> Integers:
    """Bits of an integer from 0 to 2**53."""
    return np.frexp(n.astype(np.float64))[1].astype(np.int64)


def _to_integer(x: Float32) -> Integers:
    """Nearest integer, ties to even, saturated to 32 bits; 0 of NaN."""
    wide = np.where(np.isnan(x), 0.0, np.rint(x.astype(np.float64)))
    return np.clip(wide, -(2.0**31), 2.0**31 - 1).astype(np.int64)


def _segment(x: Float32, shift: int, base: int, count: int) -> Integers:
    """`clamp((word >> shift) - base, 0, count - 1)` of a value that is not negative: its place among segments."""
    return np.clip((_bits(x) >> shift) - base, 0, count - 1)


def _column(row: Float32, index: int) -> Float32:
    return row[index]


def _by_class(x: Float32, y: Float32, negative: Any, zero: Any, infinite: Any) -> Float32:
    """`y`, but by the class of `x`: below zero `negative`, +-0 `zero`, +infinity `infinite`, NaN NaN."""
    y = np.where(x < 0, negative, y)
    y = np.where(x == 0, zero, y)
    y = np.where(np.isposinf(x), infinite, y)
    return f32(np.where(np.isnan(x), np.float32(np.nan), y))


def _minimum(a: Any, b: Any) -> Float32:
    return f32(np.minimum(a, b))


def _clamp(x: Float32, low: Any, high: Any) -> Float32:
    return f32(np.minimum(np.maximum(x, low), high))


def _select(a: Any, b: Any, yes: Any, no: Any) -> Any:
    return np.where(a < b, yes, no)


def _shift_right(n: Integers, places: Any) -> Integers:
    return n >> np.clip(places, 0, 63)


OPERATIONS: dict[str, Operation] = {
    "add": Operation(lambda a, b: f32(a + b), 1, "a + b"),
    "subtract": Operation(lambda a, b: f32(a - b), 1, "a - b"),
    "multiply": Operation(lambda a, b: f32(a * b), 1, "a * b"),
    "fma": Operation(fma, 1, "a * b + c, rounded once"),
    "divide": Operation(lambda a, b: f32(np.divide(a, b)), 1, "a / b"),
    "square_root": Operation(lambda a: f32(np.sqrt(a)), 1, "square root of a"),
    "minimum": Operation(_minimum, 1, "the smaller of a and b; NaN if one is"),
    "maximum": Operation(lambda a, b: f32(np.maximum(a, b)), 1, "the larger of a and b; NaN if one is"),
    "clamp": Operation(_clamp, 1, "minimum(maximum(a, low), high)"),
    "select_less": Operation(_select, 1, "a < b ? yes : no"),
    "by_class": Operation(
        _by_class, 1, "b, but by the class of a: below zero, +-0 and +infinity the three constants, NaN for NaN"
    ),
    "keep_nan": Operation(lambda a, b: f32(np.where(np.isnan(a), np.float32(np.nan), b)), 1, "b, but NaN where a is"),
    "scale": Operation(_scale, 1, "a * 2**n for an integer n, rounded once (IEEE scaleB)"),
    "exponent": Operation(_logb, 1, "the exponent of a as an integer, of subnormal numbers too (IEEE logB)"),
    "significand": Operation(_significand, 1, "a * 2**-exponent(a): 1 <= |result| < 2 of finite numbers but zero"),
    "to_float": Operation(lambda n: f32(n), 1, "an integer as binary32, rounded once"),
    "to_integer": Operation(_to_integer, 1, "nearest integer, ties to even, saturated to 32 bits; 0 for NaN"),
    "segment": Operation(
        _segment, 1, "clamp((word of a >> shift) - base, 0, count - 1): where a >= 0 lies among the segments of a table"
    ),
    "lookup": Operation(lambda table, n: table[:, n], 1, "the row of a table at an integer index"),
    "column": Operation(_column, 0, "one column of a row"),
    "negate": Operation(lambda a: -a, 0, "a with its sign inverted"),
    "magnitude": Operation(lambda a: np.abs(a), 0, "a without its sign"),
    "copy_sign": Operation(lambda a, b: np.copysign(a, b), 0, "a with the sign of b"),
    "word": Operation(_bits, 0, "the 32 bits of a as an integer"),
    "number": Operation(_number, 0, "32 bits of an integer as a binary32 number"),
    "low_bits": Operation(_low_bits, 0, "the low bits of the word of a as a signed integer"),
    "field": Operation(lambda n, low, count: (n >> low) & ((1 << count) - 1), 0, "bits low .. low + count - 1 of n"),
    "shift": Operation(
        lambda n, places: n >> places if places >= 0 else n << -places, 0, "n shifted right by a constant"
    ),
    "join": Operation(lambda m, n, count: (m << count) | n, 0, "m before the low bits, which are n"),
    "integer_add": Operation(lambda m, n: m + n, 1, "m + n"),
    "integer_subtract": Operation(lambda m, n: m - n, 1, "m - n"),
    "integer_multiply": Operation(lambda m, n: m * n, 1, "m * n"),
    "integer_divide": Operation(lambda m, n: m // np.maximum(n, 1), 1, "floor(m / n), n taken as at least 1"),
    "integer_minimum": Operation(lambda m, n: np.minimum(m, n), 1, "the smaller of m and n"),
    "integer_maximum": Operation(lambda m, n: np.maximum(m, n), 1, "the larger of m and n"),
    "integer_shift_right": Operation(_shift_right, 1, "floor(m / 2**n) for a variable n >= 0"),
    "integer_shift_left": Operation(lambda m, n: m << n, 1, "m * 2**n for a variable n >= 0"),
    "bit_length": Operation(_bit_length, 1, "1 + floor(log2(n)), 0 for 0"),
}


def execute(algorithm: Algorithm, x: Float32) -> Float32:
    """The algorithm's result for each element of `x`, any shape. NaN results are the word 0x7FC00000 on every host."""
    flat = np.ascontiguousarray(x, np.float32).reshape(-1)
    result = np.empty_like(flat)
    constants: dict[str, Any] = {table.name: table.values() for table in algorithm.tables}
    with np.errstate(all="ignore"):
        for start in range(0, flat.size, _SLICE):
            part = flat[start : start + _SLICE]
            values = {**constants, "x": part}
            for step in algorithm.steps:
                operands = [values[o] if isinstance(o, str) else o for o in step.operands]
                values[step.result] = OPERATIONS[step.operation].execute(*operands)
            result[start : start + _SLICE] = values[algorithm.steps[-1].result]
    words = result.view(np.uint32)
    words[np.isnan(result)] = _NAN
    return result.reshape(np.shape(x))


def inlined(algorithm: Algorithm, argument: str, prefix: str) -> tuple[Step, ...]:
    """Steps of `algorithm` as part of another: `x` is `argument`, its results get a prefix; the last is the prefix."""
    tables = {table.name for table in algorithm.tables}
    last = algorithm.steps[-1].result

    def name(operand: Operand) -> Operand:
        if not isinstance(operand, str) or operand in tables:
            return operand
        if operand == "x":
            return argument
        return prefix if operand == last else f"{prefix}_{operand}"

    return tuple(
        Step(str(name(step.result)), step.operation, tuple(name(o) for o in step.operands), step.note)
        for step in algorithm.steps
    )
