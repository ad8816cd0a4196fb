"""A file of `torch.export.save` (.pt2) as plain Python data: its JSON graph and raw weights, checked; no pickle is run.

`torch.export.load` is not called, because it executes what it reads: entries that the file itself marks `use_pickle`
go to `torch.load(weights_only=False)` and `pickle.loads` (`torch/export/pt2_archive/_package.py`), and the sizes of
symbolic shapes to `sympy.sympify`, which evaluates Python (`torch/_export/serde/serialize.py`). The JSON alone says
all that is needed here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from accelsim.errors import FormatError, ModelError
from accelsim.escaping import printable
from accelsim.frontend.archive import Archive
from accelsim.reading import from_json, shown

from .example import read_example

#: The schema of the JSON that is read (torch/_export/serde/schema.py): another first number is another meaning.
SCHEMA = 8

#: Tensors of more axes are refused, and parameters that repeat their elements (`expand`) more often.
MOST_AXES = 16
MOST_REPEATED = 1 << 12

SAVE = "torch.export.save(torch.export.export(model, inputs), path) writes a new one"
_MODELS, _WEIGHTS, _CONSTANTS = "models/", "data/weights/", "data/constants/"

#: `ScalarType` and `MemoryFormat` of the schema, by number.
_DTYPES = {
    1: "uint8",
    2: "int8",
    3: "int16",
    4: "int32",
    5: "int64",
    6: "float16",
    7: "float32",
    8: "float64",
    12: "bool",
    13: "bfloat16",
}
_MEMORY_FORMATS = {1: "contiguous_format", 2: "channels_last", 3: "channels_last_3d", 5: "preserve_format"}
_STRIDED = 7

#: Floats that JSON has no words for, as PyTorch spells them.
_FLOATS = {"Infinity": math.inf, "-Infinity": -math.inf, "NaN": math.nan}


@dataclass(frozen=True)
class Of:
    """The value of that name."""

    name: str


@dataclass(frozen=True)
class Word:
    """A value of PyTorch's own: `kind` is "dtype", "memory_format", "layout" or "device"."""

    kind: str
    name: str


@dataclass(frozen=True)
class Meta:
    """What the file says of a tensor; a size of None is not fixed, and `hint` is what it was when it was recorded."""

    dtype: str
    shape: tuple[int | None, ...]
    hint: tuple[int | None, ...]
    strides: tuple[int | None, ...]
    offset: int | None


@dataclass(frozen=True)
class Node:
    """One call: operator as PyTorch writes it, arguments by the names of its schema, and names for its results.

    A result that is a list of tensors has a tuple of names.
    """

    target: str
    arguments: tuple[tuple[str, Any], ...]
    results: tuple[str | tuple[str, ...], ...]

    @property
    def where(self) -> str:
        """How messages name it."""
        first = self.results[0] if self.results else ""
        return f"node {first if isinstance(first, str) else first[0]!r} ({self.target.removeprefix('torch.ops.')})"


@dataclass(frozen=True)
class Stored:
    """A parameter or constant: its name in the model, its elements as they lie in the file, and how."""

    key: str
    content: bytes
    meta: Meta
    is_parameter: bool


@dataclass(frozen=True, kw_only=True)
class Program:
    """What a file holds. `stored`, `scalars`: by the names that the graph has for them; `metas`: of every tensor.

    `example`: the input that the model was exported with, None where the file has none of tensors alone.
    `size`: bytes of the file.
    """

    path: str
    nodes: tuple[Node, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    stored: dict[str, Stored]
    metas: dict[str, Meta]
    example: tuple[np.ndarray, ...] | None
    size: int


def read(path: str | Path) -> Program:
    """The program of a .pt2 file. Raises FormatError for what is damaged, ModelError for what is not supported."""
    if not Path(path).is_file():
        raise FormatError(f"{path}: no such file; {SAVE}")
    archive = Archive(path, remedy=SAVE)
    try:
        return _Reader(path, archive).program()
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        # What is not as the schema says: a key that is missing, a list in the place of a number.
        raise FormatError(
            f"{path}: its JSON is not as torch.export writes it ({type(error).__name__}: {str(error)[:200]}); {SAVE}"
        ) from None
    finally:
        archive.close()


class _Reader:
    """One file that is read."""

    def __init__(self, path: str | Path, archive: Archive) -> None:
        self._path, self._archive = path, archive

    def program(self) -> Program:
        name = self._model()
        document = self._json(f"{_MODELS}{name}.json")
        version = document["schema_version"]
        if version["major"] != SCHEMA:
            raise ModelError(
                f"{self._path}: schema {shown(version['major'])} of torch.export; {SCHEMA} is read: load it with the "
                "PyTorch that saved it, and save it with a newer one"
            )
        graph, signature = document["graph_module"]["graph"], document["graph_module"]["signature"]
        metas = {self._text(key): self._meta(value, key) for key, value in graph["tensor_values"].items()}
        stored, inputs = self._inputs(signature["input_specs"], self._payloads(name))
        nodes = tuple(map(self._node, graph["nodes"]))
        outputs = tuple(map(self._output, signature["output_specs"]))
        self._check_order(nodes, {*stored, *inputs}, outputs)
        for item in inputs:
            if item not in metas:
                raise self._wrong(f"it does not say what shape its input {shown(item)} has")
        size = Path(self._path).stat().st_size
        return Program(
            path=str(self._path),
            nodes=nodes,
            inputs=inputs,
            outputs=outputs,
            stored=stored,
            metas=metas,
            example=read_example(self._archive, f"data/sample_inputs/{name}.pt", SAVE, size),
            size=size,
        )

    def _model(self) -> str:
        """The name of the one model in the file."""
        for name in self._archive.names:
            if "\\" in name or name.startswith("/") or any(part in ("..", ".") for part in name.split("/")):
                raise self._wrong(f"its entry {shown(name)} lies outside of the archive")
        if "serialized_exported_program.json" in self._archive.names or not any(
            name.startswith(_MODELS) for name in self._archive.names
        ):
            raise ModelError(
                f"{self._path}: an archive of torch.export in an older form (without models/*.json); load it with the "
                "PyTorch that saved it, and save it with a newer one"
            )
        found = [name for name in self._archive.names if name.startswith(_MODELS) and name.endswith(".json")]
        if len(found) != 1:
            raise ModelError(f"{self._path}: holds {len(found)} models; save each in a file of its own")
        if (self._archive.size("byteorder") or 0) > 64 or self._archive.read("byteorder").strip() != b"little":
            raise ModelError(f"{self._path}: was saved with the high bytes first; save it on a little-endian computer")
        return found[0].removeprefix(_MODELS).removesuffix(".json")

    def _json(self, entry: str) -> Any:
        try:
            return from_json(self._archive.read(entry).decode("utf-8"))
        except (ValueError, json.JSONDecodeError) as error:
            raise self._wrong(f"its entry {shown(entry)} cannot be read ({str(error)[:200]})") from None

    def _wrong(self, what: str) -> FormatError:
        return FormatError(f"{self._path}: {what}; {SAVE}")

    def _text(self, value: Any) -> str:
        if not isinstance(value, str):
            raise self._wrong(f"{shown(value)} stands in the place of a name")
        return value

    # Tensors

    def _meta(self, value: Any, name: str) -> Meta:
        dtype = _DTYPES.get(value["dtype"])
        if dtype is None or value["layout"] != _STRIDED or value["device"]["type"] not in ("cpu", "meta"):
            raise ModelError(
                f"{self._path}: tensor {shown(name)} is of type {shown(value['dtype'])}, layout "
                f"{shown(value['layout'])}, on {shown(value['device']['type'])}; plain tensors on cpu are read: move "
                "the model to cpu, and quantise it to int8 or uint8, before it is exported"
            )
        sizes, hints = zip(*map(self._size, value["sizes"]), strict=True) if value["sizes"] else ((), ())
        strides = tuple(self._size(item)[0] for item in value["strides"])
        if len(sizes) > MOST_AXES or len(strides) != len(sizes):
            raise self._wrong(f"tensor {shown(name)} has {len(sizes)} sizes and {len(strides)} strides")
        return Meta(dtype, sizes, hints, strides, self._size(value["storage_offset"])[0])

    def _size(self, item: Any) -> tuple[int | None, int | None]:
        """A size, None where it is symbolic, and what it was when it was recorded."""
        ((kind, value),) = item.items()
        if kind == "as_expr":
            hint = (value.get("hint") or {}).get("as_int")
            return None, None if hint is None else self._whole(hint)
        return self._whole(value), self._whole(value)

    def _whole(self, value: Any) -> int:
        if type(value) is not int or not 0 <= value < 2**63:
            raise self._wrong(f"{shown(value)} stands in the place of a size, which is a whole number from 0")
        return value

    def _payloads(self, model: str) -> dict[tuple[str, str], Stored]:
        """What is stored, by its kind (weights, constants) and its name in the model."""
        found: dict[tuple[str, str], Stored] = {}
        contents: dict[str, bytes] = {}
        for folder, kind in ((_WEIGHTS, "weights"), (_CONSTANTS, "constants")):
            if f"{folder}{model}.pt" in self._archive.names:
                raise ModelError(
                    f"{self._path}: its {kind} are stored as one pickle ({folder}{model}.pt), as older PyTorch did; "
                    "load it with the PyTorch that saved it, and save it with a newer one"
                )
            for key, payload in self._json(f"{folder}{model}_{kind}_config.json")["config"].items():
                meta = payload["tensor_meta"]
                if payload["use_pickle"] or meta is None:
                    raise ModelError(
                        f"{self._path}: {shown(key)} is stored as a pickle, which executes code and is never read; "
                        "export the model with plain tensors (no tensor subclasses, no custom objects)"
                    )
                entry = f"{folder}{self._text(payload['path_name'])}"
                if entry not in contents:
                    contents[entry] = self._archive.read(entry)
                stored = Stored(key, contents[entry], self._meta(meta, key), bool(payload["is_param"]))
                self._check_fits(stored)
                found[kind, key] = stored
        return found

    def _check_fits(self, stored: Stored) -> None:
        """The last element lies in what is stored."""
        meta = stored.meta
        if None in (*meta.shape, *meta.strides, meta.offset):
            raise self._wrong(f"{shown(stored.key)} is stored, and has no fixed shape")
        width = 2 if meta.dtype == "bfloat16" else np.dtype(meta.dtype).itemsize
        whole, odd = divmod(len(stored.content), width)
        last = meta.offset + sum((size - 1) * step for size, step in zip(meta.shape, meta.strides, strict=True))  # type: ignore[operator,misc]
        if odd or (0 not in meta.shape and last >= whole):
            raise self._wrong(
                f"{shown(stored.key)} has the shape {shown(meta.shape)}, and {len(stored.content):,} bytes are stored"
            )
        if math.prod(meta.shape) * width > MOST_REPEATED * max(len(stored.content), 64):  # type: ignore[arg-type]
            raise self._wrong(f"{shown(stored.key)} repeats its elements to the shape {shown(meta.shape)}")

    # The graph

    def _inputs(self, specs: Any, payloads: dict[tuple[str, str], Stored]) -> tuple[dict[str, Stored], tuple[str, ...]]:
        """What the graph takes: stored tensors, and the names of the model's own inputs."""
        stored: dict[str, Stored] = {}
        inputs: list[str] = []
        keys = {"parameter": "parameter_name", "buffer": "buffer_name", "tensor_constant": "tensor_constant_name"}
        for spec in specs:
            ((kind, value),) = spec.items()
            if kind == "user_input" and "as_tensor" in value["arg"]:
                inputs.append(self._text(value["arg"]["as_tensor"]["name"]))
                continue
            if kind not in keys:
                raise ModelError(
                    f"{self._path}: an input of its graph is a {shown(kind)[1:-1]}, no tensor; export the model with "
                    "tensors as inputs"
                )
            name, key = self._text(value["arg"]["name"]), self._text(value[keys[kind]])
            found = payloads.get(("weights", key)) or payloads.get(("constants", key))
            if found is None:
                raise self._wrong(f"the {kind} {shown(key)} is not stored in it")
            if name in stored:
                raise self._wrong(f"two inputs of its graph are named {shown(name)}")
            stored[name] = found
        if len(set(inputs)) != len(inputs) or stored.keys() & set(inputs):
            raise self._wrong("two inputs of its graph have one name")
        return stored, tuple(inputs)

    def _output(self, spec: Any) -> str:
        ((kind, value),) = spec.items()
        if kind != "user_output" or "as_tensor" not in value["arg"]:
            raise ModelError(
                f"{self._path}: an output of its graph is a {shown(kind)[1:-1]}, not a tensor that the model returns; "
                "export a model in evaluation mode that keeps no state and returns tensors"
            )
        return self._text(value["arg"]["as_tensor"]["name"])

    def _node(self, node: Any) -> Node:
        arguments = tuple((self._text(item["name"]), self._argument(item["arg"])) for item in node["inputs"])
        results: list[str | tuple[str, ...]] = []
        for item in node["outputs"]:
            ((kind, value),) = item.items()
            if kind == "as_tensors":
                results.append(tuple(self._text(part["name"]) for part in value))
            elif kind in ("as_tensor", "as_sym_int"):
                results.append(self._text(value["name" if kind == "as_tensor" else "as_name"]))
            elif kind == "as_none":
                results.append("")
            else:
                raise ModelError(f"{self._path}: node {shown(node['name'])} makes {shown(kind)}; tensors are read")
        return Node(printable(self._text(node["target"]))[:200], arguments, tuple(results))

    def _argument(self, item: Any) -> Any:
        """One argument as plain data: numbers, strings, None, lists of them, Of and Word."""
        ((kind, value),) = item.items()
        if kind == "as_none":
            return None
        if kind in ("as_tensor", "as_sym_int", "as_optional_tensor"):
            return self._value(value)
        if kind in ("as_tensors", "as_sym_ints", "as_optional_tensors"):
            return [self._value(part) for part in value]
        if kind in ("as_float", "as_floats"):
            return [self._float(part) for part in value] if isinstance(value, list) else self._float(value)
        if kind in ("as_int", "as_ints", "as_bool", "as_bools", "as_string"):
            return value
        if kind in ("as_scalar_type", "as_memory_format"):
            named = _DTYPES if kind == "as_scalar_type" else _MEMORY_FORMATS
            if value in named:
                return Word(kind.removeprefix("as_").replace("scalar_type", "dtype"), named[value])
        if kind == "as_layout" and value == _STRIDED:
            return Word("layout", "strided")
        if kind == "as_device" and value["type"] == "cpu":
            return Word("device", "cpu")
        raise ModelError(
            f"{self._path}: an argument is {shown(kind)} ({shown(value)}), which is not read (graphs in graphs, custom "
            "objects and devices are not); give the model as module:callable"
        )

    def _value(self, item: Any) -> Any:
        """A tensor or size by name, a size, or None."""
        if "as_tensor" in item:
            item = item["as_tensor"]
        if "as_none" in item:
            return None
        if "as_int" in item:
            return item["as_int"]
        return Of(self._text(item["as_name"] if "as_name" in item else item["name"]))

    def _float(self, value: Any) -> float:
        return _FLOATS[value] if isinstance(value, str) else float(value)

    def _check_order(self, nodes: tuple[Node, ...], known: set[str], outputs: tuple[str, ...]) -> None:
        for node in nodes:
            for name in names_in(node.arguments):
                if name not in known:
                    raise self._wrong(
                        f"{node.where} reads {shown(name)}, which is no input, nothing stored, and no result of a "
                        "node before it (a cycle, or a missing part)"
                    )
            for result in node.results:
                for name in (result,) if isinstance(result, str) else result:
                    if name in known:
                        raise self._wrong(f"{node.where} makes {shown(name)}, which there is already")
                    known.update({name} - {""})
        for name in outputs:
            if name not in known:
                raise self._wrong(f"nothing makes its output {shown(name)}")


def names_in(item: Any) -> Iterator[str]:
    """The names of the values in an argument."""
    if isinstance(item, Of):
        yield item.name
    elif isinstance(item, list | tuple):
        for part in item:
            yield from names_in(part)
