"""Convolutions and linear layers whose sums are ties, near-ties, or nothing special: affine maps, scales, codes."""

from __future__ import annotations

from typing import Any

import numpy as np
from witness import codes, zero_points

from accelsim.arithmetic.affine import Affine


def layer(
    rng: np.random.Generator, engine: str, style: str, index: int, per_channel: bool, channels: int
) -> dict[str, Any]:
    """Affine maps, weight scales and a bias.

    The output's scale is twice the product of the others, so that odd accumulators are ties, or an ulp or two beside
    that.
    """
    count = channels if per_channel else 1
    if style == "ties":
        exponent = float(2.0 ** rng.integers(-5, -1))
        weight = 2.0 ** rng.integers(-7, -4) * rng.choice([1.0, 1.0, 1.0, 0.5], count)
        weight[0] = weight.max()
    else:
        exponent = float(np.float32(rng.uniform(0.01, 0.1)))
        weight = np.float32(rng.uniform(0.005, 0.03, count)).astype(np.float64)
    factor = float(rng.uniform(10, 400)) if style == "random" else 2.0
    if style == "near ties":
        ulps = rng.integers(-2, 3, count)
        weight = (np.full(count, weight[0], np.float32).view(np.int32) + ulps.astype(np.int32)).view(np.float32)
        weight = weight.astype(np.float64)
    if style in ("tiny", "huge"):
        power = -15 if style == "tiny" else 13
        exponent, weight = exponent * 10.0**power, weight * 10.0**power
    out = np.float32(np.float32(exponent) * np.float32(weight[0])) * np.float32(factor)
    for _ in range(int(rng.integers(0, 3)) if style == "near ties" else 0):
        out = np.nextafter(out, np.float32(rng.choice([0.0, np.inf])))
    real = float(out)
    if style != "ties" and index % 2:
        # PyTorch keeps scales in binary64: some are no binary32 numbers.
        weight, exponent, real = weight * (1 + 3e-8), exponent * (1 - 3e-8), real * (1 + 4e-8)
    symmetric = engine != "fbgemm" or index % 4 != 0
    bias = None
    if index % 3:
        unit = exponent * weight
        steps = rng.integers(-40, 40, channels) if style != "random" else rng.integers(-400, 400, channels) * 0.37
        bias = (steps * unit).astype(np.float32)
        if index % 6 == 1:
            bias = np.nextafter(bias, np.float32(np.inf))
    return {
        "input": Affine(exponent, zero_points(rng, "uint8", index) % 128, "uint8"),
        "weight_scale": weight,
        "weight_zero_point": (np.zeros(count) if symmetric else rng.integers(-9, 9, count)).astype(np.int32),
        "output": Affine(real, zero_points(rng, "uint8", index + 1), "uint8"),
        "bias": bias,
        "relu": index % 5 == 0,
        "per_channel": per_channel,
        "channels": channels,
    }


def operands(
    rng: np.random.Generator, style: str, rule: dict[str, Any], input_shape: Any, weight_shape: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Codes whose sums stay small where they are to be ties, so that few outputs are clamped; 7 bits elsewhere.

    Full 8-bit operands would saturate at int16 on hosts without VNNI.
    """
    if style == "random":
        return codes(rng, input_shape, "uint8", 0, 127), codes(rng, weight_shape, "int8", -64, 64)
    zero = rule["input"].zero_point
    low = max(0, zero - 4)
    # Odd weights: half of the sums are odd, however few products they have.
    return codes(rng, input_shape, "uint8", low, low + 8), codes(rng, weight_shape, "int8", -4, 4) | np.int8(
        rng.random() < 0.8
    )
