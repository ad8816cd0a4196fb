"""Saturating sums of products: against loops, and the orders in which kernels pair terms on a case by hand."""

from __future__ import annotations

import numpy as np

from accelsim.arithmetic.saturation import Terms, may_saturate, pairings, saturation


def test_pairs_saturate_at_int16_and_their_sums_do_not() -> None:
    activations = np.array([[255, 255, 255, 255, 255], [255, 255, 1, 1, 0], [255, 128, 255, 128, 0]], np.uint8)
    weights = np.array([[127, 127, 127, 127, 127], [-128, -128, 1, 1, 0], [127, 2, 127, 2, 0]], np.int8)
    error, pairs = saturation(Terms(activations, weights))
    # 2 * 255 * 127 = 64770 in each of two pairs; the last term is alone and fits.
    assert error.tolist() == [2 * (32767 - 64770), -32768 + 2 * 255 * 128, 0]
    assert pairs.tolist() == [2, 1, 0]


def test_saturation_is_the_sum_of_what_each_pair_loses() -> None:
    rng = np.random.default_rng(0)
    activations, weights = rng.integers(0, 256, (40, 31), np.uint8), rng.integers(-128, 128, (40, 31), np.int8)
    error, pairs = saturation(Terms(activations, weights))
    for row in range(40):
        products = [int(a) * int(w) for a, w in zip(activations[row], weights[row], strict=True)] + [0]
        sums = [products[k] + products[k + 1] for k in range(0, 32, 2)]
        clipped = [min(max(total, -(2**15)), 2**15 - 1) for total in sums]
        assert error[row] == sum(clipped) - sum(sums)
        assert pairs[row] == sum(a != b for a, b in zip(clipped, sums, strict=True))
    assert pairs.any()


def test_sums_of_every_length_are_paired() -> None:
    for terms in range(1, 9):
        ones = np.ones((1, terms), np.int8)
        error, pairs = saturation(Terms(np.full((1, terms), 255, np.uint8), 127 * ones))
        # A pair is 2 * 255 * 127 = 64770; one alone is 32385 and fits.
        assert (error[0], pairs[0]) == (terms // 2 * (32767 - 64770), terms // 2)


def test_each_engines_kernels_pair_terms_in_their_own_order() -> None:
    activations = np.arange(1, 13, dtype=np.uint8).reshape(1, 4, 3)  # four taps of a 2x2 kernel, three channels
    weights = np.ones((1, 4, 3), np.int8)
    inside = np.array([[True, False, True, True]])
    (terms,) = pairings("fbgemm", activations, weights, inside, (2, 2), 99)
    assert terms.activations.tolist() == [[1, 2, 3, 99, 99, 99, 7, 8, 9, 10, 11, 12]]
    (terms,) = pairings("onednn", activations, weights, inside, (2, 2), 99)
    assert terms.activations.tolist() == [[1, 2, 3, 0, 0, 0, 0, 0, 7, 8, 9, 0, 10, 11, 12, 0]]
    assert terms.weights.tolist() == [[1, 1, 1, 0] * 4]
    rows, columns = pairings("onednn", activations[:, :, :1], weights[:, :, :1], inside, (2, 2), 99)
    assert rows.activations.tolist() == [[1, 0, 7, 10]]
    assert columns.activations.tolist() == [[1, 7, 0, 10]]
    (taps,) = pairings("onednn", activations[:, :, :1], weights[:, :, :1], inside, (4,), 99)
    assert taps.activations.tolist() == [[1, 0, 0, 0, 7, 0, 10, 0]]  # over one axis each is alone
    assert list(pairings("qnnpack", activations, weights, inside, (2, 2), 99)) == []


def test_where_saturation_can_be() -> None:
    assert may_saturate("fbgemm", "avx2", depthwise=False)
    assert may_saturate("onednn", "avx512", depthwise=False)
    assert not may_saturate("onednn", "vnni", depthwise=True)
    assert not may_saturate("fbgemm", "vnni", depthwise=False)
    assert may_saturate("fbgemm", "vnni", depthwise=True)
    assert not may_saturate("qnnpack", "avx2", depthwise=True)
