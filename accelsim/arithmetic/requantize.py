"""Requantisation: an int32 accumulator becomes an 8-bit code, in the exact order of roundings of an engine.

A `Requantization` is a short pipeline of known steps, chosen by which constants are present. The reference
executor applies it, the compiler packs it into the parameter buffer and an instruction's fields, and the machine's
post unit applies it again from those; this is the only place where the steps are defined.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .binary32 import Float32, f32, fma


class Step(enum.IntFlag):
    """The steps of the pipeline in the order in which they act on one value.

    Those up to `DIVISOR` read one 32-bit constant a channel (`FUSED_BIAS` two: the bias and its factor).
    """

    OFFSET = 1  # x = x + offset, an int32 addition before the conversion to binary32
    SCALE_1 = 2  # x = f32(x * c)
    SCALE_2 = 4  # x = f32(x * c)
    BIAS = 8  # x = f32(x + c)
    FUSED_BIAS = 16  # x = fma(c, factor, x)
    MULTIPLIER = 32  # x = f32(x * c)
    DIVISOR = 64  # x = f32(x / c)
    ZERO_POINT_FIRST = 128  # the zero point is added in binary32 before the rounding, not to the integer after it
    FUSED_ZERO_POINT = 256  # MULTIPLIER and ZERO_POINT_FIRST are one fma(x, c, zero_point)


#: Names of the constants in the order in which they stand in the parameter buffer, and the step that reads each.
CONSTANTS: tuple[tuple[str, Step], ...] = (
    ("offset", Step.OFFSET),
    ("scale_1", Step.SCALE_1),
    ("scale_2", Step.SCALE_2),
    ("bias", Step.BIAS | Step.FUSED_BIAS),
    ("bias_factor", Step.FUSED_BIAS),
    ("multiplier", Step.MULTIPLIER),
    ("divisor", Step.DIVISOR),
)

#: Rounded values outside this range are clamped before the integer zero point is added (any of them is past 8 bits).
_LARGEST = np.float32(2.0**30)


@dataclass(frozen=True)
class Requantization:
    """A pipeline and its constants, one a channel (length `channels`) or one for all (length 1).

    `offset` is int32, the others binary32; `None` leaves a step out. `minimum` and `maximum` clamp the code.
    """

    zero_point: int
    minimum: int
    maximum: int
    offset: NDArray[np.int32] | None = None
    scale_1: Float32 | None = None
    scale_2: Float32 | None = None
    bias: Float32 | None = None
    bias_factor: Float32 | None = None
    multiplier: Float32 | None = None
    divisor: Float32 | None = None
    zero_point_first: bool = False
    fused_zero_point: bool = False

    @property
    def steps(self) -> Step:
        """Which steps act."""
        steps = Step(0)
        for name, step in CONSTANTS:
            if name not in ("bias", "bias_factor") and getattr(self, name) is not None:
                steps |= step
        if self.bias is not None:
            steps |= Step.BIAS if self.bias_factor is None else Step.FUSED_BIAS
        if self.zero_point_first:
            steps |= Step.ZERO_POINT_FIRST
        if self.fused_zero_point:
            steps |= Step.FUSED_ZERO_POINT
        return steps

    def apply(self, accumulator: NDArray[np.int32] | Float32) -> NDArray[np.int32]:
        """Requantise accumulators (int32, or binary32 from a float addition); channels are the last axis.

        Returns int32 codes in `minimum..maximum`, the shape of `accumulator`.
        """
        value = np.asarray(accumulator)
        if self.offset is not None:
            value = value + self.offset
        x: Float32 = f32(value)
        with np.errstate(over="ignore", invalid="ignore"):
            if self.scale_1 is not None:
                x = x * self.scale_1
            if self.scale_2 is not None:
                x = x * self.scale_2
            if self.bias is not None:
                x = f32(x + self.bias) if self.bias_factor is None else fma(self.bias, self.bias_factor, x)
            if self.multiplier is not None:
                if self.fused_zero_point:
                    x = fma(x, self.multiplier, np.float32(self.zero_point))
                else:
                    x = x * self.multiplier
            if self.divisor is not None:
                x = x / self.divisor
            if self.zero_point_first:
                x = x + np.float32(self.zero_point)
        code = np.rint(np.clip(x, -_LARGEST, _LARGEST)).astype(np.int32)
        if not (self.zero_point_first or self.fused_zero_point):
            code = code + np.int32(self.zero_point)
        return np.clip(code, self.minimum, self.maximum)
