"""Resized images of codes are PyTorch's: nearest neighbours and bilinear, both layouts, every kernel set."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from witness import ENGINES, KERNEL_SETS, Case, PyTorch, affine, codes, pair, styles

from accelsim.arithmetic.affine import Affine
from accelsim.arithmetic.engines import KernelSet
from accelsim.arithmetic.interpolation import bilinear, check_resize, nearest_indices
from accelsim.arithmetic.lanes import Layout
from accelsim.errors import ModelError

FACTORS = (2.0, 1.5, 0.75, 3.0, 2.5, 1.0)


def resized(
    x: np.ndarray, grid: Affine, size: tuple[int, int], mode: str, kernels: KernelSet, layout: Layout, factors: Any
) -> np.ndarray:
    if mode in ("bilinear", "corners"):
        layout = "channels_last" if x.shape[1] == 1 else layout  # which one channel is too
        return bilinear(x, grid, size, kernels, layout, align_corners=mode == "corners", factors=factors)
    rows, columns = nearest_indices(x.shape[2:], size, factors, exact=mode == "nearest-exact")
    return x[:, :, rows][..., columns]


@pytest.mark.parametrize("kernels", KERNEL_SETS, ids=str)
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("mode", ["nearest", "nearest-exact", "bilinear", "corners"])
def test_a_resize_is_pytorchs(
    pytorch: PyTorch, part: int, engine: str, kernels: KernelSet, layout: Layout, mode: str
) -> None:
    rng = np.random.default_rng([15, part])
    cases = []
    for index, style in styles(30):
        dtype = ("uint8", "int8")[index % 2]
        grid = affine(rng, style, dtype, index)
        channels = 1 + (index * 29 + part) % 70
        height, width = (int(size) for size in rng.integers(2, 9, 2))
        arguments: dict[str, Any] = {"mode": "bilinear" if mode == "corners" else mode}
        factors: tuple[float | None, float | None] = (None, None)
        if mode == "corners":
            arguments["align_corners"] = True
        if index % 3:
            # Doubling makes weights of quarters: a quarter of the results are ties. Other sizes make near-ties.
            size = (2 * height, 2 * width) if style == "ties" else (int(rng.integers(1, 16)), int(rng.integers(1, 16)))
            arguments["size"] = list(size)
        else:
            factors = (float(rng.choice(FACTORS)), float(rng.choice(FACTORS)))
            size = (int(height * factors[0]), int(width * factors[1]))  # type: ignore[operator]
            arguments["scale_factor"] = list(factors)
        x = codes(rng, (2, channels, height, width), dtype)
        check = lambda _, x=x, grid=grid, size=size, factors=factors: resized(  # noqa: E731
            x, grid, size, mode, kernels, layout, factors
        )
        note = (grid, x.shape, arguments)
        cases.append(Case("interpolate", (x, pair(grid), layout, arguments), check, note=note))
    pytorch.compare("interpolate " + ("bilinear" if mode == "corners" else mode), engine, kernels, cases)


@pytest.mark.parametrize("kernels", KERNEL_SETS, ids=str)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("mode", ["nearest", "nearest-exact", "bilinear"])
def test_factors_beside_the_ratio_of_the_sizes_are_pytorchs(
    pytorch: PyTorch, kernels: KernelSet, layout: Layout, mode: str
) -> None:
    """Sizes are rounded down: factors of 2.1 and 1.1 double four rows and leave five columns, and the other way."""
    rng = np.random.default_rng(41)
    cases = []
    for channels, factors in ((3, (2.1, 1.1)), (9, (1.1, 2.1)), (5, (1.1, 1.1)), (4, (2.1, 2.1))):
        grid = affine(rng, "ties", "uint8", channels)
        size = tuple({2.1: 4, 1.1: 5}[factor] for factor in factors)
        x = codes(rng, (2, channels, *size), "uint8")
        target = (int(size[0] * factors[0]), int(size[1] * factors[1]))
        check = lambda _, x=x, grid=grid, target=target, factors=factors: resized(  # noqa: E731
            x, grid, target, mode, kernels, layout, factors
        )
        arguments = {"mode": mode, "scale_factor": list(factors)}
        cases.append(Case("interpolate", (x, pair(grid), layout, arguments), check, note=(x.shape, factors)))
    pytorch.compare(f"interpolate {mode}", "fbgemm", kernels, cases)


@pytest.mark.parametrize("kernels", KERNEL_SETS, ids=str)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_one_pixel_between_aligned_corners_is_pytorchs(pytorch: PyTorch, kernels: KernelSet, layout: Layout) -> None:
    rng = np.random.default_rng(42)
    cases = []
    for size in ((1, 1), (1, 3), (2, 1), (1, 4), (5, 2)):
        grid = affine(rng, "ties", "uint8", size[1])
        x = codes(rng, (1, 11, 5, 4), "uint8")
        check = lambda _, x=x, grid=grid, size=size: resized(  # noqa: E731
            x, grid, size, "corners", kernels, layout, (None, None)
        )
        arguments = {"mode": "bilinear", "align_corners": True, "size": list(size)}
        cases.append(Case("interpolate", (x, pair(grid), layout, arguments), check, note=size))
    pytorch.compare("interpolate bilinear", "fbgemm", kernels, cases)


def test_places_past_the_end_get_the_last_code_and_a_factor_of_nothing_is_none() -> None:
    past, none, plain = nearest_indices([3, 5, 5], [8, 3, 3], [1.0, 0.0, None])
    assert past.tolist() == [0, 1, 2, 2, 2, 2, 2, 2]
    assert none.tolist() == plain.tolist() == [0, 1, 3]


def test_the_resize_that_pytorch_mixes_up_is_refused(pytorch: PyTorch) -> None:
    x = np.arange(6, dtype=np.uint8).reshape(1, 6, 1, 1)
    arguments = {"mode": "nearest", "size": [2, 3]}
    (answer,) = pytorch.ask(
        "fbgemm", KERNEL_SETS[0], [Case("interpolate", (x, (1.0, 0), "contiguous", arguments), lambda _: x)]
    )
    assert not np.array_equal(answer, np.broadcast_to(x, (1, 6, 2, 3)))
    with pytest.raises(ModelError, match="one pixel"):
        check_resize(6, 1, 1, "contiguous")
    with pytest.raises(ModelError, match="one pixel"):
        check_resize(2, 1, 1, "contiguous")
    check_resize(6, 1, 1, "channels_last")
    check_resize(1, 1, 1, "contiguous")
    check_resize(6, 1, 2, "contiguous")
