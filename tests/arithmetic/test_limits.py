"""Sums, products and pipelines at the limits of int32 and binary32: PyTorch's codes in every lane, or a refusal."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from witness import KERNEL_SETS, Case, PyTorch, codes, pair, question

from accelsim.arithmetic.affine import Affine
from accelsim.arithmetic.elementwise import add_rules, multiply_rules, prelu_rule
from accelsim.arithmetic.engines import KernelSet
from accelsim.arithmetic.integer_float import IntegerFloat
from accelsim.arithmetic.matrix import quantized_bias
from accelsim.arithmetic.requantize import Requantization
from accelsim.errors import ModelError

AVX2 = KERNEL_SETS[1]


def spans_of(operator: str, engine: str, kernels: KernelSet, grids: Any, a: Any, b: Any, relu: bool) -> np.ndarray:
    rules = add_rules if operator == "add" else multiply_rules
    spans: Any = rules(engine, kernels, *grids, len(a), relu)
    return np.concatenate([span.rule.apply(a[span.start : span.stop], b[span.start : span.stop]) for span in spans])


@pytest.mark.parametrize(
    ("zero_point", "dtype", "body", "tail"),
    [
        (127, "uint8", (0, 255), (0, 255)),
        (128, "uint8", (0, 0), (0, 255)),
        (-1, "int8", (127, 127), (-128, 127)),
        (0, "int8", (-128, 127), (-128, 127)),
    ],
)
def test_the_vector_body_adds_the_zero_point_modulo_two_to_the_thirty_second(
    pytorch: PyTorch, zero_point: int, dtype: Any, body: tuple[int, int], tail: tuple[int, int]
) -> None:
    """The least and the largest sums are beyond int32 on either side: 64 elements of the body, one of the tail."""
    limits = np.iinfo(dtype)
    grid, out = Affine(1.0, (int(limits.min) + 128), dtype), Affine(2.0**-30, zero_point, dtype)
    for code, place in ((limits.min, 0), (limits.max, 1)):
        a = np.full(65, code, dtype)
        ours = spans_of("add", "fbgemm", AVX2, (grid, grid, out), a, a, False)
        assert ours.tolist() == [body[place]] * 64 + [tail[place]]
        (answer,) = pytorch.ask("fbgemm", AVX2, [question("add", a, a, pair(grid), pair(grid), pair(out))])
        assert np.array_equal(ours, answer)


def scale(rng: np.random.Generator, *near: float) -> float:
    """Anywhere, or within reach of a given one."""
    value = 2.0 ** rng.uniform(-148, 126) if not near else near[0] * 2.0 ** rng.uniform(-34, near[1])
    return float(np.clip(value, 2.0**-149, 2.0**127))


def random_pair(rng: np.random.Generator, operator: str) -> tuple[list[Affine], np.ndarray, np.ndarray, bool]:
    dtype: Any = rng.choice(["uint8", "int8"])
    a = scale(rng)
    b = scale(rng) if rng.random() < 0.2 else float(np.clip(a * 2.0 ** rng.uniform(-8, 8), 2.0**-149, 2.0**127))
    if operator != "add" and rng.random() < 0.7:
        b = float(2.0 ** rng.uniform(-3, 3))
    out = scale(rng)
    if rng.random() < 0.8:
        out = scale(rng, a, 4) if operator == "add" else scale(rng, float(np.clip(a * b, 1e-40, 1e37)), 4)
    grids = [Affine(each, int(rng.integers(-128, 128)) + 128 * (dtype == "uint8"), dtype) for each in (a, b, out)]
    count = int(rng.integers(1, 200))
    return grids, codes(rng, count, dtype), codes(rng, count, dtype), bool(rng.random() < 0.3)


def compare(pytorch: PyTorch, operator: str, engine: str, kernels: KernelSet, seed: int, count: int) -> int:
    """How many random cases are equal to PyTorch's; the others both refuse, or we do."""
    rng = np.random.default_rng([19, seed])
    cases = []
    for _ in range(count):
        grids, a, b, relu = random_pair(rng, operator)
        try:
            if operator == "prelu":
                ours = prelu_rule(*grids).apply(a[None, :, None], b[None, :, None])
            else:
                ours = spans_of(operator, engine, kernels, grids, a, b, relu)
        except ModelError as error:
            assert "scale" in str(error) or "zero point" in str(error)  # noqa: PT017
            continue
        arguments: tuple[Any, ...] = (a, b, *map(pair, grids), relu)
        if operator == "prelu":
            arguments = (a[None, :, None].copy(), pair(grids[0]), "contiguous", b, pair(grids[1]), pair(grids[2]))
        cases.append(Case(operator, arguments, lambda _, ours=ours: ours, note=(grids, relu)))
    pytorch.compare(operator, engine, kernels, cases)
    return len(cases)


@pytest.mark.parametrize("kernels", KERNEL_SETS, ids=str)
@pytest.mark.parametrize("engine", ["fbgemm", "qnnpack"])
@pytest.mark.parametrize("operator", ["add", "multiply", "prelu"])
def test_scales_over_their_whole_range(pytorch: PyTorch, operator: str, engine: str, kernels: KernelSet) -> None:
    assert compare(pytorch, operator, engine, kernels, 0, 60) >= 12


@pytest.mark.full
@pytest.mark.parametrize("kernels", KERNEL_SETS, ids=str)
@pytest.mark.parametrize("engine", ["fbgemm", "qnnpack"])
@pytest.mark.parametrize("operator", ["add", "multiply", "prelu"])
def test_many_scales_over_their_whole_range(pytorch: PyTorch, operator: str, engine: str, kernels: KernelSet) -> None:
    assert compare(pytorch, operator, engine, kernels, 1, 3000) >= 800


@pytest.mark.parametrize(
    ("bias", "expected"),
    [
        (0.0, 0),
        (2147483520.0, 2147483520),
        (2.0**31, 2147483647),
        (1e38, 2147483647),
        (np.inf, 2147483647),
        (-(2.0**31), -2147483648),
        (-1e38, -2147483648),
        (-np.inf, -2147483648),
        (np.nan, -2147483648),
        (2.5, 2),
    ],
)
def test_a_bias_in_int32(bias: float, expected: int) -> None:
    """`torch.quantize_per_tensor(bias, 1.0, 0, torch.qint32)`; through binary32 the largest becomes the least."""
    given, unit = np.array([bias], np.float32), np.ones(1)
    assert quantized_bias(given, unit, packed_as_float=False).tolist() == [expected]
    packed = -2147483648 if expected == 2147483647 else expected
    assert quantized_bias(given, unit, packed_as_float=True).tolist() == [packed]


def test_no_bias_in_steps_of_a_unit_without_reciprocal_is_the_least_int32() -> None:
    assert quantized_bias(np.zeros(1, np.float32), np.array([2.0**-129]), packed_as_float=False).tolist() == [-(2**31)]


@pytest.mark.parametrize("indefinite", [False, True])
@pytest.mark.parametrize("zero_point", [0, 7, -7])
def test_integer_gates_make_the_same_of_infinities_and_of_what_is_no_number(zero_point: int, indefinite: bool) -> None:
    ends = np.array([np.inf, -np.inf, np.nan, 0.0, 1e38, 2.0**-149], np.float32)
    first, second = (side.ravel() for side in np.meshgrid(ends, ends))
    sums = np.array([-(2**31), -1, 0, 1, 2**31 - 1], np.int32)[:, None] * np.ones(len(first), np.int32)
    plain = Requantization(zero_point, -128, 127, bias=first, multiplier=second, indefinite=indefinite)
    for rule in (plain, replace(plain, zero_point_first=True), replace(plain, multiplier=None, divisor=second)):
        with np.errstate(all="ignore"):
            assert np.array_equal(IntegerFloat.of(rule).apply(sums), rule.apply(sums))
