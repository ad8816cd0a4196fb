"""Products of matrices, softmaxes and PReLUs are PyTorch's where there is a rule, and refused where there is none."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from witness import ENGINES, KERNEL_SETS, Case, PyTorch, affine, codes, pair, scale, styles

from accelsim.arithmetic.affine import Affine
from accelsim.arithmetic.elementwise import prelu_rule
from accelsim.arithmetic.engines import KernelSet
from accelsim.arithmetic.matmul import is_exact, matmul
from accelsim.arithmetic.softmax import exponentials, softmax
from accelsim.errors import ModelError


@pytest.mark.parametrize("kernels", KERNEL_SETS, ids=str)
@pytest.mark.parametrize("engine", ENGINES)
def test_a_product_of_matrices_is_pytorchs(pytorch: PyTorch, part: int, engine: str, kernels: KernelSet) -> None:
    rng = np.random.default_rng([19, part])
    cases = []
    for index, style in styles(200):
        dtype = ("uint8", "int8")[index % 2]
        # Scales that are powers of two, or small odd multiples of one, so that all sums are exact.
        a, b = (
            Affine(float(rng.choice([1, 1, 3]) * 2.0 ** rng.integers(-6, 1)), int(z), dtype)
            for z in rng.integers(0, 99, 2)
        )
        out = Affine(a.scale * b.scale * 2.0 ** rng.integers(1, 9), int(rng.integers(0, 100)), dtype)
        if style in ("near ties", "random"):
            out = Affine(
                float(np.nextafter(np.float32(out.scale), np.float32(9))) * (1.3 if style == "random" else 1), 3, dtype
            )
        rows, length, columns = 1 + index % 33, 1 + index % 24, 1 + index % 70
        x = codes(rng, (3, rows, length), dtype, max(a.minimum, a.zero_point - 12), a.zero_point + 12)
        y = codes(rng, (3, length, columns), dtype, max(b.minimum, b.zero_point - 12), b.zero_point + 12)
        check = lambda _, x=x, y=y, a=a, b=b, out=out: matmul(x, y, a, b, out)  # noqa: E731
        cases.append(Case("matmul", (x, y, pair(a), pair(b), pair(out)), check, note=(a, b, out, length)))
    pytorch.compare("matmul", engine, kernels, cases)


def test_a_product_of_matrices_whose_sums_are_rounded_is_refused() -> None:
    plain, odd = Affine(0.5, 0, "uint8"), Affine(0.1, 0, "uint8")
    assert is_exact(plain, plain, 258)
    assert not is_exact(plain, plain, 259)
    assert is_exact(Affine(1.5, 0, "uint8"), plain, 86)
    assert not is_exact(Affine(1.5, 0, "uint8"), plain, 87)
    zeros = np.zeros((2, 2), np.uint8)
    with pytest.raises(ModelError, match="order that depends on the host"):
        matmul(zeros, zeros, plain, odd, plain)


@pytest.mark.parametrize("kernels", KERNEL_SETS, ids=str)
def test_a_softmax_of_qnnpack_is_pytorchs(pytorch: PyTorch, part: int, kernels: KernelSet) -> None:
    rng = np.random.default_rng([20, part])
    out = Affine(2.0**-8, 0, "uint8")
    cases = []
    for index in range(280):
        grid = Affine(
            float(rng.choice([2.0 ** rng.integers(-9, 1), rng.uniform(0.001, 1)])), int(rng.integers(0, 256)), "uint8"
        )
        count = 1 + index % 140 if index % 7 else 600 + index  # from 513 on the exponentials get smaller
        x = codes(rng, (12, count), "uint8")
        if index % 2:
            x = x // 32 * 32  # few distinct values: equal shares, which are ties
        check = lambda _, x=x, grid=grid: softmax("qnnpack", x, grid, out)  # noqa: E731
        cases.append(Case("softmax", (x, pair(grid), -1, pair(out)), check, note=(grid, x.shape)))
    pytorch.compare("softmax", "qnnpack", kernels, cases)


@pytest.mark.parametrize("kernels", KERNEL_SETS, ids=str)
def test_in_a_long_row_the_exponentials_of_all_codes_but_the_largest_may_vanish(
    pytorch: PyTorch, kernels: KernelSet
) -> None:
    """8208 codes leave the largest exponential (2**32 - 1) // 8208, and one that is 0.45 of a unit is rounded to 0."""
    grid, out = Affine(math.log((2**32 - 1) / 8208 / 0.45) / 255, 0, "uint8"), Affine(2.0**-8, 0, "uint8")
    x = np.zeros((2, 8208), np.uint8)
    x[:, 5] = 255
    ours = softmax("qnnpack", x, grid, out)
    assert ours.tolist() == [[255 * (place == 5) for place in range(8208)]] * 2
    pytorch.compare("softmax", "qnnpack", kernels, [Case("softmax", (x, pair(grid), -1, pair(out)), lambda _: ours)])


@pytest.mark.parametrize(
    ("engine", "dtype", "out"),
    [
        ("fbgemm", "uint8", Affine(2.0**-8, 0, "uint8")),
        ("qnnpack", "int8", Affine(2.0**-8, 0, "int8")),
        ("qnnpack", "uint8", Affine(2.0**-7, 0, "uint8")),
        ("qnnpack", "uint8", Affine(2.0**-8, 1, "uint8")),
    ],
)
def test_a_softmax_in_binary32_is_refused(engine: str, dtype: Any, out: Affine) -> None:
    with pytest.raises(ModelError, match="exponential"):
        softmax(engine, np.zeros((1, 4), np.uint8), Affine(0.1, 0, dtype), out)


@pytest.mark.parametrize("kernels", KERNEL_SETS, ids=str)
@pytest.mark.parametrize("engine", ENGINES)
def test_a_prelu_is_pytorchs(pytorch: PyTorch, part: int, engine: str, kernels: KernelSet) -> None:
    rng = np.random.default_rng([21, part])
    cases = []
    for index, style in styles(280):
        dtype = ("uint8", "int8")[index % 2]
        kind = style if style in ("ties", "near ties") else "random"
        source, weight = affine(rng, kind, dtype, index), affine(rng, kind, dtype, 3 * index + 1)
        factor = np.float32(source.scale) * np.float32(weight.scale)
        times = 2.0 ** rng.integers(1, 8) if style in ("ties", "near ties") else rng.uniform(0.5, 99)
        out = Affine(
            float(scale(rng, "huge")) if style == "huge" else float(factor * times),
            affine(rng, kind, dtype, index + 5).zero_point,
            dtype,
        )  # type: ignore[arg-type]
        channels = 1 + index % 70
        x = codes(rng, (2, channels, 3, 3), dtype)
        w = codes(rng, (channels if index % 3 else 1,), dtype)
        rule = prelu_rule(source, weight, out)
        check = lambda _, x=x, w=w, rule=rule: rule.apply(x, w[:, None, None])  # noqa: E731
        arguments = (x, pair(source), ("contiguous", "channels_last")[index // 2 % 2], w, pair(weight), pair(out))
        cases.append(Case("prelu", arguments, check, note=(source, weight, out, channels)))
    pytorch.compare("prelu", engine, kernels, cases)


def test_a_prelu_whose_products_reach_two_to_the_thirty_first_is_refused() -> None:
    grid = Affine(1.0, 0, "uint8")
    with pytest.raises(ModelError, match=f"leave int32: choose one above {255 * 255 / 2**31:g}"):
        prelu_rule(grid, grid, Affine(1e-6, 0, "uint8"))
    # With zero points of 128 the largest product is 128 * 128 = 2**14; a scale of 2**17 takes it to 2**31.
    middle = Affine(1.0, 128, "uint8")
    with pytest.raises(ModelError, match="leave int32"):
        prelu_rule(middle, middle, Affine(2.0**-17, 0, "uint8"))
    just_above = float(np.nextafter(np.float32(2.0**-17), np.float32(1)))
    assert prelu_rule(middle, middle, Affine(just_above, 0, "uint8"))
    for source, weight in ((Affine(1.0, 255, "uint8"), grid), (grid, Affine(1.0, 255, "uint8"))):
        assert prelu_rule(source, weight, Affine(255 * 255 / 2.0**31 * 1.001, 0, "uint8"))
        with pytest.raises(ModelError, match="leave int32"):
            prelu_rule(source, weight, Affine(255 * 255 / 2.0**31 * 0.999, 0, "uint8"))
    for source, weight in ((middle, grid), (grid, middle)):
        assert prelu_rule(source, weight, Affine(128 * 255 / 2.0**31 * 1.001, 0, "uint8"))
        with pytest.raises(ModelError, match=f"choose one above {128 * 255 / 2**31:g}"):
            prelu_rule(source, weight, Affine(128 * 255 / 2.0**31 * 0.999, 0, "uint8"))


def test_the_largest_exponential_fills_the_bits_that_a_row_leaves() -> None:
    assert exponentials(0.1, 10)[255] == 2**23 - 1
    assert exponentials(0.1, 513)[255] == round((2**32 - 1) / 513)
    assert exponentials(1.0, 10)[254] == round((2**23 - 1) / 2.718281828459045)
    # Exact halves, one above an odd integer and one above an even one.
    for count in (514, 1542):
        assert exponentials(0.1, count)[255] == round(Fraction(2**32 - 1, count))
    assert exponentials(0.1, 10).shape == (256,)


def test_products_near_the_ends_of_binary32_are_not_exact() -> None:
    assert not is_exact(Affine(2.0**-50, 0, "uint8"), Affine(2.0**-50, 0, "uint8"), 1)
    assert is_exact(Affine(2.0**-50, 0, "uint8"), Affine(2.0**-49, 0, "uint8"), 1)
    assert not is_exact(Affine(2.0**60, 0, "uint8"), Affine(2.0**60, 0, "uint8"), 1)
    for a, b in ((0, 128), (128, 0)):
        left, right = Affine(1.5 * 2.0**56, a, "uint8"), Affine(2.0**56, b, "uint8")
        assert not is_exact(left, right, 1)
        assert is_exact(Affine(2.0**56, a, "uint8"), right, 1)


def test_sums_up_to_two_to_the_24th_are_exact_and_products_of_scales_below_two_to_the_127th() -> None:
    middle = Affine(0.5, 128, "uint8")  # codes reach 2**7
    assert is_exact(middle, middle, 2**10)
    assert not is_exact(middle, middle, 2**10 + 1)
    for power, exact in ((56, True), (57, False)):  # 2**(7 + 7 + 56 + 57) = 2**127
        assert is_exact(Affine(2.0**power, 128, "uint8"), Affine(2.0**56, 128, "uint8"), 1) is exact


def test_the_terms_of_a_product_are_counted_along_the_inner_axis() -> None:
    grid = Affine(0.5, 0, "uint8")
    assert matmul(np.zeros((259, 1), np.uint8), np.zeros((1, 259), np.uint8), grid, grid, grid).shape == (259, 259)
    with pytest.raises(ModelError, match="over 259 elements"):
        matmul(np.zeros((1, 259), np.uint8), np.zeros((259, 1), np.uint8), grid, grid, grid)


def test_the_reach_of_both_factors_counts() -> None:
    for a, b in ((0, 128), (128, 0)):
        grids = Affine(0.5, a, "uint8"), Affine(0.5, b, "uint8")
        assert is_exact(*grids, 514)
        assert not is_exact(*grids, 515)
