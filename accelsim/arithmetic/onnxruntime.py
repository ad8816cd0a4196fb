"""What ONNX Runtime's CPU provider computes of 8-bit graphs: the constants and the order of roundings of each operator.

Measured on onnxruntime 1.32.0. Sources: MLAS `quantize.cpp`, `qladd.cpp`, `qlmul.cpp`, `qlgavgpool.cpp`; the kernels
`qlinearconv.cc`, `quant_gemm.cc`, `qlinear_lookup_table.cc`. Scales are binary32 numbers. All of it holds for
processors with FMA, for every element alike.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from accelsim.errors import ModelError

from .affine import Affine, quantize
from .binary32 import Float32, f32, fma
from .elementwise import FloatAdd, Operand, Product
from .pooling import AverageRule
from .requantize import Requantization

_INT32 = np.iinfo(np.int32)


def lowest(out: Affine, relu: bool) -> int:
    """The lower clamp of a result, after a ReLU if `relu`."""
    return max(out.zero_point, out.minimum) if relu else out.minimum


def unit(source: Affine, weight_scale: ArrayLike) -> Float32:
    """`f32(sx * sw)`: the real value of one step of the sums."""
    return np.atleast_1d(f32(source.scale) * f32(weight_scale))


def quantized_bias(bias: NDArray[np.float32], unit: Float32) -> NDArray[np.int32]:
    """A bias in steps of the sums, `rne(f32(bias / f32(sx * sw)))`. Raises ModelError where int32 does not hold it."""
    with np.errstate(all="ignore"):
        steps = np.rint(f32(bias) / unit).astype(np.float64)
    if not np.all((steps >= _INT32.min) & (steps <= _INT32.max)):
        raise ModelError("its bias, in steps of the sums, is no int32; quantise the bias, or choose larger scales")
    return steps.astype(np.int32)


def matrix_rule(
    *,
    source: Affine,
    weight_scale: NDArray[np.float64],
    output: Affine,
    bias: NDArray[np.int32] | None,
    relu: bool,
    channels: int,
    offset: NDArray[np.int32] | None,
) -> Requantization:
    """QLinearConv, QGemm and QLinearMatMul: `rne(f32(f32(acc + bias) * m)) + zo`, `m = f32(f32(sx * sw) / so)`.

    `bias`, `offset`: int32 of length `channels`, added to each accumulator modulo 2**32. Raises ModelError for
    a factor that is no finite number above 0.
    """
    with np.errstate(all="ignore"):
        multiplier = np.ascontiguousarray(np.broadcast_to(unit(source, weight_scale) / f32(output.scale), channels))
    good = np.isfinite(multiplier) & (multiplier > 0)
    if not good.all():
        raise ModelError(f"its factor sx * sw / so is {multiplier[~good][0]:g} in binary32; choose other scales")
    total = bias
    if offset is not None:
        total = offset if bias is None else (bias.astype(np.int64) + offset).astype(np.int32)
    return Requantization(output.zero_point, lowest(output, relu), output.maximum, offset=total, multiplier=multiplier)


#: Which kernel adds: QLinearAdd on the codes as they are, or on those of int8 as uint8 (128 more), which ONNX Runtime
#: makes of pairs of QuantizeLinear and DequantizeLinear; or the float operator, where only some of the three tensors
#: are such pairs.
AddForm = Literal["codes", "unsigned", "float"]


def add_rule(a: Affine, b: Affine, out: Affine, relu: bool, form: AddForm = "codes") -> FloatAdd:
    """QLinearAdd on raw codes: `rne(fma(a, ra, fma(b, rb, F)))`, `F = f32(zo - fma(ra, za, f32(rb * zb)))`.

    "float": `rne(f32(f32(f32(a - za) * sa + f32(b - zb) * sb) / so)) + zo`, each product and the sum rounded.
    """
    if form == "float":
        last = Requantization(out.zero_point, lowest(out, relu), out.maximum, divisor=np.atleast_1d(f32(out.scale)))
        first, second = (Operand(side.zero_point, f32(side.scale), f32(0)) for side in (a, b))
        return FloatAdd(first, second, last)
    shift = 128 if form == "unsigned" else 0
    with np.errstate(all="ignore"):
        ratio_a, ratio_b = (f32(side.scale) / f32(out.scale) for side in (a, b))
        zero_b = ratio_b * np.float32(b.zero_point + shift)
        offset = np.float32(out.zero_point + shift) - fma(ratio_a, a.zero_point + shift, zero_b)
    if not np.isfinite(ratio_a) or not np.isfinite(ratio_b) or not np.isfinite(offset):
        raise ModelError(f"a sum of scales {a.scale} and {b.scale} to scale {out.scale} leaves binary32; choose others")
    last = Requantization(-shift, lowest(out, relu), out.maximum)
    return FloatAdd(Operand(-shift, ratio_a, f32(0)), Operand(-shift, ratio_b, f32(offset)), last, fused=True)


def multiply_rule(a: Affine, b: Affine, out: Affine, relu: bool) -> Product:
    """QLinearMul: `rne(f32(f32((a - za)(b - zb) * m) + zo))`, `m = f32(f32(sa * sb) / so)`."""
    with np.errstate(all="ignore"):
        multiplier = np.atleast_1d((f32(a.scale) * f32(b.scale)) / f32(out.scale))
    if not np.isfinite(multiplier[0]):
        raise ModelError(f"a product of scales {a.scale} and {b.scale} to scale {out.scale} leaves binary32")
    last = Requantization(out.zero_point, lowest(out, relu), out.maximum, multiplier=multiplier, zero_point_first=True)
    return Product(a.zero_point, b.zero_point, last)


def average_rule(source: Affine, out: Affine, count: int, *, whole: bool) -> AverageRule:
    """QLinearGlobalAveragePool over `count` elements: `rne(f32(f32(sum(q - z)) * f32(s / f32(so * n)))) + zo`.

    Not over a `whole` image the zero point is added before the rounding, as QLinearAveragePool does; its sums of
    binary32 numbers have roundings of their own, which this rule has not.
    """
    with np.errstate(all="ignore"):
        multiplier = np.atleast_1d(f32(source.scale) / (f32(out.scale) * f32(count)))
    last = Requantization(out.zero_point, out.minimum, out.maximum, multiplier=multiplier, zero_point_first=not whole)
    return AverageRule(source.zero_point, last)


def dequantized(grid: Affine) -> Float32:
    """The real value of every code, (256,) by the code's byte: `f32(f32(q - z) * s)`."""
    codes = np.arange(256, dtype=np.uint8).view(grid.dtype).astype(np.int32)
    with np.errstate(over="ignore"):
        return np.asarray(f32(codes - grid.zero_point) * f32(grid.scale))


def table(values: Float32, out: Affine) -> NDArray[np.uint8]:
    """A function of one code as a table, (1, 256) by the code's byte: the `values` of all codes, quantised."""
    return quantize(values, out, "division").view(np.uint8)[None]


#: Numerators and denominators of the rational functions of MLAS (`logistic.cpp`, `tanh.cpp`), highest power first.
_LOGISTIC = (
    (4.37031012579801e-11, 1.15627324459942e-07, 6.08574864600143e-05, 8.51377133304701e-03, 2.48287947061529e-01),
    (
        6.10247389755681e-13,
        5.76102136993427e-09,
        6.29106785017040e-06,
        1.70198817374094e-03,
        1.16817656904453e-01,
        9.93151921023180e-01,
    ),
)
_TANH = (
    (
        -2.76076847742355e-16,
        2.00018790482477e-13,
        -8.60467152213735e-11,
        5.12229709037114e-08,
        1.48572235717979e-05,
        6.37261928875436e-04,
        4.89352455891786e-03,
    ),
    (1.19825839466702e-06, 1.18534705686654e-04, 2.26843463243900e-03, 4.89352518554385e-03),
)


def sigmoid(x: Float32) -> Float32:
    """ONNX Runtime's Sigmoid of binary32 numbers: an odd rational function plus a half, on -18 to 18.

    It is kept from falling below 0, not from passing 1: a few numbers above 17 have 1 + 2**-23.
    """
    return np.asarray(np.maximum(_rational(x, 18, *_LOGISTIC) + np.float32(0.5), np.float32(0)))


def tanh(x: Float32) -> Float32:
    """ONNX Runtime's Tanh of binary32 numbers, on -9 to 9."""
    return _rational(x, 9, *_TANH)


def _rational(x: Float32, end: int, above: tuple[float, ...], below: tuple[float, ...]) -> Float32:
    """`x * p(x^2) / q(x^2)`, Horner's steps fused; `x` is clamped to -end..end."""
    inside = np.minimum(np.maximum(x, np.float32(-end)), np.float32(end))
    square, sides = inside * inside, []
    for coefficients in (above, below):
        value = np.full_like(square, coefficients[0])
        for coefficient in coefficients[1:]:
            value = fma(value, square, np.float32(coefficient))
        sides.append(value)
    return np.asarray(inside * sides[0] / sides[1])
