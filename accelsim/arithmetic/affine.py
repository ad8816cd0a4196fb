"""The affine map between real numbers and 8-bit codes: `real = scale * (code - zero_point)`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .binary32 import Float32, f32, fma, reciprocal

Codes = NDArray[np.uint8] | NDArray[np.int8]


@dataclass(frozen=True)
class Affine:
    """Scale (a binary64, as PyTorch keeps it), zero point and the codes' dtype."""

    scale: float
    zero_point: int
    dtype: Literal["uint8", "int8"]

    @property
    def minimum(self) -> int:
        """Smallest code."""
        return int(np.iinfo(self.dtype).min)

    @property
    def maximum(self) -> int:
        """Largest code."""
        return int(np.iinfo(self.dtype).max)


def quantize(x: ArrayLike, affine: Affine) -> Codes:
    """`rne(fma(x, 1 / scale, zero_point))`, clamped, as `torch.quantize_per_tensor`: any shape, codes of the dtype.

    NaN becomes the largest code. Every lane, engine and kernel set agrees (FBGEMM `QuantUtilsAvx2.cc`, `QuantizeAvx2`,
    as torch 2.13 compiles it: product and zero point in one fused operation).
    """
    scaled = fma(f32(x), reciprocal(affine.scale), np.float32(affine.zero_point))
    codes = np.rint(np.clip(scaled, affine.minimum, affine.maximum))
    return np.where(np.isnan(scaled), affine.maximum, codes).astype(affine.dtype)


def dequantize(codes: Codes, affine: Affine) -> Float32:
    """`f32((code - zero_point) * scale)`, any shape, as `Tensor.dequantize`."""
    with np.errstate(over="ignore"):
        return np.asarray(f32(np.asarray(codes, np.int32) - affine.zero_point) * np.float32(affine.scale))
