"""Which input elements and weights one output element of a convolution or a linear layer is the sum of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from accelsim.network import Convolution, Linear, Network
from accelsim.network.operands import operands


@dataclass(frozen=True)
class Terms:
    """The terms of one sum: `places[k]` is an index into the input (None: padding), `flat[k]` the same flattened.

    `weights` are the codes of the output `channel`, in the order (channel, *kernel) of PyTorch's weight.
    """

    channel: int
    places: tuple[tuple[int, ...] | None, ...]
    flat: tuple[int | None, ...]
    weights: np.ndarray


def gather(network: Network, node: Convolution | Linear, index: Sequence[Any]) -> Terms:
    """The terms of the output element at `index` (of the layer's output shape)."""
    shape = network.values[node.inputs[0]].shape
    numbers = np.arange(math.prod(shape)).reshape(shape)  # each element of the input as its own place
    found = operands(node, numbers, tuple(np.array([int(at)]) for at in index))
    inside = np.broadcast_to(found.inside[0], found.codes.shape[:0:-1]).reshape(-1)
    every = zip(found.codes[0].T.reshape(-1).tolist(), inside.tolist(), strict=True)
    flat = tuple(number if there else None for number, there in every)
    places = tuple(None if at is None else tuple(map(int, np.unravel_index(at, shape))) for at in flat)
    channel = int(index[-1] if isinstance(node, Linear) else index[1])
    return Terms(channel, places, flat, found.weights[0].T.reshape(-1))
