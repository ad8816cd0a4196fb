"""Which input elements and weights one output element of a convolution or a linear layer is the sum of."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from accelsim.network import Convolution, Linear, Network


@dataclass(frozen=True)
class Operands:
    """The terms of one sum: `places[k]` is an index into the input (None: padding), `flat[k]` the same flattened.

    `weights` are the codes of the output `channel`, in the order (channel, *kernel) of PyTorch's weight.
    """

    channel: int
    places: tuple[tuple[int, ...] | None, ...]
    flat: tuple[int | None, ...]
    weights: np.ndarray


def gather(network: Network, node: Convolution | Linear, index: Sequence[Any]) -> Operands:
    """The operands of the output element at `index` (of the layer's output shape)."""
    shape = network.values[node.inputs[0]].shape
    if isinstance(node, Linear):
        channel = int(index[-1])
        places: list[tuple[int, ...] | None] = [(*map(int, index[:-1]), k) for k in range(shape[-1])]
    else:
        channel = int(index[1])
        places = list(_window(node, shape, index))
    flat = tuple(None if place is None else int(np.ravel_multi_index(place, shape)) for place in places)
    return Operands(channel, tuple(places), flat, node.weights.codes[channel].reshape(-1))


def _window(node: Convolution, shape: tuple[int, ...], index: Sequence[Any]) -> list[tuple[int, ...] | None]:
    image, channel, *position = map(int, index)
    outputs, inputs, *kernel = node.weights.codes.shape
    first = channel // (outputs // node.groups) * inputs
    places: list[tuple[int, ...] | None] = []
    for c, *tap in itertools.product(range(inputs), *map(range, kernel)):
        at = [
            o * stride - before + t * dilation
            for o, stride, (before, _), t, dilation in zip(
                position, node.stride, node.padding, tap, node.dilation, strict=True
            )
        ]
        inside = all(0 <= a < size for a, size in zip(at, shape[2:], strict=True))
        places.append((image, first + c, *at) if inside else None)
    return places
