"""`quantized::matmul`: ATen dequantises, multiplies in binary32 and quantises (`qmatmul.cpp`).

The order of the binary32 additions is the linear-algebra library's. Where every partial sum is exact it does not
matter, and the product is an integer sum; elsewhere there is no rule.
"""

from __future__ import annotations

import math

import numpy as np

from accelsim.errors import ModelError

from .affine import Affine, Codes
from .binary32 import f32, reciprocal
from .requantize import Requantization

#: Integers up to here are exact in binary32.
_EXACT = 2**24


def _odd_part(scale: float) -> int:
    """The significand of the binary32 scale as an odd integer: 1 for a power of two."""
    significand = int(math.frexp(float(f32(scale)))[0] * _EXACT)
    return significand // (significand & -significand)


def is_exact(a: Affine, b: Affine, length: int) -> bool:
    """Whether every partial sum of `length` products of dequantised codes is exact in binary32."""
    reach = [max(abs(code - grid.zero_point) for code in (grid.minimum, grid.maximum)) for grid in (a, b)]
    unit = float(f32(a.scale)) * float(f32(b.scale))
    normal = unit > 2.0**-100 and unit * length * reach[0] * reach[1] < 2.0**127
    return normal and length * reach[0] * reach[1] * _odd_part(a.scale) * _odd_part(b.scale) <= _EXACT


def requantization(grid_a: Affine, grid_b: Affine, out: Affine) -> Requantization:
    """The steps from the exact sum of centred codes: `rne(fma(f32(sum * sa * sb), 1 / so, zo))`.

    Where `is_exact`, the sum, the product of the scales and that of both have no rounding.
    """
    return Requantization(
        out.zero_point,
        out.minimum,
        out.maximum,
        scale_1=np.atleast_1d(f32(np.float64(f32(grid_a.scale)) * np.float64(f32(grid_b.scale)))),
        multiplier=np.atleast_1d(reciprocal(out.scale)),
        fused_zero_point=True,
    )


def matmul(a: Codes, b: Codes, grid_a: Affine, grid_b: Affine, out: Affine) -> Codes:
    """Codes (..., M, N) of the product of codes (..., M, K) and (..., K, N), for every engine and kernel set.

    Raises ModelError where the result depends on the order of additions (`is_exact`).
    """
    check_product(grid_a, grid_b, a.shape[-1])
    left, right = a.astype(np.int64) - grid_a.zero_point, b.astype(np.int64) - grid_b.zero_point
    return requantization(grid_a, grid_b, out).apply((left @ right).astype(np.int32)).astype(out.dtype)


def check_product(grid_a: Affine, grid_b: Affine, length: int) -> None:
    """Raises ModelError unless `is_exact`."""
    if not is_exact(grid_a, grid_b, length):
        raise ModelError(
            f"a product of matrices over {length} elements with scales {grid_a.scale} and {grid_b.scale} is "
            "summed in binary32, in an order that depends on the host; it is exact for scales that are powers of two "
            "and up to 2**24 / 255**2 elements: choose such scales, or make one factor a linear layer's weight"
        )
