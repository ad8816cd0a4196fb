"""Arrays from .npy files: the header is checked against the file's size before anything is made of it."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np

from accelsim.errors import InputError

from .kinds import is_there
from .status import CallError

_KINDS = {"b": "bool", "i": "int", "u": "uint", "f": "float"}


def read_array(path: Path) -> np.ndarray:
    """The array in a file. Raises InputError for a file that holds none, or one that is no plain numbers."""
    try:
        if not is_there(str(path)):
            raise InputError(f"{path}: no such file; numpy.save writes one")
    except CallError as error:
        raise InputError(f"{error}; numpy.save writes one") from None
    with open(path, "rb") as file:
        if file.read(2) == b"PK":
            raise InputError(f"{path}: holds several arrays; give one .npy file for each input")
        file.seek(0)
        try:
            version = np.lib.format.read_magic(file)
            read_header = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }[version]
            shape, in_columns, dtype = read_header(file)
        except KeyError:
            raise InputError(f"{path}: an array of another version of the format; numpy.save writes one") from None
        except Exception as error:  # numpy raises what its parsers raise: many kinds
            raise InputError(f"{path}: not an array ({_line(error)}); numpy.save writes one") from None
        if dtype.kind not in _KINDS:
            what = "objects, which only pickle can read, and pickle executes code" if dtype.hasobject else str(dtype)
            raise InputError(f"{path}: its elements are {what[:100]}; give {', '.join(_KINDS.values())}")
        size, held = _bytes(shape, dtype), os.path.getsize(path) - file.tell()
        if size is None or size != held:
            said = "of no possible shape" if size is None else f"of {size:,} bytes"
            raise InputError(f"{path}: says that its array is {said}, and holds {held:,}; numpy.save writes a new one")
        if not size:
            raise InputError(f"{path}: shape {shape} has no elements; give at least one row")
        array = np.frombuffer(file.read(size), dtype)
    return array.reshape(shape, order="F" if in_columns else "C").astype(dtype.newbyteorder("="))


def _bytes(shape: tuple[int, ...], dtype: np.dtype) -> int | None:
    """How large an array is; None where there can be none of this shape."""
    if len(shape) > 32 or any(type(n) is not int or not 0 <= n < 2**40 for n in shape):
        return None
    if math.prod(n for n in shape if n) * dtype.itemsize >= 2**62:
        return None
    return math.prod(shape) * dtype.itemsize


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
