"""The affine map between real numbers and 8-bit codes: `real = scale * (code - zero_point)`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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


def quantization_of(engine: str) -> Quantization:
    """How a network of that engine quantises what it is given."""
    by_engine: dict[str, Quantization] = {PT2E: "separate", ONNXRUNTIME: "division", XNNPACK: "converted"}
    return by_engine.get(engine, "fused")


def quantize(x: ArrayLike, affine: Affine, rounding: Quantization = "fused") -> Codes:
    """Real numbers of any shape as codes of the dtype, clamped.

    "fused": `rne(fma(x, 1 / scale, zero_point))` as `torch.quantize_per_tensor`, every lane, engine and kernel set
    (FBGEMM `QuantUtilsAvx2.cc`, `QuantizeAvx2`, as torch 2.13 compiles it); NaN becomes the largest code. "separate":
    `rne(f32(x * f32(1 / scale))) + zero_point` as `quantized_decomposed.quantize_per_tensor`
    (`torch/ao/quantization/fx/_decomposed.py`); NaN becomes 0. "converted": `rne(f32(x * f32(1 / f32(scale)))) +
    zero_point` as XNNPACK's convert; NaN becomes the largest code. "division":
    `rne(f32(x / scale)) + zero_point` as ONNX Runtime's `QuantizeLinear` (MLAS `quantize.cpp`); NaN becomes the least.
    """
    if rounding == "division":
        with np.errstate(over="ignore", invalid="ignore"):
            scaled = np.rint(f32(x) / f32(affine.scale))
        after = affine.zero_point
        codes = np.fmin(np.fmax(scaled, np.float32(affine.minimum - after)), np.float32(affine.maximum - after))
        return np.asarray(codes + np.float32(after)).astype(affine.dtype)
    if rounding == "separate":
        with np.errstate(over="ignore", invalid="ignore"):
            scaled = np.rint(f32(x) * inverse(affine.scale)) + np.float32(affine.zero_point)
        of_nan = 0
    elif rounding == "converted":
        with np.errstate(over="ignore", invalid="ignore"):
            scaled = np.rint(f32(x) * reciprocal(affine.scale)) + np.float32(affine.zero_point)
        of_nan = affine.maximum
    else:
        scaled = fma(f32(x), reciprocal(affine.scale), np.float32(affine.zero_point))
        of_nan = affine.maximum
    codes = np.rint(np.clip(scaled, affine.minimum, affine.maximum))
    return np.where(np.isnan(scaled), of_nan, codes).astype(affine.dtype)


def dequantize(codes: Codes, affine: Affine) -> Float32:
    """`f32((code - zero_point) * scale)`, any shape, as `Tensor.dequantize`."""
    with np.errstate(over="ignore"):
        return np.asarray(f32(np.asarray(codes, np.int32) - affine.zero_point) * np.float32(affine.scale))
