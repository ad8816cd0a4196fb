"""The functions in decimal arithmetic, to 40 places and more: what tables are made of, equal on every host.

Exponential, logarithm and square root are the standard library's, correctly rounded; the rest follows from them, the
error function from its series.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Context, Decimal, localcontext

#: Decimal places that every intermediate result keeps; binary32 has 7, tables need 12.
PLACES = 50

_ONE, _HALF = Decimal(1), Decimal("0.5")


def context() -> Context:
    """Digits and exponents in which everything here is computed."""
    return Context(prec=PLACES, Emin=-10000, Emax=10000)


def _pi() -> Decimal:
    """By Machin's formula."""

    def arctangent(inverse: int) -> Decimal:
        power = total = _ONE / inverse
        n = 1
        while abs(power) > Decimal(10) ** -(PLACES + 5):
            power = -power / (inverse * inverse)
            n += 2
            total += power / n
        return total

    return 4 * (4 * arctangent(5) - arctangent(239))


with localcontext(context()):
    PI = _pi()
    LN2 = Decimal(2).ln()


def erf(x: Decimal) -> Decimal:
    """Error function by its series of positive terms, `2 / sqrt(pi) exp(-x^2) sum (2 x^2)^n x / (2 n + 1)!!`."""
    square = x * x
    term = total = x
    n = 0
    while abs(term) > abs(total) * Decimal(10) ** -PLACES:
        n += 1
        term = term * 2 * square / (2 * n + 1)
        total += term
    return 2 / PI.sqrt() * (-square).exp() * total


def tanh(x: Decimal) -> Decimal:
    """Hyperbolic tangent; near zero by its continued fraction, which loses no digits."""
    if abs(x) < _HALF:
        square, value = x * x, Decimal(0)
        for odd in range(41, 0, -2):
            value = square / (odd + value)
        # value is x * tanh(x) by the fraction x^2 / (1 + x^2 / (3 + ...)).
        return value / x if x else x
    power = (2 * x).exp()
    return (power - 1) / (power + 1)


def sigmoid(x: Decimal) -> Decimal:
    """1 / (1 + exp(-x))."""
    return _ONE / (_ONE + (-x).exp())


def gelu(x: Decimal) -> Decimal:
    """x (1 + erf(x / sqrt 2)) / 2."""
    return x * _HALF * (1 + erf(x / Decimal(2).sqrt()))


def gelu_tanh(x: Decimal) -> Decimal:
    """x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2."""
    return x * _HALF * (1 + tanh((2 / PI).sqrt() * (x + Decimal("0.044715") * x**3)))


def log1p(x: Decimal) -> Decimal:
    """ln(1 + x)."""
    return (1 + x).ln()


FUNCTIONS: dict[str, Callable[[Decimal], Decimal]] = {
    "exp": lambda x: x.exp(),
    "exp2": lambda x: (x * LN2).exp(),
    "log": lambda x: x.ln(),
    "log1p": log1p,
    "tanh": tanh,
    "sigmoid": sigmoid,
    "erf": erf,
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "silu": lambda x: x * sigmoid(x),
    "softplus": lambda x: (1 + x.exp()).ln(),
    "sqrt": lambda x: x.sqrt(),
    "rsqrt": lambda x: 1 / x.sqrt(),
    "reciprocal": lambda x: 1 / x,
}


def evaluate(name: str, x: Decimal) -> Decimal:
    """The function at x to at least 40 places (of `gelu` and its kin below zero fewer, by cancellation)."""
    with localcontext(context()):
        return FUNCTIONS[name](x)
