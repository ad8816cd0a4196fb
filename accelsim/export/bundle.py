"""What is exported: named arrays, and a manifest that says what each of them means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from accelsim.arithmetic import vector
from accelsim.arithmetic.fixed_point import MOST_MULTIPLIER_BITS
from accelsim.errors import ModelError
from accelsim.network import (
    Constant,
    Convolution,
    GroupNorm,
    LayerNorm,
    Linear,
    Lookup,
    Network,
    Node,
    ResidualLayer,
    Vector,
)
from accelsim.network.rounding import centred_weights
from accelsim.network.substitution import certify_layer

_MEANINGS = {
    "weight": "codes of the weights, in PyTorch's shape",
    "centred_weight": "weights less their zero points: multiply with these",
    "weight_scale": "scale of the weights, one or one an output channel",
    "weight_zero_point": "zero point of the weights, one or one an output channel",
    "bias": "bias in real units",
    "factor": "what a normalisation multiplies each feature or channel with, a real number",
    "multiplier": "M of q = clamp((acc * M + B) >> S), one an output channel",
    "offset": "B of q = clamp((acc * M + B) >> S), with bias, zero points and rounding in it",
    "shift": "S of q = clamp((acc * M + B) >> S)",
    "certified": "1 where (M, B, S) is proved to equal the engine for every reachable accumulator",
    "thresholds": "q = minimum + how many of the channel's thresholds the accumulator has reached; always exact",
    "content": "numbers that the model brings along",
    "program": "steps of the vector unit, four 32-bit words each: operation and registers, constants of a, b and c",
    "tables": "tables of 256 bit patterns, indexed by the bit pattern of the input's code",
}

ACCUMULATOR = (
    "acc = sum(x * w) over the raw input codes x, where padding has the input's zero point as its code, "
    "and over centred_weight, or weight where there is none"
)

RESIDUAL = "binary32: the residual's codes are added to the scaled sums before the one rounding, as pt2e's kernels do"


@dataclass(frozen=True)
class Tensor:
    """An array, `owner` (a node or a key of a state_dict) and `role` in it, and its meaning in a sentence."""

    owner: str
    role: str
    array: np.ndarray
    meaning: str

    @property
    def name(self) -> str:
        """The tensor's name in a file."""
        return f"{self.owner}.{self.role}" if self.role else self.owner


@dataclass(frozen=True)
class Bundle:
    """Arrays, and a manifest in plain data. `clamps`: lower and upper clamp of each layer that requantises."""

    tensors: tuple[Tensor, ...]
    manifest: dict[str, Any]
    clamps: dict[str, tuple[int, int]]


def network_bundle(network: Network, multiplier_bits: int = MOST_MULTIPLIER_BITS) -> Bundle:
    """Everything that integer-only hardware needs of a network.

    Each convolution and linear layer comes with its fixed-point constants and what is proved of them; one that has a
    channel without a certificate comes with thresholds too. Raises ModelError for a layer that leaves int32.
    """
    tensors: list[Tensor] = []
    clamps: dict[str, tuple[int, int]] = {}
    nodes = []
    for node in network.nodes:
        entry: dict[str, Any] = {"name": node.name, "node": type(node).__name__, "inputs": list(node.inputs)}
        entry |= _attributes(node)
        own: dict[str, np.ndarray] = {}
        if isinstance(node, Convolution | Linear):
            own, clamps[node.name] = _layer(network, node, multiplier_bits)
            entry |= {"accumulator": ACCUMULATOR, "clamp": list(clamps[node.name]), "state_dict": node.weights.key}
            entry["requantize_by"] = "thresholds" if "thresholds" in own else "fixed_point"
        elif isinstance(node, ResidualLayer):
            own = _parameters(node.layer)
            entry |= {"layer": type(node.layer).__name__, **_attributes(node.layer), "accumulator": ACCUMULATOR}
            entry |= {"requantize_by": RESIDUAL, "state_dict": node.layer.weights.key}
        elif isinstance(node, Lookup):
            own = {"tables": node.tables}
        elif isinstance(node, Constant):
            own = {"content": node.content}
        elif isinstance(node, Vector):
            own = {"program": node.words}
            entry |= {"steps": vector.text(node.program), "statistic": node.statistic.name.lower()}
        elif isinstance(node, LayerNorm | GroupNorm):
            given = {"factor": node.weight, "bias": node.bias}
            own = {role: array for role, array in given.items() if array is not None}
        entry["tensors"] = {role: f"{node.name}.{role}" for role in own}
        tensors += [Tensor(node.name, role, array, _MEANINGS[role]) for role, array in own.items()]
        nodes.append(entry)
    manifest = {
        "format": "accelsim-export",
        "version": 1,
        "network": network.name,
        "engine": network.engine,
        "kernels": asdict(network.kernels),
        "inputs": list(network.inputs),
        "outputs": list(network.outputs),
        "values": {
            value.name: {"shape": list(value.shape), **asdict(value.affine)} for value in network.values.values()
        },
        "nodes": nodes,
    }
    return Bundle(tuple(tensors), manifest, clamps)


def tensors_bundle(name: str, arrays: Mapping[str, np.ndarray]) -> Bundle:
    """Arrays by name, without a graph: what a bare `state_dict` holds."""
    tensors = tuple(Tensor(key, "", array, "as in the state_dict") for key, array in arrays.items())
    return Bundle(tensors, {"format": "accelsim-export", "version": 1, "state_dict": name}, {})


def _attributes(node: Node) -> dict[str, Any]:
    """The plain fields of a node."""
    skipped = {"name", "inputs", "weights", "tables", "weight", "bias", "layer", "content", "words", "statistic"}
    return {name: value for name, value in vars(node).items() if name not in skipped}


def _layer(
    network: Network, node: Convolution | Linear, multiplier_bits: int
) -> tuple[dict[str, np.ndarray], tuple[int, int]]:
    found = certify_layer(network, node, multiplier_bits)
    if np.any(found.exact.monotone.count != found.reach.count):
        raise ModelError(f"{node.name}: its sums leave int32 when they are scaled; choose a larger output scale")
    own = _parameters(node)
    constants = found.constants
    own |= {
        "multiplier": constants.multiplier.astype(np.int32),
        "offset": constants.offset,
        "shift": constants.shift.astype(np.uint8),
        "certified": found.certified.astype(np.uint8),
    }
    if not found.certified.all():
        # A threshold that nothing reaches may stand at 2**31, one above int32.
        own["thresholds"] = np.minimum(found.exact.first, 2**31 - 1).astype(np.int32)
    return own, (constants.minimum, constants.maximum)


def _parameters(node: Convolution | Linear) -> dict[str, np.ndarray]:
    weights = node.weights
    own: dict[str, np.ndarray] = {"weight": weights.codes}
    if np.any(weights.zero_point):
        own["centred_weight"] = centred_weights(node).astype(np.int16)
    own |= {"weight_scale": weights.scale, "weight_zero_point": weights.zero_point}
    if weights.bias is not None:
        own["bias"] = weights.bias
    return own
