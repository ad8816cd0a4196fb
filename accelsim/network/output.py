"""A quantised tensor as a user sees it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from accelsim.arithmetic.affine import Affine, dequantize


@dataclass(frozen=True)
class Output:
    """`quantized`: uint8 or int8 codes in PyTorch's shape and order; `real = scale * (code - zero_point)`.

    Of an output in binary32 the float32 numbers themselves, with scale 1 and zero point 0.
    """

    name: str
    quantized: np.ndarray
    scale: float
    zero_point: int

    def dequantize(self) -> np.ndarray:
        """float32 values, equal to PyTorch's `dequantize`."""
        affine = Affine(self.scale, self.zero_point, self.quantized.dtype.name)  # type: ignore[arg-type]
        return dequantize(self.quantized, affine)
