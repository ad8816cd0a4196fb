"""Sums and products of two quantised tensors, as ATen (`QuantizedOpKernels.cpp`) and QNNPACK compute them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .affine import Affine
from .binary32 import Float32, f32, fma, reciprocal
from .engines import KernelSet
from .requantize import Requantization

#: Elements that one pass of ATen's vector loop takes.
_VECTOR_LOOP = 64


@dataclass(frozen=True)
class Operand:
    """How a code becomes a binary32 number: `fma(f32(q - subtract), scale, offset)`."""

    subtract: int
    scale: Float32
    offset: Float32

    def apply(self, codes: NDArray[np.integer]) -> Float32:
        """Binary32 values, the shape of `codes`."""
        return fma(np.asarray(codes, np.int32) - self.subtract, self.scale, self.offset)


@dataclass(frozen=True)
class FloatAdd:
    """`f32(a + b)` of two operands in binary32, then requantised."""

    a: Operand
    b: Operand
    requantization: Requantization

    def apply(self, a: NDArray[np.integer], b: NDArray[np.integer]) -> NDArray[np.int32]:
        """Codes of the sum, element by element."""
        return self.requantization.apply(self.a.apply(a) + self.b.apply(b))


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


@dataclass(frozen=True)
class Span:
    """`rule` holds for the elements `start..stop` of the flat tensor in PyTorch's memory order."""

    start: int
    stop: int
    rule: AddRule


def _lower_clamp(out: Affine, relu: bool) -> int:
    return max(out.zero_point, out.minimum) if relu else out.minimum


def add_rules(
    engine: str, kernels: KernelSet, a: Affine, b: Affine, out: Affine, count: int, relu: bool
) -> tuple[Span, ...]:
    """The rules of `quantized::add` (`add_relu`) over `count` elements, in order, one span where all lanes agree."""
    minimum = _lower_clamp(out, relu)
    if engine == "qnnpack":
        return (Span(0, count, _fixed_add(a, b, out, minimum)),)
    inverse = reciprocal(out.scale)

    def rule(*, operands_fused: bool, zero_point_first: bool, fused: bool) -> FloatAdd:
        last = Requantization(
            out.zero_point,
            minimum,
            out.maximum,
            multiplier=np.atleast_1d(inverse),
            zero_point_first=zero_point_first,
            fused_zero_point=fused,
        )
        return FloatAdd(_operand(a, operands_fused), _operand(b, operands_fused), last)

    tail = rule(operands_fused=False, zero_point_first=True, fused=False)
    if kernels.aten == "default":
        body = rule(operands_fused=False, zero_point_first=False, fused=True)
    else:
        body = rule(operands_fused=True, zero_point_first=False, fused=False)
    if kernels.aten == "uniform":
        return (Span(0, count, body),)
    split = count // _VECTOR_LOOP * _VECTOR_LOOP
    return tuple(span for span in (Span(0, split, body), Span(split, count, tail)) if span.start < span.stop)


def _operand(affine: Affine, fused: bool) -> Operand:
    scale = f32(affine.scale)
    if fused:
        return Operand(0, scale, -f32(np.float32(affine.zero_point) * scale))
    return Operand(affine.zero_point, scale, f32(0))


def _fixed_add(a: Affine, b: Affine, out: Affine, minimum: int) -> FixedAdd:
    """The factors of QNNPACK's `pytorch_qnnp_compute_add_quantization_params`."""
    ratio_a, ratio_b = f32(a.scale) / f32(out.scale), f32(b.scale) / f32(out.scale)
    shift = 21 - math.floor(math.log2(max(float(ratio_a), float(ratio_b))))
    factors = [round(float(ratio) * 2.0**shift) for ratio in (ratio_a, ratio_b)]
    return FixedAdd(factors[0], a.zero_point, factors[1], b.zero_point, shift, out.zero_point, minimum, out.maximum)


def multiply_rule(engine: str, kernels: KernelSet, a: Affine, b: Affine, out: Affine, relu: bool) -> Product:
    """The rule of `quantized::mul` (`mul_relu`), the same for every engine, kernel set and lane."""
    multiplier = (f32(a.scale) * f32(b.scale)) * reciprocal(out.scale)
    last = Requantization(out.zero_point, _lower_clamp(out, relu), out.maximum, multiplier=np.atleast_1d(multiplier))
    return Product(a.zero_point, b.zero_point, last)
