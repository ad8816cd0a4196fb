"""Sums and products of two quantised tensors are PyTorch's, in every lane."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from witness import ENGINES, KERNEL_SETS, Case, PyTorch, affine, codes, pair, styles

from accelsim.arithmetic.affine import Affine
from accelsim.arithmetic.elementwise import FloatAdd, add_rules, multiply_rules
from accelsim.arithmetic.engines import KernelSet
from accelsim.arithmetic.lanes import Span
from accelsim.errors import ModelError


def applied(spans: Sequence[Span[Any]], a: np.ndarray, b: np.ndarray) -> np.ndarray:
    assert spans[0].start == 0
    assert spans[-1].stop == len(a)
    assert all(before.stop == after.start for before, after in pairwise(spans))
    return np.concatenate([span.rule.apply(a[span.start : span.stop], b[span.start : span.stop]) for span in spans])


def operands(rng: np.random.Generator, style: str, dtype: str, index: int) -> tuple[Affine, Affine, Affine]:
    """Two operands of the same scale and an output of twice that, so that odd sums are ties, or unrelated ones."""
    a, b, out = (affine(rng, style, dtype, index * 3 + place) for place in range(3))
    if style == "ties":
        return a, replace(b, scale=a.scale), replace(out, scale=2 * a.scale)
    if style == "near ties":
        nudged = np.nextafter(np.float32(2 * a.scale), np.float32(rng.choice([0.0, 1e9])))
        return a, replace(b, scale=a.scale), replace(out, scale=float(nudged))
    return a, b, replace(out, scale=a.scale * float(rng.uniform(0.5, 3)))


def sizes(index: int) -> int:
    """Every length from 1 to 140, so that each lane of body and tail is met."""
    return 1 + index % 140


@pytest.mark.parametrize("kernels", KERNEL_SETS, ids=str)
@pytest.mark.parametrize("dtype", ["uint8", "int8"])
@pytest.mark.parametrize("engine", ENGINES)
def test_a_sum_is_pytorchs(pytorch: PyTorch, part: int, engine: str, kernels: KernelSet, dtype: str) -> None:
    rng = np.random.default_rng([3, part])
    cases = []
    for index, style in styles(700):
        a, b, out = operands(rng, style, dtype, index)
        qa, qb = codes(rng, sizes(index), dtype), codes(rng, sizes(index), dtype)
        relu = bool(index % 3 == 0) and out.zero_point < 255

        def check(
            _: Any, a: Affine = a, b: Affine = b, out: Affine = out, qa: Any = qa, qb: Any = qb, relu: bool = relu
        ) -> Any:
            return applied(add_rules(engine, kernels, a, b, out, len(qa), relu), qa, qb)

        arguments = (qa, qb, pair(a), pair(b), pair(out), relu)
        cases.append(Case("add", arguments, check, note=(a, b, out, len(qa), relu)))
    pytorch.compare("add", engine, kernels, cases)


@pytest.mark.parametrize("kernels", KERNEL_SETS, ids=str)
@pytest.mark.parametrize("dtype", ["uint8", "int8"])
@pytest.mark.parametrize("engine", ENGINES)
def test_a_product_is_pytorchs(pytorch: PyTorch, part: int, engine: str, kernels: KernelSet, dtype: str) -> None:
    rng = np.random.default_rng([4, part])
    cases = []
    for index, style in styles(700):
        a, b, out = (
            affine(rng, style if style not in ("tiny", "huge") else "random", dtype, index * 3 + i) for i in range(3)
        )
        if style in ("ties", "near ties"):
            # Products of small codes, halved: every odd one is a tie.
            factor = np.float32(a.scale) * np.float32(b.scale)
            out = replace(out, scale=float(factor * 2.0 ** rng.integers(1, 8)))
        if style == "tiny":
            out = replace(out, scale=a.scale * b.scale * 10.0 ** rng.uniform(-14, 0))
        if style == "huge":
            out = replace(out, scale=1e30)
        if style == "tiny" and kernels.aten == "default" and dtype == "int8":
            continue  # the conversion is undefined in C++ there
        qa, qb = codes(rng, sizes(index), dtype), codes(rng, sizes(index), dtype)
        relu = bool(index % 3 == 0)

        def check(
            _: Any, a: Affine = a, b: Affine = b, out: Affine = out, qa: Any = qa, qb: Any = qb, relu: bool = relu
        ) -> Any:
            return applied(multiply_rules(engine, kernels, a, b, out, len(qa), relu), qa, qb)

        arguments = (qa, qb, pair(a), pair(b), pair(out), relu)
        cases.append(Case("multiply", arguments, check, note=(a, b, out, len(qa), relu)))
    pytorch.compare("mul", engine, kernels, cases)


@pytest.mark.parametrize("kernels", KERNEL_SETS, ids=str)
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("count", [32767, 70001])
def test_each_thread_of_a_large_sum_has_a_tail_of_its_own(
    pytorch: PyTorch, part: int, kernels: KernelSet, threads: int, count: int
) -> None:
    rng = np.random.default_rng([5, part])
    a, b, out = Affine(0.25, 3, "uint8"), Affine(0.25, 7, "uint8"), Affine(0.5, 101, "uint8")
    qa, qb = codes(rng, count, "uint8"), codes(rng, count, "uint8")
    spans = add_rules("fbgemm", kernels, a, b, out, count, False, threads=threads)
    assert len(spans) == (4 if (threads, count) == (2, 70001) else 2)
    arguments = (qa, qb, pair(a), pair(b), pair(out))
    case = Case("add", arguments, lambda _: applied(spans, qa, qb), {"threads": threads}, note=(count, threads))
    pytorch.compare("add", "fbgemm", kernels, [case])


def test_the_reference_is_pytorch_with_one_thread() -> None:
    grid = Affine(0.25, 3, "uint8")
    tiny = Affine(1e-9, 3, "uint8")
    arguments = ("fbgemm", KernelSet("avx2", "avx2"), grid, grid)
    spans = [(span.start, span.stop) for span in add_rules(*arguments, grid, 70001, False)]
    assert spans == [(0, 69952), (69952, 70001)]
    # Products that leave int32 have a body and a tail of their own.
    spans = [(span.start, span.stop) for span in multiply_rules(*arguments, tiny, 70001, False)]
    assert spans == [(0, 69952), (69952, 70001)]


def test_half_of_the_sums_compared_are_ties() -> None:
    rng = np.random.default_rng(3)
    ties = total = 0
    for index, style in styles(100):
        a, b, _ = operands(rng, style, "uint8", index)
        qa, qb = codes(rng, 64, "uint8"), codes(rng, 64, "uint8")
        if style in ("ties", "near ties"):
            ties += int((((qa.astype(int) - a.zero_point) + (qb.astype(int) - b.zero_point)) % 2 == 1).sum())
        total += 64
    assert ties >= total / 3


def test_the_uniform_rule_is_the_vector_body_for_every_lane() -> None:
    a, b, out = Affine(0.25, 3, "uint8"), Affine(0.25, 7, "uint8"), Affine(0.5, 101, "uint8")
    (span,) = add_rules("fbgemm", KernelSet("uniform", "avx2"), a, b, out, 1000, False)
    body, _ = add_rules("fbgemm", KernelSet("avx2", "avx2"), a, b, out, 1000, False)
    assert isinstance(span.rule, FloatAdd)
    assert isinstance(body.rule, FloatAdd)
    assert span.rule.requantization.steps == body.rule.requantization.steps
    assert (span.start, span.stop) == (0, 1000)


def test_what_qnnpack_refuses_to_add_is_an_error_that_says_why() -> None:
    a, b, out = Affine(1.0, 0, "uint8"), Affine(1.0, 0, "uint8"), Affine(2.0**-8, 0, "uint8")
    with pytest.raises(ModelError, match=r"256.0 times the output's"):
        add_rules("qnnpack", KernelSet("avx2", "avx2"), a, b, out, 4, False)
    full = Affine(1.0, 255, "uint8")
    with pytest.raises(ModelError, match="below 255"):
        add_rules("qnnpack", KernelSet("avx2", "avx2"), a, b, full, 4, True)
    assert add_rules("fbgemm", KernelSet("avx2", "avx2"), a, b, full, 4, True)


def test_qnnpack_adds_scales_from_a_fourteenth_power_of_a_half_to_below_the_eighth_of_two() -> None:
    kernels, one = KernelSet("avx2", "avx2"), Affine(1.0, 0, "uint8")
    for ratio, other in ((2.0**-14, 1.0), (float(np.nextafter(np.float32(256), np.float32(0))), 1.0)):
        for a, b in ((ratio, other), (other, ratio)):
            assert add_rules("qnnpack", kernels, replace(one, scale=a), replace(one, scale=b), one, 4, False)
    small = replace(one, scale=2.0**-10)
    assert add_rules("qnnpack", kernels, small, small, one, 4, False)
    smaller = replace(one, scale=float(np.nextafter(np.float32(2.0**-10), np.float32(0))))
    with pytest.raises(ModelError, match="shift of 32 bits"):
        add_rules("qnnpack", kernels, smaller, smaller, one, 4, False)
    for ratio in (float(np.nextafter(np.float32(2.0**-14), np.float32(0))), 256.0):
        for a, b in ((ratio, 1.0), (1.0, ratio)):
            with pytest.raises(ModelError, match="times the output's"):
                add_rules("qnnpack", kernels, replace(one, scale=a), replace(one, scale=b), one, 4, False)


def test_products_that_reach_two_to_the_thirty_first_leave_int32_and_those_below_do_not() -> None:
    # Both zero points are 128: the largest product is 128 * 128 = 2**14, the scale 2**17.
    grid, kernels = Affine(1.0, 128, "uint8"), KernelSet("avx2", "avx2")
    just_above = float(np.nextafter(np.float32(2.0**-17), np.float32(1)))
    for scale, rules in ((2.0**-17, 2), (just_above, 1)):
        assert len(multiply_rules("fbgemm", kernels, grid, grid, Affine(scale, 0, "uint8"), 70, False)) == rules
    # Of one operand the negative end is further off, of the other the positive one.
    low, high = Affine(1.0, 255, "uint8"), Affine(1.0, 0, "uint8")
    limit = 255 * 255 / 2.0**31
    for a, b in ((low, high), (high, low)):
        for scale, rules in ((limit * 0.999, 2), (limit * 1.001, 1)):
            assert len(multiply_rules("fbgemm", kernels, a, b, Affine(scale, 0, "uint8"), 70, False)) == rules
    # One reaches 2**7, the other 255.
    limit = 128 * 255 / 2.0**31
    for a, b in ((grid, high), (high, grid)):
        for scale, rules in ((limit * 0.999, 2), (limit * 1.001, 1)):
            assert len(multiply_rules("fbgemm", kernels, a, b, Affine(scale, 0, "uint8"), 70, False)) == rules


def test_an_engine_that_there_is_not_is_an_error_that_lists_those_there_are() -> None:
    grid = Affine(1.0, 0, "uint8")
    with pytest.raises(ModelError, match=r"'tpu'.*fbgemm, qnnpack, x86, onednn"):
        add_rules("tpu", KernelSet("avx2", "avx2"), grid, grid, grid, 4, False)
