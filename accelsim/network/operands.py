"""The operands of single outputs of a convolution or a linear layer: which codes meet which weights in their sums."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from .graph import Convolution, Linear


class Operands(NamedTuple):
    """For each of some output elements: `codes` and `weights` (elements, taps, channels of a group), both raw.

    `inside` (elements, taps): whether the tap lies in the input; the codes of the others mean nothing.
    """

    codes: np.ndarray
    weights: np.ndarray
    inside: np.ndarray


def operands(node: Convolution | Linear, codes: np.ndarray, places: tuple[np.ndarray, ...]) -> Operands:
    """The operands of the outputs at `places` (an index array for each axis of the output), from one layer's input.

    Taps run over the kernel's axes, the last fastest, as the weights' do.
    """
    if isinstance(node, Linear):
        rows, channel = codes[places[:-1]][:, None, :], places[-1]
        return Operands(rows, node.weights.codes[channel][:, None, :], np.ones(rows.shape[:2], bool))
    weights = node.weights.codes
    kernel, group_inputs = weights.shape[2:], codes.shape[1] // node.groups
    image, channel, *position = places
    taps = np.indices(kernel).reshape(len(kernel), -1)
    inside = np.ones((len(image), math.prod(kernel)), bool)
    at = []
    for axis, size in enumerate(codes.shape[2:]):
        stride, before, step = node.stride[axis], node.padding[axis][0], node.dilation[axis] * taps[axis]
        if node.transposed:
            spread = position[axis][:, None] + before - step
            here, hit = spread // stride, spread % stride == 0
        else:
            here = position[axis][:, None] * stride - before + step
            hit = np.ones(here.shape, bool)
        inside &= hit & (here >= 0) & (here < size)
        at.append(np.clip(here, 0, size - 1)[..., None])
    outputs = weights.shape[1] if node.transposed else weights.shape[0] // node.groups
    group = channel // outputs
    channels = (group * group_inputs)[:, None] + np.arange(group_inputs)
    gathered = codes[(image[:, None, None], channels[:, None, :], *at)]
    chosen = weights[channels, (channel % outputs)[:, None]] if node.transposed else weights[channel]
    chosen = chosen.reshape(len(channel), group_inputs, -1).swapaxes(1, 2)
    return Operands(gathered, chosen, inside)
