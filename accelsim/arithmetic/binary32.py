"""IEEE binary32 steps as numpy functions: every operation rounded once, to nearest, ties to even.

numpy's own `float32` operators already round each operation on its own; what it lacks is the fused
multiply-add, which PyTorch's vector kernels use.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Float32 = NDArray[np.float32]


def f32(value: ArrayLike) -> Float32:
    """Round to binary32 (from integers or binary64), half to even."""
    return np.asarray(value).astype(np.float32)


def reciprocal(value: ArrayLike) -> Float32:
    """`inv(v) = f32(1 / v)`, one rounding, infinite below 2**-128. Shape and order of `value`."""
    with np.errstate(over="ignore", divide="ignore"):
        return np.float32(1) / f32(value)


def inverse(value: ArrayLike) -> Float32:
    """`f32(1.0 / v)`, the division in binary64: another number than `reciprocal(v)` where f32(v) != v."""
    with np.errstate(over="ignore", divide="ignore"):
        return f32(1.0 / np.asarray(value, np.float64))


#: Bits of a binary64 significand that binary32 has no room for; half of the last place of binary32 among them; and
#: the least magnitude from which that is where the tie lies.
_BEYOND, _TIE, _NORMAL = (1 << 29) - 1, 1 << 28, 2.0**-126


def fma(a: ArrayLike, b: ArrayLike, c: ArrayLike) -> Float32:
    """`f32(a * b + c)` with a single rounding, the operands taken as binary32; shapes broadcast.

    The product of two binary32 numbers is exact in binary64. The sum is rounded there and again to binary32: another
    number than with one rounding only if the first one gave a tie of the second. Those sums, and the subnormal ones,
    are rounded to odd instead.
    """
    product = f32(a).astype(np.float64) * f32(b).astype(np.float64)
    addend = f32(c).astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore", under="ignore"):
        total = np.asarray(product + addend)
        result = np.asarray(total.astype(np.float32))
        doubtful = (total.view(np.int64) & _BEYOND) == _TIE
        doubtful |= (np.abs(total) < _NORMAL) & (total != 0)
        if doubtful.any():
            exact = (np.broadcast_to(part, total.shape)[doubtful] for part in (product, addend))
            result[doubtful] = _rounded_to_odd(*exact).astype(np.float32)
        return result


def _rounded_to_odd(product: NDArray[np.float64], addend: NDArray[np.float64]) -> NDArray[np.float64]:
    """The sum in binary64, an inexact one with its last bit set, so that rounding it again is rounding once.

    Boldo and Melquiond, 2008: 53 >= 2 * 24 + 2 bits make the second rounding innocuous.
    """
    total = product + addend
    # Knuth's two-sum: what the addition above rounded away.
    virtual = total - product
    lost = (product - (total - virtual)) + (addend - virtual)
    inexact = np.isfinite(total) & (lost != 0)
    bits = total.view(np.int64)
    even = (bits & 1) == 0
    # One ulp towards the lost part makes an even significand odd; an odd one is odd already.
    away = (lost > 0) == (total > 0)
    odd = np.where(inexact & even, np.where(away, bits + 1, bits - 1), bits)
    return np.asarray(odd, dtype=np.int64).view(np.float64)
