"""Rounding of decimal numbers to binary32, and polynomials through points: what tables are fitted with."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from decimal import Decimal

import numpy as np

Function = Callable[[Decimal], Decimal]


def chebyshev(count: int) -> list[Decimal]:
    """Points of [-1, 1] at which a polynomial of `count` coefficients is nearly the best."""
    return [Decimal(math.cos(math.pi * (2 * i + 1) / (2 * count))) for i in range(count)]


def rounded(value: Decimal) -> np.float32:
    """Nearest binary32 number, from a binary64 number that is rounded to odd so that no tie is decided twice."""
    near = np.float64(float(value))
    exact_near = Decimal(float(near))
    if exact_near != value and not near.view(np.int64) & 1:
        near = np.nextafter(near, np.float64(np.inf if value > exact_near else -np.inf))
    return np.float32(near)


def decimal(value: np.float32) -> Decimal:
    """The number without rounding."""
    return Decimal(float(value))


def interpolated(nodes: Sequence[Decimal], values: Sequence[Decimal]) -> list[Decimal]:
    """Coefficients, lowest first, of the polynomial through the points (Newton's divided differences)."""
    differences = list(values)
    for order in range(1, len(nodes)):
        for i in range(len(nodes) - 1, order - 1, -1):
            differences[i] = (differences[i] - differences[i - 1]) / (nodes[i] - nodes[i - order])
    coefficients = [differences[-1]]
    for i in range(len(nodes) - 2, -1, -1):
        shifted = [Decimal(0), *coefficients]
        for j, c in enumerate(coefficients):
            shifted[j] -= nodes[i] * c
        shifted[0] += differences[i]
        coefficients = shifted
    return coefficients
