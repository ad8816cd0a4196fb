"""The same network through several arithmetics: which outputs of each layer differ, by how much, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from rich.table import Table

from accelsim.arithmetic.alternatives import LayerScales, PowerOfTwo
from accelsim.arithmetic.engines import ENGINES
from accelsim.arithmetic.requantize import Requantization
from accelsim.arithmetic.units import ARITHMETICS, Requantizer, requantizer
from accelsim.errors import ConfigurationError
from accelsim.network import (
    Add,
    AveragePool,
    Bilinear,
    Convolution,
    GroupNorm,
    LayerNorm,
    Linear,
    Lookup,
    Multiply,
    Network,
)
from accelsim.network.rounding import matrix_rounding
from accelsim.network.substitution import (
    Choose,
    layer_accumulators,
    layer_scales,
    reachable_sums,
    trace_substituted,
)

from .tables import percent, plain_table

#: Why two arithmetics give different codes; the first that applies to an output is its cause.
BIAS, TIE, FACTOR, ORDER, OPERATOR, LANES = (
    "bias rounding",
    "tie direction",
    "multiplier",
    "order of operations",
    "another operator's rule",
    "lanes",
)
CAUSES = (BIAS, TIE, FACTOR, ORDER, OPERATOR, LANES)

#: One rule for all lanes, where PyTorch's vector loops and their tails have two.
UNIFORM = "uniform"

#: What can stand beside a network's own engine.
NAMES = (*ENGINES, UNIFORM, *(name for name in ARITHMETICS if name != "float32_exact"))

#: Operators that each engine rounds by its own rule, and those whose lanes may differ.
_OF_ENGINES = (Add, Multiply, AveragePool)
_OF_LANES = (*_OF_ENGINES, Lookup, LayerNorm, GroupNorm, Bilinear)

#: A value this close to a half, in steps of the output, is a tie; binary32 rounds a thousand times as coarsely.
_TIE = 2.0**-36


@dataclass(frozen=True)
class LayerComparison:
    """One layer on the inputs that it has in the reference: `causes` by name partition the `differing` outputs.

    `carried` outputs differ when the whole network runs in the other arithmetic, with the inputs that it has there.
    """

    layer: str
    kind: str
    outputs: int
    differing: int
    worst: int
    causes: dict[str, int]
    carried: int


@dataclass(frozen=True)
class Comparison:
    """A network in its own engine's arithmetic (`reference`) beside another.

    `agreement`: share of the rows of the (first) output whose largest element is at the same place; the accuracies
    are shares of rows whose largest element is where the labels say, None without labels.
    """

    reference: str
    arithmetic: str
    layers: tuple[LayerComparison, ...]
    agreement: float
    accuracy: float | None
    reference_accuracy: float | None


def compare(
    network: Network,
    x: Any,
    names: Sequence[str],
    labels: np.ndarray | None = None,
    *,
    multiplier_bits: int = 31,
    uniform: Network | None = None,
    known: Mapping[str, Requantizer] | None = None,
) -> tuple[Comparison, ...]:
    """Run `network` on `x` in the arithmetic of each of `names` (of `NAMES`).

    `uniform`: the same model extracted with `lanes="uniform"`, which that name needs: its tables are PyTorch's.
    `known`: the requantisation of each layer of sums in the one arithmetic of `names`, where it was found before.
    Raises ConfigurationError for a name that there is not, or labels that do not fit, and InputError.
    """
    for name in names:
        if name not in NAMES:
            raise ConfigurationError(f"no arithmetic is named {name!r}; there are {', '.join(NAMES)}")
        if name == UNIFORM and uniform is None:
            raise ConfigurationError(f"{UNIFORM} needs the model, whose tables PyTorch fills anew for these lanes")
    values = network.trace(x)
    scores = _rows(values[network.outputs[0]])
    if labels is not None and labels.shape != (len(scores),):
        raise ConfigurationError(f"labels of shape {labels.shape}; the output has {len(scores)} rows, each wants one")
    return tuple(
        _beside(network, _others(network, name, uniform), x, name, values, labels, multiplier_bits, known)
        for name in names
    )


def _others(network: Network, name: str, uniform: Network | None) -> Network:
    """The same graph in the arithmetic of that name: another engine, or `uniform`'s lanes; itself for the others."""
    if name in ENGINES:
        return replace(network, engine=name)
    if name != UNIFORM or uniform is None:
        return network
    # A table that changes nothing has no node; the graph's own nodes are the ones that count.
    made = {node.name: node for node in uniform.nodes}
    nodes = tuple(
        replace(made[node.name], inputs=node.inputs)
        if isinstance(node, Lookup) and isinstance(made.get(node.name), Lookup)
        else node
        for node in network.nodes
    )
    return replace(network, kernels=uniform.kernels, nodes=nodes)


def _beside(
    network: Network,
    others: Network,
    x: Any,
    name: str,
    values: dict[str, np.ndarray],
    labels: np.ndarray | None,
    multiplier_bits: int,
    known: Mapping[str, Requantizer] | None,
) -> Comparison:
    kinds = _OF_LANES if name == UNIFORM else _OF_ENGINES
    rules: dict[str, Requantizer] = dict(known or {})

    def choose(node: Convolution | Linear) -> Requantizer:
        if node.name not in rules:
            rules[node.name] = _rule(network, others, node, name, multiplier_bits)
        return rules[node.name]

    carried = trace_substituted(network, choose, x, others=others)
    layers = []
    for node in network.nodes:
        if isinstance(node, Convolution | Linear):
            differing, worst, causes = _matrix(network, node, choose, values)
        elif isinstance(node, kinds) and others is not network:
            change = np.abs(others.apply(node.name, values).astype(np.int32) - values[node.name])
            differing, worst = int(np.count_nonzero(change)), int(change.max(initial=0))
            causes = {LANES if name == UNIFORM else OPERATOR: differing} if differing else {}
        else:
            continue
        elsewhere = int(np.count_nonzero(carried[node.name] != values[node.name]))
        size = values[node.name].size
        layers.append(LayerComparison(node.name, type(node).__name__, size, differing, worst, causes, elsewhere))
    output = network.outputs[0]
    own, other = (_rows(codes[output]).argmax(axis=1) for codes in (values, carried))
    return Comparison(
        reference=network.engine,
        arithmetic=name,
        layers=tuple(layers),
        agreement=float(np.mean(own == other)),
        accuracy=None if labels is None else float(np.mean(other == labels)),
        reference_accuracy=None if labels is None else float(np.mean(own == labels)),
    )


def _rows(codes: np.ndarray) -> np.ndarray:
    return codes.reshape(codes.shape[0], -1) if codes.ndim > 1 else codes.reshape(1, -1)


def _rule(
    network: Network, others: Network, node: Convolution | Linear, name: str, multiplier_bits: int
) -> Requantizer:
    if name in ENGINES or name == UNIFORM:
        return matrix_rounding(others, node, folded=False)
    return requantizer(
        name,
        matrix_rounding(network, node, folded=False),
        layer_scales(network, node, folded=False),
        reachable_sums(network, node, folded=False),
        multiplier_bits,
    )


def _matrix(
    network: Network, node: Convolution | Linear, choose: Choose, values: dict[str, np.ndarray]
) -> tuple[int, int, dict[str, int]]:
    sums = layer_accumulators(network, node, values)
    reference, other = matrix_rounding(network, node, folded=False), choose(node)
    own, found = reference.apply(sums), other.apply(sums)
    change = np.abs(own - found)
    causes = _causes(layer_scales(network, node, folded=False), reference, other, sums, own, found)
    named = {cause: int(np.count_nonzero(which)) for cause, which in causes.items()}
    counts = {cause: count for cause, count in named.items() if count}
    return int(np.count_nonzero(change)), int(change.max(initial=0)), counts


def _causes(
    scales: LayerScales,
    reference: Requantization,
    other: Requantizer,
    sums: np.ndarray,
    own: np.ndarray,
    found: np.ndarray,
) -> dict[str, np.ndarray]:
    """For each cause where it is the one: with the biases rounded alike, is there still a difference; is it a tie?"""
    left = own != found
    causes = {}
    steps = scales.integer_bias()
    rounded = [_with_integer_bias(rule, steps) for rule in (reference, other)]
    same_bias = rounded[0].apply(sums) == rounded[1].apply(sums)
    one_sided = _has_real_bias(reference) != _has_real_bias(other)
    causes[BIAS] = left & same_bias & one_sided
    left = left & ~causes[BIAS]
    real = np.zeros(scales.channels) if scales.bias is None else scales.bias / scales.output.scale
    ties = np.zeros(left.shape, np.bool_)
    for offset in (real, steps * scales.factor):
        value = sums * scales.factor + offset
        ties |= np.abs(value - np.floor(value) - 0.5) <= _TIE * np.maximum(np.abs(value), 1)
    if isinstance(other, PowerOfTwo):
        ties &= np.ldexp(1.0, -other.shift) == scales.factor
    causes[TIE] = left & ties
    left = left & ~ties
    causes[FACTOR if isinstance(other, PowerOfTwo) else ORDER] = left
    return causes


def _has_real_bias(rule: Requantizer) -> bool:
    return isinstance(rule, Requantization) and rule.bias is not None


def _with_integer_bias(rule: Requantizer, steps: np.ndarray) -> Requantizer:
    """The same pipeline with its bias rounded to an integer and added to the accumulator."""
    if not isinstance(rule, Requantization) or rule.bias is None:
        return rule
    offset = steps if rule.offset is None else steps + rule.offset
    return replace(rule, offset=offset.astype(np.int32), bias=None, bias_factor=None)


def comparison_table(comparison: Comparison) -> Table:
    """A row a layer, and the totals."""
    present = [cause for cause in CAUSES if any(cause in layer.causes for layer in comparison.layers)]
    columns = ["layer", "outputs", "differing", "share", "worst", *present, "differing\nin the whole run"]
    title = f"{comparison.arithmetic} beside {comparison.reference}, each layer on the same inputs"
    table = plain_table(title, columns)
    for layer in comparison.layers:
        table.add_row(layer.layer, *_cells([layer], present))
    table.add_section()
    table.add_row("total", *_cells(comparison.layers, present), style="bold")
    return table


def _cells(layers: Sequence[LayerComparison], present: Sequence[str]) -> list[str]:
    outputs, differing, carried = (
        sum(getattr(layer, name) for layer in layers) for name in ("outputs", "differing", "carried")
    )
    causes = [f"{sum(layer.causes.get(cause, 0) for layer in layers):,}" for cause in present]
    worst = max((layer.worst for layer in layers), default=0)
    share = percent(differing / outputs if outputs else 0.0)
    return [f"{outputs:,}", f"{differing:,}", share, str(worst), *causes, f"{carried:,}"]


def lanes_summary(comparison: Comparison) -> str:
    """What one rule for all lanes changes, in one line."""
    outputs, differing, carried = (
        sum(getattr(layer, name) for layer in comparison.layers) for name in ("outputs", "differing", "carried")
    )
    worst = max((layer.worst for layer in comparison.layers), default=0)
    by_layer = ", ".join(f"{layer.layer} {layer.differing:,}" for layer in comparison.layers if layer.differing)
    return (
        f"one rule for all lanes changes {differing:,} of {outputs:,} outputs{f' ({by_layer})' if by_layer else ''}, "
        f"each layer on the same inputs, by at most {worst}; {carried:,} in the whole run"
    )


def comparison_summary(comparison: Comparison) -> str:
    """What becomes of the largest output, in one line."""
    line = f"{comparison.arithmetic}: the largest output is the same in {percent(comparison.agreement)} of the rows"
    if comparison.accuracy is None or comparison.reference_accuracy is None:
        return line
    return (
        f"{line}; accuracy {percent(comparison.accuracy)}, with {comparison.reference} "
        f"{percent(comparison.reference_accuracy)}"
    )
