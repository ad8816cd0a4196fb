"""The fixed-point form's verdict equals what evaluating every reachable accumulator says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accelsim.arithmetic.requantize import Requantization
from accelsim.report.fixed_point import find_fixed_point


def pipeline(m: np.float32, bias: np.float32, zero_point: int, first: bool) -> Requantization:
    """fbgemm's order of steps, or with `first` the zero point before the rounding as oneDNN has it."""
    constants: dict[str, Any] = {"multiplier": np.array([m]), "bias": np.array([bias])}
    return Requantization(zero_point, 0, 255, zero_point_first=first, **constants)


def fixed_codes(found: Any, accumulators: range, rule: Requantization) -> list[int]:
    """`clamp((acc * M + B) >> S)` in Python's own integers."""
    raw = ((acc * found.multiplier + found.offset) >> found.shift for acc in accumulators)
    return [min(max(code, rule.minimum), rule.maximum) for code in raw]


@settings(max_examples=60, deadline=None)
@given(
    m=st.floats(2**-12, 0.875, width=32) | st.sampled_from([2.0**-k for k in range(1, 12)]),
    bias=st.integers(-500, 500).map(lambda value: value / 4),
    zero_point=st.integers(0, 255),
    first=st.booleans(),
    low=st.integers(-4000, 0),
    size=st.integers(1, 6000),
)
def test_the_count_of_differing_accumulators_is_true(
    m: float, bias: float, zero_point: int, first: bool, low: int, size: int
) -> None:
    rule = pipeline(np.float32(m), np.float32(bias), zero_point, first)
    high, middle = low + size, low + size // 2
    found = find_fixed_point(rule, low, high, middle)
    reachable = range(low, high + 1)
    exact = rule.apply(np.array(reachable, np.int32)[:, None])[:, 0].tolist()
    fixed = fixed_codes(found, reachable, rule)
    wrong = [acc for acc, a, b in zip(reachable, exact, fixed, strict=True) if a != b]
    assert found.differing == len(wrong)
    assert found.examples == tuple(wrong[:3])
    assert found.code == fixed[middle - low]
    assert 0 <= found.multiplier < 2**31


@pytest.mark.parametrize(("zero_point", "first"), [(3, False), (3, True), (4, True)])
def test_where_ties_alternate_no_fixed_offset_can_follow(zero_point: int, first: bool) -> None:
    """m = 1/4: half to even sends the ties of 2, 6, 10, ... up and down by turns, a shift sends them all one way."""
    found = find_fixed_point(pipeline(np.float32(0.25), np.float32(0), zero_point, first), 0, 400, 5)
    # Ties are 2, 6, ..., 398: a hundred, of which every second one differs.
    assert found.differing == 50
