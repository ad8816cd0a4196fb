"""Networks put together by hand, one node each, and what their outputs should be by plain loops over the definition."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from accelsim.arithmetic.affine import Affine
from accelsim.arithmetic.engines import KernelSet
from accelsim.network import Convolution, Linear, Network, Node, Value, Weights

KERNELS = KernelSet("avx2", "vnni")


def network(
    node: Node, inputs: dict[str, tuple[tuple[int, ...], Affine]], shape: tuple[int, ...], affine: Affine, **more: Any
) -> Network:
    """A network of one node, whose value has that shape and affine map; `more` is the network's."""
    values = {name: Value(name, size, grid, tuple(range(len(size)))) for name, (size, grid) in inputs.items()}
    values[node.name] = Value(node.name, shape, affine, tuple(range(len(shape))))
    fields: dict[str, Any] = {"engine": "fbgemm", "kernels": KERNELS} | more
    return Network(values=values, nodes=(node,), inputs=tuple(inputs), outputs=(node.name,), **fields)


def weights(rng: np.random.Generator, shape: tuple[int, ...], outputs: int, *, zero_points: bool = False) -> Weights:
    """Weights per channel, whose scales are powers of two, with a bias."""
    return Weights(
        rng.integers(-128, 128, shape, np.int8),
        np.exp2(rng.integers(-8, -4, outputs)).astype(np.float64),
        rng.integers(-9, 9, outputs).astype(np.int32) if zero_points else np.zeros(outputs, np.int32),
        True,
        rng.normal(0, 5, outputs).astype(np.float32),
        "layer",
    )


def exact_sums(node: Convolution | Linear, codes: np.ndarray, zero_point: int, shape: tuple[int, ...]) -> np.ndarray:
    """The sums of (qx - zx) * (qw - zw) of every output, by loops over the definition, int64."""
    sums = np.zeros(shape, np.int64)
    w = node.weights.codes.astype(int)
    if isinstance(node, Linear):
        for place in np.ndindex(*shape):
            zero = int(node.weights.zero_point[place[-1]])
            row = codes[place[:-1]]
            sums[place] = sum((int(row[k]) - zero_point) * (w[place[-1], k] - zero) for k in range(len(row)))
        return sums
    kernel, spatial = w.shape[2:], codes.shape[2:]
    taps = list(itertools.product(*map(range, kernel)))
    group_inputs = codes.shape[1] // node.groups
    if node.transposed:
        # Every input scatters into the outputs that it reaches.
        for n, i, *at in np.ndindex(*codes.shape):
            for o, tap in itertools.product(range(w.shape[1]), taps):
                channel = i // group_inputs * w.shape[1] + o
                to = [
                    a * s - p[0] + t * d
                    for a, s, p, t, d in zip(at, node.stride, node.padding, tap, node.dilation, strict=True)
                ]
                if all(0 <= x < size for x, size in zip(to, shape[2:], strict=True)):
                    factor = w[(i, o, *tap)] - int(node.weights.zero_point[channel])
                    sums[(n, channel, *to)] += (int(codes[(n, i, *at)]) - zero_point) * factor
        return sums
    for n, channel, *at in np.ndindex(*shape):
        first = channel // (w.shape[0] // node.groups) * group_inputs
        total = 0
        for c, tap in itertools.product(range(group_inputs), taps):
            of = [
                a * s - p[0] + t * d
                for a, s, p, t, d in zip(at, node.stride, node.padding, tap, node.dilation, strict=True)
            ]
            if all(0 <= x < size for x, size in zip(of, spatial, strict=True)):
                factor = w[(channel, c, *tap)] - int(node.weights.zero_point[channel])
                total += (int(codes[(n, first + c, *of)]) - zero_point) * factor
        sums[(n, channel, *at)] = total
    return sums
