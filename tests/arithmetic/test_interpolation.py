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
    rows, columns = (
        nearest_indices(x.shape[2 + axis], size[axis], factors[axis], exact=mode == "nearest-exact") for axis in (0, 1)
    )
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


def test_the_resize_that_pytorch_mixes_up_is_refused(pytorch: PyTorch) -> None:
    x = np.arange(6, dtype=np.uint8).reshape(1, 6, 1, 1)
    arguments = {"mode": "nearest", "size": [2, 3]}
    (answer,) = pytorch.ask(
        "fbgemm", KERNEL_SETS[0], [Case("interpolate", (x, (1.0, 0), "contiguous", arguments), lambda _: x)]
    )
    assert not np.array_equal(answer, np.broadcast_to(x, (1, 6, 2, 3)))
    with pytest.raises(ModelError, match="one pixel"):
        check_resize(6, 1, 1, "contiguous")
    check_resize(6, 1, 1, "channels_last")
    check_resize(1, 1, 1, "contiguous")
    check_resize(6, 1, 2, "contiguous")
