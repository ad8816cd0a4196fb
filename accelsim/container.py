"""The file that networks and programs are saved in: safetensors, the rest as JSON in its metadata, one checksum over
every byte. Reading executes nothing."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from .errors import FormatError
from .reading import from_json, regular_file, shown

#: Of the files of each kind: what this release writes, and reads.
VERSIONS = {"accelsim-network": 3, "accelsim-program": 3}

_KEY = "accelsim"
_UNSEALED = b"0" * 64
_SEAL = re.compile(rb'\\"sha256\\": ?\\"([0-9a-f]{64})\\"')
_CHUNK = 1 << 20
_LARGEST_HEADER = 1 << 27


def pack(kind: str, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> bytes:
    """The file of `kind`, as "accelsim-network": `header` is plain data, without the keys that stand first here."""
    first = {"sha256": _UNSEALED.decode(), "format": kind, "version": VERSIONS[kind]}
    return sealed(safetensors.numpy.save(dict(arrays), {_KEY: json.dumps({**first, **header}, allow_nan=False)}))


def sealed(content: bytes) -> bytes:
    """The file with the checksum of its bytes in place, that of the file with 64 zeros there."""
    place = _SEAL.search(content)
    assert place is not None, "the header has a place for the checksum"
    before, after = content[: place.start(1)], content[place.end(1) :]
    return before + hashlib.sha256(before + _UNSEALED + after).hexdigest().encode() + after


def kind_of(path: str | Path) -> str | None:
    """What a file says that it holds, as "accelsim-network"; None for every other file, and for no file."""
    try:
        kind = from_json(_metadata(_header(path)))["format"]
    except (FormatError, OSError, KeyError, TypeError, ValueError, RecursionError):
        return None
    return kind if isinstance(kind, str) and kind.startswith("accelsim-") else None


def unpack(path: str | Path, kind: str, made_by: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Header and arrays of a file of `kind`; `made_by`: the command that writes one.

    Raises FormatError naming the file where it is missing, of another kind or version, or where any bit of it has
    changed since it was written.
    """
    what = kind.removeprefix("accelsim-")
    raw = _header(path, f"; `{made_by}` writes a {what}")
    try:
        header = from_json(_metadata(raw))
        found, version = header["format"], header["version"]
    except (KeyError, TypeError, ValueError) as error:
        reason = f"no key {error}" if isinstance(error, KeyError) else str(error)
        raise FormatError(f"{path}: not a saved {what} ({reason}); `{made_by}` writes one") from None
    if found != kind:
        raise FormatError(f"{path}: holds a {shown(found)}, not a {what}")
    if version != VERSIONS[kind]:
        raise FormatError(
            f"{path}: version {shown(version)} of the format; this release reads {VERSIONS[kind]}: write it again, "
            f"with `{made_by}`"
        )
    _check_seal(path, raw)
    try:
        with safetensors.safe_open(path, "numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (OSError, safetensors.SafetensorError, TypeError, ValueError, AttributeError, KeyError) as error:
        raise FormatError(f"{path}: damaged ({shown(str(error))[1:-1]}); write it again, with `{made_by}`") from None
    del header["sha256"], header["format"], header["version"]
    return header, arrays


def check_same(
    found: tuple[Mapping[str, Any], Mapping[str, np.ndarray]], meant: tuple[Mapping[str, Any], Mapping[str, np.ndarray]]
) -> None:
    """Raise ValueError where a file holds anything else, or in any other form, than what is written for its contents.

    What was read past is read by nobody: a number given as a text, a key or an array that no format has.
    """
    (header, arrays), (other, others) = found, meant
    for key in [*header, *(key for key in other if key not in header)]:
        if json.dumps(header.get(key)) != json.dumps(other.get(key)):
            raise ValueError(f"{shown(key)} holds {_first_difference(header.get(key), other.get(key))}")
    for name in {*arrays, *others}:
        one, two = arrays.get(name), others.get(name)
        if one is None or two is None or (one.dtype, one.shape) != (two.dtype, two.shape):
            raise ValueError(f"array {shown(name)} is not one that the contents name, or of another type")


def _first_difference(found: Any, meant: Any) -> str:
    if isinstance(found, list) and isinstance(meant, list | tuple) and len(found) == len(meant):
        pairs = list(zip(found, meant, strict=True))
    elif isinstance(found, dict) and isinstance(meant, dict) and found.keys() == meant.keys():
        pairs = [(found[key], meant[key]) for key in found]
    else:
        return f"{shown(found)}, where {shown(meant)} would be written"
    differing = ((one, two) for one, two in pairs if json.dumps(one) != json.dumps(two))
    return next((_first_difference(one, two) for one, two in differing), "its keys in another order")


def brief(message: str) -> str:
    """An error of several lines on one, and short."""
    text = " ".join(message.split())
    return text if len(text) <= 300 else f"{text[:300]}..."


def _header(path: str | Path, remedy: str = "") -> bytes:
    """The first bytes of the file: the length of the JSON, and the JSON."""
    try:
        size = regular_file(path).st_size
        with open(path, "rb") as file:
            start = file.read(8)
            length = int.from_bytes(start, "little")
            if len(start) < 8 or length > min(size, _LARGEST_HEADER):
                raise ValueError("its first bytes are those of another format, or of a file cut short")
            return start + file.read(length)
    except OSError as error:
        raise FormatError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise FormatError(f"{path}: {error}{remedy}") from None


def _metadata(header: bytes) -> str:
    """The text under our key. Raises ValueError, KeyError or TypeError where there is none."""
    text: str = from_json(header[8:].decode("utf-8"))["__metadata__"][_KEY]
    return text


def _check_seal(path: str | Path, header: bytes) -> None:
    place = _SEAL.search(header)
    if place is None:
        raise FormatError(f"{path}: damaged: it has no checksum; write it again")
    digest = hashlib.sha256(header[: place.start(1)] + _UNSEALED + header[place.end(1) :])
    with open(path, "rb") as file:
        file.seek(len(header))
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    if digest.hexdigest().encode() != place[1]:
        raise FormatError(f"{path}: damaged: its checksum differs, so some bit has changed; write it again")
