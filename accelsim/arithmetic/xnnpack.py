"""What XNNPACK computes of 8-bit graphs as ExecuTorch drives it: the constants and the order of roundings.

Measured on ExecuTorch 1.5.1. Sources: XNNPACK `src/qs8-requantization`, `src/microparams-init.c`, `src/operators/`
(`convolution-nhwc.c`, `fully-connected-nc.c`, `binary-elementwise-nd.c`, `reduce-nd.c`); ExecuTorch
`backends/xnnpack/operators`. Activations are int8 with one scale. All of it holds for every element alike.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import ModelError

from .affine import Affine, quantize
from .binary32 import Float32, f32, fma
from .elementwise import FixedAdd, Product
from .requantize import Requantization

_INT32 = np.iinfo(np.int32)

#: How far XNNPACK's sigmoid and tanh may be from the real number, as a share of it: 4 units in the last place. They are
#: polynomials, other ones on other processors; 2 to 4 units were measured.
POLYNOMIAL = 2.0**-21

#: A sum's larger factor has this many binary places when its scale is 1 to 2 times the output's.
_ADD_PLACES = 20


def lowest(out: Affine, relu: bool) -> int:
    """The lower clamp of a result, after a fused ReLU if `relu`."""
    return max(out.zero_point, out.minimum) if relu else out.minimum


def quantized_bias(
    bias: NDArray[np.float32], source: Affine, weight_scale: NDArray[np.float64], *, per_channel: bool
) -> NDArray[np.int32]:
    """A bias in steps of the sums, as ExecuTorch's export makes it: `rne(f32(b * f32(1 / (sx * sw))))`.

    The product of the scales is rounded to binary32 with weight scales per channel, a binary64 number with one for all.
    What leaves int32, and what is no number, becomes -2**31.
    """
    with np.errstate(all="ignore"):
        if per_channel:
            factor = np.float32(1) / (f32(source.scale) * f32(weight_scale))
        else:
            factor = f32(1.0 / (np.float64(source.scale) * weight_scale))
        steps = np.rint(f32(bias) * factor).astype(np.float64)
    inside = (steps >= _INT32.min) & (steps <= _INT32.max)
    return np.where(inside, steps, _INT32.min).astype(np.int32)


def _added(first: NDArray[np.int32] | None, second: NDArray[np.int32] | None) -> NDArray[np.int32] | None:
    """The sum modulo 2**32 of what is there."""
    if first is None or second is None:
        return second if first is None else first
    return (first.astype(np.int64) + second).astype(np.int32)


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
    """Convolution and linear layer: `rne(f32(f32(acc + bias) * m)) + zo`, `m = f32(f32(sx * sw) / so)`.

    `bias`, `offset`: int32 of length `channels`, added to each accumulator modulo 2**32. Raises ModelError for a factor
    with which XNNPACK makes no operator.
    """
    with np.errstate(all="ignore"):
        factor = f32((f32(source.scale) * f32(weight_scale)) / f32(output.scale))
    multiplier = np.ascontiguousarray(np.broadcast_to(factor, channels))
    good = (multiplier >= np.finfo(np.float32).tiny) & (multiplier < 256)
    if not good.all():
        raise ModelError(
            f"its factor sx * sw / so is {multiplier[~good][0]:g}, and XNNPACK takes normal binary32 numbers below "
            "256; choose other scales"
        )
    total = _added(bias, offset)
    return Requantization(output.zero_point, lowest(output, relu), output.maximum, offset=total, multiplier=multiplier)


def mean_rule(
    source: Affine, output: Affine, count: int, channels: int, offset: NDArray[np.int32] | None
) -> Requantization:
    """Mean over `count` elements, of the exact sums of `q - zi`: `rne(f32(f32(acc * m) + Z))`, `acc` the sum of `q`.

    `m = f32(f32(si / so) * f32(1 / N))`, `Z = f32(zo - f32(f32(N * zi) * m))`, which is no integer. `offset` as in
    `matrix_rule`. Raises ModelError for scales that leave binary32.
    """
    with np.errstate(all="ignore"):
        factor = (f32(source.scale) / f32(output.scale)) * (np.float32(1) / f32(count))
        zero = np.float32(output.zero_point) - f32(count * source.zero_point) * factor
    if not (np.finfo(np.float32).tiny <= factor and np.isfinite(zero)):
        raise ModelError(f"its factor si / so / N is {float(factor):g}; choose other scales")
    raw = np.full(channels, count * source.zero_point, np.int32) if source.zero_point else None
    total = _added(raw, offset)
    return Requantization(
        0,
        output.minimum,
        output.maximum,
        offset=None if total is None or not total.any() else total,
        scale_1=np.full(channels, factor, np.float32),
        bias=np.full(channels, zero, np.float32),
    )


def add_rule(a: Affine, b: Affine, out: Affine, relu: bool, *, subtract: bool = False) -> FixedAdd:
    """Sum or difference in fixed point, halves towards plus infinity.

    `ra = f32(sa / so)`, `rb` likewise, `shift = 20 - floor(log2(max(ra, rb)))`, factors `rne(r * 2**shift)`, that of
    `b` negative in a difference. Raises ModelError for ratios of scales that were not measured.
    """
    with np.errstate(all="ignore"):
        ratios = [float(f32(side.scale) / f32(out.scale)) for side in (a, b)]
    for ratio in ratios:
        if not 2.0**-10 <= ratio < 2.0**8:
            raise ModelError(
                f"a sum of a tensor whose scale is {ratio:g} times the output's is not reproduced, only from 2**-10 up "
                "to 2**8; choose scales of sizes nearer to one another"
            )
    shift = _ADD_PLACES - math.floor(math.log2(max(ratios)))
    first, second = (round(math.ldexp(ratio, shift)) for ratio in ratios)
    return FixedAdd(
        first,
        a.zero_point,
        -second if subtract else second,
        b.zero_point,
        shift,
        out.zero_point,
        lowest(out, relu),
        out.maximum,
        halves_up=True,
    )


def multiply_rule(a: Affine, b: Affine, out: Affine) -> Product:
    """Product: `rne(f32(f32((a - za)(b - zb)) * m)) + zo`, `m = f32(f32(sa * sb) / so)`.

    Raises ModelError for factors that were not measured.
    """
    with np.errstate(all="ignore"):
        multiplier = np.atleast_1d((f32(a.scale) * f32(b.scale)) / f32(out.scale))
    if not 2.0**-16 <= multiplier[0] < 2.0**8:
        raise ModelError(
            f"a product whose factor sa * sb / so is {multiplier[0]:g} is not reproduced, only from 2**-16 up to 2**8; "
            "choose another output scale"
        )
    last = Requantization(out.zero_point, out.minimum, out.maximum, multiplier=multiplier)
    return Product(a.zero_point, b.zero_point, last)


def code_of_limit(limit: float, grid: Affine) -> int:
    """The code at which a clamp to `limit` holds codes of a map: `rne(f32(f32(v / s) + z))`, saturated."""
    with np.errstate(all="ignore"):
        code = np.rint(f32(limit) / f32(grid.scale) + np.float32(grid.zero_point))
    return int(np.clip(code, grid.minimum, grid.maximum))


def every_code(grid: Affine) -> NDArray[np.integer]:
    """All codes, (256,) by the code's byte."""
    return np.arange(256, dtype=np.uint8).view(grid.dtype)


def dequantized(grid: Affine) -> Float32:
    """The real value of every code, (256,) by the code's byte: `f32(f32(q - z) * s)`."""
    with np.errstate(over="ignore"):
        return np.asarray(f32(every_code(grid).astype(np.int32) - grid.zero_point) * f32(grid.scale))


def table(values: Float32, out: Affine) -> NDArray[np.uint8]:
    """A function of one code, (1, 256) by the code's byte: its `values` of all codes in float, quantised."""
    return quantize(values, out, "converted").view(np.uint8)[None]


def table_within(
    values: NDArray[np.float64], error: float, source: Affine, out: Affine
) -> tuple[NDArray[np.uint8], list[int]]:
    """As `table`, of values that the float function meets but for a share `error` of them.

    Also the codes of `source` whose value lies so near to the middle between two codes that the share decides.
    """
    below, above = (table(f32(values * (1 + sign * error)), out)[0] for sign in (-1, 1))
    return table(f32(values), out), every_code(source)[below != above].tolist()


def clamp_table(low: float, high: float, source: Affine, out: Affine) -> NDArray[np.uint8]:
    """ReLU, hardtanh or clamp as a table like `table`'s: on the codes, or, to another map, in float.

    In float the zero point is added before the rounding: `rne(f32(f32(clamp(dq) * f32(1 / so)) + zo))`.
    """
    if source == out:
        codes = np.clip(every_code(source), code_of_limit(low, source), code_of_limit(high, source))
        return codes.astype(out.dtype).view(np.uint8)[None]
    clamped = np.minimum(np.maximum(dequantized(source), f32(low)), f32(high))
    with np.errstate(all="ignore"):
        scaled = np.rint(clamped * (np.float32(1) / f32(out.scale)) + np.float32(out.zero_point))
    return np.clip(scaled, out.minimum, out.maximum).astype(out.dtype).view(np.uint8)[None]


def hardswish(x: Float32) -> Float32:
    """`f32(x * clamp(fma(x, f32(1 / 6), 0.5), 0, 1))`."""
    gate = fma(x, np.float32(1 / 6), np.float32(0.5))
    return np.asarray(x * np.minimum(np.maximum(gate, np.float32(0)), np.float32(1)))


def leaky_relu(x: Float32, slope: float) -> Float32:
    """`x` where it is not below 0, else `f32(x * slope)`."""
    return np.where(x < 0, x * np.float32(slope), x)


def sigmoid(x: Float32) -> NDArray[np.float64]:
    """The real value, but for binary64's roundings."""
    return np.asarray(1 / (1 + np.exp(-x.astype(np.float64))))


def tanh(x: Float32) -> NDArray[np.float64]:
    """The real value, but for binary64's roundings."""
    return np.asarray(np.tanh(x.astype(np.float64)))
