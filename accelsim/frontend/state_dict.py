"""A bare `state_dict` file of a quantised model: its integers by key. There is no graph in it, and none is guessed.

Nothing in the file is executed: its pickle is read as data.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from accelsim.errors import FormatError

from .archive import Archive
from .inert_pickle import Built, Name, Persistent, PickleError, read_pickle
from .stored_tensors import DamageError, StoredTensor, TensorReader, UnsupportedError, is_tensor

#: Arrays may take this many times the file's size, and so many bytes more: weights that layers share count for each,
#: masks are often one element repeated. Far more than a checkpoint needs; far less than what would stop a computer.
_ALLOWANCE_TIMES, _ALLOWANCE_MORE = 16, 128 * 2**20
_DEEPEST = 20  # dicts in dicts
_LONGEST_KEY = 1000
_BYTES_OF_AN_ENTRY = 16  # in the pickle, at the least: fewer say that dicts are shared to be counted again and again


@dataclass(frozen=True)
class Entry:
    """One array of a state_dict. `dtype`: as stored, such as "bfloat16" or "quint8".

    `array` is None where no array stands for the entry; `reason` says why.
    """

    key: str
    dtype: str
    array: np.ndarray | None
    reason: str = ""


@dataclass(frozen=True)
class StateDict:
    """The entries in the order of the file."""

    entries: tuple[Entry, ...]

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """What could be read, by key."""
        return {entry.key: entry.array for entry in self.entries if entry.array is not None}

    @property
    def unread(self) -> tuple[Entry, ...]:
        """The tensors that could not."""
        return tuple(entry for entry in self.entries if entry.array is None and entry.dtype == "tensor")


def read_state_dict(path: str | Path) -> StateDict:
    """What the file holds, by key; keys of dicts in dicts are joined by dots.

    A quantised tensor gives its codes under its key, and `.scale` (float64) and `.zero_point` (int32) after it, of
    length 1 or one a channel; per channel also `.axis`. The packed parameters of a linear layer give `weight` and
    `bias` of the layer. Types that numpy does not have are widened. Tensors without a plain array (sparse, meta,
    nested), and what is no tensor, are entries with a reason. Raises FormatError for a file that is no state_dict, or
    is damaged.
    """
    if not Path(path).is_file():
        raise FormatError(f"{path}: no such file; torch.save(model.state_dict(), path) writes one")
    archive = Archive(path)
    try:
        if archive.size("byteorder") is not None and archive.read("byteorder").strip() != b"little":
            raise FormatError(f"{path}: was saved with the high bytes first; save it on a little-endian computer")
        pickled = archive.read("data.pkl")
        try:
            content = read_pickle(pickled)
        except PickleError as error:
            raise FormatError(f"{path}: its data.pkl {error}; save it again, from PyTorch") from None
        if not isinstance(content, dict):
            raise FormatError(f"{path}: holds {_kind(content)}, not a state_dict; save model.state_dict()")
        allowance = _ALLOWANCE_TIMES * Path(path).stat().st_size + _ALLOWANCE_MORE
        found = _Reading(path, TensorReader(archive, allowance), len(pickled) // _BYTES_OF_AN_ENTRY)
        found.add(content)
    finally:
        archive.close()
    if not any(entry.array is not None or entry.dtype == "tensor" for entry in found.entries.values()):
        raise FormatError(f"{path}: holds no tensors; save model.state_dict()")
    return StateDict(tuple(found.entries.values()))


class _Reading:
    """Gathers the entries of one file."""

    def __init__(self, path: str | Path, tensors: TensorReader, most: int) -> None:
        self.entries: dict[str, Entry] = {}
        self._path = path
        self._tensors = tensors
        self._most = most
        self._seen = 0

    def add(self, content: Any, prefix: str = "", depth: int = 0) -> None:
        """The entries of a dict, or of a list that holds tensors or dicts."""
        if depth > _DEEPEST:
            raise self._wrong(prefix, f"dicts in dicts, more than {_DEEPEST} deep")
        for key, item in content.items() if isinstance(content, dict) else enumerate(content):
            name = f"{prefix}{key}"
            self._seen += 1
            if self._seen > self._most:
                raise self._wrong(name, "the same dicts again and again")
            if len(name) > _LONGEST_KEY:
                raise self._wrong(name, f"a key of {len(name):,} characters")
            if is_tensor(item):
                self._tensor(name, item)
            elif isinstance(item, tuple) and name.endswith("_packed_params"):
                # A quantised linear layer's (weight, bias), under `<layer>._packed_params._packed_params`.
                layer = name.removesuffix("_packed_params").removesuffix("_packed_params.")
                for role, part in zip(("weight", "bias"), item, strict=False):
                    if is_tensor(part):
                        self._tensor(f"{layer}{role}", part)
            elif isinstance(item, dict) or (isinstance(item, list | tuple) and any(map(_holds, item))):
                self.add(item, f"{name}.", depth + 1)
            else:
                self._put(Entry(name, "-", None, f"{_kind(item)}, no tensor"))

    def _tensor(self, name: str, item: Built) -> None:
        try:
            tensor = self._tensors.read(item)
        except UnsupportedError as error:
            self._put(Entry(name, "tensor", None, str(error)))
        except DamageError as error:
            raise self._wrong(name, f"a damaged tensor: {error}") from None
        else:
            for entry in _entries(name, tensor):
                self._put(entry)

    def _put(self, entry: Entry) -> None:
        if entry.key in self.entries:
            raise self._wrong(entry.key, "two entries of this name")
        self.entries[entry.key] = entry

    def _wrong(self, name: str, what: str) -> FormatError:
        shown = name if len(name) <= 100 else f"{name[:100]}..."
        return FormatError(f"{self._path}: {shown}: {what}; save model.state_dict() again, from PyTorch")


def _entries(key: str, tensor: StoredTensor) -> Iterator[Entry]:
    yield Entry(key, tensor.dtype, tensor.array)
    if tensor.scale is not None:
        yield Entry(f"{key}.scale", "float64", tensor.scale)
    if tensor.zero_point is not None:
        yield Entry(f"{key}.zero_point", str(tensor.zero_point.dtype), tensor.zero_point)
    if tensor.axis is not None:
        yield Entry(f"{key}.axis", "int32", np.array(tensor.axis, np.int32))


def _holds(item: Any) -> bool:
    """Whether there may be a tensor in an item of a list."""
    return is_tensor(item) or isinstance(item, dict | list | tuple)


def _kind(item: Any) -> str:
    """What a value is, in words."""
    if isinstance(item, Built):
        return f"a {item.function.path[:100]}" if isinstance(item.function, Name) else "an object"
    if isinstance(item, Name):
        return item.path[:100]
    if isinstance(item, Persistent):
        return "a storage"
    return "None" if item is None else f"{'an' if isinstance(item, int) else 'a'} {type(item).__name__}"
