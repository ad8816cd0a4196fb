"""A network as one file: arrays as safetensors, the graph as JSON in the file's metadata. Loading executes nothing."""

from __future__ import annotations

import json
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import safetensors
import safetensors.numpy
from pydantic import ConfigDict, TypeAdapter, ValidationError

from accelsim import files
from accelsim.arithmetic.affine import Affine
from accelsim.arithmetic.engines import ENGINES, PT2E, KernelSet
from accelsim.errors import FormatError, ModelError

from . import graph
from .checks import check
from .graph import Network, Node, Value

_FORMAT = "accelsim-network"
_VERSION = 1
_KINDS: dict[str, type[Node]] = {kind.__name__: kind for kind in Node.__subclasses__()}
_ADAPTERS: dict[type, TypeAdapter[Any]] = {}
_CONFIG = ConfigDict(arbitrary_types_allowed=True, extra="forbid")


def save(network: Network, path: str | Path) -> None:
    """Write `network` to `path`. Raises WriteError."""
    arrays: dict[str, np.ndarray] = {}
    nodes = [{"node": type(node).__name__, **_plain(node, node.name, arrays)} for node in network.nodes]
    header = {
        "format": _FORMAT,
        "version": _VERSION,
        "name": network.name,
        "engine": network.engine,
        "kernels": asdict(network.kernels),
        "values": [asdict(value) for value in network.values.values()],
        "nodes": nodes,
        "inputs": network.inputs,
        "outputs": network.outputs,
        "notes": network.notes,
    }
    files.write(path, safetensors.numpy.save(arrays, {"accelsim": json.dumps(header)}))


def load(path: str | Path) -> Network:
    """Read a network. Raises FormatError for a file that is missing, damaged (see `checks`), of another kind, newer."""
    try:
        with safetensors.safe_open(path, "numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except FileNotFoundError:
        raise FormatError(f"{path}: no such file") from None
    except (OSError, safetensors.SafetensorError) as error:
        raise FormatError(f"{path}: not a saved network ({error}); `accelsim extract --out` writes one") from None
    try:
        header = json.loads(metadata["accelsim"])
        if header["format"] != _FORMAT:
            raise FormatError(f"{path}: holds a {header['format']!r}, not a network")
        if header["version"] != _VERSION:
            raise FormatError(f"{path}: version {header['version']} of the format; this release reads {_VERSION}")
        if header["engine"] not in (*ENGINES, PT2E):
            known = ", ".join((*ENGINES, PT2E))
            raise FormatError(f"{path}: unknown engine {header['engine']!r}; there are {known}")
        values = [_typed(Value, item) for item in header["values"]]
        network = Network(
            engine=header["engine"],
            kernels=_typed(KernelSet, header["kernels"]),
            values={value.name: value for value in values},
            nodes=tuple(_node(item, arrays) for item in header["nodes"]),
            inputs=tuple(header["inputs"]),
            outputs=tuple(header["outputs"]),
            name=header["name"],
            notes=tuple(header["notes"]),
        )
        check(network)
    except (KeyError, TypeError, ValueError, ValidationError, ModelError) as error:
        reason = str(error).replace("\n", " ")
        raise FormatError(f"{path}: damaged network file ({type(error).__name__}: {reason}); write it again") from None
    return network


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
