"""What results of vector programs can be where functions and long sums are another library's: bounds, in binary64.

A number that is known lies between itself and itself, and IEEE steps of known numbers make a known number, with one
rounding: nothing is explained there. A function widens the bounds by what its makers promise (`functions.bounds`), a
sum by the bound that holds for any order of it (`functions.sums.rounding_error`). What follows is interval arithmetic,
each step wider by its rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .affine import Affine, rounded_codes
from .binary32 import f32
from .functions import bounds as functions
from .functions.sums import rounding_error
from .vector import FIRST, ROUNDINGS, Operation, Program, Register, Statistic, Step, apply

Float64 = NDArray[np.float64]

#: Half an ulp of 1, and half of the smallest number.
_UNIT, _TINY = 2.0**-24, 2.0**-150
#: Two further roundings of a result: another library may contract a product and a sum, or round a constant.
_ROUNDINGS = 2
#: No slope of a function that rises and falls is steeper.
_SLOPE = 1.2
#: Functions that only rise; of the others the ends say less.
_RISING = frozenset({"exp", "exp2", "log", "tanh", "sigmoid", "erf", "softplus", "hardsigmoid", "sqrt"})
_FALLING = frozenset({"rsqrt", "reciprocal"})


class Bounds(NamedTuple):
    """Numbers between `low` and `high`, binary64 of one shape; equal where a number is known."""

    low: Float64
    high: Float64

    @property
    def known(self) -> NDArray[np.bool_]:
        """Where there is but one number."""
        return np.asarray((self.low == self.high) | (np.isnan(self.low) & np.isnan(self.high)))

    def moved(self, move: Callable[[NDArray[Any]], NDArray[Any]]) -> Bounds:
        """Both ends with their elements moved alike."""
        return Bounds(move(self.low), move(self.high))

    def hold(self, values: NDArray[Any]) -> NDArray[np.bool_]:
        """Which of the values lie within; NaN where there is NaN."""
        wide = np.asarray(values, np.float64)
        with np.errstate(invalid="ignore"):
            within = (self.low <= wide) & (wide <= self.high)
        return np.asarray(within | (np.isnan(wide) & np.isnan(self.low) & np.isnan(self.high)))


def exactly(values: NDArray[Any]) -> Bounds:
    """The bounds of numbers that are known."""
    wide = np.asarray(values, np.float64)
    return Bounds(wide, wide)


def evaluate_bounds(
    program: Program,
    operands: Sequence[Bounds],
    dtype: str,
    theirs: Mapping[str, functions.Bound] = functions.PYTORCH,
) -> Bounds:
    """The bounds of a program's results; of codes of `dtype` where it quantises. Shapes broadcast.

    `theirs`: what the other library promises of each function.
    """
    registers: dict[int, Bounds] = dict(enumerate(operands))
    shape = np.broadcast_shapes(*(operand.low.shape for operand in operands))
    result = registers[0]
    with np.errstate(all="ignore"):
        for number, step in enumerate(program):
            taken = [
                registers[item.number] if isinstance(item, Register) else exactly(np.array(item))
                for item in step.operands
            ]
            result = registers[FIRST + number] = _step(step, taken, dtype, theirs)
    return result.moved(lambda part: np.broadcast_to(part, shape))


def bounds_of_statistic(rows: Bounds, kind: Statistic) -> Bounds:
    """The bounds of a statistic along the last axis."""
    if kind != Statistic.SUM:
        combine = np.max if kind == Statistic.MAXIMUM else np.min
        return rows.moved(lambda part: combine(part, axis=-1))
    count = rows.low.shape[-1]
    low, high = rows.low.sum(axis=-1), rows.high.sum(axis=-1)
    if count == 1:
        return Bounds(low, high)
    size = np.maximum(np.abs(rows.low), np.abs(rows.high)).sum(axis=-1)
    error = rounding_error(count - 1, size) + count * _TINY
    return Bounds(low - error, high + error)


def _step(step: Step, taken: list[Bounds], dtype: str, theirs: Mapping[str, functions.Bound]) -> Bounds:
    if step.operation in ROUNDINGS:
        return _codes(step, taken, dtype)
    made = (
        _function(step.function, taken[0], theirs[step.function]) if step.function else _RULES[step.operation](*taken)
    )
    # A function of a known number is not a known number: that is what differs from library to library.
    if step.function and step.function not in _IEEE:
        return made
    known = np.logical_and.reduce(np.broadcast_arrays(*(item.known for item in taken)))
    if not known.any():
        return made
    values = apply(step, [f32(item.low) for item in taken]).astype(np.float64)
    return Bounds(np.where(known, values, made.low), np.where(known, values, made.high))


#: Functions that are IEEE steps in PyTorch's own order: equal in every bit.
_IEEE = frozenset({"hardswish", "hardsigmoid", "reciprocal"})


def _codes(step: Step, taken: list[Bounds], dtype: str) -> Bounds:
    """The codes of both ends: quantising only rises. `fused` is bounded by its two roundings."""
    limits = Affine(1.0, 0, dtype)  # type: ignore[arg-type]
    x, factor, zero = taken
    rounding = ROUNDINGS[step.operation]

    def code(ends: NDArray[np.float32]) -> Float64:
        made = rounded_codes(f32(ends), f32(factor.low), f32(zero.low), limits.minimum, limits.maximum, rounding)
        return made.astype(np.float64)

    # Outwards to binary32, so that no number between the ends is left out.
    low, high = f32(x.low), f32(x.high)
    low = np.where(low > x.low, np.nextafter(low, np.float32(-np.inf)), low)
    high = np.where(high < x.high, np.nextafter(high, np.float32(np.inf)), high)
    return Bounds(code(low), code(high))


def _wider(low: Float64, high: Float64) -> Bounds:
    def error(part: Float64) -> Float64:
        return np.where(np.isfinite(part), _ROUNDINGS * (_UNIT * np.abs(part) + _TINY), 0.0)

    return Bounds(np.asarray(low - error(low)), np.asarray(high + error(high)))


def _function(name: str, x: Bounds, theirs: functions.Bound) -> Bounds:
    ends = [functions.true_value(name, part) for part in x]
    if name in _FALLING:
        ends.reverse()
    elif name not in _RISING:
        spread = np.where(x.known, 0.0, _SLOPE * (x.high - x.low))
        ends = [np.minimum(*ends) - spread, np.maximum(*ends) + spread]
    error = np.zeros(x.low.shape)
    for bound in (functions.ACCURATE[name], theirs):
        size = np.maximum(np.abs(ends[0]), np.abs(ends[1]))
        if bound.half_of_x:
            size = np.maximum(size, np.maximum(np.abs(x.low), np.abs(x.high)) / 2)
        error = np.maximum(error, np.maximum(bound.ulps * 2 * _UNIT * size + 2 * _TINY, bound.floor))
    return Bounds(np.asarray(ends[0] - error), np.asarray(ends[1] + error))


def _corners(a: Bounds, b: Bounds, combine: Callable[[Float64, Float64], Float64]) -> tuple[Float64, Float64]:
    every = [combine(x, y) for x in a for y in b]
    return np.minimum.reduce(every), np.maximum.reduce(every)


def _product(a: Bounds, b: Bounds) -> Bounds:
    return _wider(*_corners(a, b, np.multiply))


def _quotient(a: Bounds, b: Bounds) -> Bounds:
    low, high = _corners(a, b, np.divide)
    through = (b.low <= 0) & (b.high >= 0)
    return _wider(np.where(through, -np.inf, low), np.where(through, np.inf, high))


def _sum(a: Bounds, b: Bounds) -> Bounds:
    return _wider(a.low + b.low, a.high + b.high)


def _difference(a: Bounds, b: Bounds) -> Bounds:
    return _wider(a.low - b.high, a.high - b.low)


def _absolute(a: Bounds) -> Bounds:
    ends = np.abs(a.low), np.abs(a.high)
    low = np.where((a.low <= 0) & (a.high >= 0), 0.0, np.minimum(*ends))
    return Bounds(low, np.maximum(*ends))


def _less(a: Bounds, b: Bounds) -> Bounds:
    return Bounds((a.high < b.low).astype(np.float64), (a.low < b.high).astype(np.float64))


def _select(a: Bounds, b: Bounds, c: Bounds) -> Bounds:
    first, second = (a.low > 0) | (a.high < 0), (a.low == 0) & (a.high == 0)
    low = np.where(first, b.low, np.where(second, c.low, np.minimum(b.low, c.low)))
    high = np.where(first, b.high, np.where(second, c.high, np.maximum(b.high, c.high)))
    return Bounds(low, high)


_RULES: dict[Operation, Callable[..., Bounds]] = {
    Operation.DEQUANTIZE: lambda a, b, c: _product(_difference(a, b), c),
    Operation.ADD: _sum,
    Operation.SUBTRACT: _difference,
    Operation.MULTIPLY: _product,
    Operation.FMA: lambda a, b, c: _sum(_product(a, b), c),
    Operation.DIVIDE: _quotient,
    Operation.SQUARE_ROOT: lambda a: _wider(np.sqrt(np.maximum(a.low, 0)), np.sqrt(a.high)),
    Operation.MINIMUM: lambda a, b: Bounds(np.minimum(a.low, b.low), np.minimum(a.high, b.high)),
    Operation.MAXIMUM: lambda a, b: Bounds(np.maximum(a.low, b.low), np.maximum(a.high, b.high)),
    Operation.ABSOLUTE: _absolute,
    Operation.LESS: _less,
    Operation.SELECT: _select,
    Operation.ROUND: lambda a: a.moved(np.rint),
}
