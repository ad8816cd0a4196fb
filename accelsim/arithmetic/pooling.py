"""Average pools: an integer sum over the window, less the zero points, then a quotient and one rounding.

Sources: ATen `QuantizedOpKernels.cpp` (`_qadaptive_avg_pool_kernel`, `_qavg_pool_nhwc_kernel`), `AveragePool2d.cpp`,
QNNPACK `gavgpool` and `avgpool`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .affine import Affine
from .binary32 import f32, reciprocal
from .engines import KernelSet
from .requantize import Requantization


def average_rule(engine: str, kernels: KernelSet, kind: str, out: Affine, count: int) -> Requantization:
    """From `sum(code - zero point)` over `count` elements to a code; `kind` as in `AveragePool`.

    qnnpack rounds the quotient and adds the zero point; the others add the zero point first, so that a tie's direction
    depends on its parity, and avg_pool multiplies by the rounded reciprocal.
    """
    clamp: dict[str, Any] = {"zero_point": out.zero_point, "minimum": out.minimum, "maximum": out.maximum}
    if engine == "qnnpack":
        return Requantization(**clamp, divisor=np.atleast_1d(f32(count)))
    if kind == "window":
        return Requantization(**clamp, multiplier=np.atleast_1d(reciprocal(count)), zero_point_first=True)
    return Requantization(**clamp, divisor=np.atleast_1d(f32(count)), zero_point_first=True)
