"""The integer polynomials of I-BERT (Kim, Gholami, Yao, Mahoney, Keutzer, ICML 2021) around a quantised argument.

The paper's functions take integers `q` of a scale S and give integers of another scale. Here S is a constant of the unit, so
that the argument is quantised first and the result dequantised: see `SCALE_BITS` and `SQRT_BITS`. What the paper does not
define is computed by the accurate algorithm.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np

from .steps import Algorithm, Step, inlined

_f = np.float32

#: S = 2**-14 of exp, erf and gelu: the finest power of two with which the squares of algorithm 1 fit into 32 bits.
SCALE_BITS = 14
#: S = 2**-16 of sqrt, so that the root has the scale 2**-8; the argument saturates from 32768 on.
SQRT_BITS = 16
#: Polynomials: a (x + b)^2 + c.
_EXP_A, _EXP_B, _EXP_C = 0.3585, 1.353, 0.344
_LN2 = 0.6931
_ERF_A, _ERF_B, _ERF_C = -0.2888, -1.769, 1.0
#: Shifts from here on give 0.
_LARGEST_SHIFT = 30
#: Iterations of Newton that reach the root of every integer of 32 bits.
_ITERATIONS = 4


def _exp() -> Algorithm:
    """Algorithm 2: x = p - z ln 2, the polynomial of p, shifted right by z; above zero (not in the paper) left."""
    s = 2.0**-SCALE_BITS
    ln2 = -math.floor(-_LN2 / s)
    q_b, q_c = math.floor(_EXP_B / s), math.floor(_EXP_C / (_EXP_A * s * s))
    steps = (
        Step("scaled", "scale", ("x", SCALE_BITS)),
        Step("q0", "to_integer", ("scaled",), "the argument in units of S"),
        Step("q", "integer_maximum", ("q0", -_LARGEST_SHIFT * ln2)),
        Step("minus", "integer_subtract", (0, "q")),
        Step("z", "integer_divide", ("minus", ln2), "by a constant, ln 2 in units of S"),
        Step("zln2", "integer_multiply", ("z", ln2)),
        Step("p", "integer_add", ("q", "zln2"), "-ln 2 < p <= 0"),
        Step("t", "integer_add", ("p", q_b)),
        Step("t2", "integer_multiply", ("t", "t")),
        Step("l", "integer_add", ("t2", q_c)),
        Step("right", "integer_maximum", ("z", 0)),
        Step("shifted", "integer_shift_right", ("l", "right")),
        Step("left", "integer_subtract", ("right", "z")),
        Step("f", "to_float", ("shifted",)),
        Step("y", "multiply", ("f", _f(_EXP_A * s * s)), "the result's scale, a S^2"),
        Step("e", "scale", ("y", "left")),
        Step("result", "keep_nan", ("x", "e")),
    )
    return Algorithm(steps)


def _erf_steps(scale: float) -> tuple[Step, ...]:
    """Algorithm 3 from `q` = |x| in units of `scale` to `l`, in units of a scale^2."""
    q_b, q_c = math.floor(_ERF_B / scale), math.floor(_ERF_C / (_ERF_A * scale * scale))
    return (
        Step("clipped", "integer_minimum", ("q", -q_b)),
        Step("t", "integer_add", ("clipped", q_b)),
        Step("t2", "integer_multiply", ("t", "t")),
        Step("l", "integer_add", ("t2", q_c)),
    )


def _erf() -> Algorithm:
    s = 2.0**-SCALE_BITS
    steps = (
        Step("m", "magnitude", ("x",)),
        Step("scaled", "scale", ("m", SCALE_BITS)),
        Step("q", "to_integer", ("scaled",), "|x| in units of S"),
        *_erf_steps(s),
        Step("f", "to_float", ("l",)),
        Step("y", "multiply", ("f", _f(_ERF_A * s * s)), "the result's scale, a S^2"),
        Step("odd", "copy_sign", ("y", "x")),
        Step("e", "select_less", (0, "q", "odd", _f(0)), "the sign of 0 is 0"),
        Step("result", "keep_nan", ("x", "e")),
    )
    return Algorithm(steps)


def _gelu() -> Algorithm:
    """Algorithm 3: q (q_erf + q_1); the product has 64 bits."""
    s = 2.0**-SCALE_BITS
    inner = s / math.sqrt(2)
    unit = _ERF_A * inner * inner
    steps = (
        Step("scaled", "scale", ("x", SCALE_BITS)),
        Step("signed", "to_integer", ("scaled",), "the argument in units of S"),
        Step("minus", "integer_subtract", (0, "signed")),
        Step("q", "integer_maximum", ("signed", "minus")),
        *_erf_steps(inner),
        Step("minus_l", "integer_subtract", (0, "l")),
        Step("e", "select_less", ("signed", 0, "minus_l", "l")),
        Step("d", "integer_add", ("e", math.floor(1 / unit)), "1 + erf"),
        Step("product", "integer_multiply", ("signed", "d")),
        Step("f", "to_float", ("product",)),
        Step("y", "multiply", ("f", _f(s * unit / 2)), "the result's scale"),
        Step("result", "keep_nan", ("x", "y")),
    )
    return Algorithm(steps)


def _rsqrt() -> Algorithm:
    """1 divided by the root of algorithm 4, as in the paper's layer norm."""
    root = _sqrt()
    return Algorithm((*inlined(root, "x", "root"), Step("result", "divide", (_f(1), "root"))))


def _sqrt() -> Algorithm:
    """Algorithm 4: Newton's iterations on integers from a power of two above the root, always four."""
    iterations = []
    for i in range(_ITERATIONS):
        iterations += [
            Step(f"quotient{i}", "integer_divide", ("n", f"r{i}")),
            Step(f"sum{i}", "integer_add", (f"r{i}", f"quotient{i}")),
            Step(f"half{i}", "shift", (f"sum{i}", 1)),
            Step(f"r{i + 1}", "integer_minimum", (f"r{i}", f"half{i}"), "once it grows it has been reached"),
        ]
    steps = (
        Step("scaled", "scale", ("x", SQRT_BITS)),
        Step("n0", "to_integer", ("scaled",), "the argument in units of S"),
        Step("n", "integer_maximum", ("n0", 0)),
        Step("bits", "bit_length", ("n",)),
        Step("more", "integer_add", ("bits", 1)),
        Step("half", "shift", ("more", 1)),
        Step("r0", "integer_shift_left", (1, "half")),
        *iterations,
        Step("f", "to_float", (f"r{_ITERATIONS}",)),
        Step("y", "scale", ("f", -SQRT_BITS // 2)),
        Step("c", "by_class", ("x", "y", _f(np.nan), _f(0), _f(np.inf))),
        Step("result", "copy_sign", ("c", "x"), "of -0; a number below zero gives NaN"),
    )
    return Algorithm(steps)


@cache
def algorithms() -> dict[str, Algorithm]:
    """The functions that the paper defines."""
    return {"exp": _exp(), "erf": _erf(), "gelu": _gelu(), "sqrt": _sqrt(), "rsqrt": _rsqrt()}
