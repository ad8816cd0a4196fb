"""Quantising and dequantising are what PyTorch does."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from witness import ENGINES, KERNEL_SETS, Case, PyTorch, affine, codes, pair, styles

from accelsim.arithmetic.affine import Affine, dequantize, quantize
from accelsim.arithmetic.engines import KernelSet


def floats(rng: np.random.Generator, grid: Affine, count: int) -> np.ndarray:
    """Halves of the grid (exact ties where the scale is a power of two), their neighbours, and what is far away."""
    halves = (rng.integers(-600, 600, count).astype(np.float32) / np.float32(2)) * np.float32(grid.scale)
    beside = np.nextafter(halves, np.where(rng.random(count) < 0.5, -np.inf, np.inf).astype(np.float32))
    x = np.where(rng.random(count) < 0.6, halves, beside).astype(np.float32)
    special = np.array([0, -0.0, 1e-45, 3e38, -3e38, np.inf, -np.inf, np.nan, 1e10, -1e10], np.float32)
    places = rng.integers(0, count, 10)
    x[places] = np.where(rng.random(10) < 0.3, special, x[places])
    return x


@pytest.mark.parametrize("kernels", KERNEL_SETS, ids=str)
@pytest.mark.parametrize("dtype", ["uint8", "int8"])
@pytest.mark.parametrize("engine", ENGINES)
def test_quantize_is_pytorchs(pytorch: PyTorch, part: int, engine: str, kernels: KernelSet, dtype: str) -> None:
    rng = np.random.default_rng([1, part])
    cases = []
    for index, style in styles(300):
        grid = affine(rng, style, dtype, index)
        x = floats(rng, grid, 1 + index % 70)
        cases.append(
            Case("quantize", (x, pair(grid), dtype), lambda _, x=x, grid=grid: quantize(x, grid), note=(grid, x))
        )
    pytorch.compare("quantize_per_tensor", engine, kernels, cases)


@pytest.mark.parametrize("kernels", KERNEL_SETS, ids=str)
@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_dequantize_is_pytorchs(pytorch: PyTorch, part: int, kernels: KernelSet, dtype: str) -> None:
    rng = np.random.default_rng([2, part])
    cases = []
    for index, style in styles(256):
        grid = affine(rng, style, dtype, index)
        q = codes(rng, 1 + index % 70, dtype)
        check = lambda _, q=q, grid=grid: dequantize(q, grid)  # noqa: E731
        cases.append(Case("dequantize", (q, pair(grid)), check, note=grid))
    pytorch.compare("dequantize", "fbgemm", kernels, cases)


@given(st.integers(-6, 6), st.integers(-128, 127))
@settings(max_examples=50, deadline=None)
def test_every_code_survives_the_way_to_a_real_number_and_back(exponent: int, zero_point: int) -> None:
    grid = Affine(2.0**exponent, zero_point, "int8")
    every = np.arange(-128, 128, dtype=np.int8)
    assert np.array_equal(quantize(dequantize(every, grid), grid), every)
