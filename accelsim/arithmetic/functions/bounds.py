"""How far from the true value a result may be: ours, proven over all inputs, and PyTorch's, measured and rounded up.

A difference between the two is explained if the true value lies within both bounds. The true value comes from binary64
functions of the host, whose own error, below 2**-45 of the value, is a millionth of what is compared.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import accurate
from .methods import Method, algorithm

Float64 = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Bound:
    """`|result - true| <= ulps * ulp(u)` or `<= floor`, where |x| < largest.

    `u` is the true value, or half of x where that is larger and `half_of_x` is set: for products of x/2 and a factor
    between 0 and 2 that a sum with cancellation has made. ulp(u) is 2**(e - 23) for 2**e <= |u| < 2**(e + 1), 2**-149
    below 2**-126.
    """

    ulps: float
    half_of_x: bool = False
    floor: float = 0.0
    largest: float = math.inf


#: 1 / (1 + exp(-x)) is 0 where exp(-x) overflows; the true value is below this.
_SIGMOID_FLOOR, _SILU_FLOOR = 2.0**-127, 2.0**-121
#: Six times a larger number overflows.
_HARDSWISH_LARGEST = 2.0**125

#: The accurate algorithms: the largest errors over all inputs, rounded up (`tests/arithmetic/functions`).
ACCURATE: dict[str, Bound] = {
    "exp": Bound(ulps=0.759),
    "exp2": Bound(ulps=0.758),
    "log": Bound(ulps=0.75),
    "tanh": Bound(ulps=0.991),
    "sigmoid": Bound(ulps=2.481, floor=_SIGMOID_FLOOR),
    "erf": Bound(ulps=0.727),
    "gelu": Bound(ulps=1.693, half_of_x=True),
    "gelu_tanh": Bound(ulps=1.849, half_of_x=True),
    "silu": Bound(ulps=2.377, floor=_SILU_FLOOR),
    "softplus": Bound(ulps=1.885),
    "sin": Bound(ulps=1.17),
    "cos": Bound(ulps=1.171),
    "hardswish": Bound(ulps=1.914, largest=_HARDSWISH_LARGEST),
    "hardsigmoid": Bound(ulps=1.0),
    "sqrt": Bound(ulps=0.5),
    "rsqrt": Bound(ulps=1.491),
    "reciprocal": Bound(ulps=0.5),
}

#: PyTorch 2.13 on x86-64 (kernels for AVX-512, AVX2 and none; with and without oneDNN), in the comment the largest that
#: was measured. Stated larger, as other hosts have other vector libraries: Sleef's functions promise 1.0 ulp.
PYTORCH: dict[str, Bound] = {
    "exp": Bound(ulps=1.0),  # 0.556
    "exp2": Bound(ulps=1.0),  # 0.817
    "log": Bound(ulps=1.0),  # 0.900
    "tanh": Bound(ulps=1.0),  # 0.513
    "sigmoid": Bound(ulps=4.0, floor=_SIGMOID_FLOOR),  # 2.33
    "erf": Bound(ulps=1.0),  # 0.735
    "gelu": Bound(ulps=12.0, half_of_x=True, largest=2.0**126),  # 8.78 without oneDNN; with it 1.6, and infinite beyond
    "gelu_tanh": Bound(ulps=3.0, half_of_x=True),  # 2.23
    "silu": Bound(ulps=4.0, floor=_SILU_FLOOR),  # 2.32
    "softplus": Bound(ulps=2.5),  # 1.51
    "sin": Bound(ulps=1.0),  # 0.601
    "cos": Bound(ulps=1.0),  # 0.601
    "hardswish": Bound(ulps=2.0, largest=_HARDSWISH_LARGEST),  # ours, bit for bit
    "hardsigmoid": Bound(ulps=1.0),  # ours, bit for bit
    "sqrt": Bound(ulps=1.0),  # 0.750: MKL's, which does not round correctly; others do
    "rsqrt": Bound(ulps=2.0),  # 1.49
    "reciprocal": Bound(ulps=0.5),  # ours, bit for bit
}


def _each(f: Callable[[float], float]) -> Callable[[Float64], Float64]:
    function = np.frompyfunc(f, 1, 1)
    return lambda x: np.asarray(function(x), np.float64)


_erf, _erfc = _each(math.erf), _each(math.erfc)


def _gelu(x: Float64) -> Float64:
    tail = 0.5 * _erfc(np.abs(x) * math.sqrt(0.5))
    return np.where(np.isneginf(x), np.nan, np.where(x < 0, x * tail, x * (1 - tail)))


def _gelu_tanh(x: Float64) -> Float64:
    return np.asarray(x / (1 + np.exp(-2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))))


def _softplus(x: Float64) -> Float64:
    return np.asarray(np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))))


def _six(x: Float64) -> Float64:
    return np.clip(x + 3, 0, 6)


_TRUE: dict[str, Callable[[Float64], Float64]] = {
    "exp": np.exp,
    "exp2": np.exp2,
    "log": np.log,
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "erf": _erf,
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "silu": lambda x: x / (1 + np.exp(-x)),
    "softplus": _softplus,
    "sin": np.sin,
    "cos": np.cos,
    "hardswish": lambda x: x * _six(x) / 6,
    "hardsigmoid": lambda x: _six(x) / 6,
    "sqrt": np.sqrt,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "reciprocal": lambda x: 1 / x,
}


def true_value(name: str, x: ArrayLike) -> Float64:
    """The function in binary64, to 2**-45 of its value (where it is not subnormal in binary32). Shape of `x`.

    NaN where the composed functions meet infinity times zero, as in PyTorch: gelu, silu and hardswish of -infinity.
    """
    with np.errstate(all="ignore"):
        return np.asarray(_TRUE[name](np.asarray(x, np.float64)))


def units(name: str, result: ArrayLike, x: ArrayLike, bound: Bound) -> Float64:
    """Errors of binary32 results of `x` in the bound's units: 0 where within the floor, infinite where a NaN is wrong.

    Infinities count as 2**128, so that one is right for a true value that rounds to it.
    """
    true, wide = true_value(name, x), np.asarray(result, np.float64)
    both = np.isnan(true) & np.isnan(wide)
    edge = 2.0**128
    with np.errstate(invalid="ignore"):
        error = np.abs(np.clip(wide, -edge, edge) - np.clip(true, -edge, edge))
        size = np.abs(np.clip(true, -edge, edge))
        magnitude = np.abs(np.asarray(x, np.float64))
        if bound.half_of_x:
            size = np.maximum(size, magnitude / 2)
        size = np.clip(size, 2.0**-126, edge / 2)
    _, exponent = np.frexp(size)
    scaled = np.where(error <= bound.floor, 0.0, error / np.ldexp(1.0, exponent - 24))
    scaled = np.where(np.isnan(error), np.where(both, 0.0, np.inf), scaled)
    return np.asarray(scaled)


def within(name: str, result: ArrayLike, x: ArrayLike, bound: Bound) -> NDArray[np.bool_]:
    """For each result whether its error is within the bound; False for finite |x| from `bound.largest` on."""
    wide = np.asarray(x, np.float64)
    counted = (np.abs(wide) < bound.largest) | ~np.isfinite(wide)
    return np.asarray((units(name, result, x, bound) <= bound.ulps) & counted)


def ulp(name: str, method: Method) -> float | None:
    """Largest error of the method in units of the last place (`Bound`); None where it is coarse."""
    if algorithm(name, method) is accurate.algorithms()[name]:
        return ACCURATE[name].ulps
    return None


def explains(name: str, ours: ArrayLike, theirs: ArrayLike, x: ArrayLike) -> NDArray[np.bool_]:
    """For each element whether the difference of two binary32 results of `x` is the functions' alone; shapes are equal.

    True where both have the same bits or are NaN, and where the true value of `x` lies within `ACCURATE` of ours and
    within `PYTORCH` of theirs. Results of a coarse method are never explained where they are further off than that.
    """
    first, second, at = (np.atleast_1d(np.asarray(v, np.float32)) for v in (ours, theirs, x))
    result = (first.view(np.uint32) == second.view(np.uint32)) | (np.isnan(first) & np.isnan(second))
    rest = ~result
    if rest.any():
        near = within(name, first[rest], at[rest], ACCURATE[name])
        result[rest] = near & within(name, second[rest], at[rest], PYTORCH[name])
    return result.reshape(np.shape(x))
