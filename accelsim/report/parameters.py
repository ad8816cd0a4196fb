"""Every parameter of a network as rows: the listing of `accelsim extract`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from rich.table import Table

from accelsim.arithmetic.affine import Affine
from accelsim.arithmetic.engines import EXPORTED
from accelsim.network import Constant, Convolution, GroupNorm, LayerNorm, Linear, Lookup, Network, ResidualLayer

from .tables import numbers, plain_table


@dataclass(frozen=True)
class Parameter:
    """One tensor or affine map. `key` is its `state_dict()` entry, "" where the network does not know it.

    `scale`, `zero_point`: one a channel where they are per channel, none for plain numbers. `low` and `high` are the
    smallest and largest stored number (for activations, the codes that can occur).
    """

    layer: str
    role: str
    key: str
    shape: tuple[int, ...]
    dtype: str
    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    low: float
    high: float


def parameters(network: Network) -> tuple[Parameter, ...]:
    """Inputs first, then every layer's weights, factors, bias, tables and output, in the order of execution."""
    rows = [_codes(network, name, "input", "") for name in network.inputs]
    for node in network.nodes:
        key, layer = "", node.layer if isinstance(node, ResidualLayer) else node
        if isinstance(layer, Convolution | Linear):
            # A torch.export graph keeps a float bias under its own name, codes and scales under others.
            exported = network.engine in EXPORTED
            key = "" if exported else layer.weights.key
            rows += _weights(layer, exported=exported)
        elif isinstance(node, Lookup):
            rows.append(_numbers(node.name, "table", "", node.tables))
        elif isinstance(node, Constant):
            rows.append(_numbers(node.name, "constant", "", node.content))
            continue
        elif isinstance(node, LayerNorm | GroupNorm):
            for role, array in (("factor", node.weight), ("bias", node.bias)):
                if array is not None:
                    rows.append(_numbers(node.name, role, "", array))
        rows.append(_codes(network, node.name, "output", key))
    return tuple(rows)


def _weights(node: Convolution | Linear, *, exported: bool) -> Iterable[Parameter]:
    weights = node.weights
    # A quantised linear module keeps weight and bias together in one packed entry; a convolution keeps two.
    packed = f"{weights.key}._packed_params._packed_params" if isinstance(node, Linear) and not exported else ""
    codes, bias = weights.codes, weights.bias
    yield Parameter(
        node.name,
        "weight",
        (packed or f"{weights.key}.weight") if weights.key and not exported else "",
        codes.shape,
        str(codes.dtype),
        tuple(float(scale) for scale in weights.scale),
        tuple(int(zero) for zero in weights.zero_point),
        float(codes.min()),
        float(codes.max()),
    )
    if bias is not None:
        key = (packed or f"{weights.key}.bias") if weights.key else ""
        yield _numbers(node.name, "bias", key, bias)


def _numbers(layer: str, role: str, key: str, array: np.ndarray) -> Parameter:
    """Plain numbers, without an affine map."""
    low, high = float(array.min()), float(array.max())
    return Parameter(layer, role, key, array.shape, str(array.dtype), (), (), low, high)


def _codes(network: Network, name: str, role: str, key: str) -> Parameter:
    value = network.values[name]
    affine: Affine = value.affine
    if affine.is_float:
        most = float(np.finfo(np.float32).max)
        return Parameter(name, role, "", value.shape, affine.dtype, (), (), -most, most)
    low, high = float(np.iinfo(affine.dtype).min), float(np.iinfo(affine.dtype).max)
    where = f"{key}.scale, {key}.zero_point" if key else ""
    return Parameter(name, role, where, value.shape, affine.dtype, (affine.scale,), (affine.zero_point,), low, high)


def parameter_table(rows: Iterable[Parameter], title: str) -> Table:
    """The rows for people; of many scales the smallest and the largest are shown."""
    columns = ("layer", "what", "state_dict key", "shape", "dtype", "scale", "zero point", "range")
    table = plain_table(title, columns, left=5)
    for row in rows:
        table.add_row(
            row.layer,
            row.role,
            row.key or "-",
            "x".join(map(str, row.shape)),
            row.dtype,
            numbers(row.scale) if row.scale else "-",
            numbers(sorted(set(row.zero_point))) if row.zero_point else "-",
            f"{row.low:.6g} … {row.high:.6g}",
        )
    return table
