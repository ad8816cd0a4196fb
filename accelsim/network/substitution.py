"""A network's convolutions and linear layers under another arithmetic than its engine's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from accelsim.arithmetic.alternatives import LayerScales
from accelsim.arithmetic.certificate import Certificate, prove
from accelsim.arithmetic.reachable import Reachable, reachable
from accelsim.arithmetic.units import Requantizer, UnitRule, requantizer
from accelsim.hardware.configuration import Arithmetic
from accelsim.limits import DEFAULT, Limits

from . import rounding
from .costs import check_run
from .graph import Convolution, Linear, Network, Softmax
from .inputs import prepare
from .reference import accumulators, apply, channels_in_place, slots

#: The requantisation of a layer, of its exact sums.
Choose = Callable[[Convolution | Linear], Requantizer]


def matrix_nodes(network: Network) -> list[Convolution | Linear]:
    """The layers that requantise sums of products to codes, in order."""
    layers = [node for node in network.nodes if isinstance(node, Convolution | Linear)]
    return [node for node in layers if not network.values[node.name].affine.is_float]


def channel_terms(node: Convolution | Linear) -> np.ndarray:
    """Centred weights as (channels, terms): what one output element is a sum over."""
    weights = rounding.centred_weights(node)
    if isinstance(node, Convolution) and node.transposed:
        weights = weights.reshape(node.groups, -1, *weights.shape[1:]).swapaxes(1, 2)
    return weights.reshape(rounding.output_channels(node), -1)


def reachable_sums(network: Network, node: Convolution | Linear, *, folded: bool) -> Reachable:
    """The reachable accumulators of a layer: exact sums, or (`folded`) sums of raw codes padded with the zero point."""
    source = network.values[node.inputs[0]].affine
    zero_point = 0 if folded else source.zero_point
    return reachable(channel_terms(node), source.minimum - zero_point, source.maximum - zero_point)


def layer_scales(network: Network, node: Convolution | Linear, *, folded: bool) -> LayerScales:
    """The real numbers of a layer; `folded` as in `matrix_rounding`."""
    source = network.values[node.inputs[0]].affine
    return LayerScales(
        input=source,
        weight_scale=node.weights.scale,
        output=network.values[node.name].affine,
        bias=node.weights.bias,
        relu=node.relu,
        channels=rounding.output_channels(node),
        offset=rounding.zero_point_offset(source, rounding.weight_sums(node)).astype(np.int32) if folded else None,
    )


def certify_layer(
    network: Network, node: Convolution | Linear, multiplier_bits: int, *, folded: bool = True
) -> Certificate:
    """Fixed point of a layer for folded sums: raw codes times (weight - its zero point), padded with the zero point.

    Without `folded`, for exact sums.
    """
    rule = rounding.matrix_rounding(network, node, folded=folded)
    with rounding.located(node):
        return prove(rule, reachable_sums(network, node, folded=folded), multiplier_bits)


@dataclass(frozen=True)
class LayerUnit:
    """How a machine's requant unit requantises a layer: `rule` takes exact sums.

    `certificate`: what is proved of a rule in fixed point, None for every other.
    """

    rule: UnitRule
    certificate: Certificate | None = None


def layer_unit(network: Network, node: Convolution | Linear, arithmetic: Arithmetic) -> LayerUnit:
    """The requantisation of a layer by a unit of that arithmetic."""
    exact = rounding.matrix_rounding(network, node, folded=False)
    if arithmetic.name == "float32_exact":
        return LayerUnit(exact)
    if arithmetic.name == "fixed_point":
        assert arithmetic.multiplier_bits is not None
        found = certify_layer(network, node, arithmetic.multiplier_bits, folded=False)
        return LayerUnit(found.constants, found)
    scales, reach = layer_scales(network, node, folded=False), reachable_sums(network, node, folded=False)
    with rounding.located(node):
        return LayerUnit(requantizer(arithmetic.name, exact, scales, reach))


def layer_units(network: Network, arithmetic: Arithmetic) -> dict[str, LayerUnit]:
    """The requantisation of every layer of sums by a unit of that arithmetic, by name."""
    return {node.name: layer_unit(network, node, arithmetic) for node in matrix_nodes(network)}


def trace_on(
    network: Network,
    arithmetic: Arithmetic,
    x: Any,
    units: Mapping[str, LayerUnit] | None = None,
    limits: Limits = DEFAULT,
) -> dict[str, np.ndarray]:
    """As `Network.trace`, on a machine whose requant unit has that arithmetic; `units` where they are known already."""
    if arithmetic.is_exact:
        return network.trace(x, limits=limits)
    found = layer_units(network, arithmetic) if units is None else units
    return trace_substituted(network, lambda node: found[node.name].rule, x, limits=limits)


def layer_accumulators(network: Network, node: Convolution | Linear, values: dict[str, np.ndarray]) -> np.ndarray:
    """The exact sums of a layer on inputs taken from `values`, int32, channels last; several batches in a row."""
    source = values[node.inputs[0]]
    parts = np.split(source, source.shape[0] // network.values[node.inputs[0]].shape[0])
    return np.concatenate([accumulators(network, node, part) for part in parts])


def layer_codes(
    network: Network, node: Convolution | Linear, rule: Requantizer, values: dict[str, np.ndarray]
) -> np.ndarray:
    """A layer on inputs taken from `values`, requantised by `rule`; several batches in a row."""
    codes = channels_in_place(node, rule.apply(layer_accumulators(network, node, values)))
    value = network.values[node.name]
    return codes.astype(value.affine.dtype).reshape(-1, *value.shape[1:])


def trace_substituted(
    network: Network, choose: Choose, x: Any, *, others: Network | None = None, limits: Limits = DEFAULT
) -> dict[str, np.ndarray]:
    """As `Network.trace`, with every convolution and linear layer requantised by what `choose` gives it.

    The other nodes are those of `others`: the same graph under another engine or kernel set. A softmax stays the
    network's own, since only QNNPACK's has an integer rule.
    """
    check_run(network, DEFAULT)
    inputs, runs = prepare(x, slots(network), limits)
    rules = {node.name: choose(node) for node in matrix_nodes(network)}
    parts: list[dict[str, np.ndarray]] = []
    for run in range(runs):
        values = dict(zip(network.inputs, (codes[run] for codes in inputs), strict=True))
        for node in (others or network).nodes:
            if isinstance(node, Convolution | Linear):
                value = network.values[node.name]
                codes = rules[node.name].apply(accumulators(network, node, values[node.inputs[0]]))
                codes = channels_in_place(node, codes)
                values[node.name] = codes.astype(value.affine.dtype).reshape(value.shape)
            else:
                owner = network if isinstance(node, Softmax) else others or network
                values[node.name] = apply(owner, node, [values[name] for name in node.inputs])
        parts.append(values)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
