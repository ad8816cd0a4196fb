"""Writing a bundle: one function a format, and the manifest beside what it wrote."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from accelsim.errors import FormatError

from .bundle import Bundle, Tensor
from .c_header import Identifiers, c_header


def write(bundle: Bundle, format: str, out: str | Path) -> list[Path]:
    """Write `bundle` to the file `out` (for `mem`: into the directory) and its manifest; returns what was written.

    The manifest of a file stands beside it with the ending `.json`, that of a directory in it as `manifest.json`.
    Raises FormatError for a format that there is not, or a name that the manifest would take.
    """
    if format not in FORMATS:
        raise FormatError(f"no format is named {format!r}; there are {', '.join(FORMATS)}")
    path = Path(out)
    manifest_path = path / "manifest.json" if format == "mem" else path.with_suffix(".json")
    if manifest_path == path:
        raise FormatError(f"{path}: the manifest takes the ending .json; give the {format} file another")
    files = FORMATS[format](bundle, path)
    entries = [_entry(tensor, file) for tensor, file in zip(bundle.tensors, files, strict=True)]
    manifest = {**bundle.manifest, "file_format": format, "tensors": entries}
    manifest_path.write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    return [*dict.fromkeys(path for path in files if path is not None), manifest_path]


def _entry(tensor: Tensor, file: Path | None) -> dict[str, Any]:
    """What the manifest says of a tensor; one that its format has no place for stands in the manifest itself."""
    entry: dict[str, Any] = {
        "name": tensor.name,
        "dtype": str(tensor.array.dtype),
        "shape": list(tensor.array.shape),
        "meaning": tensor.meaning,
        "file": None if file is None else file.name,
    }
    if file is None:
        entry["values"] = tensor.array.tolist()
    return entry


def _safetensors(bundle: Bundle, path: Path) -> list[Path | None]:
    arrays = {tensor.name: np.ascontiguousarray(tensor.array) for tensor in bundle.tensors}
    path.write_bytes(safetensors.numpy.save(arrays, {"manifest": json.dumps(bundle.manifest)}))
    return [path] * len(bundle.tensors)


def _npz(bundle: Bundle, path: Path) -> list[Path | None]:
    with path.open("wb") as file:
        np.savez(file, **{tensor.name: tensor.array for tensor in bundle.tensors})  # type: ignore[arg-type]
    return [path] * len(bundle.tensors)


def _c(bundle: Bundle, path: Path) -> list[Path | None]:
    path.write_text(c_header(bundle), encoding="utf-8")
    return [path if tensor.array.dtype.kind in "iu" else None for tensor in bundle.tensors]


def _mem(bundle: Bundle, path: Path) -> list[Path | None]:
    path.mkdir(parents=True, exist_ok=True)
    names = Identifiers()
    files: list[Path | None] = []
    for tensor in bundle.tensors:
        file = path / f"{names.of(tensor.name)}.mem"
        file.write_text(readmemh(tensor), encoding="ascii")
        files.append(file)
    return files


def readmemh(tensor: Tensor) -> str:
    """The words of a tensor in row-major order, one a line, for Verilog's `$readmemh`.

    Negative numbers in two's complement, floats as their IEEE bit patterns.
    """
    array = np.ascontiguousarray(tensor.array).reshape(-1)
    width = array.dtype.itemsize
    words = array.view(f"u{width}").tolist()
    shape = "x".join(map(str, tensor.array.shape)) or "scalar"
    head = f"// {tensor.name}: {shape}, {8 * width} bits, {tensor.array.dtype}".encode("ascii", "replace").decode()
    return "\n".join([head, *(f"{word:0{2 * width}x}" for word in words), ""])


#: By the name of a format, what writes it and returns the file that each tensor went to.
FORMATS: dict[str, Callable[[Bundle, Path], list[Path | None]]] = {
    "safetensors": _safetensors,
    "npz": _npz,
    "c": _c,
    "mem": _mem,
}
