"""What a network costs the host that runs it by numpy, from its shapes alone: before anything is made of them.

Bounds for one batch, not measurements: nothing here may be far below what a run takes.
"""

from __future__ import annotations

import math

import numpy as np

from accelsim.arithmetic import vector
from accelsim.errors import ModelError
from accelsim.limits import Limits, over

from .graph import (
    AveragePool,
    Bilinear,
    Convolution,
    GroupNorm,
    LayerNorm,
    Linear,
    Lookup,
    Matmul,
    MaxPool,
    Network,
    Node,
    ResidualLayer,
    Softmax,
)
from .vector import Constant, Vector

#: Elements of windows that a convolution gathers at a time, where one line of one image has fewer.
GATHERED = 1 << 22

#: Bytes that an element takes while it is worked on: codes, integers, binary64 or a few binary32 numbers.
_ELEMENT = 32

#: Of an output position of an average pool, which Python visits one by one.
_POSITION_OPERATIONS = 20_000


def given_bytes(network: Network) -> int:
    """Bytes that come with a network: what its own size justifies."""
    return 64 * len(network.nodes) + sum(map(_node_bytes, network.nodes))


def _node_bytes(node: Node) -> int:
    match node:
        case Convolution() | Linear():
            return node.weights.codes.nbytes
        case ResidualLayer():
            return node.layer.weights.codes.nbytes
        case Lookup():
            return node.tables.nbytes
        case Constant():
            return node.content.nbytes
    return 0


def check_run(network: Network, limits: Limits) -> None:
    """Raise ModelError where one batch takes more than the limits; every value is kept until the end."""
    given = given_bytes(network)
    memory_allowed, operations_allowed = limits.memory_for(given), limits.operations_for(given)
    held = sum(value.size * value.affine.bytes for value in network.values.values())
    if held > memory_allowed:
        raise ModelError(over("memory", held, memory_allowed, f"{network.name}: all its values together"))
    operations = 0
    for node in network.nodes:
        memory, work = _working(network, node)
        if held + memory > memory_allowed:
            raise ModelError(over("memory", held + memory, memory_allowed, f"node {node.name!r}"))
        operations += work
        if operations > operations_allowed:
            raise ModelError(over("operations", operations, operations_allowed, f"all up to node {node.name!r}"))


def _working(network: Network, node: Node) -> tuple[int, int]:
    """Bytes and operations of one node."""
    out = network.values[node.name].size
    shapes = [network.values[name].shape for name in node.inputs]
    elements = out + sum(map(math.prod, shapes))
    match node:
        case ResidualLayer():
            return _layer(node.layer, shapes[0], network.values[node.name].shape, elements)
        case Convolution() | Linear():
            return _layer(node, shapes[0], network.values[node.name].shape, elements)
        case MaxPool():
            padded = _padded(shapes[0], node.padding)
            taps = math.prod(node.kernel)
            return 8 * padded + 8 * taps * out, padded + taps * out
        case AveragePool():
            images, channels = shapes[0][:2]
            windows = math.prod(node.kernel) * out if node.kind == "window" else elements
            return _ELEMENT * elements, _POSITION_OPERATIONS * (out // (images * channels)) + windows
        case Matmul():
            inner = shapes[0][-1]
            return _ELEMENT * elements, elements + out * inner
        case Bilinear() | Softmax() | LayerNorm() | GroupNorm():
            return 2 * _ELEMENT * elements, 64 * elements
        case Vector():
            whole = math.prod(np.broadcast_shapes(*shapes))
            work = 4 * (1 + vector.cycles(node.program))
            return (_ELEMENT + 4 * len(node.words)) * (elements + whole), 16 * elements + work * whole
    return _ELEMENT * elements, 16 * elements


def _layer(
    node: Convolution | Linear, shape: tuple[int, ...], result: tuple[int, ...], elements: int
) -> tuple[int, int]:
    codes, out = node.weights.codes, math.prod(result)
    weights = 16 * codes.size
    if isinstance(node, Linear):
        return weights + _ELEMENT * elements, elements + out * shape[-1] // 16
    if node.transposed:
        spread = tuple((size - 1) * step + 1 for size, step in zip(shape[2:], node.stride, strict=True))
        spans = tuple((taps - 1) * rate for taps, rate in zip(codes.shape[2:], node.dilation, strict=True))
        pads = tuple(
            (span, span + more) for span, more in zip(spans, node.output_padding or (0,) * len(spans), strict=True)
        )
        padded = _padded((*shape[:2], *spread), pads)
    else:
        padded = _padded(shape, node.padding)
    terms = math.prod(codes.shape[2:]) * (shape[1] // node.groups)
    # Windows are gathered a few positions at a time, those of one line at least.
    line = math.prod(result[3:])
    gathered = 8 * max(terms * node.groups * line, GATHERED)
    return weights + gathered + 16 * padded + _ELEMENT * elements, padded + out * terms // 16


def _padded(shape: tuple[int, ...], padding: tuple[tuple[int, int], ...]) -> int:
    sizes = (size + before + after for size, (before, after) in zip(shape[2:], padding, strict=True))
    return shape[0] * shape[1] * math.prod(sizes)
