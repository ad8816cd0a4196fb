"""Sums of rows: the order beside a model of the adders cycle by cycle, and the explanation of differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from accelsim.arithmetic import functions
from accelsim.arithmetic.functions.sums import additions
from accelsim.errors import AccelsimError


class Tree:
    """A pipelined tree: registers behind every level of adders, and an accumulator behind the last."""

    def __init__(self, lanes: int) -> None:
        self.widths = [lanes]
        while self.widths[-1] > 1:
            self.widths.append((self.widths[-1] + 1) // 2)
        self.registers: list[list[np.float32] | None] = [None] * len(self.widths)
        self.accumulator: np.float32 | None = None

    def cycle(self, entering: list[np.float32] | None) -> None:
        leaving = self.registers[-1]
        for level in reversed(range(1, len(self.widths))):
            before = self.registers[level - 1]
            self.registers[level] = None if before is None else self.added(before)
        self.registers[0] = entering
        if leaving is not None:
            total = leaving[0]
            self.accumulator = total if self.accumulator is None else np.float32(self.accumulator + total)

    @staticmethod
    def added(values: list[np.float32]) -> list[np.float32]:
        sums = [np.float32(values[i] + values[i + 1]) for i in range(0, len(values) - 1, 2)]
        return sums + values[len(values) // 2 * 2 :]


def clocked(row: np.ndarray, lanes: int) -> np.float32:
    tree = Tree(lanes)
    for start in range(0, len(row), lanes):
        entering = list(row[start : start + lanes])
        tree.cycle(entering + [np.float32(0)] * (lanes - len(entering)))
    for _ in tree.widths:
        tree.cycle(None)
    assert tree.accumulator is not None
    return tree.accumulator


@given(st.integers(1, 70), st.integers(1, 33), st.integers(0, 2**32 - 1))
@settings(max_examples=100, deadline=None)
def test_a_sum_is_that_of_clocked_adders(count: int, lanes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal((3, count)) * 2.0 ** rng.integers(-12, 12, (3, count))).astype(np.float32)
    expected = np.array([clocked(row, lanes) for row in x])
    assert np.array_equal(functions.tree_sum(x, lanes).view(np.uint32), expected.view(np.uint32))


def test_a_sum_by_hand() -> None:
    big = np.float32(2.0**24)
    # (big + 1) loses the one; one lane more pairs the ones first.
    assert functions.tree_sum([big, 1, 1, 1], 2) == big + 2  # big + 1 = big, then + (1 + 1)
    assert functions.tree_sum([big, 1, 1, 1], 1) == big  # one after the other
    assert functions.tree_sum([1, 1, big], 4) == big + 2  # (1 + 1) + (big + 0)
    assert functions.tree_sum([1, big, 1], 3) == big  # (1 + big) + 1


@pytest.mark.parametrize("shape", [(1,), (5,), (2, 3, 7)])
def test_a_sum_has_the_shape_without_the_last_axis(shape: tuple[int, ...]) -> None:
    x = np.ones(shape, np.float32)
    assert np.array_equal(functions.tree_sum(x, 4), x.sum(axis=-1))
    assert functions.tree_sum(x, 4).dtype == np.float32


def test_an_empty_row_and_no_lane_are_errors() -> None:
    for x, lanes in ((np.zeros((2, 0)), 4), (np.zeros(3), 0), (np.float32(1), 2)):
        with pytest.raises(AccelsimError, match="at least one number and one lane"):
            functions.tree_sum(x, lanes)


@pytest.mark.parametrize(("count", "lanes", "most"), [(1, 1, 0), (16, 16, 4), (17, 16, 5), (64, 16, 7), (10, 1, 9)])
def test_a_number_goes_through_so_many_additions(count: int, lanes: int, most: int) -> None:
    assert additions(count, lanes) == most


@pytest.mark.parametrize("count", [1, 3, 64, 197, 1000, 5000])
@pytest.mark.parametrize("lanes", [1, 6, 16, 64])
def test_a_difference_from_pytorchs_order_is_explained(count: int, lanes: int) -> None:
    rng = np.random.default_rng(count)
    x = (rng.standard_normal((50, count)) * 2.0 ** rng.integers(-8, 8, (50, 1))).astype(np.float32)
    ours = functions.tree_sum(x, lanes)
    theirs = torch.from_numpy(x).sum(dim=-1).numpy()
    assert functions.explains_sum(ours, theirs, x, lanes).all()


def test_a_sum_that_no_order_gives_is_not_explained() -> None:
    x = np.random.default_rng(2).standard_normal((20, 300)).astype(np.float32)
    ours = functions.tree_sum(x, 16)
    missing = functions.tree_sum(x[:, :-1], 16)
    assert not functions.explains_sum(ours, missing, x, 16).any()
    assert not functions.explains_sum(missing, ours, x, 16).any()
    exact = np.array([math.fsum(row) for row in x.astype(np.float64)], np.float32)
    assert functions.explains_sum(ours, exact, x, 16).all()
    assert not functions.explains_sum(ours, exact * np.float32(np.nan), x, 16).any()
