"""Requantisation: an int32 accumulator becomes an 8-bit code, in the exact order of roundings of an engine.

A `Requantization` is a short pipeline of known steps, chosen by which constants are present. The reference
executor applies it, the compiler packs it into the parameter buffer and an instruction's fields, and the machine's
post unit applies it again from those; this is the only place where the steps are defined.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from .binary32 import Float32, f32, fma


class Step(enum.IntFlag):
    """The steps of the pipeline in the order in which they act on one value.

    Those up to `DIVISOR` read one 32-bit constant a channel (`FUSED_BIAS` two: the bias and its factor).
    """

    OFFSET = 1  # x = x + offset, an int32 addition (modulo 2**32) before the conversion to binary32
    SCALE_1 = 2  # x = f32(x * c)
    SCALE_2 = 4  # x = f32(x * c)
    BIAS = 8  # x = f32(x + c)
    FUSED_BIAS = 16  # x = fma(c, factor, x)
    MULTIPLIER = 32  # x = f32(x * c)
    DIVISOR = 64  # x = f32(x / c)
    ZERO_POINT_FIRST = 128  # the zero point is added in binary32 before the rounding, not to the integer after it
    FUSED_ZERO_POINT = 256  # MULTIPLIER and ZERO_POINT_FIRST are one fma(x, c, zero_point)
    INDEFINITE = 512  # a value outside int32 becomes -2**31 whatever its sign; without it, it saturates


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
_INT32_MIN = -(2**31)


def _dtype(name: str) -> type[np.int32] | type[np.float32]:
    return np.int32 if name == "offset" else np.float32


@cache
def _names(steps: Step) -> tuple[str, ...]:
    """The constants that the steps read, in the order of the planes."""
    return tuple(name for name, step in CONSTANTS if steps & step)


@dataclass(frozen=True)
class Requantization:
    """A pipeline and its constants, one a channel (length `channels`) or one for all (length 1).

    `offset` is int32, the others binary32; `None` leaves a step out. `minimum` and `maximum` clamp the code.

    After the last binary32 step the value is rounded, half to even, and saturates; a NaN has the least code. With
    `indefinite` a value outside int32, or a NaN, becomes -2**31 whatever its sign, as the `cvtps2dq` of x86 leaves it,
    and the integer zero point is added modulo 2**32: what FBGEMM's, QNNPACK's and ATen's vector kernels do with a scale
    so small that a value leaves int32.

    With `binary32` there are no codes: the sums in real numbers, scales and bias applied, are the result.
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
    indefinite: bool = False
    binary32: bool = False

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
        if self.indefinite:
            steps |= Step.INDEFINITE
        return steps

    def of_channels(self, channels: NDArray[np.integer]) -> Requantization:
        """The pipeline whose channels are those of this one with the indices `channels`, in that order."""
        constants = {name: getattr(self, name) for name, _ in CONSTANTS}
        return replace(
            self, **{name: part[channels] for name, part in constants.items() if part is not None and len(part) > 1}
        )

    def planes(self, channels: int | None = None) -> NDArray[np.uint32]:
        """The constants as they stand in the parameter buffer: uint32 words (constants, channels), in the order of
        `CONSTANTS`. One of length 1 is repeated; `channels` is the longest one's length if it is not given."""
        names = [name for name, _ in CONSTANTS if getattr(self, name) is not None]
        constants = [np.atleast_1d(getattr(self, name)).astype(_dtype(name)).view(np.uint32) for name in names]
        width = channels or max((len(constant) for constant in constants), default=1)
        return np.array([np.broadcast_to(constant, width) for constant in constants], np.uint32).reshape(-1, width)

    @classmethod
    def from_planes(
        cls, steps: Step, planes: NDArray[np.uint32], *, zero_point: int, minimum: int, maximum: int
    ) -> Requantization:
        """The pipeline of an instruction: the inverse of `steps` and `planes`.

        It reads contiguous planes whenever it is applied, and so sees what is written there later.
        """
        constants = {
            name: plane.view(_dtype(name))
            for name, plane in zip(_names(steps), np.ascontiguousarray(planes, np.uint32), strict=True)
        }
        return cls(
            zero_point,
            minimum,
            maximum,
            zero_point_first=bool(steps & Step.ZERO_POINT_FIRST),
            fused_zero_point=bool(steps & Step.FUSED_ZERO_POINT),
            indefinite=bool(steps & Step.INDEFINITE),
            **constants,
        )

    def apply(self, accumulator: NDArray[np.int32] | Float32) -> NDArray[np.int32]:
        """Requantise accumulators (int32, or binary32 from a float addition); channels are the last axis.

        Returns int32 codes in `minimum..maximum`, the shape of `accumulator`.
        """
        return self.codes(accumulator).astype(np.int32)

    def codes(self, accumulator: NDArray[np.int32] | Float32) -> Float32:
        """What `apply` returns, as whole binary32 numbers; the sums in real numbers, if those are the result."""
        real = self.real(accumulator)
        return real if self.binary32 else self.rounded(real)

    def real(self, accumulator: NDArray[np.int32] | Float32) -> Float32:
        """The sums in binary32, scales and bias applied."""
        value = np.asarray(accumulator)
        x: Float32 = f32(value if self.offset is None else value + self.offset)
        if self.binary32 and value.dtype.kind == "f":
            x = x + np.float32(0)  # a sum of products of binary32 may be -0, an integer is 0
        with np.errstate(over="ignore", invalid="ignore"):
            if self.scale_1 is not None:
                x = x * self.scale_1
            if self.scale_2 is not None:
                x = x * self.scale_2
            if self.bias is not None:
                x = x + self.bias if self.bias_factor is None else fma(self.bias, self.bias_factor, x)
        return x

    def rounded(self, x: Float32) -> Float32:
        """The codes of what `real` returns, as whole binary32 numbers."""
        with np.errstate(over="ignore", invalid="ignore"):
            if self.multiplier is not None:
                if self.fused_zero_point:
                    x = fma(x, self.multiplier, np.float32(self.zero_point))
                else:
                    x = x * self.multiplier
            if self.divisor is not None:
                x = x / self.divisor
            if self.zero_point_first:
                x = x + np.float32(self.zero_point)
        if self.indefinite:
            return f32(self._indefinite(x))
        # Whole numbers of this size are exact in binary32, so the clamp and the zero point may come in either order,
        # and in binary32. A NaN ends at the minimum.
        after = 0 if self.zero_point_first or self.fused_zero_point else self.zero_point
        code = np.asarray(np.rint(x))
        np.fmax(code, np.float32(self.minimum - after), out=code)
        np.fmin(code, np.float32(self.maximum - after), out=code)
        return np.add(code, np.float32(after), out=code) if after else code

    def _indefinite(self, x: Float32) -> NDArray[np.int64]:
        inside = np.abs(x) < -_INT32_MIN  # a NaN is not
        code = np.rint(np.clip(np.where(inside, x, 0), -_LARGEST, _LARGEST)).astype(np.int64)
        code = np.where(inside, code, _INT32_MIN)
        if not (self.zero_point_first or self.fused_zero_point):
            code = code + self.zero_point
        code = np.where(code < _INT32_MIN, self.maximum, code)
        return np.clip(code, self.minimum, self.maximum)
