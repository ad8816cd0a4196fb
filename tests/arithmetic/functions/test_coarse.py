"""Tables of lines and I-BERT's polynomials: what they promise, and what their papers say of them."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

from accelsim.arithmetic import functions
from accelsim.arithmetic.functions import bounds, lookup
from accelsim.arithmetic.functions.operations import OPERATIONS
from tests.arithmetic.functions.inputs import edges

ENTRIES = [2, 4, 16, 64, 256, 1024, 4096]
TABLED = [name for name in functions.NAMES if functions.ulp(name, functions.Method("table", 64)) is None]
I_BERT = functions.Method("i_bert")


def table(entries: int) -> functions.Method:
    return functions.Method("table", entries)


def test_what_has_a_table() -> None:
    assert set(functions.NAMES) - set(TABLED) == {"hardswish", "hardsigmoid", "sin", "cos"}


@pytest.mark.parametrize("name", TABLED)
def test_four_times_the_entries_make_a_sixteenth_of_the_error(name: str) -> None:
    """The rule of lines, until the saturation or binary32 is what is left."""
    x = np.geomspace(2.0**-8, 12, 20001).astype(np.float32)
    if name not in ("log", "sqrt", "rsqrt", "reciprocal"):
        x = np.concatenate([x, -x])
    true = bounds.true_value(name, x)
    weight = np.abs(true) if name in ("exp", "exp2", "sqrt", "rsqrt", "reciprocal") else 1.0
    errors = [np.max(np.abs(functions.evaluate(name, x, table(n)) - true) / weight) for n in (16, 64, 256, 1024)]
    for coarse, fine in itertools.pairwise(errors):
        assert fine < max(coarse / 4, 1e-6)
    assert errors[-1] < 3e-5


@pytest.mark.parametrize("entries", ENTRIES)
def test_a_table_is_exact_where_it_saturates(entries: int) -> None:
    x = np.array([16, 100, 3e38, np.inf], np.float32)
    for name in ("tanh", "erf", "sigmoid"):
        assert functions.evaluate(name, x, table(entries)).tolist() == [1, 1, 1, 1]
        below = 0 if name == "sigmoid" else -1
        assert functions.evaluate(name, -x, table(entries)).tolist() == [below] * 4
    for name in ("gelu", "gelu_tanh", "silu", "softplus"):
        assert functions.evaluate(name, x, table(entries)).tolist() == x.tolist()
        assert functions.evaluate(name, -x, table(entries)).tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("entries", ENTRIES)
@pytest.mark.parametrize("name", ["tanh", "erf", "gelu", "gelu_tanh", "silu"])
def test_a_table_of_a_function_through_zero_is_zero_there(name: str, entries: int) -> None:
    assert functions.evaluate(name, [0.0, -0.0], table(entries)).tolist() == [0, 0]


@pytest.mark.parametrize("entries", ENTRIES)
@pytest.mark.parametrize("name", TABLED)
def test_a_table_is_continuous(name: str, entries: int) -> None:
    """From one binary32 number to the next it goes no further than the steepest line, and rounding."""
    x = np.linspace(0.5, 8, 50001).astype(np.float32)
    result = functions.evaluate(name, x, table(entries)).astype(np.float64)
    true = bounds.true_value(name, x)
    steepest = 3 * np.max(np.abs(np.diff(true)) / np.maximum(np.abs(true[1:]), 1))
    jumps = np.abs(np.diff(result)) / np.maximum(np.abs(result[1:]), 1)
    assert jumps.max() <= steepest + 1e-6


@pytest.mark.parametrize("name", sorted(lookup.CURVATURES))
def test_a_curvature_is_the_functions(name: str) -> None:
    x = np.linspace(0, 16, 160001)
    second = np.diff(bounds.true_value(name, x), 2) / (x[1] - x[0]) ** 2
    assert np.max(np.abs(second)) == pytest.approx(lookup.CURVATURES[name], rel=0.02)


def test_i_bert_has_the_papers_errors() -> None:
    """Section 3: of i-exp at most 1.9e-3 on (-ln 2, 0], of i-GELU 0.018 (table 1, L infinity)."""
    p = np.linspace(-math.log(2) + 1e-4, 0, 20001).astype(np.float32)
    error = np.abs(functions.evaluate("exp", p, I_BERT) - np.exp(p.astype(np.float64)))
    assert np.max(error) == pytest.approx(1.9e-3, abs=1e-4)
    x = np.linspace(-4, 4, 20001).astype(np.float32)
    gelu = np.abs(functions.evaluate("gelu", x, I_BERT) - bounds.true_value("gelu", x))
    assert np.max(gelu) == pytest.approx(0.018, abs=5e-4)


def _quantised(x: np.float32, bits: int) -> int:
    return max(1 - 2**31, min(2**31 - 1, round(float(x) * 2**bits)))


def _i_poly(q: int, s: float, a: float, b: float, c: float) -> tuple[int, float]:
    """Algorithm 1 of the paper."""
    return (q + math.floor(b / s)) ** 2 + math.floor(c / (a * s * s)), a * s * s


def _i_exp(q: int, s: float) -> np.float32:
    ln2 = math.floor(math.log(2) / s)
    z = math.floor(-q / ln2)
    a, b = 0.35815147, 0.96963238  # of a x^2 + b x + 1
    out, scale = _i_poly(q + z * ln2, s, a, b / (2 * a), 1 - b * b / (4 * a))
    return np.float32(out >> z) * np.float32(scale)


def _i_erf(q: int, s: float) -> tuple[int, float]:
    clipped = min(abs(q), math.floor(1.769 / s) + 1)
    out, scale = _i_poly(clipped, s, -0.2888, -1.769, 1.0)
    return (q > 0) * out - (q < 0) * out, scale


def test_i_bert_computes_the_papers_integers() -> None:
    x = np.concatenate([np.linspace(-9, 0, 3001), -np.geomspace(1e-4, 9, 500)]).astype(np.float32)
    s = 2.0**-14
    expected = [_i_exp(_quantised(v, 14), s) for v in x]
    assert np.array_equal(functions.evaluate("exp", x, I_BERT), np.float32(expected))
    both = np.concatenate([x, -x])
    integers = [_i_erf(_quantised(v, 14), s) for v in both]
    assert np.array_equal(
        functions.evaluate("erf", both, I_BERT),
        np.float32([np.float32(q) * np.float32(scale) for q, scale in integers]),
    )
    expected_gelu = []
    for v in both:
        q = _quantised(v, 13)
        erf, scale = _i_erf(q, 2 * s / math.sqrt(2))
        expected_gelu.append(np.float32(q * (erf + math.floor(1 / scale))) * np.float32(2 * s * scale / 2))
    assert np.array_equal(functions.evaluate("gelu", both, I_BERT), np.float32(expected_gelu))


@pytest.mark.parametrize("name", ["exp", "erf", "gelu", "sqrt", "rsqrt"])
def test_i_berts_integers_have_32_bits(name: str) -> None:
    """All but gelu's product of the argument and 1 + erf, and one of which the low bits suffice."""
    x = np.concatenate([edges(), np.linspace(-20, 20, 4001, dtype=np.float32)])
    algorithm = functions.algorithm(name, I_BERT)
    values: dict[str, Any] = {"x": x}
    with np.errstate(all="ignore"):
        for step in algorithm.steps:
            operands = [values[o] if isinstance(o, str) else o for o in step.operands]
            values[step.result] = result = OPERATIONS[step.operation].execute(*operands)
            if result.dtype == np.int64 and step.result not in ("product", "zln2"):
                assert -(2**31) <= result.min() <= result.max() < 2**31, step


def test_i_sqrt_is_the_integer_root_of_all_sizes() -> None:
    """Of squares, of their neighbours, and of random integers; of some large ones four iterations are too few."""
    rng = np.random.default_rng(0)
    roots = np.unique(np.concatenate([rng.integers(1, 2**b, 300) for b in range(1, 13)]))
    numbers = np.unique(np.concatenate([roots**2 - 1, roots**2, roots**2 + 1, rng.integers(0, 2**24, 4000)]))
    large = np.unique((rng.integers(2**23, 2**24, 6000) << rng.integers(0, 8, 6000)).clip(0, 2**31 - 128))
    numbers = np.unique(np.concatenate([numbers, large, 1187147013 // 128 * 128 - np.arange(2000) * 128]))
    x = (numbers / 65536.0).astype(np.float32)
    assert np.array_equal(x.astype(np.float64) * 65536, numbers)  # each is a binary32 number
    expected = np.float32([math.isqrt(int(n)) / 256 for n in numbers])
    assert np.array_equal(functions.evaluate("sqrt", x, I_BERT), expected)


def test_what_the_paper_does_not_define_is_accurate() -> None:
    defined = {name for name in functions.NAMES if functions.ulp(name, I_BERT) is None}
    assert defined == {"exp", "erf", "gelu", "sqrt", "rsqrt"}
    x = np.linspace(-3, 3, 500, dtype=np.float32)
    for name in ("tanh", "softplus"):
        assert np.array_equal(
            functions.evaluate(name, x, I_BERT), functions.evaluate(name, x, functions.Method("accurate"))
        )


@pytest.mark.parametrize("name", ["exp", "erf", "gelu", "sqrt", "rsqrt"])
def test_i_bert_of_special_numbers(name: str) -> None:
    result = functions.evaluate(name, [np.nan, np.inf, -np.inf, 0.0], I_BERT)
    assert np.isnan(result[0])
    expected = {
        "exp": [np.inf, 0.0, 1.0],
        "erf": [1.0, -1.0, 0.0],
        "gelu": [262144.0, 0.0, 0.0],  # the argument saturates
        "sqrt": [np.inf, np.nan, 0.0],
        "rsqrt": [0.0, np.nan, np.inf],
    }[name]
    assert np.allclose(result[1:], expected, rtol=2e-3, atol=1e-3, equal_nan=True)
