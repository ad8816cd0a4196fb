"""Quantising and dequantising are what PyTorch does."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.ao.quantization.fx._decomposed  # makes the operators
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


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_quantize_of_a_torch_export_graph_is_pytorchs(part: int, dtype: str) -> None:
    rng = np.random.default_rng([3, part])
    for index, style in styles(300):
        grid = affine(rng, style, dtype, index)
        x = floats(rng, grid, 1 + index % 70)
        np.testing.assert_array_equal(quantize(x, grid, "separate"), _decomposed(x, grid), str(grid))


def test_the_two_roundings_differ_where_the_product_is_next_to_a_half() -> None:
    grid, x = Affine(0.030462145805358887, 120, "uint8"), np.array([-0.4721631705760956], np.float32)
    assert (quantize(x, grid).item(), quantize(x, grid, "separate").item()) == (104, 105)
    assert _decomposed(x, grid).item() == 105


def test_zero_times_an_infinite_factor_is_pytorchs() -> None:
    grid, x = Affine(1e-40, 7, "uint8"), np.array([0, 1e-40, -1e-40], np.float32)
    np.testing.assert_array_equal(quantize(x, grid, "separate"), _decomposed(x, grid))


def _decomposed(x: np.ndarray, grid: Affine) -> np.ndarray:
    dtype = torch.uint8 if grid.dtype == "uint8" else torch.int8
    operator = torch.ops.quantized_decomposed.quantize_per_tensor
    limits = (grid.minimum, grid.maximum)
    return np.asarray(operator(torch.from_numpy(x), grid.scale, grid.zero_point, *limits, dtype).numpy())


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
