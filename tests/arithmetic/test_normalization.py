"""Normalisations of quantised tensors are PyTorch's, in every lane."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from witness import ENGINES, KERNEL_SETS, Case, PyTorch, affine, codes, pair, styles

from accelsim.arithmetic.affine import Affine
from accelsim.arithmetic.engines import KernelSet
from accelsim.arithmetic.lanes import Layout
from accelsim.arithmetic.normalization import batch_norm, group_norm, layer_norm
from accelsim.errors import ModelError

LAYOUTS: tuple[Layout, ...] = ("contiguous", "channels_last")


def floats(rng: np.random.Generator, count: int) -> np.ndarray:
    return rng.normal(size=count).astype(np.float32)


def affines(rng: np.random.Generator, style: str, dtype: str, index: int) -> tuple[Affine, Affine]:
    """The input's and the output's; the output's is not tiny, as results do not get small with the input."""
    return affine(rng, style, dtype, index), affine(rng, "random" if style == "tiny" else style, dtype, index + 7)


@pytest.mark.parametrize("kernels", KERNEL_SETS, ids=str)
@pytest.mark.parametrize("engine", ENGINES)
def test_a_batch_norm_is_pytorchs(pytorch: PyTorch, part: int, engine: str, kernels: KernelSet) -> None:
    rng = np.random.default_rng([16, part])
    cases = []
    for index, style in styles(280):
        dtype, layout = ("uint8", "int8")[index % 2], LAYOUTS[index // 2 % 2]
        grid, out = affines(rng, style, dtype, index)
        channels = 1 + index % 70
        x = codes(rng, (3, channels, 3, 4), dtype)
        if style == "ties":
            # Slopes of 1/2, 1/4 and shifts of halves of the output's scale: most results are ties.
            weight = (2.0 ** rng.integers(-2, 0, channels) * (out.scale / grid.scale)).astype(np.float32)
            bias = (rng.integers(-90, 90, channels) * out.scale / 2).astype(np.float32)
            mean, variance = (rng.integers(-9, 9, channels) * grid.scale).astype(np.float32), np.ones(channels)
            epsilon = 0.0
        else:
            weight, bias, mean = floats(rng, channels), floats(rng, channels), floats(rng, channels) * grid.scale
            if style == "huge":
                weight = weight * np.float32(1e-3)
            mean = mean.astype(np.float32)
            variance, epsilon = rng.uniform(0.1, 3, channels), float(rng.choice([1e-5, 1e-3]))
        parameters = (weight, bias, mean, variance.astype(np.float32))
        relu = index % 3 == 0

        def check(
            _: Any,
            x: Any = x,
            grid: Affine = grid,
            p: Any = parameters,
            e: float = epsilon,
            out: Affine = out,
            r: bool = relu,
        ) -> np.ndarray:
            return batch_norm(x, grid, *p, e, out, kernels, relu=r)

        arguments = (x, pair(grid), layout, parameters, epsilon, pair(out), relu)
        cases.append(Case("batch_norm", arguments, check, note=(grid, out, channels, layout)))
    pytorch.compare("batch_norm", engine, kernels, cases)


@pytest.mark.parametrize("kernels", KERNEL_SETS, ids=str)
@pytest.mark.parametrize("engine", ENGINES)
def test_a_layer_norm_is_pytorchs(pytorch: PyTorch, part: int, engine: str, kernels: KernelSet) -> None:
    rng = np.random.default_rng([17, part])
    cases = []
    for index, style in styles(280):
        dtype = ("uint8", "int8")[index % 2]
        grid, out = affines(rng, style, dtype, index)
        count = 1 + index % 140
        weight, bias = (floats(rng, count), floats(rng, count)) if index % 3 else (None, None)
        x = codes(rng, (5, count), dtype)
        epsilon = 1e-5
        if weight is not None and style == "near ties":
            x = np.repeat(x[:1], 5, axis=0)
            bias = halfway_of_each(rng, x[0], grid, weight, out)
        if style == "ties" and count % 2 == 0:
            # Two codes, as many of each: the mean lies between them, the deviation is 1, the results are +-1 in steps.
            x = np.tile(rng.permutation(np.repeat([3, 5], count // 2)).astype(dtype), (5, 1))
            epsilon, out = 0.0, Affine(2.0 / (2 * int(rng.integers(1, 30)) + 1), out.zero_point, out.dtype)

        def check(
            _: Any,
            x: Any = x,
            grid: Affine = grid,
            w: Any = weight,
            b: Any = bias,
            e: float = epsilon,
            out: Affine = out,
        ) -> np.ndarray:
            return layer_norm(x, grid, w, b, e, out, kernels)

        arguments = (x, pair(grid), weight, bias, epsilon, pair(out))
        cases.append(Case("layer_norm", arguments, check, note=(grid, out, count)))
    pytorch.compare("layer_norm", engine, kernels, cases)


def halfway_of_each(
    rng: np.random.Generator, x: np.ndarray, grid: Affine, weight: np.ndarray, out: Affine
) -> np.ndarray:
    """A bias that puts the result of each of (N,) codes next to a half of the grid."""
    real = (x.astype(np.float64) - grid.zero_point) * grid.scale
    normal = (real - real.mean()) / np.sqrt(real.var() + 1e-5)
    return ((rng.integers(-100, 100, len(x)) + 0.5) * out.scale - normal * weight).astype(np.float32)


def halfway(
    rng: np.random.Generator, x: np.ndarray, groups: int, grid: Affine, weight: np.ndarray, out: Affine
) -> np.ndarray:
    """For each channel of (C, ...) a bias that puts the results of one of its codes next to a half of the grid."""
    real = (x.reshape(groups, -1).astype(np.float64) - grid.zero_point) * grid.scale
    normal = (real - real.mean(1, keepdims=True)) / np.sqrt(real.var(1, keepdims=True) + 1e-5)
    normal = normal.reshape(len(x), -1)
    chosen = normal[np.arange(len(x)), rng.integers(0, normal.shape[1], len(x))]
    half = (rng.integers(-100, 100, len(x)) + 0.5) * out.scale
    return (half - chosen * weight).astype(np.float32)


@pytest.mark.parametrize("kernels", KERNEL_SETS, ids=str)
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("instance", [False, True], ids=["group_norm", "instance_norm"])
def test_a_group_norm_is_pytorchs(
    pytorch: PyTorch, part: int, engine: str, kernels: KernelSet, layout: Layout, instance: bool
) -> None:
    rng = np.random.default_rng([18, part])
    cases = []
    for index, style in styles(50):
        dtype = ("uint8", "int8")[index % 2]
        grid, out = affines(rng, style, dtype, index)
        groups = 1 + index * 7 % 70 if instance else 1 + index % 3
        channels = groups * (1 if instance else 1 + index)
        # 512 pixels and more are summed in another way.
        sizes = (
            ((23, 24), (16, 32))[index % 2] if index % 9 == 0 else tuple(int(size) for size in rng.integers(1, 8, 2))
        )
        weight, bias = (floats(rng, channels), floats(rng, channels)) if index % 3 else (None, None)
        images = 1 if channels // groups * sizes[0] * sizes[1] == 1 else 2
        x = codes(rng, (images, channels, *sizes), dtype)
        if weight is not None and style not in ("tiny", "huge"):
            x = np.repeat(
                codes(rng, (1, channels, *sizes), dtype, grid.zero_point // 2, grid.zero_point // 2 + 3), images, 0
            )
            bias = halfway(rng, x[0], groups, grid, weight, out)

        def check(
            _: Any, x: Any = x, grid: Affine = grid, g: int = groups, w: Any = weight, b: Any = bias, out: Affine = out
        ) -> np.ndarray:
            # One channel or one pixel is channels_last too.
            seen = "channels_last" if x.shape[1] == 1 or x.shape[2] * x.shape[3] == 1 else layout
            return group_norm(x, grid, g, w, b, 1e-5, out, kernels, seen)

        arguments = (x, pair(grid), layout, groups, weight, bias, 1e-5, pair(out))
        cases.append(Case("group_norm", arguments, check, note=(grid, out, x.shape, groups)))
    pytorch.compare("instance_norm" if instance else "group_norm", engine, kernels, cases)


@pytest.mark.parametrize("kernels", KERNEL_SETS, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_sums_of_squares_round_from_512_pixels_on(pytorch: PyTorch, kernels: KernelSet, layout: Layout) -> None:
    """512 squares of 251 to 253 pass 2**24: their variance, below 1, feels it, and that of equal codes is below 0."""
    rng, cases = np.random.default_rng(21), []
    grid, out = Affine(0.1, 3, "uint8"), Affine(0.01, 128, "uint8")
    for pixels in ((7, 73), (16, 32), (27, 19)):
        for groups, spread, epsilon in ((1, 3, 1e-5), (3, 3, 1e-5), (3, 1, 1e-5), (3, 1, 1e-12)):
            x = rng.integers(251, 251 + spread, (1, 105, *pixels)).astype(np.uint8)

            def check(_: Any, x: np.ndarray = x, groups: int = groups, e: float = epsilon) -> np.ndarray:
                return group_norm(x, grid, groups, None, None, e, out, kernels, layout)

            arguments = (x, pair(grid), layout, groups, None, None, epsilon, pair(out))
            cases.append(Case("group_norm", arguments, check, note=(pixels, groups, spread, epsilon)))
    pytorch.compare("group_norm", "fbgemm", kernels, cases)


@pytest.mark.parametrize("kernels", KERNEL_SETS, ids=str)
def test_a_batch_norm_rounds_once_where_it_is_fused(pytorch: PyTorch, kernels: KernelSet) -> None:
    """A product next to 64 and a bias that leaves 1/2 of it once rounded: what rounding took away decides."""
    rng, one = np.random.default_rng(22), Affine(1.0, 0, "uint8")
    x = np.broadcast_to(rng.integers(33, 100, (1, 64, 1, 1)), (1, 64, 3, 4)).astype(np.uint8)
    weight = rng.uniform(0.5, 2, 64).astype(np.float32)
    bias = (np.float32(0.5) - weight * x[0, :, 0, 0].astype(np.float32)).astype(np.float32)
    parameters = (weight, bias, np.zeros(64, np.float32), np.ones(64, np.float32))

    def check(_: Any) -> np.ndarray:
        return batch_norm(x, one, *parameters, 0.0, one, kernels)

    arguments = (x, pair(one), "contiguous", parameters, 0.0, pair(one), False)
    pytorch.compare("batch_norm", "fbgemm", kernels, [Case("batch_norm", arguments, check, note=())])


@pytest.mark.parametrize("kernels", KERNEL_SETS, ids=str)
def test_vectors_go_across_groups_from_512_pixels_on(pytorch: PyTorch, kernels: KernelSet) -> None:
    """Weights of 0 leave the bias, a half everywhere: vector and rest round it their own way, of 35 channels or 105."""
    grid, out = Affine(0.1, 3, "uint8"), Affine(2.0**-6, 17, "uint8")
    rng, cases = np.random.default_rng(23), []
    weight, bias = np.zeros(105, np.float32), ((rng.integers(0, 90, 105) + 0.5) * out.scale).astype(np.float32)
    for pixels in ((7, 73), (16, 32)):
        x = rng.integers(0, 256, (1, 105, *pixels)).astype(np.uint8)

        def check(_: Any, x: np.ndarray = x) -> np.ndarray:
            return group_norm(x, grid, 3, weight, bias, 1e-5, out, kernels, "channels_last")

        arguments = (x, pair(grid), "channels_last", 3, weight, bias, 1e-5, pair(out))
        cases.append(Case("group_norm", arguments, check, note=pixels))
    pytorch.compare("group_norm", "fbgemm", kernels, cases)


def test_results_beyond_int32_are_refused() -> None:
    kernels, grid, out = KERNEL_SETS[1], Affine(0.1, 3, "uint8"), Affine(1e-10, 3, "uint8")
    x = np.arange(40, dtype=np.uint8).reshape(1, 40)
    with pytest.raises(ModelError, match=r"beyond 2\*\*31 steps"):
        layer_norm(x, grid, None, None, 1e-5, out, kernels)


def test_a_group_norm_that_pytorch_leaves_unfinished_is_refused() -> None:
    kernels, grid = KERNEL_SETS[1], Affine(0.1, 3, "uint8")
    x = np.zeros((3, 4, 1, 1), np.uint8)
    with pytest.raises(ModelError, match="leaves images out"):
        group_norm(x, grid, 2, None, None, 1e-5, grid, kernels, "channels_last")
    assert group_norm(x[:2], grid, 2, None, None, 1e-5, grid, kernels, "channels_last").shape == (2, 4, 1, 1)


def test_results_of_two_to_the_31st_steps_are_refused_and_those_below_are_not() -> None:
    x, grid, out = np.full((1, 8), 1, np.uint8), Affine(1.0, 0, "uint8"), Affine(1.0, 0, "uint8")
    one, none = np.ones(8, np.float32), np.zeros(8, np.float32)
    limit = np.float32(2.0**31)
    for factor in (limit, -limit):
        with pytest.raises(ModelError, match="beyond"):
            batch_norm(x, grid, one * factor, none, none, one, 0.0, out, KERNEL_SETS[1])
        below = np.nextafter(factor, np.float32(0))
        codes_below = batch_norm(x, grid, one * below, none, none, one, 0.0, out, KERNEL_SETS[1])
        assert codes_below.tolist() == [[255 if factor > 0 else 0] * 8]
