"""From operator to integer node: one table, filled by the files beside this one. A new operator is one entry there."""

from __future__ import annotations

from . import elementwise, matrix, movement, normalization, pooling, repetition, resize
from .elementwise import QUANTIZE, quantize
from .table import MOVEMENTS, ON_DEQUANTIZED, OPERATORS, REFUSED, SAME, TAKE_SEVERAL, UNCONVERTED, is_elementwise

__all__ = [
    "MOVEMENTS",
    "ON_DEQUANTIZED",
    "OPERATORS",
    "QUANTIZE",
    "REFUSED",
    "SAME",
    "TAKE_SEVERAL",
    "UNCONVERTED",
    "elementwise",
    "is_elementwise",
    "matrix",
    "movement",
    "normalization",
    "pooling",
    "quantize",
    "repetition",
    "resize",
]
