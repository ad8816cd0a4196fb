"""Single outputs of a layer as kernels without VNNI compute them, to tell their saturation from an error."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from accelsim.arithmetic.engines import PT2E
from accelsim.arithmetic.matrix import arithmetic_of
from accelsim.arithmetic.requantize import CONSTANTS, Requantization
from accelsim.arithmetic.saturation import pairings, saturation

from . import rounding
from .graph import Convolution, Linear, Network
from .operands import operands

#: Outputs whose operands are gathered at a time, so that large layers need little memory.
_CHUNK = 4096


class Saturated(NamedTuple):
    """For each of some outputs: the `code` that saturating sums give, and in how many `pairs` of products they do."""

    code: np.ndarray
    pairs: np.ndarray


def owner_of(network: Network, node: Convolution | Linear) -> str:
    """Whose kernels compute a layer: a torch.export graph's are oneDNN's."""
    convolution = isinstance(node, Convolution)
    owner = arithmetic_of(
        network.engine,
        network.kernels,
        kind="convolution" if convolution else "linear",
        weight_zero_point=node.weights.zero_point,
        per_channel=node.weights.per_channel,
        groups=node.groups if isinstance(node, Convolution) else 1,
        output_padding=node.output_padding if isinstance(node, Convolution) else (),
        transposed=isinstance(node, Convolution) and node.transposed,
    )
    return "onednn" if owner == PT2E else owner


def saturated(
    network: Network, node: Convolution | Linear, codes: np.ndarray, places: tuple[np.ndarray, ...]
) -> list[Saturated]:
    """The outputs at `places` (an index array for each axis) from the layer's input `codes`.

    One answer for each order in which the kernels of the layer's owner may pair products; none for an exact owner.
    """
    parts = [
        list(_part(network, node, codes, tuple(axis[start : start + _CHUNK] for axis in places)))
        for start in range(0, len(places[0]), _CHUNK)
    ]
    return [
        Saturated(np.concatenate([part.code for part in order]), np.concatenate([part.pairs for part in order]))
        for order in zip(*parts, strict=True)
    ]


def _part(
    network: Network, node: Convolution | Linear, codes: np.ndarray, places: tuple[np.ndarray, ...]
) -> Iterator[Saturated]:
    source, result = network.values[node.inputs[0]].affine, network.values[node.name].affine
    gathered = operands(node, codes, places)
    channels = places[1] if isinstance(node, Convolution) else places[-1]
    zeros = np.broadcast_to(node.weights.zero_point, rounding.output_channels(node))[channels]
    left = np.where(gathered.inside[..., None], gathered.codes.astype(np.int64) - source.zero_point, 0)
    exact = (left * (gathered.weights.astype(np.int64) - zeros[:, None, None])).sum(axis=(1, 2))
    rule = _of_elements(rounding.matrix_rounding(network, node, folded=False), channels)
    kernel = node.weights.codes.shape[2:] if isinstance(node, Convolution) else (1,)
    for terms in pairings(owner_of(network, node), *gathered, kernel, source.zero_point):
        error, pairs = saturation(terms)
        yield Saturated(rule.codes((exact + error).astype(np.int32)).astype(result.dtype), pairs)


def _of_elements(rule: Requantization, channels: np.ndarray) -> Requantization:
    """A rule with a constant for each channel as one with a constant for each of some elements of these channels."""
    given = {name: getattr(rule, name) for name, _ in CONSTANTS}
    return replace(
        rule, **{name: value[channels] for name, value in given.items() if value is not None and len(value) > 1}
    )
