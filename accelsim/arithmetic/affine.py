"""The affine map between real numbers and 8-bit codes: `real = scale * (code - zero_point)`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .binary32 import Float32, f32, fma, inverse, reciprocal
from .engines import ONNXRUNTIME, PT2E, XNNPACK

Codes = NDArray[np.uint8] | NDArray[np.int8]

#: How real numbers become codes: "fused" is ATen's, product and zero point in one rounding; "separate" that of
#: torch.export graphs, which round the product to an integer before they add the zero point; "converted" XNNPACK's,
#: the same but for a NaN; "division" that of ONNX Runtime, which divides by the scale and adds the zero point to the
#: rounded integer.
Quantization = Literal["fused", "separate", "converted", "division"]


@dataclass(frozen=True)
class Affine:
    """Scale (a binary64, as PyTorch keeps it), zero point and the codes' dtype.

    Numbers in binary32 stand for themselves: the map `FLOAT`, whose codes are those numbers.
    """

    scale: float
    zero_point: int
    dtype: Literal["uint8", "int8", "float32"]

    @property
    def is_float(self) -> bool:
        """Whether it is the map of numbers in binary32."""
        return self.dtype == "float32"

    @property
    def bytes(self) -> int:
        """Bytes of an element in memory."""
        return np.dtype(self.dtype).itemsize

    @property
    def minimum(self) -> int:
        """Smallest code."""
        return int(np.iinfo(self.dtype).min)

    @property
    def maximum(self) -> int:
        """Largest code."""
        return int(np.iinfo(self.dtype).max)


#: Of values that are not quantised.
FLOAT = Affine(1.0, 0, "float32")


def quantization_of(engine: str) -> Quantization:
    """How a network of that engine quantises what it is given."""
    by_engine: dict[str, Quantization] = {PT2E: "separate", ONNXRUNTIME: "division", XNNPACK: "converted"}
    return by_engine.get(engine, "fused")


def quantize(x: ArrayLike, affine: Affine, rounding: Quantization = "fused") -> NDArray[Any]:
    """Real numbers of any shape as codes of the dtype, clamped; as binary32 numbers where the map is `FLOAT`.

    "fused": `rne(fma(x, 1 / scale, zero_point))` as `torch.quantize_per_tensor`, every lane, engine and kernel set
    (FBGEMM `QuantUtilsAvx2.cc`, `QuantizeAvx2`, as torch 2.13 compiles it); NaN becomes the largest code. "separate":
    `rne(f32(x * f32(1 / scale))) + zero_point` as `quantized_decomposed.quantize_per_tensor`
    (`torch/ao/quantization/fx/_decomposed.py`); NaN becomes 0. "converted": `rne(f32(x * f32(1 / f32(scale)))) +
    zero_point` as XNNPACK's convert; NaN becomes the largest code. "division":
    `rne(f32(x / scale)) + zero_point` as ONNX Runtime's `QuantizeLinear` (MLAS `quantize.cpp`); NaN becomes the least.
    """
    if affine.is_float:
        return f32(x)
    factor, zero_point = factor_of(affine.scale, rounding), np.float32(affine.zero_point)
    return rounded_codes(f32(x), factor, zero_point, affine.minimum, affine.maximum, rounding).astype(affine.dtype)


def factor_of(scale: float, rounding: Quantization) -> Float32:
    """What a number is multiplied by where it is quantised, of "division" what it is divided by."""
    constant = {"fused": reciprocal, "separate": inverse, "converted": reciprocal, "division": f32}[rounding]
    return constant(scale)


def rounded_codes(
    x: Float32, factor: ArrayLike, zero_point: ArrayLike, minimum: int, maximum: int, rounding: Quantization
) -> Float32:
    """As `quantize`, the codes as binary32 numbers within minimum..maximum.

    `factor`: what x is multiplied by (of "division": divided by), `zero_point`: both in binary32, of x's shape or of
    one that numpy broadcasts.
    """
    factor, zero_point = f32(factor), f32(zero_point)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        if rounding == "division":
            codes = np.fmin(np.fmax(np.rint(x / factor), np.float32(minimum) - zero_point), maximum - zero_point)
            return np.asarray(codes + zero_point, np.float32)
        scaled = fma(x, factor, zero_point) if rounding == "fused" else np.rint(x * factor) + zero_point
    of_nan = 0 if rounding == "separate" else maximum
    return np.asarray(np.where(np.isnan(scaled), of_nan, np.rint(np.clip(scaled, minimum, maximum))), np.float32)


def dequantize(codes: NDArray[Any], affine: Affine) -> Float32:
    """`f32((code - zero_point) * scale)`, any shape, as `Tensor.dequantize`; numbers in binary32 as they are."""
    if affine.is_float:
        return f32(codes)
    with np.errstate(over="ignore"):
        return np.asarray(f32(np.asarray(codes, np.int32) - affine.zero_point) * np.float32(affine.scale))
