"""Means that PyTorch sums in binary32 come out as its own, whose order of additions decides."""

from __future__ import annotations

import numpy as np
import pytest
from witness import KERNEL_SETS, Case, PyTorch, affine, codes, pair

from accelsim.arithmetic.engines import KernelSet
from accelsim.arithmetic.float_sum import mean_channels_last


@pytest.mark.parametrize("kernels", KERNEL_SETS, ids=str)
def test_the_mean_of_many_channels_last_pixels_is_summed_as_aten_does(
    pytorch: PyTorch, part: int, kernels: KernelSet
) -> None:
    rng = np.random.default_rng([14, part])
    cases = []
    for index in range(30):
        height, width = ((70, 65), (31, 17), (9, 40))[index % 3]
        grid = affine(rng, "random", "uint8", index)
        x = codes(rng, (1, 2 + index * 3, height, width), "uint8")
        columns = x.reshape(1, x.shape[1], -1).transpose(0, 2, 1)
        check = lambda _, columns=columns, grid=grid: mean_channels_last(columns, grid)  # noqa: E731
        arguments = (x, pair(grid), "channels_last", "mean", {"dim": [2, 3]})
        cases.append(Case("average_pool", arguments, check, note=(grid, x.shape)))
    pytorch.compare("mean", "fbgemm", kernels, cases)


#: Pixels: fewer than a block of 16 and whole ones, sums that go up one, two and three levels; channels: passes of 4
#: or of 32, and some left over.
MAPS = (
    ((2, 5), 70),
    ((4, 4), 40),
    ((16, 22), 41),
    ((16, 18), 7),
    ((66, 70), 40),
    ((64, 66), 8),
    ((66, 68), 7),
    ((65, 66), 5),
)
#: The sizes on both sides of which the blocks get longer, and one with a sum on the last level.
LONG = (((2**10, 2**9), 4), ((3, 174763), 4), ((256, 274), 5))


def compare_means(
    pytorch: PyTorch, kernels: KernelSet, maps: tuple[tuple[tuple[int, int], int], ...], times: int
) -> None:
    """Means halfway between two codes go where the errors of a sum in binary32 send them."""
    rng = np.random.default_rng(26)
    cases = []
    for index, (shape, channels) in enumerate(maps * times):
        grid = affine(rng, "random", "uint8", index)
        x = halfway(rng, channels, shape)
        columns = x.reshape(1, channels, -1).transpose(0, 2, 1)
        check = lambda _, columns=columns, grid=grid: mean_channels_last(columns, grid)  # noqa: E731
        arguments = (x, pair(grid), "channels_last", "mean", {"dim": [2, 3]})
        cases.append(Case("average_pool", arguments, check, note=(grid, x.shape)))
    pytorch.compare("mean", "fbgemm", kernels, cases)


@pytest.mark.parametrize("kernels", KERNEL_SETS, ids=str)
def test_a_mean_halfway_between_two_codes_is_summed_in_atens_order(pytorch: PyTorch, kernels: KernelSet) -> None:
    compare_means(pytorch, kernels, MAPS, 4)


def test_half_a_million_pixels_are_summed_in_atens_order(pytorch: PyTorch) -> None:
    compare_means(pytorch, KERNEL_SETS[1], LONG, 2)


def halfway(rng: np.random.Generator, channels: int, shape: tuple[int, int]) -> np.ndarray:
    """Codes (1, C, H, W) whose mean in each channel is a whole number and a half (nearly, if H * W is odd)."""
    count = shape[0] * shape[1]
    x = codes(rng, (channels, count), "uint8", 60, 190)
    for channel in x:
        surplus = (int(channel.sum()) - count // 2) % count
        channel[:surplus] -= 1
    return x.reshape(1, channels, *shape)
