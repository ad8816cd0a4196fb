"""Functions as tables of straight lines: one look-up and one fma after the range reduction.

Between two knots the line goes through the function's values at both, so that the approximation is continuous, and it
is exact (to binary32) at zero and where it saturates.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal, localcontext
from functools import cache

import numpy as np

from . import accurate, exact
from .fitting import Function, rounded
from .steps import MAGIC, Algorithm, Step, Table

_f = np.float32
_ZERO, _HALF = _f(0), _f(0.5)
_INFINITY, _NAN = _f(np.inf), _f(np.nan)

#: Where |x| is taken as saturated: the function is within 0.0007 of its limit there (silu: 0.003).
LIMITS = {
    "tanh": 4,
    "erf": 3,
    "sigmoid": 8,
    "gelu": 4,
    "gelu_tanh": 4,
    "silu": 8,
    "softplus": 8,
}
#: Functions of one or two IEEE steps and a clamp, which a table would not make cheaper.
EXACT = ("hardswish", "hardsigmoid")

SMALLEST, LARGEST = 2, 4096


def _line(name: str, low: Decimal, high: Decimal, at_low: Decimal, at_high: Decimal) -> tuple[int, int]:
    """Words of the slope and the intercept of the line through two points."""
    slope = (at_high - at_low) / (high - low)
    return tuple(int(rounded(v).view(np.uint32)) for v in (slope, at_low - slope * low))  # type: ignore[return-value]


def _lines(name: str, f: Function, knots: list[Decimal], last: Decimal | None = None) -> Iterator[tuple[int, int]]:
    """Rows of lines between knots; `last` replaces the value at the last knot."""
    values = [f(x) for x in knots]
    if last is not None:
        values[-1] = last
    for i in range(len(knots) - 1):
        yield _line(name, knots[i], knots[i + 1], values[i], values[i + 1])


def _residual(name: str) -> tuple[Function, Decimal]:
    """What the table of a saturating function holds for |x|, and its value where it saturates."""
    f = exact.FUNCTIONS[name]
    if name in ("tanh", "erf"):
        return f, Decimal(1)
    if name == "sigmoid":
        return lambda x: f(x) - Decimal("0.5"), Decimal("0.5")
    if name == "softplus":
        return lambda x: f(x) - x, Decimal(0)
    return lambda x: f(-x), Decimal(0)


def _saturating(name: str, entries: int) -> Algorithm:
    """Segments about the multiples of `limit / (entries - 1)` of |x|; the sign or max(x, 0) is put back after."""
    limit = Decimal(LIMITS[name])
    pitch = limit / (entries - 1)
    knots = [Decimal(0), *(pitch * (i + Decimal("0.5")) for i in range(entries - 1)), limit]
    f, last = _residual(name)
    table = Table(name.upper(), ("slope", "intercept"), tuple(_lines(name, f, knots, last)))
    end: tuple[Step, ...]
    if name in ("tanh", "erf"):
        end = (Step("result", "copy_sign", ("y", "x")),)
    elif name == "sigmoid":
        end = (Step("h", "copy_sign", ("y", "x")), Step("result", "add", ("h", _HALF)))
    else:
        end = (Step("positive", "maximum", ("x", _ZERO)), Step("result", "add", ("positive", "y")))
    steps = (
        Step("m", "magnitude", ("x",)),
        Step("a", "minimum", ("m", _f(limit)), "beyond, the function is taken as its limit"),
        Step("k", "fma", ("a", rounded(1 / pitch), MAGIC), "the nearest multiple, in the low bits"),
        *_looked_up(table, "k", "a"),
        *end,
    )
    return Algorithm(steps, (table,))


def _index_bits(table: Table) -> int:
    return table.rows.bit_length() - 1


def _looked_up(table: Table, number: str, argument: str) -> tuple[Step, ...]:
    """From a number whose word's low bits are the index to `y`."""
    return (
        Step("w", "word", (number,)),
        Step("i", "field", ("w", 0, _index_bits(table))),
        *_row(table, argument),
    )


def _row(table: Table, argument: str) -> tuple[Step, ...]:
    return (
        Step("row", "lookup", (table.name, "i")),
        Step("slope", "column", ("row", 0)),
        Step("intercept", "column", ("row", 1)),
        Step("y", "fma", (argument, "slope", "intercept")),
    )


def _power(name: str, entries: int) -> Algorithm:
    """exp and exp2: 2**n by the exponent, the rest by lines about the multiples of 1/entries of an octave."""
    base = exact.LN2 if name == "exp" else Decimal(1)
    pitch, half = base / entries, base / entries / 2
    f = exact.FUNCTIONS[name]
    rows = []
    for j in range(entries):
        middle = pitch * j
        rows.append(_line(name, -half, half, f(middle - half), f(middle + half)))
    table = Table(name.upper(), ("slope", "intercept"), tuple(rows))
    steps = (
        Step("a", "clamp", ("x", *(accurate.EXP_RANGE if name == "exp" else accurate.EXP2_RANGE))),
        Step("m", "fma", ("a", rounded(1 / pitch), MAGIC)),
        Step("f", "subtract", ("m", MAGIC)),
        Step("r", "fma", ("f", rounded(-pitch), "a")),
        Step("k", "low_bits", ("m", 22)),
        Step("n", "shift", ("k", _index_bits(table))),
        *_looked_up(table, "m", "r"),
        Step("result", "scale", ("y", "n")),
    )
    return Algorithm(steps, (table,))


def _significand_rows(name: str, entries: int, factor: Decimal = Decimal(1)) -> list[tuple[int, int]]:
    """Lines over [1, 2) for `f(factor * s)`."""
    f = exact.FUNCTIONS[name]
    knots = [1 + Decimal(i) / entries for i in range(entries + 1)]
    return list(_lines(name, lambda s: f(factor * s), knots))


def _log(entries: int) -> Algorithm:
    table = Table("LOG", ("slope", "intercept"), tuple(_significand_rows("log", entries)))
    steps = (
        Step("e", "exponent", ("x",)),
        Step("s", "significand", ("x",)),
        Step("w", "word", ("s",)),
        Step("i", "field", ("w", 23 - _index_bits(table), _index_bits(table))),
        *_row(table, "s"),
        Step("f", "to_float", ("e",)),
        Step("l", "fma", ("f", rounded(exact.LN2), "y")),
        Step("result", "by_class", ("x", "l", _NAN, -_INFINITY, _INFINITY)),
    )
    return Algorithm(steps, (table,))


def _root(name: str, entries: int) -> Algorithm:
    """sqrt and rsqrt: half of the rows for even exponents, half for odd ones."""
    half = entries // 2
    rows = _significand_rows(name, half) + _significand_rows(name, half, Decimal(2))
    table = Table(name.upper(), ("slope", "intercept"), tuple(rows))
    bits = _index_bits(table) - 1
    inverse = name == "rsqrt"
    zero, infinite = (_INFINITY, _ZERO) if inverse else (_ZERO, _INFINITY)
    steps = (
        Step("e", "exponent", ("x",)),
        Step("s", "significand", ("x",)),
        Step("w", "word", ("s",)),
        Step("high", "field", ("w", 23 - bits, bits)),
        Step("odd", "field", ("e", 0, 1)),
        Step("i", "join", ("odd", "high", bits)),
        *_row(table, "s"),
        Step("n", "shift", ("e", 1)),
        *((Step("minus", "integer_subtract", (0, "n")),) if inverse else ()),
        Step("z", "scale", ("y", "minus" if inverse else "n")),
        Step("c", "by_class", ("x", "z", _NAN, zero, infinite)),
        Step("result", "copy_sign", ("c", "x"), "of -0; a number below zero gives NaN"),
    )
    return Algorithm(steps, (table,))


def _reciprocal(entries: int) -> Algorithm:
    table = Table("RECIPROCAL", ("slope", "intercept"), tuple(_significand_rows("reciprocal", entries)))
    bits = _index_bits(table)
    steps = (
        Step("m", "magnitude", ("x",)),
        Step("e", "exponent", ("m",)),
        Step("s", "significand", ("m",)),
        Step("w", "word", ("s",)),
        Step("i", "field", ("w", 23 - bits, bits)),
        *_row(table, "s"),
        Step("minus", "integer_subtract", (0, "e")),
        Step("z", "scale", ("y", "minus")),
        Step("c", "by_class", ("m", "z", _NAN, _INFINITY, _ZERO)),
        Step("result", "copy_sign", ("c", "x")),
    )
    return Algorithm(steps, (table,))


@cache
def algorithm(name: str, entries: int) -> Algorithm:
    """The function with a table of `entries` lines, a power of two."""
    with localcontext(exact.context()):
        if name in EXACT:
            return accurate.algorithms()[name]
        if name in LIMITS:
            return _saturating(name, entries)
        if name in ("exp", "exp2"):
            return _power(name, entries)
        if name == "log":
            return _log(entries)
        if name == "reciprocal":
            return _reciprocal(entries)
        return _root(name, entries)
