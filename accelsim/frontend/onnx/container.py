"""An ONNX file as plain Python data: its nodes, constants, inputs and outputs, checked; nothing in it is executed.

Sizes are bounded before anything is made of them. Constants outside of the file must lie in its folder.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, BinaryIO

import numpy as np

from accelsim.errors import FormatError, ModelError
from accelsim.escaping import printable
from accelsim.frontend.packages import package

#: The first operator set in which every operator that is read has the meaning that it has here.
OLDEST_OPSET = 13

#: Tensors of more elements or axes, or constants of more bytes, are refused.
MOST_ELEMENTS = 1 << 31
MOST_AXES = 16
MOST_BYTES = 1 << 32

_DOMAINS = ("", "ai.onnx", "com.microsoft")

#: Fields of a `ModelProto` by number: those that are length-delimited; the others are varints.
_LENGTH_DELIMITED = frozenset({2, 3, 4, 6, 7, 8, 14, 20, 25, 26})
_VARINTS = frozenset({1, 5})
_GRAPH = 7


@dataclass(frozen=True)
class Call:
    """One node: operator, own name, names of tensors ("" for one that is left out) and attributes."""

    operator: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]

    @property
    def where(self) -> str:
        """How messages name it."""
        return f"node {self.name!r} ({self.operator})"

    def attribute(self, name: str, default: Any = None) -> Any:
        """The attribute's value, or the default."""
        return self.attributes.get(name, default)


@dataclass(frozen=True)
class Input:
    """An input of the graph; a size of None is not fixed in the file."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True)
class Graph:
    """What an ONNX file holds. `constants` by name."""

    name: str
    opset: int
    calls: tuple[Call, ...]
    constants: dict[str, np.ndarray]
    inputs: tuple[Input, ...]
    outputs: tuple[str, ...]


def is_onnx(path: str | Path) -> bool:
    """Whether a file's content is that of an ONNX model: the fields of its outermost message, one of them a graph."""
    try:
        size = Path(path).stat().st_size
        if not Path(path).is_file():
            return False
        with open(path, "rb") as file:
            return size > 0 and any(number == _GRAPH for number in list(_fields(file, size)))
    except (OSError, ValueError):
        return False


def _fields(file: BinaryIO, size: int) -> Iterator[int]:
    """The numbers of the fields of a `ModelProto`. Raises ValueError where the bytes are no such message."""
    while file.tell() < size:
        number, kind = divmod(_varint(file), 8)
        if number in _VARINTS and kind == 0:
            _varint(file)
        elif number in _LENGTH_DELIMITED and kind == 2:
            length = _varint(file)
            if length > size - file.tell():
                raise ValueError("a field is longer than the file")
            file.seek(length, 1)
        else:
            raise ValueError("a field that an ONNX model has not")
        yield number


def _varint(file: BinaryIO) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            break
        value |= (byte[0] & 127) << shift
        if byte[0] < 128:
            return value
    raise ValueError("a number does not end")


def read(path: str | Path) -> Graph:
    """The graph of an ONNX file.

    Raises ModelError where the package `onnx` is missing or the file holds what is not supported, FormatError where it
    is damaged.
    """
    onnx = package("onnx", "ONNX files")
    file = Path(path)
    model = onnx.ModelProto()
    try:
        model.ParseFromString(file.read_bytes())
    except FileNotFoundError:
        raise FormatError(f"{path}: no such file") from None
    except OSError as error:
        raise FormatError(f"{path}: {error.strerror}") from None
    except Exception as error:  # protobuf's own kind, which its implementations define in several places
        raise FormatError(f"{path}: not an ONNX model, or damaged ({error}); export it again") from None
    return _Reader(onnx, model, file).graph()


class _Reader:
    """One file that is read."""

    def __init__(self, onnx: Any, model: Any, path: Path) -> None:
        self._onnx, self._model, self._path = onnx, model, path
        self._bytes = 0

    def graph(self) -> Graph:
        graph = self._model.graph
        if self._model.functions:
            raise ModelError(
                f"{self._path}: defines functions of its own ({self._model.functions[0].name!r}); inline them with "
                "onnx.inliner.inline_local_functions"
            )
        if graph.sparse_initializer:
            raise ModelError(f"{self._path}: holds sparse initialisers; store dense ones")
        constants: dict[str, np.ndarray] = {}
        for tensor in graph.initializer:
            name = self._text(tensor.name)
            if name in constants:
                raise FormatError(f"{self._path}: two initialisers are named {name!r}")
            constants[name] = self._array(tensor, f"initialiser {name!r}")
        inputs = tuple(self._input(item) for item in graph.input if item.name not in constants)
        calls = tuple(self._call(node, number) for number, node in enumerate(graph.node))
        outputs = tuple(self._text(item.name) for item in graph.output)
        self._check_order(calls, {*constants, *(item.name for item in inputs)}, outputs)
        name = printable(self._text(graph.name)) or self._path.stem
        return Graph(name, self._opset(), calls, constants, inputs, outputs)

    def _text(self, value: Any) -> str:
        """A string of the message; protobuf hands over what is no UTF-8 as bytes."""
        if not isinstance(value, str):
            raise FormatError(f"{self._path}: a name is not UTF-8 ({value!r}); the file is damaged")
        return value

    def _opset(self) -> int:
        versions = {item.domain: item.version for item in self._model.opset_import}
        version = int(versions.get("", versions.get("ai.onnx", 1)))
        newest = int(self._onnx.defs.onnx_opset_version())
        if version < OLDEST_OPSET:
            raise ModelError(
                f"{self._path}: operator set {version}; {OLDEST_OPSET} to {newest} are read: convert it with "
                "onnx.version_converter.convert_version"
            )
        if version > newest:
            raise ModelError(f"{self._path}: operator set {version}; the installed onnx knows {newest}: update it")
        return version

    def _check_order(self, calls: tuple[Call, ...], known: set[str], outputs: tuple[str, ...]) -> None:
        for call in calls:
            for name in call.inputs:
                if name and name not in known:
                    raise FormatError(
                        f"{self._path}: {call.where} reads {name!r}, which is no input, no initialiser and no result "
                        "of a node before it (a cycle, or a missing part); export the model again"
                    )
            for name in call.outputs:
                if name in known:
                    raise FormatError(f"{self._path}: {call.where} makes {name!r}, which there is already")
            known.update(name for name in call.outputs if name)
        for name in outputs:
            if name not in known:
                raise FormatError(f"{self._path}: nothing makes the output {name!r}")

    def _input(self, item: Any) -> Input:
        name, kind = self._text(item.name), item.type.tensor_type
        if not item.type.HasField("tensor_type") or not kind.HasField("shape"):
            raise ModelError(f"{self._path}: input {name!r} is no tensor of a known number of axes")
        sizes = tuple(
            int(size.dim_value) if size.HasField("dim_value") and size.dim_value else None for size in kind.shape.dim
        )
        if len(sizes) > MOST_AXES or any(size is not None and size < 0 for size in sizes):
            raise FormatError(f"{self._path}: input {name!r} has the shape {sizes}; up to {MOST_AXES} sizes above 0")
        return Input(name, self._dtype(kind.elem_type), sizes)

    def _dtype(self, number: int) -> str:
        names = {value: name.lower() for name, value in self._onnx.TensorProto.DataType.items()}
        name = names.get(number, f"number {number}")
        return {"float": "float32", "double": "float64"}.get(name, name)

    def _call(self, node: Any, number: int) -> Call:
        inputs, outputs = (tuple(map(self._text, names)) for names in (node.input, node.output))
        name = printable(self._text(node.name)) or printable(next(iter(outputs), "")) or f"node {number}"
        operator = printable(self._text(node.op_type))
        if node.domain not in _DOMAINS:
            raise ModelError(f"node {name!r}: operator {operator!r} of the domain {node.domain!r} is not supported")
        attributes = {
            self._text(item.name): self._attribute(item, f"node {name!r} ({operator})") for item in node.attribute
        }
        return Call(operator, name, inputs, outputs, attributes)

    def _attribute(self, item: Any, where: str) -> Any:
        kinds = self._onnx.AttributeProto
        match item.type:
            case kinds.FLOAT:
                return float(item.f)
            case kinds.INT:
                return int(item.i)
            case kinds.STRING:
                return item.s.decode("utf-8", "replace")
            case kinds.TENSOR:
                return self._array(item.t, f"{where}: attribute {item.name!r}")
            case kinds.FLOATS:
                return tuple(map(float, item.floats))
            case kinds.INTS:
                return tuple(map(int, item.ints))
            case kinds.STRINGS:
                return tuple(text.decode("utf-8", "replace") for text in item.strings)
        raise ModelError(f"{where}: attribute {item.name!r} is a graph or of another kind that is not supported")

    def _array(self, tensor: Any, what: str) -> np.ndarray:
        """A constant, read-only. Checked: type, size, and that the data are as many as the shape says."""
        name = self._dtype(tensor.data_type)
        known = ("float32", "float64", "float16", "int8", "uint8", "int16", "uint16", "int32", "int64", "bool")
        if name not in known:
            raise ModelError(f"{self._path}: {what} holds {name}; {', '.join(known)} are read")
        shape, dtype = tuple(map(int, tensor.dims)), np.dtype(name)
        if len(shape) > MOST_AXES or any(size < 0 for size in shape) or math.prod(shape) > MOST_ELEMENTS:
            raise FormatError(
                f"{self._path}: {what} has the shape {shape[: MOST_AXES + 1]}; at most {MOST_ELEMENTS} elements of "
                f"{MOST_AXES} axes are read"
            )
        size = math.prod(shape) * dtype.itemsize
        self._bytes += size
        if self._bytes > MOST_BYTES:
            raise ModelError(
                f"{self._path}: its constants take over {MOST_BYTES} bytes, which is the most that is read"
            )
        if tensor.data_location == self._onnx.TensorProto.EXTERNAL:
            data = self._external(tensor, what, size)
        elif tensor.HasField("raw_data"):
            data = tensor.raw_data
        else:
            return self._typed(tensor, what, shape, dtype)
        if len(data) != size:
            raise FormatError(f"{self._path}: {what} has {len(data)} bytes; its shape {shape} of {name} takes {size}")
        return np.frombuffer(data, dtype.newbyteorder("<")).astype(dtype, copy=False).reshape(shape)

    def _typed(self, tensor: Any, what: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """A constant whose elements stand one by one in a field of the message."""
        if dtype == np.float32:
            given = np.array(tensor.float_data, np.float32)
        elif dtype == np.float64:
            given = np.array(tensor.double_data, np.float64)
        elif dtype == np.int64:
            given = np.array(tensor.int64_data, np.int64)
        else:
            given = np.array(tensor.int32_data, np.int32)
            given = given.astype(np.uint16).view(np.float16) if dtype == np.float16 else given.astype(dtype)
        if given.size != math.prod(shape):
            raise FormatError(f"{self._path}: {what} has {given.size} elements; its shape {shape} says another number")
        return given.reshape(shape)

    def _external(self, tensor: Any, what: str, size: int) -> bytes:
        """The bytes of a constant in another file of the model's folder."""
        fields = {self._text(item.key): self._text(item.value) for item in tensor.external_data}
        location = fields.get("location", "")
        posix, windows = PurePosixPath(location), PureWindowsPath(location)
        outside = posix.is_absolute() or windows.drive or windows.root or ".." in (*posix.parts, *windows.parts)
        folder = self._path.parent.resolve()
        target = (folder / location) if location and "\0" not in location else folder
        if outside or target == folder or not target.resolve().is_relative_to(folder):
            raise FormatError(
                f"{self._path}: {what} lies in {printable(location)!r}; data are read from the model's folder only"
            )
        try:
            offset, length = int(fields.get("offset", 0)), int(fields.get("length", size))
        except ValueError:
            raise FormatError(f"{self._path}: {what} has an offset or a length that is no number") from None
        if length != size or offset < 0:
            raise FormatError(f"{self._path}: {what} has {length} bytes at {offset}; its shape takes {size}")
        try:
            if not target.is_file():
                raise FormatError(f"{self._path}: {what} lies in {printable(location)!r}, which is no file there")
            with open(target, "rb") as file:
                if target.stat().st_size < offset + size:
                    raise FormatError(f"{self._path}: {what}: {printable(location)!r} ends before its data do")
                file.seek(offset)
                return file.read(size)
        except OSError as error:
            raise FormatError(f"{self._path}: {what}: {printable(location)!r}: {error.strerror}") from None
