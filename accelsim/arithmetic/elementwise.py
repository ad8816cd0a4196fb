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
from .engines import KernelSet, check_engine
from .requantize import Requantization


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
    """`f32(a + b)` of two operands in binary32, then requantised."""

    a: Operand
    b: Operand
    requantization: Requantization

    def apply(self, a: NDArray[np.integer], b: NDArray[np.integer]) -> NDArray[np.int32]:
        """Codes of the sum, element by element."""
        return self.codes(a, b).astype(np.int32)

    def codes(self, a: NDArray[np.integer], b: NDArray[np.integer]) -> Float32:
        """What `apply` returns, as whole binary32 numbers."""
        return self.requantization.codes(self.a.apply(a) + self.b.apply(b))


@dataclass(frozen=True)
class FixedAdd:
    """QNNPACK's sum in fixed point: the factors have `shift` binary places, halves are rounded away from zero."""

    multiplier_a: int
    zero_a: int
    multiplier_b: int
    zero_b: int
    shift: int
    zero_point: int
    minimum: int
    maximum: int

    def apply(self, a: NDArray[np.integer], b: NDArray[np.integer]) -> NDArray[np.int32]:
        """Codes of the sum, element by element."""
        total = self.multiplier_a * (np.asarray(a, np.int64) - self.zero_a)
        total = total + self.multiplier_b * (np.asarray(b, np.int64) - self.zero_b)
        half = (1 << self.shift) >> 1
        rounded = np.where(total >= 0, (total + half) >> self.shift, -((half - total) >> self.shift))
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

    Both operands are contiguous in the same memory order. Holds for sums below 2**31 steps of the output; beyond,
    PyTorch's vector body wraps round and these rules saturate. Raises ModelError for what QNNPACK refuses.
    """
    minimum = _lower_clamp(out, relu)
    if check_engine(engine) == "qnnpack" and out.dtype == "uint8":
        return (Span(0, count, _fixed_add(a, b, out, minimum)),)
    inverse = reciprocal(out.scale)

    def rule(*, operands_fused: bool, zero_point_first: bool, fused: bool) -> AddRule:
        last = Requantization(
            out.zero_point,
            minimum,
            out.maximum,
            multiplier=np.atleast_1d(inverse),
            zero_point_first=zero_point_first,
            fused_zero_point=fused,
        )
        return FloatAdd(_operand(a, operands_fused), _operand(b, operands_fused), last)

    if kernels.aten == "default":
        body = rule(operands_fused=False, zero_point_first=False, fused=True)
    else:
        body = rule(operands_fused=True, zero_point_first=False, fused=False)
    if kernels.aten == "uniform":
        return (Span(0, count, body),)
    tail = rule(operands_fused=False, zero_point_first=True, fused=False)
    return lanes.spans(count, body, tail, threads=threads)


def _operand(affine: Affine, fused: bool) -> Operand:
    scale = f32(affine.scale)
    if fused:
        return Operand(0, scale, -f32(np.float32(affine.zero_point) * scale))
    return Operand(affine.zero_point, scale, f32(0))


def _fixed_add(a: Affine, b: Affine, out: Affine, minimum: int) -> FixedAdd:
    """The factors of QNNPACK's `pytorch_qnnp_compute_add_quantization_params`."""
    if minimum >= out.maximum:
        raise ModelError(f"QNNPACK adds to no range of one code: choose a zero point below {out.maximum} for add_relu")
    ratios = [f32(a.scale) / f32(out.scale), f32(b.scale) / f32(out.scale)]
    for ratio in ratios:
        if not 2.0**-14 <= ratio < 2.0**8:
            raise ModelError(f"QNNPACK adds no tensors whose scale is {ratio} times the output's: 2**-14 up to 2**8")
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
    saturates. (With ATen's default kernels and int8 that conversion is undefined in C++, and not reproduced.)
    """
    check_engine(engine)
    rule = multiply_rule(engine, kernels, a, b, out, relu)
    multiplier = rule.requantization.multiplier
    assert multiplier is not None
    extremes = [max(abs(code - side.zero_point) for code in (side.minimum, side.maximum)) for side in (a, b)]
    if kernels.aten == "uniform" or extremes[0] * extremes[1] * float(multiplier[0]) < 2.0**31:
        return (lanes.Span(0, count, rule),)
    body = replace(rule, requantization=replace(rule.requantization, indefinite=True))
    return lanes.spans(count, body, rule, threads=threads)


def multiply_rule(engine: str, kernels: KernelSet, a: Affine, b: Affine, out: Affine, relu: bool) -> Product:
    """The rule of `quantized::mul` (`mul_relu`) in all lanes while no scaled product leaves int32."""
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
    multiplier = (f32(source.scale) * f32(weight.scale)) * reciprocal(out.scale)
    reach = [max(abs(code - side.zero_point) for code in (side.minimum, side.maximum)) for side in (source, weight)]
    if not reach[0] * reach[1] * float(multiplier) < 2.0**31:
        raise ModelError(
            f"a PReLU whose output scale {out.scale} is so small that products leave int32: choose one above "
            f"{reach[0] * reach[1] * source.scale * weight.scale / 2.0**31:g}"
        )
    one = int(quantize(1.0, weight)) - weight.zero_point
    last = Requantization(out.zero_point, out.minimum, out.maximum, multiplier=np.atleast_1d(multiplier))
    return ParametricRelu(source.zero_point, weight.zero_point, one, last)
