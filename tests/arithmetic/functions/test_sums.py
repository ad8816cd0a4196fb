"""A difference of two sums is explained if any order of additions can make it, and not if it is more."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from accelsim.arithmetic import functions
from accelsim.arithmetic.functions.sums import additions
from accelsim.arithmetic.vector import PARTIALS, Statistic, statistic


@pytest.mark.parametrize(
    ("count", "partials", "most"),
    [(1, 64, 0), (2, 64, 1), (64, 64, 6), (65, 64, 7), (197, 64, 9), (10, 1, 9), (6, 4, 3)],
)
def test_a_number_goes_through_so_many_additions(count: int, partials: int, most: int) -> None:
    assert additions(count, partials) == most


@pytest.mark.parametrize("count", [1, 3, 64, 197, 1000, 5000])
def test_a_difference_from_pytorchs_order_is_explained(count: int) -> None:
    rng = np.random.default_rng(count)
    x = (rng.standard_normal((50, count)) * 2.0 ** rng.integers(-8, 8, (50, 1))).astype(np.float32)
    ours = statistic(x, Statistic.SUM)
    theirs = torch.from_numpy(x).sum(dim=-1).numpy()
    assert functions.explains_sum(ours, theirs, x, PARTIALS).all()


def test_a_sum_that_no_order_gives_is_not_explained() -> None:
    x = np.random.default_rng(2).standard_normal((20, 300)).astype(np.float32)
    ours = statistic(x, Statistic.SUM)
    missing = statistic(x[:, :-1], Statistic.SUM)
    assert not functions.explains_sum(ours, missing, x, PARTIALS).any()
    assert not functions.explains_sum(missing, ours, x, PARTIALS).any()
    exact = np.array([math.fsum(row) for row in x.astype(np.float64)], np.float32)
    assert functions.explains_sum(ours, exact, x, PARTIALS).all()
    assert not functions.explains_sum(ours, exact * np.float32(np.nan), x, PARTIALS).any()


def test_ours_is_held_to_its_own_order() -> None:
    """One number after the other loses what a tree keeps: explained as theirs, not as ours."""
    x = np.full((1, 2**16), 0.1, np.float32)
    x[0, 0] = 2.0**20
    sequential = np.add.accumulate(x, axis=-1, dtype=np.float32)[:, -1]
    tree = statistic(x, Statistic.SUM)
    assert sequential != tree
    assert functions.explains_sum(tree, sequential, x, PARTIALS).all()
    assert not functions.explains_sum(sequential, tree, x, PARTIALS).any()
