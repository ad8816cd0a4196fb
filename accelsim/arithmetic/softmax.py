"""QNNPACK's softmax in integers; the other engines' goes through PyTorch's binary32 exponential.

Sources: QNNPACK `softargmax.c` and `u8lut32norm/scalar.c`; ATen `qsoftmax.cpp` for who computes what.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import ModelError

from .affine import Affine
from .engines import check_engine, check_qnnpack_scale

#: The largest entry of the table of exponentials, 23 bits, so that 8 more and a sum of rows still fit in 32.
_LARGEST = 8388607.0
_FRACTION_BITS = 8


def exponentials(scale: float, count: int) -> NDArray[np.int64]:
    """The table of `exp(scale * (i - 255))` for i = 0..255 as integers, for softmaxes over `count` codes."""
    unit = min(float(2**32 - 1) / count, _LARGEST)
    return np.rint(unit * np.exp((np.arange(256) - 255.0) * np.float64(np.float32(scale)))).astype(np.int64)


def softmax(engine: str, codes: NDArray[np.uint8], grid: Affine, out: Affine) -> NDArray[np.int32]:
    """Codes of the softmax over the last axis of `codes`.

    Raises ModelError unless QNNPACK computes it (`check_softmax`).
    """
    check_softmax(engine, grid, out)
    raw = codes.astype(np.int64)
    table = exponentials(grid.scale, codes.shape[-1])
    terms = table[raw + 255 - raw.max(axis=-1, keepdims=True)]
    total = terms.sum(axis=-1, keepdims=True)
    return np.minimum(((terms << _FRACTION_BITS) + (total >> 1)) // total, 255).astype(np.int32)


def is_integer(engine: str, grid: Affine, out: Affine) -> bool:
    """Whether QNNPACK computes it: of uint8 codes, to scale 1/256 and zero point 0. Else ATen does in binary32."""
    return check_engine(engine) == "qnnpack" and grid.dtype == "uint8" and (out.scale, out.zero_point) == (2.0**-8, 0)


def check_softmax(engine: str, grid: Affine, out: Affine) -> None:
    """Raises ModelError unless QNNPACK computes it (`is_integer`)."""
    if not is_integer(engine, grid, out):
        raise ModelError(
            f"a softmax of {grid.dtype} to scale {out.scale}, zero point {out.zero_point} with the engine {engine} is "
            "computed in binary32 by PyTorch's exponential, which no integer rule reproduces; use the engine qnnpack "
            "with uint8, scale 1/256 and zero point 0, or leave the softmax outside the quantised model"
        )
    check_qnnpack_scale(grid.scale)
