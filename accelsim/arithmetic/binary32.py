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


def fma(a: ArrayLike, b: ArrayLike, c: ArrayLike) -> Float32:
    """`f32(a * b + c)` with a single rounding, the operands taken as binary32; shapes broadcast.

    The product of two binary32 numbers is exact in binary64. The sum is rounded to odd there
    (Boldo and Melquiond, 2008: 53 >= 2 * 24 + 2 bits make the second rounding innocuous) before it is
    rounded to binary32.
    """
    product = f32(a).astype(np.float64) * f32(b).astype(np.float64)
    addend = f32(c).astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        total = np.asarray(product + addend)
        # Knuth's two-sum: what the addition above rounded away.
        virtual = total - product
        lost = (product - (total - virtual)) + (addend - virtual)
        inexact = np.isfinite(total) & (lost != 0)
        bits = total.view(np.int64)
        even = (bits & 1) == 0
        # One ulp towards the lost part makes an even significand odd; an odd one is odd already.
        away = (lost > 0) == (total > 0)
        odd = np.where(inexact & even, np.where(away, bits + 1, bits - 1), bits)
        return np.asarray(odd, dtype=np.int64).view(np.float64).astype(np.float32)
