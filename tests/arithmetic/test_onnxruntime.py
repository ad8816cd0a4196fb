"""Edges of ONNX Runtime's rules that 8-bit outputs hardly show: numbers of onnxruntime 1.32.0 itself, or by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest

from accelsim.arithmetic import onnxruntime as rules
from accelsim.arithmetic.affine import Affine
from accelsim.errors import ModelError

#: Inputs, and the bits of what the CPU provider's Sigmoid makes of them.
SIGMOID = (
    (-20.0, 0x00000000), (-18.3125, 0x00000000), (-17.25, 0x33000000), (-4.25, 0x3C666B20), (-1.75, 0x3E1799AE),
    (-0.625, 0x3EB2819E), (-0.125, 0x3EF00553), (0.375, 0x3F17B900), (0.8125, 0x3F3150FC), (1.9375, 0x3F5FC387),
    (2.5, 0x3F6C948F), (3.3125, 0x3F7700C0), (5.25, 0x3F7EA9E4), (6.125, 0x3F7F70F4), (7.75, 0x3F7FE3C8),
    (17.25, 0x3F800000), (18.3125, 0x3F800000), (math.inf, 0x3F800000), (17.482065200805664, 0x3F800001),
    (17.631031036376953, 0x3F800001), (-16.2467098236084, 0x00000000), (-16.27189826965332, 0x00000000),
)  # fmt: skip
TANH = (
    (-20.0, 0xBF800000), (-9.25, 0xBF800000), (-8.5, 0xBF7FFFFE), (-4.25, 0xBF7FE556), (-1.75, 0xBF70FDFD),
    (-0.625, 0xBF0DFA3F), (-0.125, 0xBDFEACC9), (0.375, 0x3EB77A9F), (0.8125, 0x3F2BC480), (1.9375, 0x3F7596FF),
    (2.5, 0x3F7C92C2), (3.3125, 0x3F7F5253), (5.25, 0x3F7FFC62), (6.125, 0x3F7FFF5F), (7.75, 0x3F7FFFFA),
    (8.25, 0x3F7FFFFE), (8.875, 0x3F800000), (9.25, 0x3F800000), (9.75, 0x3F800000), (math.inf, 0x3F800000),
)  # fmt: skip


@pytest.mark.parametrize(("function", "measured"), [(rules.sigmoid, SIGMOID), (rules.tanh, TANH)])
def test_functions_have_onnx_runtimes_bits(
    function: Callable[[np.ndarray], np.ndarray], measured: tuple[tuple[float, int], ...]
) -> None:
    x = np.array([point for point, _ in measured], np.float32)
    assert [hex(bits) for bits in function(x).view(np.uint32).tolist()] == [hex(bits) for _, bits in measured]


def test_a_bias_is_rounded_half_to_even_within_int32() -> None:
    unit = np.array([2.0], np.float32)
    bias = np.array([1, 3, 5, -1, -3, 1.5, 2**-30], np.float32)
    assert rules.quantized_bias(bias, unit).tolist() == [0, 2, 2, 0, -2, 1, 0]
    assert rules.quantized_bias(np.array([-(2.0**32)], np.float32), unit).tolist() == [-(2**31)]
    below, above = np.float32(2**32 - 256), np.float32(2**32)  # neighbours in binary32
    assert rules.quantized_bias(np.array([below]), unit).tolist() == [2**31 - 128]
    for wrong in (above, -(2.0**32) - 512, math.inf, math.nan):
        with pytest.raises(ModelError, match="int32"):
            rules.quantized_bias(np.array([wrong], np.float32), unit)


def matrix_rule(scale: float, out: float, bias: int | None, offset: int | None) -> list[int] | None:
    """The integers that a rule adds to the sums."""
    rule = rules.matrix_rule(
        source=Affine(scale, 0, "uint8"),
        weight_scale=np.array([scale]),
        output=Affine(out, 0, "uint8"),
        bias=None if bias is None else np.array([bias], np.int32),
        relu=False,
        channels=1,
        offset=None if offset is None else np.array([offset], np.int32),
    )
    return None if rule.offset is None else rule.offset.tolist()


def test_bias_and_offset_are_added_modulo_two_to_the_32() -> None:
    assert matrix_rule(0.5, 1.0, None, None) is None
    assert matrix_rule(0.5, 1.0, 7, None) == [7]
    assert matrix_rule(0.5, 1.0, None, -9) == [-9]
    assert matrix_rule(0.5, 1.0, 2**31 - 1, 5) == [-(2**31) + 4]


def test_a_factor_that_is_no_positive_number_is_refused() -> None:
    for scale, out in ((2.0**-80, 1.0), (1.0, 2.0**127 * 1.5), (2.0**64, 1.0), (2.0**60, 2.0**-60)):
        if scale == 1.0:
            assert matrix_rule(scale, out, None, None) is None  # 2**-128 / 1.5 is a subnormal number, above 0
            continue
        with pytest.raises(ModelError, match="factor"):
            matrix_rule(scale, out, None, None)


def test_every_code_has_its_real_value() -> None:
    real = rules.dequantized(Affine(0.25, 3, "int8"))
    assert real.tolist() == [(code - 256 * (code > 127) - 3) / 4 for code in range(256)]


def f32(value: Fraction) -> Fraction:
    """The nearest binary32 number of a normal one, half to even."""
    exponent = 0
    while abs(value) >= Fraction(2) ** (exponent + 1):
        exponent += 1
    while value and abs(value) < Fraction(2) ** exponent:
        exponent -= 1
    step = Fraction(2) ** (exponent - 23)
    return round(value / step) * step


@pytest.mark.parametrize("form", ["codes", "unsigned", "float"])
def test_sums_are_rounded_where_the_kernel_rounds(form: rules.AddForm) -> None:
    """Each step in fractions: of all 65,536 pairs of codes, on scales that no power of two divides."""
    a, b, out = Affine(0.0371, -3, "int8"), Affine(0.0293, 11, "int8"), Affine(0.0417, 5, "int8")
    sa, sb, so = (Fraction(float(np.float32(grid.scale))) for grid in (a, b, out))
    codes = np.arange(-128, 128)
    first, second = (side.reshape(-1) for side in np.meshgrid(codes, codes, indexing="ij"))
    found = rules.add_rule(a, b, out, False, form).apply(first.astype(np.int8), second.astype(np.int8))
    chosen = np.random.default_rng(3).choice(len(first), 3000, replace=False)
    shift = 128 if form == "unsigned" else 0
    ra, rb = f32(sa / so), f32(sb / so)
    start = f32(5 + shift - f32(ra * (-3 + shift) + f32(rb * (11 + shift))))
    for i in chosen.tolist():
        qa, qb = int(first[i]), int(second[i])
        if form == "float":
            code = round(f32(f32(f32((qa + 3) * sa) + f32((qb - 11) * sb)) / so)) + 5
        else:
            code = round(f32((qa + shift) * ra + f32((qb + shift) * rb + start))) - shift
        assert int(found[i]) == max(-128, min(127, code)), (qa, qb)
