"""A network as one file: arrays as safetensors, the graph as JSON in the file's metadata. Loading executes nothing."""

from __future__ import annotations

import json
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from pydantic import ConfigDict, TypeAdapter, ValidationError

from accelsim import files
from accelsim.arithmetic.affine import Affine
from accelsim.arithmetic.engines import ARITHMETICS, KernelSet
from accelsim.container import brief, check_same, pack, unpack
from accelsim.errors import FormatError, ModelError
from accelsim.reading import shown

from . import graph
from .checks import check
from .graph import Network, Node, Value

_KIND = "accelsim-network"


def _kinds(kind: type[Node]) -> list[type[Node]]:
    """The nodes that a file may hold: those that no other is made of."""
    below = [leaf for part in kind.__subclasses__() for leaf in _kinds(part)]
    return below or [kind]


_KINDS: dict[str, type[Node]] = {kind.__name__: kind for kind in _kinds(Node)}
_ADAPTERS: dict[type, TypeAdapter[Any]] = {}
_CONFIG = ConfigDict(arbitrary_types_allowed=True, extra="forbid")


def save(network: Network, path: str | Path) -> None:
    """Write `network` to `path`. Raises WriteError."""
    header, arrays = _contents(network)
    files.write(path, pack(_KIND, header, arrays))


def load(path: str | Path) -> Network:
    """Read a network. Raises FormatError for a file that is missing, damaged (see `checks`), of another kind, newer."""
    header, arrays = unpack(path, _KIND, "accelsim extract --out")
    try:
        if header["engine"] not in ARITHMETICS:
            known = ", ".join(ARITHMETICS)
            raise FormatError(f"{path}: unknown engine {shown(header['engine'])}; there are {known}")
        values = [_typed(Value, item) for item in header["values"]]
        network = Network(
            engine=header["engine"],
            kernels=_typed(KernelSet, header["kernels"]),
            values={value.name: value for value in values},
            nodes=tuple(_node(item, arrays) for item in header["nodes"]),
            inputs=_names(header["inputs"]),
            outputs=_names(header["outputs"]),
            name=_name(header["name"]),
            notes=_names(header["notes"]),
        )
        check(network)
        check_same((header, arrays), _contents(network))
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError, ModelError) as error:
        reason = brief(str(error)) if isinstance(error, ValidationError) else str(error)
        raise FormatError(f"{path}: damaged network file ({type(error).__name__}: {reason}); write it again") from None
    return network


def _contents(network: Network) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What a file holds of a network: plain data, and arrays by name."""
    arrays: dict[str, np.ndarray] = {}
    nodes = [{"node": type(node).__name__, **_plain(node, node.name, arrays)} for node in network.nodes]
    header = {
        "name": network.name,
        "engine": network.engine,
        "kernels": asdict(network.kernels),
        "values": [asdict(value) for value in network.values.values()],
        "nodes": nodes,
        "inputs": network.inputs,
        "outputs": network.outputs,
        "notes": network.notes,
    }
    return header, arrays


def _name(item: Any) -> str:
    if not isinstance(item, str):
        raise TypeError(f"{shown(item)} is no name")
    return item


def _names(items: Any) -> tuple[str, ...]:
    return tuple(_name(item) for item in items)


def _plain(item: Any, prefix: str, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """A dataclass as plain data; each array goes to `arrays` and leaves its name behind."""
    plain: dict[str, Any] = {}
    for field in fields(item):
        value, key = getattr(item, field.name), f"{prefix}.{field.name}"
        if isinstance(value, np.ndarray):
            key = json.dumps(key)[1:-1]  # names of arrays are UTF-8, names of nodes whatever Python's text holds
            arrays[key] = np.ascontiguousarray(value)
            plain[field.name] = {"array": key}
        else:
            plain[field.name] = _plain(value, key, arrays) if is_dataclass(value) else value
    return plain


def _node(item: dict[str, Any], arrays: dict[str, np.ndarray]) -> Node:
    kind = _KINDS[item["node"]]
    data = _with_arrays({key: value for key, value in item.items() if key != "node"}, arrays)
    return cast(Node, _typed(kind, data))


def _with_arrays(data: Any, arrays: dict[str, np.ndarray]) -> Any:
    if isinstance(data, dict):
        if data.keys() == {"array"}:
            return arrays[data["array"]]
        return {key: _with_arrays(value, arrays) for key, value in data.items()}
    return data


def _typed(kind: type, data: dict[str, Any]) -> Any:
    """An instance of a dataclass, every field checked against its declared type."""
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind].validate_python(data)


# pydantic reads its configuration off the class that it validates; an array is checked to be one.
for _kind in (Node, *_KINDS.values(), graph.Weights, Value, Affine, KernelSet):
    _kind.__pydantic_config__ = _CONFIG  # type: ignore[attr-defined]
