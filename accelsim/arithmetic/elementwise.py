"""Sums and products of two quantised tensors, as ATen (`QuantizedOpKernels.cpp`) and QNNPACK compute them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import ModelError

from . import lanes
from .affine import Affine, quantize
from .binary32 import Float32, f32, fma, reciprocal
from .engines import KernelSet, check_engine, check_qnnpack_scale
from .requantize import Requantization

#: From here on QNNPACK's sums are shifted by less than 32 bits.
_LEAST_RATIO = 2.0**-10

_INT32_MAX = 2**31 - 1

#: The largest binary32 number that is an int32, and the next one.
_LAST_INT32, _PAST_INT32 = 2.0**31 - 128, 2.0**31


@dataclass(frozen=True)
class Operand:
    """How a code becomes a binary32 number: `fma(f32(q - subtract), scale, offset)`."""

    subtract: int
    scale: Float32
    offset: Float32

    def apply(self, codes: NDArray[np.integer]) -> Float32:
        """Binary32 values, the shape of `codes` (8-bit)."""
        every = self._values["int8" if codes.dtype == np.int8 else "uint8"]
        return every.take(codes.view(np.uint8) if codes.dtype == np.int8 else codes)

    @cached_property
    def _values(self) -> dict[str, Float32]:
        """The value of every code, by the code's byte."""
        byte = np.arange(256, dtype=np.uint8)
        return {
            dtype: fma(byte.view(dtype).astype(np.int32) - self.subtract, self.scale, self.offset)
            for dtype in ("int8", "uint8")
        }


@dataclass(frozen=True)
class FloatAdd:
    """`f32(a + b)` of two operands in binary32, then requantised.

    `fused`: `fma(f32(qa - subtract), scale, b)` in the place of the sum; the offset of `a` has no part in it.
    """

    a: Operand
    b: Operand
    requantization: Requantization
    fused: bool = False

    def apply(self, a: NDArray[np.integer], b: NDArray[np.integer]) -> NDArray[np.int32]:
        """Codes of the sum, element by element."""
        return self.codes(a, b).astype(np.int32)

    def codes(self, a: NDArray[np.integer], b: NDArray[np.integer]) -> Float32:
        """What `apply` returns, as whole binary32 numbers."""
        right = self.b.apply(b)
        with np.errstate(over="ignore"):
            if self.fused:
                left = np.asarray(a, np.int32) - self.a.subtract
                return self.requantization.codes(fma(left, self.a.scale, right))
            return self.requantization.codes(self.a.apply(a) + right)


@dataclass(frozen=True)
class FixedAdd:
    """A sum in fixed point: the factors have `shift` binary places.

    Halves are rounded away from zero, as QNNPACK does, or towards plus infinity (`halves_up`), as XNNPACK does.
    """

    multiplier_a: int
    zero_a: int
    multiplier_b: int
    zero_b: int
    shift: int
    zero_point: int
    minimum: int
    maximum: int
    halves_up: bool = False

    def apply(self, a: NDArray[np.integer], b: NDArray[np.integer]) -> NDArray[np.int32]:
        """Codes of the sum, element by element."""
        total = self.multiplier_a * (np.asarray(a, np.int64) - self.zero_a)
        total = total + self.multiplier_b * (np.asarray(b, np.int64) - self.zero_b)
        half = (1 << self.shift) >> 1
        rounded = (total + half) >> self.shift
        if not self.halves_up:
            rounded = np.where(total >= 0, rounded, -((half - total) >> self.shift))
        return np.asarray(np.clip(rounded + self.zero_point, self.minimum, self.maximum), np.int32)


@dataclass(frozen=True)
class Product:
    """The exact integer product of two codes less their zero points, then requantised."""

    zero_a: int
    zero_b: int
    requantization: Requantization

    def apply(self, a: NDArray[np.integer], b: NDArray[np.integer]) -> NDArray[np.int32]:
        """Codes of the product, element by element."""
        product = (np.asarray(a, np.int32) - self.zero_a) * (np.asarray(b, np.int32) - self.zero_b)
        return self.requantization.apply(product)


@dataclass(frozen=True)
class LargerCode:
    """The larger of two codes of one affine map (with `smaller` the smaller one), which is the larger value's code."""

    smaller: bool = False

    def apply(self, a: NDArray[np.integer], b: NDArray[np.integer]) -> NDArray[np.int32]:
        """Codes of the result, element by element."""
        return np.asarray(np.minimum(a, b) if self.smaller else np.maximum(a, b), np.int32)


#: A rule that takes codes and needs no constant that an engine chooses.
CodeRule = LargerCode

AddRule = FloatAdd | FixedAdd
Span = lanes.Span[AddRule]


def _lower_clamp(out: Affine, relu: bool) -> int:
    return max(out.zero_point, out.minimum) if relu else out.minimum


def add_rules(
    engine: str,
    kernels: KernelSet,
    a: Affine,
    b: Affine,
    out: Affine,
    count: int,
    relu: bool,
    *,
    threads: int = 1,
) -> tuple[Span, ...]:
    """The rules of `quantized::add` (`add_relu`) over `count` elements, in order, one span where all lanes agree.

    Both operands are contiguous in the same memory order. Where sums leave int32, the vector body of AVX2 limits them
    to 2**31 - 128 and adds the zero point modulo 2**32 (`vec256_qint.h`, QuantizeAvx2). Raises ModelError for what
    QNNPACK refuses, and for sums of which the kernels make codes that no rule of ours does.
    """
    minimum = _lower_clamp(out, relu)
    if check_engine(engine) == "qnnpack" and out.dtype == "uint8":
        return (Span(0, count, _fixed_add(a, b, out, minimum)),)
    inverse = reciprocal(out.scale)

    def rule(*, operands_fused: bool, zero_point_first: bool = False, fused: bool = False) -> FloatAdd:
        last = Requantization(
            out.zero_point,
            minimum,
            out.maximum,
            multiplier=np.atleast_1d(inverse),
            zero_point_first=zero_point_first,
            fused_zero_point=fused,
        )
        return FloatAdd(_operand(a, operands_fused), _operand(b, operands_fused), last)

    tail = rule(operands_fused=False, zero_point_first=True)
    if kernels.aten != "uniform":
        _check_sums(tail, a, b, out, relu)
    if kernels.aten == "default":
        body = rule(operands_fused=False, fused=True)
        _check_sums(body, a, b, out, relu)
    else:
        body = rule(operands_fused=True)
        if _wraps_round(_check_sums(body, a, b, out, relu), out, relu) and kernels.aten != "uniform":
            body = replace(body, requantization=replace(body.requantization, indefinite=True))
    if kernels.aten == "uniform":
        return (Span(0, count, body),)
    return lanes.spans(count, body, tail, threads=threads)


def _check_sums(rule: FloatAdd, a: Affine, b: Affine, out: Affine, relu: bool) -> Float32 | None:
    """The sums of all pairs of codes (after a fused ReLU) in steps of the output; None if none can leave int32.

    Raises ModelError where one is no number: there every lane has its own code.
    """
    with np.errstate(all="ignore"):
        inverse = reciprocal(out.scale)
        sides = [
            operand.apply(np.arange(grid.minimum, grid.maximum + 1).astype(grid.dtype))
            for operand, grid in ((rule.a, a), (rule.b, b))
        ]
        if sum(float(np.abs(side).max()) for side in sides) * float(inverse) < _LAST_INT32:
            return None
        real = sides[0][:, None] + sides[1]
        sums = (np.maximum(real, 0) if relu else real) * inverse
    if np.isnan(sums).any():
        raise ModelError(
            f"a sum of tensors of the scales {a.scale} and {b.scale} to scale {out.scale} has results that are no "
            "numbers in binary32; choose scales of sizes nearer to one another"
        )
    return sums


def _wraps_round(sums: Float32 | None, out: Affine, relu: bool) -> bool:
    """Whether the zero point takes sums over an end of int32: then all beyond either end get one and the same code."""
    if sums is None:
        return False
    over = out.zero_point > _INT32_MAX - _LAST_INT32 and bool(np.any(sums >= _LAST_INT32))
    under = out.zero_point < 0 and bool(np.any(sums <= -_PAST_INT32))
    if over and (relu or np.any(sums == _LAST_INT32)):
        raise ModelError(
            f"a sum to scale {out.scale} with zero point {out.zero_point} has results beyond 2**31 steps of "
            "the output, which PyTorch's vector kernel wraps round; choose a larger output scale"
        )
    return over or under


def _operand(affine: Affine, fused: bool) -> Operand:
    scale = f32(affine.scale)
    if fused:
        with np.errstate(over="ignore"):
            return Operand(0, scale, -f32(np.float32(affine.zero_point) * scale))
    return Operand(affine.zero_point, scale, f32(0))


def _fixed_add(a: Affine, b: Affine, out: Affine, minimum: int) -> FixedAdd:
    """The factors of QNNPACK's `pytorch_qnnp_compute_add_quantization_params`."""
    if minimum >= out.maximum:
        raise ModelError(f"QNNPACK adds to no range of one code: choose a zero point below {out.maximum} for add_relu")
    for grid in (a, b, out):
        check_qnnpack_scale(grid.scale)
    ratios = [f32(a.scale) / f32(out.scale), f32(b.scale) / f32(out.scale)]
    for ratio in ratios:
        if not 2.0**-14 <= ratio < 2.0**8:
            raise ModelError(f"QNNPACK adds no tensors whose scale is {ratio} times the output's: 2**-14 up to 2**8")
    if max(ratios) < _LEAST_RATIO:
        raise ModelError(
            f"QNNPACK adds tensors to a scale of {out.scale}, over 2**10 times theirs ({a.scale} and {b.scale}), with "
            "a shift of 32 bits and more, which is none; choose a smaller output scale"
        )
    shift = 21 - math.floor(math.log2(max(float(ratio) for ratio in ratios)))
    factors = [round(float(ratio) * 2.0**shift) for ratio in ratios]
    return FixedAdd(factors[0], a.zero_point, factors[1], b.zero_point, shift, out.zero_point, minimum, out.maximum)


def multiply_rules(
    engine: str,
    kernels: KernelSet,
    a: Affine,
    b: Affine,
    out: Affine,
    count: int,
    relu: bool,
    *,
    threads: int = 1,
) -> tuple[lanes.Span[Product], ...]:
    """The rules of `quantized::mul` (`mul_relu`), the same for every engine, in order.

    One span unless a product can leave int32 after its scaling: the vector body then turns it into -2**31, the tail
    saturates. Raises ModelError for products of which the kernels make codes that no rule of ours does.
    """
    check_engine(engine)
    rule = multiply_rule(engine, kernels, a, b, out, relu)
    multiplier = rule.requantization.multiplier
    assert multiplier is not None
    extremes = [max(abs(code - side.zero_point) for code in (side.minimum, side.maximum)) for side in (a, b)]
    # The zero point, and half a step of binary32 near 2**31, may lift a product over it.
    lift = abs(out.zero_point) + 64 if out.zero_point else 0
    if kernels.aten == "uniform" or extremes[0] * extremes[1] * float(multiplier[0]) + lift < _PAST_INT32:
        return (lanes.Span(0, count, rule),)
    body = replace(rule, requantization=replace(rule.requantization, indefinite=True))
    spans = lanes.spans(count, body, rule, threads=threads)
    _check_products(multiplier, (a, b), out, kernels, {span.rule is rule for span in spans})
    return spans


def _check_products(
    multiplier: Float32, sides: tuple[Affine, Affine], out: Affine, kernels: KernelSet, tails: set[bool]
) -> None:
    """Raises ModelError for products that the kernels and our rules make unlike codes of; `tails`: which spans are."""
    centred = [np.arange(side.minimum, side.maximum + 1) - side.zero_point for side in sides]
    with np.errstate(all="ignore"):
        products = np.rint(f32(centred[0][:, None] * centred[1]) * multiplier)
        # The vector kernels add the zero point after the rounding: AVX2's to the integer, the default ones in binary32.
        shifted = products + np.float32(out.zero_point)
        if kernels.aten != "default":
            shifted = products.astype(np.float64) + out.zero_point
        over = (products < _PAST_INT32) & (shifted >= _PAST_INT32)
        wrong = False in tails and bool(np.any(over))
        wrong |= False in tails and kernels.aten == "default" and out.zero_point < 0
        # The tail converts to 64 bits.
        wrong |= True in tails and not np.all(np.abs(products) < 2.0**63)
    if wrong:
        raise ModelError(
            f"a product of tensors of the scales {sides[0].scale} and {sides[1].scale} to scale {out.scale} has "
            "results beyond 2**31 steps of the output, which PyTorch's kernels wrap round; choose a larger output scale"
        )


def multiply_rule(engine: str, kernels: KernelSet, a: Affine, b: Affine, out: Affine, relu: bool) -> Product:
    """The rule of `quantized::mul` (`mul_relu`) in all lanes while no scaled product leaves int32."""
    with np.errstate(all="ignore"):
        multiplier = (f32(a.scale) * f32(b.scale)) * reciprocal(out.scale)
    last = Requantization(out.zero_point, _lower_clamp(out, relu), out.maximum, multiplier=np.atleast_1d(multiplier))
    return Product(a.zero_point, b.zero_point, last)


@dataclass(frozen=True)
class ParametricRelu:
    """A code above its zero point times the weight's code of 1, one below times the weight, requantised."""

    zero: int
    zero_weight: int
    one: int
    requantization: Requantization

    def apply(self, codes: NDArray[np.integer], weights: NDArray[np.integer]) -> NDArray[np.int32]:
        """Codes, element by element; `weights` broadcasts against `codes`."""
        centred = np.asarray(codes, np.int32) - self.zero
        slope = np.asarray(weights, np.int32) - self.zero_weight
        return self.requantization.apply(np.maximum(centred, 0) * self.one + np.minimum(centred, 0) * slope)


def prelu_rule(source: Affine, weight: Affine, out: Affine) -> ParametricRelu:
    """The rule of `quantized::prelu` (ATen `qprelu_out_kernel`), every engine, kernel set and lane.

    Its slope above zero is the weight's nearest code to 1, saturated: not 1 if the weight's grid does not reach there.
    Holds for products that stay in int32 after their scaling. Raises ModelError for others.
    """
    with np.errstate(all="ignore"):
        multiplier = (f32(source.scale) * f32(weight.scale)) * reciprocal(out.scale)
    reach = [max(abs(code - side.zero_point) for code in (side.minimum, side.maximum)) for side in (source, weight)]
    if not reach[0] * reach[1] * float(multiplier) < 2.0**31:
        raise ModelError(
            f"a PReLU of the scales {source.scale} and {weight.scale} whose output scale {out.scale} is so small that "
            f"products leave int32: choose one above {reach[0] * reach[1] * source.scale * weight.scale / 2.0**31:g}"
        )
    one = int(quantize(1.0, weight)) - weight.zero_point
    last = Requantization(out.zero_point, out.minimum, out.maximum, multiplier=np.atleast_1d(multiplier))
    return ParametricRelu(source.zero_point, weight.zero_point, one, last)
