"""Sums are exact whatever their size: beside integers, position by position."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from accelsim.network import sums


def by_hand(
    x: np.ndarray,
    zero_point: int,
    weights: np.ndarray,
    stride: tuple[int, ...],
    padding: tuple[tuple[int, int], ...],
    dilation: tuple[int, ...],
    groups: int,
) -> np.ndarray:
    """Every sum term by term, in Python's integers, modulo 2**32: (N, *out, O)."""
    outputs, each, *kernel = weights.shape
    out = [
        (size + sum(pad) - (taps - 1) * d - 1) // s + 1
        for size, pad, taps, d, s in zip(x.shape[2:], padding, kernel, dilation, stride, strict=True)
    ]
    result = np.zeros((len(x), *out, outputs), np.int64)
    for image, *at, output in np.ndindex(*result.shape):
        total = 0
        for channel, *tap in np.ndindex(each, *kernel):
            place = [o * s + t * d - pad[0] for o, s, t, d, pad in zip(at, stride, tap, dilation, padding, strict=True)]
            if all(0 <= p < size for p, size in zip(place, x.shape[2:], strict=True)):
                first = output // (outputs // groups) * each
                code = int(x[(image, first + channel, *place)]) - zero_point
                total += code * int(weights[(output, channel, *tap)])
        result[(image, *at, output)] = total
    return result.astype(np.int32)


@pytest.mark.parametrize("seed", range(24))
def test_a_convolution_s_sums_are_the_integers(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rank = int(rng.integers(1, 4))
    groups, each, outputs = (int(rng.integers(1, 4)) for _ in range(3))
    if seed % 3 == 0:
        each = 1  # depthwise, with several outputs a channel at times
    kernel = tuple(rng.integers(1, 4, rank).tolist())
    stride, dilation = (tuple(rng.integers(1, 3, rank).tolist()) for _ in range(2))
    padding = tuple((int(a), int(b)) for a, b in rng.integers(0, 3, (rank, 2)))
    size = tuple((k - 1) * d + 1 + int(rng.integers(0, 4)) for k, d in zip(kernel, dilation, strict=True))
    signed = bool(rng.integers(2))
    x = rng.integers(-128, 128, (2, groups * each, *size)).astype(np.int8) if signed else None
    x = rng.integers(0, 256, (2, groups * each, *size)).astype(np.uint8) if x is None else x
    zero_point = int(rng.integers(-128, 128) if signed else rng.integers(0, 256))
    weights = rng.integers(-255, 256, (groups * outputs, each, *kernel)).astype(np.int32)
    found = sums.convolution(x, zero_point, weights, stride=stride, padding=padding, dilation=dilation, groups=groups)
    assert np.array_equal(found, by_hand(x, zero_point, weights, stride, padding, dilation, groups))


@pytest.mark.parametrize("length", [257, 258, 259, 260, 600, 5000, 33_100, 70_001])
def test_the_largest_sums_there_are(length: int) -> None:
    """255 * 255 * 258 is just below 2**24; 33,100 such terms leave int32."""
    x = np.full((1, length), 255, np.uint8)
    weights = np.stack([np.full(length, 255), np.full(length, -255), np.resize([255, -254], length)]).astype(np.int32)
    expected = [sum(255 * int(w) for w in row) for row in weights]
    wrapped = [(total + 2**31) % 2**32 - 2**31 for total in expected]
    assert sums.linear(x, 0, weights)[0].tolist() == wrapped
    odd = weights - 1  # what binary32 could not hold
    expected = [sum(255 * int(w) for w in row) for row in odd]
    assert sums.linear(x, 0, odd)[0].tolist() == [(total + 2**31) % 2**32 - 2**31 for total in expected]


def test_images_and_lines_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    x = rng.integers(0, 256, (3, 4, 9, 5)).astype(np.uint8)
    for groups, (gathered, block) in itertools.product((1, 4), [(1, 1), (150, 40), (2000, 300), (1 << 22, 1 << 16)]):
        monkeypatch.setattr(sums, "GATHERED", gathered)
        monkeypatch.setattr(sums, "_BLOCK", block)
        weights = rng.integers(-128, 128, (8, 4 // groups, 3, 2)).astype(np.int32)
        found = sums.convolution(x, 7, weights, stride=(2, 1), padding=((1, 1), (0, 1)), dilation=(1, 2), groups=groups)
        assert np.array_equal(found, by_hand(x, 7, weights, (2, 1), ((1, 1), (0, 1)), (1, 2), groups))
