"""Writing a bundle: one function a format, and the manifest beside what it wrote."""

from __future__ import annotations

import io
import re
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.numpy

from accelsim.errors import FormatError
from accelsim.escaping import c_comment, file_name, json_text, whole_characters
from accelsim.files import Write, check_folder, check_writable, make_folder, replacing

from .bundle import Bundle, Tensor
from .c_header import c_header, has_place
from .names import Distinct, Identifiers


class _Place(NamedTuple):
    """The file that a tensor went to, and its key there; no file for one that stands in the manifest alone."""

    file: Path | None
    key: str = ""


def check_out(format: str, out: str | Path) -> None:
    """What can be said of `write` before there is a bundle. Raises FormatError and WriteError as that does."""
    manifest = _manifest_path(format, out)
    if format == "mem":
        check_folder(out)
    else:
        check_writable(out)
        check_writable(manifest)


def write(bundle: Bundle, format: str, out: str | Path) -> list[Path]:
    """Write `bundle` to the file `out` (for `mem`: into the directory) and its manifest; returns what was written.

    The manifest of a file stands beside it with the ending `.json`, that of a directory in it as `manifest.json`. All
    files are replaced at the end, or none. Raises FormatError for a format that there is not, or a name that the
    manifest would take, and WriteError.
    """
    path, manifest_path = Path(out), _manifest_path(format, out)
    with replacing() as put:
        places = FORMATS[format](bundle, path, put)
        entries = [_entry(tensor, place) for tensor, place in zip(bundle.tensors, places, strict=True)]
        manifest = {**bundle.manifest, "file_format": format, "tensors": entries}
        put(manifest_path, json_text(manifest, indent=1) + "\n")
    return [*dict.fromkeys(place.file for place in places if place.file is not None), manifest_path]


def _manifest_path(format: str, out: str | Path) -> Path:
    if format not in FORMATS:
        raise FormatError(f"no format is named {format!r}; there are {', '.join(FORMATS)}")
    path = Path(out)
    if format == "mem":
        return path / "manifest.json"
    if path.suffix == ".json" or not path.name:
        raise FormatError(f"{path}: the manifest takes the ending .json; give the {format} file another")
    return path.with_suffix(".json")


def _entry(tensor: Tensor, place: _Place) -> dict[str, Any]:
    """What the manifest says of a tensor; one that its format has no place for stands in the manifest itself."""
    entry: dict[str, Any] = {
        "name": tensor.name,
        "dtype": str(tensor.array.dtype),
        "shape": list(tensor.array.shape),
        "meaning": tensor.meaning,
        "file": None if place.file is None else place.file.name,
    }
    if place.key and place.key != tensor.name:
        entry["key"] = place.key
    if place.file is None:
        entry["values"] = tensor.array.tolist()
    return entry


def _safetensors(bundle: Bundle, path: Path, put: Write) -> list[_Place]:
    keys = Distinct()
    places = [_Place(path, keys.of(whole_characters(tensor.name))) for tensor in bundle.tensors]
    arrays = {
        place.key: np.ascontiguousarray(tensor.array).reshape(tensor.array.shape)  # which makes a row of a scalar
        for place, tensor in zip(places, bundle.tensors, strict=True)
    }
    put(path, safetensors.numpy.save(arrays, {"manifest": json_text(bundle.manifest)}))
    return places


def _npz(bundle: Bundle, path: Path, put: Write) -> list[_Place]:
    content, keys = io.BytesIO(), Distinct()
    places = []
    with zipfile.ZipFile(content, "w") as archive:
        for tensor in bundle.tensors:
            # Whoever unpacks the archive makes files of these names.
            harmless = tensor.name.isprintable() and re.fullmatch(r"[^/\\:]{1,200}", tensor.name) is not None
            places.append(_Place(path, keys.of(tensor.name if harmless else file_name(tensor.name))))
            with archive.open(zipfile.ZipInfo(f"{places[-1].key}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, tensor.array, allow_pickle=False)
    put(path, content.getvalue())
    return places


def _c(bundle: Bundle, path: Path, put: Write) -> list[_Place]:
    put(path, c_header(bundle))
    return [_Place(path if has_place(tensor) else None) for tensor in bundle.tensors]


def _mem(bundle: Bundle, path: Path, put: Write) -> list[_Place]:
    make_folder(path)
    identifiers, names = Identifiers(), Distinct()
    places = []
    for tensor in bundle.tensors:
        file = path / f"{names.of(file_name(identifiers.of(tensor.name)))}.mem"
        put(file, readmemh(tensor))
        places.append(_Place(file))
    return places


def readmemh(tensor: Tensor) -> str:
    """The words of a tensor in row-major order, one a line, for Verilog's `$readmemh`.

    Negative numbers in two's complement, floats as their IEEE bit patterns.
    """
    array = np.ascontiguousarray(tensor.array).reshape(-1)
    width = array.dtype.itemsize
    words = [int.from_bytes(word.tobytes(), sys.byteorder) for word in array]
    shape = "x".join(map(str, tensor.array.shape)) or "scalar"
    head = f"// {c_comment(tensor.name)}: {shape}, {8 * width} bits, {tensor.array.dtype}"
    return "\n".join([head, *(f"{word:0{2 * width}x}" for word in words), ""])


#: By the name of a format, what writes it and returns where each tensor went.
FORMATS: dict[str, Callable[[Bundle, Path, Write], list[_Place]]] = {
    "safetensors": _safetensors,
    "npz": _npz,
    "c": _c,
    "mem": _mem,
}
