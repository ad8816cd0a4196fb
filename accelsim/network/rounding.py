"""Which rounding a node gets in a network: the one place that ties nodes to the engine's arithmetic."""

from __future__ import annotations

import numpy as np

from accelsim.arithmetic.elementwise import Product, Span, add_rules, multiply_rule
from accelsim.arithmetic.matrix import requantization
from accelsim.arithmetic.pooling import average_rule
from accelsim.arithmetic.requantize import Requantization

from .graph import Add, AveragePool, Convolution, Linear, Multiply, Network


def output_channels(node: Convolution | Linear) -> int:
    """Number of output channels of a layer."""
    shape = node.weights.codes.shape
    return int(shape[1] * node.groups) if isinstance(node, Convolution) and node.transposed else int(shape[0])


def matrix_rounding(network: Network, node: Convolution | Linear, *, folded: bool) -> Requantization:
    """The requantisation of a convolution or a linear layer.

    `folded`: for sums of raw activation codes times (weight - weight zero point), padding with the input's zero point;
    the constant `-zx * sum(qw - zw)` then takes the zero point out. Otherwise for the exact sum of
    (qx - zx) * (qw - zw).
    """
    weights, channels = node.weights, output_channels(node)
    source, result = network.values[node.inputs[0]].affine, network.values[node.name].affine
    offset = -source.zero_point * weight_sums(node) if folded and source.zero_point else None
    return requantization(
        network.engine,
        network.kernels,
        kind="convolution" if isinstance(node, Convolution) else "linear",
        input=source,
        weight_scale=weights.scale,
        weight_zero_point=weights.zero_point,
        per_channel=weights.per_channel,
        output=result,
        bias=weights.bias,
        relu=node.relu,
        channels=channels,
        groups=node.groups if isinstance(node, Convolution) else 1,
        output_padding=node.output_padding if isinstance(node, Convolution) else (),
        offset=None if offset is None else offset.astype(np.int32),
    )


def centred_weights(node: Convolution | Linear) -> np.ndarray:
    """Weights less their zero points, int32, the shape of the codes."""
    codes = node.weights.codes.astype(np.int32)
    zero_points = node.weights.zero_point
    if not np.any(zero_points):
        return codes
    axis = 1 if isinstance(node, Convolution) and node.transposed else 0
    if axis == 1:
        per_group = codes.reshape(node.groups, -1, *codes.shape[1:])  # type: ignore[union-attr]
        zeros = np.broadcast_to(zero_points, output_channels(node)).reshape(node.groups, 1, codes.shape[1])  # type: ignore[union-attr]
        return (per_group - zeros[..., *[None] * (codes.ndim - 2)]).reshape(codes.shape)
    return codes - zero_points.reshape(-1, *[1] * (codes.ndim - 1))


def weight_sums(node: Convolution | Linear) -> np.ndarray:
    """For each output channel the sum of its centred weights, int64."""
    weights = centred_weights(node).astype(np.int64)
    if isinstance(node, Convolution) and node.transposed:
        grouped = weights.reshape(node.groups, -1, *weights.shape[1:])
        return grouped.sum(axis=(1, *range(3, grouped.ndim))).reshape(-1)
    return weights.reshape(weights.shape[0], -1).sum(axis=1)


def add_spans(network: Network, node: Add) -> tuple[Span, ...]:
    """The rules of a sum, each with its range of elements in PyTorch's memory order of the output."""
    a, b = (network.values[name].affine for name in node.inputs)
    out = network.values[node.name]
    return add_rules(network.engine, network.kernels, a, b, out.affine, out.size, node.relu)


def product_rule(network: Network, node: Multiply) -> Product:
    """The rule of an element-wise product."""
    a, b = (network.values[name].affine for name in node.inputs)
    return multiply_rule(network.engine, network.kernels, a, b, network.values[node.name].affine, node.relu)


def pool_rounding(network: Network, node: AveragePool, count: int) -> Requantization:
    """The requantisation of a sum over `count` elements of an average pool."""
    return average_rule(network.engine, network.kernels, node.kind, network.values[node.name].affine, count)
