"""A quantised tensor as a user sees it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from accelsim.arithmetic.affine import Affine, dequantize


@dataclass(frozen=True)
class Output:
    """`quantized`: uint8 or int8 codes in PyTorch's shape and order; `real = scale * (code - zero_point)`."""

    name: str
    quantized: np.ndarray
    scale: float
    zero_point: int

    def dequantize(self) -> np.ndarray:
        """float32 values, equal to PyTorch's `dequantize`."""
        affine = Affine(self.scale, self.zero_point, "uint8" if self.quantized.dtype == np.uint8 else "int8")
        return dequantize(self.quantized, affine)
