"""Files of `torch.save`, honest and hostile."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch


def saved(content: Any) -> bytes:
    """What `torch.save` writes of it."""
    written = io.BytesIO()
    torch.save(content, written)
    return written.getvalue()


def entries(file: bytes) -> dict[str, bytes]:
    """The entries of an archive by name."""
    with zipfile.ZipFile(io.BytesIO(file)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def archive(parts: Mapping[str, bytes], kind: int = zipfile.ZIP_STORED) -> bytes:
    """An archive of entries, whose sums are in order."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", kind) as made:
        for name, content in parts.items():
            made.writestr(name, content)
    return written.getvalue()


def checkpoint(path: Path, pickled: bytes, storages: Mapping[str, bytes] | None = None) -> Path:
    """A file with this pickle (the value under the key "k", without its frame) and these storages."""
    parts = {"a/data.pkl": b"\x80\x02}X\x01\0\0\0k" + pickled + b"s."}
    parts |= {f"a/data/{key}": content for key, content in (storages or {}).items()}
    path.write_bytes(archive(parts))
    return path


def number(value: int) -> bytes:
    """A pickled integer of 64 bits."""
    return b"\x8a\x09" + value.to_bytes(9, "little", signed=True)


def numbers(values: tuple[int, ...]) -> bytes:
    """A pickled tuple of integers."""
    return b"(" + b"".join(map(number, values)) + b"t"


def tensor(count: int, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], kind: str = "Float") -> bytes:
    """A pickled tensor on the storage "0" that says it has `count` elements."""
    storage = f"(X\x07\0\0\0storagectorch\n{kind}Storage\nX\x01\0\0\x000X\x03\0\0\0cpu".encode() + number(count) + b"tQ"
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n("
        + storage
        + number(offset)
        + numbers(shape)
        + numbers(strides)
        + b"\x89ccollections\nOrderedDict\n)RtR"
    )


def quantized(shape: tuple[int, ...], strides: tuple[int, ...]) -> bytes:
    """A pickled quantised tensor on the storage "0" of 4 bytes."""
    storage = b"(X\x07\0\0\0storagectorch\nQInt8Storage\nX\x01\0\0\x000X\x03\0\0\0cpu" + number(4) + b"tQ"
    scheme = b"(ctorch\nper_tensor_affine\nG?\xe0\0\0\0\0\0\0K\x03t"
    return (
        b"ctorch._utils\n_rebuild_qtensor\n("
        + storage
        + number(0)
        + numbers(shape)
        + numbers(strides)
        + scheme
        + b"\x89ccollections\nOrderedDict\n)RtR"
    )
