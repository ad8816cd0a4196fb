"""What kernels without VNNI make of a sum of products: pairs are added in int16, which saturates.

`vpmaddubsw` multiplies uint8 activations by int8 weights and adds the products of two neighbours in int16; FBGEMM's
(`GenerateKernelU8S8S32ACC32.cc`) and oneDNN's int8 kernels (`jit_uni_x8s8s32x_conv_kernel.cpp`) use it where the
processor has no `vpdpbusd`, and FBGEMM's depthwise kernels (`FbgemmI8DepthwiseAvx2-inl.h`) everywhere. The sums of the
pairs are then added in int32, exactly. Some of the kernels, such as FBGEMM's for groups of 4, 8 or 16 channels, add in
another way and are exact everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .engines import MatrixKernels

_INT16 = np.iinfo(np.int16)


def may_saturate(owner: str, matrix: MatrixKernels, *, depthwise: bool) -> bool:
    """Whether the owner's kernels of that set may add pairs of products in int16."""
    return (owner == "fbgemm" and depthwise) or (owner in ("fbgemm", "onednn") and matrix != "vnni")


class Saturation(NamedTuple):
    """For each sum: what saturation adds to it, int64, and in how many of its pairs it happens."""

    error: NDArray[np.int64]
    pairs: NDArray[np.int64]


class Terms(NamedTuple):
    """The terms of sums in the order in which a kernel pairs them: both operands (sums, terms), raw codes."""

    activations: NDArray[np.integer]
    weights: NDArray[np.integer]


def saturation(terms: Terms) -> Saturation:
    """The saturation of each sum. Neighbours are paired from the first term on; an odd last one is alone."""
    products = terms.activations.astype(np.int64) * terms.weights.astype(np.int64)
    if products.shape[1] % 2:
        products = np.pad(products, ((0, 0), (0, 1)))
    sums = products[:, 0::2] + products[:, 1::2]
    error = np.clip(sums, _INT16.min, _INT16.max) - sums
    return Saturation(error.sum(axis=1), np.count_nonzero(error, axis=1))


def pairings(
    owner: str,
    activations: NDArray[np.integer],
    weights: NDArray[np.integer],
    inside: NDArray[np.bool_],
    kernel: tuple[int, ...],
    pad: int,
) -> Iterator[Terms]:
    """The orders of terms that the owner's kernels have; none for one that never saturates.

    `activations`, `weights`: (sums, taps, channels of a group), the taps over the axes of `kernel`, the last fastest;
    `inside` (sums, taps): where a tap lies in the input. FBGEMM pads with the zero point `pad` and pairs along the rows
    of im2col, from one tap to the next where the channels are odd. oneDNN leaves padding out and pairs the channels of
    one tap; with a single channel its AVX-512 kernels pair taps, along the first axis or (depthwise, three axes) the
    last.
    """
    if owner == "fbgemm":
        yield _flat(np.where(inside[..., None], activations, pad), weights)
    if owner != "onednn":
        return
    activations = np.where(inside[..., None], activations, 0)
    if activations.shape[2] == 1 and len(kernel) > 1:
        yield _flat(activations, weights)
        turned = (0, *range(len(kernel), 0, -1))
        first, second = (side.reshape(len(side), *kernel).transpose(turned) for side in (activations, weights))
        yield _flat(first, second)
        return
    odd = ((0, 0), (0, 0), (0, activations.shape[2] % 2))
    yield _flat(np.pad(activations, odd), np.pad(weights, odd))


def _flat(activations: NDArray[np.integer], weights: NDArray[np.integer]) -> Terms:
    return Terms(activations.reshape(len(activations), -1), weights.reshape(len(weights), -1))
