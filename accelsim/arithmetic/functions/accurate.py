"""The accurate algorithms: range reduction, a table, a polynomial, reconstruction.

The constants of ranges are exact; the order of operations of composed functions is PyTorch's (ATen `Activation.cpp`,
`UnaryOpsKernel.cpp`), so that where the inner function has PyTorch's bits the whole has them too.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from . import tables
from .operations import MAGIC, Algorithm, Operand, Step, Table, inlined

_f = np.float32
_ZERO, _HALF, _ONE = _f(0), _f(0.5), _f(1)
_INFINITY, _NAN = _f(np.inf), _f(np.nan)

_LN2 = float.fromhex("0x1.62E42FEFA39EFp-1")
#: ln 2 / 32 in two parts of binary32, and its inverse.
_STEP_HIGH = _f(_LN2 / 32)
_STEP_LOW = _f(_LN2 / 32 - float(_STEP_HIGH))
_STEPS = _f(32 / _LN2)
#: ln 2, the first part with 15 places behind the point.
_LN2_HIGH = _f(round(_LN2 * 2**15) / 2**15)
_LN2_LOW = _f(_LN2 - float(_LN2_HIGH))

#: Beyond these the exponential is infinite, or less than half of the smallest subnormal number.
EXP_RANGE = (_f(-104.0), _f(89.0))
EXP2_RANGE = (_f(-151.0), _f(129.0))

#: The first binade that the tables of tanh, erf and log1p divide into segments, and bits of the significand that do so:
#: 8 segments a binade, 16 for erf, whose slope falls faster.
_FIRST_BINADE, _SEGMENT_BITS, _ERF_BITS = -6, 3, 4


def _power_of_two(reduced: str, first: Operand, second: Operand, third: Operand) -> tuple[Step, ...]:
    """From the rounded multiple `m` of 1/32 and the rest `r`: table, polynomial, exponent."""
    return (
        Step("k", "low_bits", ("m", 22), "the multiple as an integer"),
        Step("j", "field", ("k", 0, 5), "its place between two powers of two"),
        Step("n", "shift", ("k", 5), "the power of two"),
        Step("row", "lookup", ("EXP", "j")),
        Step("power", "column", ("row", 0), "2**(j/32), rounded"),
        Step("rest", "column", ("row", 1), "what it misses, as a part of it"),
        Step("p3", "fma", (reduced, third, second)),
        Step("p2", "fma", (reduced, "p3", first)),
        Step("p1", "fma", (reduced, "p2", "rest")),
        Step("y", "fma", ("power", "p1", "power")),
        Step("result", "scale", ("y", "n"), "by 2**n; infinity and subnormal numbers come from here"),
    )


def _exp() -> Algorithm:
    steps = (
        Step("a", "clamp", ("x", *EXP_RANGE), "beyond, the result is 0 or infinite"),
        Step("m", "fma", ("a", _STEPS, MAGIC), "a 32 / ln 2, rounded to an integer in the low bits"),
        Step("f", "subtract", ("m", MAGIC)),
        Step("r1", "fma", ("f", -_STEP_HIGH, "a"), "a - k ln 2 / 32, ln 2 / 32 in two parts"),
        Step("r", "fma", ("f", -_STEP_LOW, "r1")),
        *_power_of_two("r", _ONE, _HALF, _f(1 / 6)),
    )
    return Algorithm(steps, (tables.EXP,))


def _exp2() -> Algorithm:
    steps = (
        Step("a", "clamp", ("x", *EXP2_RANGE), "beyond, the result is 0 or infinite"),
        Step("m", "fma", ("a", _f(32), MAGIC), "32 a, rounded to an integer in the low bits"),
        Step("f", "subtract", ("m", MAGIC)),
        Step("r", "fma", ("f", _f(-1 / 32), "a"), "exact"),
        *_power_of_two("r", _f(_LN2), _f(_LN2**2 / 2), _f(_LN2**3 / 6)),
    )
    return Algorithm(steps, (tables.EXP,))


def _log() -> Algorithm:
    steps = (
        Step("e", "exponent", ("x",)),
        Step("s", "significand", ("x",), "x = 2**e s, 1 <= s < 2"),
        Step("w", "word", ("s",)),
        Step("i", "field", ("w", 16, 7)),
        Step("row", "lookup", ("LOG", "i")),
        Step("inverse", "column", ("row", 0), "about 1 / s, with 9 bits; 1 and 1/2 beside powers of two"),
        Step("carry", "column", ("row", 1), "1 where s > sqrt 2, which is taken as s / 2"),
        Step("high", "column", ("row", 2), "-ln(inverse) or -ln(2 inverse) to 15 places"),
        Step("low", "column", ("row", 3), "the rest of it"),
        Step("r", "fma", ("s", "inverse", -_ONE)),
        Step("e1", "to_float", ("e",)),
        Step("f", "add", ("e1", "carry")),
        Step("h", "fma", ("f", _LN2_HIGH, "high"), "exact"),
        Step("l", "fma", ("f", _LN2_LOW, "low")),
        Step("p3", "fma", ("r", _f(-0.25), _f(1 / 3))),
        Step("p2", "fma", ("r", "p3", -_HALF)),
        Step("r2", "multiply", ("r", "r")),
        Step("t", "fma", ("r2", "p2", "l")),
        Step("u", "add", ("r", "t")),
        Step("y", "add", ("h", "u")),
        Step("result", "by_class", ("x", "y", _NAN, -_INFINITY, _INFINITY)),
    )
    return Algorithm(steps, (tables.LOG,))


def _segments(table: Table, bits: int = _SEGMENT_BITS) -> tuple[Step, ...]:
    """From `a` >= 0 to `y`: the polynomial of the segment of a table in which it lies."""
    base = ((127 + _FIRST_BINADE) << bits) - 1
    return (
        Step("i", "segment", ("a", 23 - bits, base, table.rows)),
        Step("row", "lookup", (table.name, "i")),
        *(Step(name, "column", ("row", c)) for c, name in enumerate(table.columns)),
        Step("d", "subtract", ("a", "centre"), "exact"),
        Step("p3", "fma", ("d", "c4", "c3")),
        Step("p2", "fma", ("d", "p3", "c2")),
        Step("p1", "fma", ("d", "p2", "c1")),
        *_sum_of(table),
    )


def _sum_of(table: Table) -> tuple[Step, ...]:
    if "unit" not in table.columns:
        return (Step("y", "fma", ("d", "p1", "c0")),)
    return (
        Step("base", "fma", ("d", "unit", "c0"), "exact: d about zero, elsewhere c0"),
        Step("y", "fma", ("d", "p1", "base")),
    )


def _odd(table: Table, limit: np.float32, bits: int = _SEGMENT_BITS) -> Algorithm:
    steps = (
        Step("m", "magnitude", ("x",)),
        Step("a", "minimum", ("m", limit), "beyond, the result is 1"),
        *_segments(table, bits),
        Step("result", "copy_sign", ("y", "x")),
    )
    return Algorithm(steps, (table,))


def _log1p_of_exponential() -> Algorithm:
    """max(x, 0) + log1p(exp(-|x|)): the softplus of beta 1, whose threshold of 20 and above changes no bit."""
    exp = _exp()
    steps = (
        Step("m", "magnitude", ("x",)),
        Step("minus", "negate", ("m",)),
        *inlined(exp, "minus", "a"),
        *_segments(tables.LOG1P),
        Step("positive", "maximum", ("x", _ZERO)),
        Step("result", "add", ("positive", "y")),
    )
    return Algorithm(steps, (*exp.tables, tables.LOG1P))


def _sigmoid() -> Algorithm:
    exp = _exp()
    steps = (
        Step("minus", "negate", ("x",)),
        *inlined(exp, "minus", "e"),
        Step("d", "add", ("e", _ONE)),
        Step("result", "divide", (_ONE, "d")),
    )
    return Algorithm(steps, exp.tables)


def _silu() -> Algorithm:
    exp = _exp()
    steps = (
        Step("minus", "negate", ("x",)),
        *inlined(exp, "minus", "e"),
        Step("d", "add", ("e", _ONE)),
        Step("result", "divide", ("x", "d")),
    )
    return Algorithm(steps, exp.tables)


def gelu(erf: Algorithm) -> Algorithm:
    """x 0.5 (1 + erf(x sqrt(1/2))) around an algorithm of the error function."""
    steps = (
        Step("z", "multiply", ("x", _f(np.sqrt(0.5)))),
        *inlined(erf, "z", "e"),
        Step("d", "add", ("e", _ONE)),
        Step("h", "multiply", ("x", _HALF)),
        Step("result", "multiply", ("h", "d")),
    )
    return Algorithm(steps, erf.tables)


def gelu_tanh(tanh: Algorithm) -> Algorithm:
    """0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) around an algorithm of the hyperbolic tangent."""
    steps = (
        Step("x2", "multiply", ("x", "x")),
        Step("x3", "multiply", ("x2", "x")),
        Step("k", "multiply", ("x3", _f(0.044715))),
        Step("s", "add", ("x", "k")),
        Step("z", "multiply", ("s", _f(np.sqrt(2 / np.pi)))),
        *inlined(tanh, "z", "t"),
        Step("d", "add", ("t", _ONE)),
        Step("h", "multiply", ("x", _HALF)),
        Step("result", "multiply", ("h", "d")),
    )
    return Algorithm(steps, tanh.tables)


def _constants(table: Table) -> tuple[np.float32, ...]:
    return tuple(_f(v) for v in table.values()[:, 0])


def _reduction(quadrant: int) -> tuple[Step, ...]:
    """From the magnitude `m` to the quadrant `n`, turned by some more, and the rest `r` + `r_low` with |r| <= pi / 4.

    From pi / 4 on the phase is found in integers (Payne and Hanek, 1983): a significand of 24 bits times 96 bits of
    2 / pi, of which only those matter that are worth less than four quadrants.
    """
    high = _f(np.pi / 2 * 2.0**-24)
    low = _f(np.pi / 2 * 2.0**-24 - float(high))
    limit = _f(np.pi / 4)
    return (
        Step("w", "word", ("m",)),
        Step("fraction", "field", ("w", 0, 23)),
        Step("s", "join", (1, "fraction", 23), "the significand, 24 bits"),
        Step("e", "segment", ("m", 23, 126, tables.PHASE.rows)),
        Step("row", "lookup", ("PHASE", "e"), "96 bits of 2 / pi"),
        *(Step(f"w{i}", "integer_column", ("row", i)) for i in range(3)),
        Step("p0", "integer_multiply", ("s", "w0")),
        Step("p1", "integer_multiply", ("s", "w1")),
        Step("p2", "integer_multiply", ("s", "w2")),
        Step("p0_up", "shift", ("p0", -32), "modulo 2**64"),
        Step("p2_down", "shift", ("p2", 32)),
        Step("p01", "integer_add", ("p0_up", "p1")),
        Step("phase", "integer_add", ("p01", "p2_down"), "in 2**-62 quadrants"),
        Step("turned", "integer_add", ("phase", (2 * quadrant + 1) << 61)),
        Step("nearest", "field", ("turned", 62, 2)),
        Step("f", "low_field", ("phase", 62), "from the nearest quadrant"),
        Step("f_low", "low_field", ("f", 38), "signed, so that the two parts do not cancel"),
        Step("f_up", "integer_add", ("f", 1 << 37)),
        Step("f_high", "shift", ("f_up", 38)),
        Step("a", "to_float", ("f_high",), "exact"),
        Step("b", "to_float", ("f_low",)),
        Step("b_low", "multiply", ("b", _f(low * 2.0**-38))),
        Step("b_rest", "fma", ("b", _f(high * 2.0**-38), "b_low")),
        Step("a_rest", "fma", ("a", low, "b_rest")),
        Step("sum", "fma", ("a", high, "a_rest"), "in radians"),
        Step("minus_sum", "negate", ("sum",)),
        Step("lost", "fma", ("a", high, "minus_sum")),
        Step("sum_low", "add", ("lost", "a_rest")),
        Step("n", "select_less", ("m", limit, quadrant, "nearest"), "below pi / 4 nothing is reduced"),
        Step("r", "select_less", ("m", limit, "m", "sum")),
        Step("r_low", "select_less", ("m", limit, _ZERO, "sum_low")),
    )


def _wave(quadrant: int, at_zero: np.float32) -> Algorithm:
    """sin(|x| + quadrant pi / 2), with the sign of x if the quadrant is 0: polynomials of sine and cosine."""
    s3, s5, s7 = _constants(tables.SINE)
    c4, c6, c8 = _constants(tables.COSINE)
    steps = (
        Step("m", "magnitude", ("x",)),
        *_reduction(quadrant),
        Step("z", "multiply", ("r", "r")),
        Step("sine2", "fma", ("z", s7, s5)),
        Step("sine1", "fma", ("z", "sine2", s3)),
        Step("cube", "multiply", ("z", "r")),
        Step("sine0", "fma", ("cube", "sine1", "r_low")),
        Step("sine", "add", ("r", "sine0")),
        Step("cosine3", "fma", ("z", c8, c6)),
        Step("cosine2", "fma", ("z", "cosine3", c4)),
        Step("cosine1", "fma", ("z", "cosine2", -_HALF)),
        Step("slope", "multiply", ("r", "r_low")),
        Step("minus_slope", "negate", ("slope",)),
        Step("cosine0", "fma", ("z", "cosine1", "minus_slope")),
        Step("cosine", "add", ("cosine0", _ONE)),
        Step("odd", "field", ("n", 0, 1)),
        Step("wave", "select_less", ("odd", 1, "sine", "cosine")),
        Step("half", "field", ("n", 1, 1)),
        Step("signed", "negate_if", ("wave", "half")),
        Step("finite", "by_class", ("m", "signed", _NAN, at_zero, _NAN)),
    )
    ends = (
        Step("sign", "word", ("x",)),
        Step("below", "field", ("sign", 31, 1)),
        Step("result", "negate_if", ("finite", "below")),
    )
    return Algorithm(steps if quadrant else (*steps, *ends), (tables.PHASE,))


_SIX, _THREE = _f(6), _f(3)
_HARD = (
    Step("s", "add", ("x", _THREE)),
    Step("c", "clamp", ("s", _ZERO, _SIX)),
)

HARDSIGMOID = Algorithm((*_HARD, Step("result", "divide", ("c", _SIX))))
HARDSWISH = Algorithm(
    (*_HARD, Step("p", "multiply", ("x", "c")), Step("result", "divide", ("p", _SIX))),
)
SQRT = Algorithm((Step("result", "square_root", ("x",)),))
RECIPROCAL = Algorithm((Step("result", "divide", (_ONE, "x")),))
RSQRT = Algorithm((Step("s", "square_root", ("x",)), Step("result", "divide", (_ONE, "s"))))


@cache
def algorithms() -> dict[str, Algorithm]:
    """The accurate algorithm of each function."""
    tanh, erf = _odd(tables.TANH, _f(10)), _odd(tables.ERF, _f(4), _ERF_BITS)
    return {
        "exp": _exp(),
        "exp2": _exp2(),
        "log": _log(),
        "tanh": tanh,
        "sigmoid": _sigmoid(),
        "erf": erf,
        "gelu": gelu(erf),
        "gelu_tanh": gelu_tanh(tanh),
        "silu": _silu(),
        "softplus": _log1p_of_exponential(),
        "sin": _wave(0, _ZERO),
        "cos": _wave(1, _ONE),
        "hardswish": HARDSWISH,
        "hardsigmoid": HARDSIGMOID,
        "sqrt": SQRT,
        "rsqrt": RSQRT,
        "reciprocal": RECIPROCAL,
    }
