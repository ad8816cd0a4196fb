"""A bare `state_dict` on the command line: listed, and its arrays written."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from accelsim.export import FORMATS, tensors_bundle, write
from accelsim.frontend.state_dict import Entry, StateDict, read_state_dict
from accelsim.report.tables import plain_table

from .output import Failures, write_json, write_tables
from .status import OK, CallError


def list_state_dict(model: str, format: str | None, out: Path | None, as_json: bool) -> int:
    """List every entry of the file, and write its arrays. Raises CallError where not every tensor can be written."""
    if out is not None and format is None:
        raise CallError(f"{model}: a state_dict has no graph to save as a network; say --format {', '.join(FORMATS)}")
    content = read_state_dict(model)
    written: list[Path] = []
    failures = Failures()
    if out is not None and format is not None:
        with failures.kept():
            written = _write(model, content, format, out)
    if as_json:
        rows = [
            {
                "key": entry.key,
                "shape": None if entry.array is None else list(entry.array.shape),
                "dtype": None if entry.array is None else str(entry.array.dtype),
                "stored": entry.dtype,
                "reason": entry.reason,
            }
            for entry in content.entries
        ]
        write_json({"state_dict": model, "parameters": rows, "written": [str(path) for path in written]})
        return failures.status(OK)
    columns = ["key", "dtype", "shape", "min", "max", ""]
    table = plain_table(f"{model}: a state_dict, without a graph", columns, left=3)
    for entry in content.entries:
        table.add_row(*_row(entry))
    write_tables(table, "\n".join(said(written)))
    return failures.status(OK)


def _write(model: str, content: StateDict, format: str, out: Path) -> list[Path]:
    for entry in content.unread:
        raise CallError(f"{model}: {entry.key}: {entry.reason}; nothing is written, as this could not be")
    return write(tensors_bundle(model, content.arrays), format, out)


def _row(entry: Entry) -> tuple[str, ...]:
    """Key, stored type, shape, least and greatest value, and what prevents them."""
    if entry.array is None:
        return entry.key, entry.dtype, "-", "-", "-", entry.reason
    shape = "x".join(map(str, entry.array.shape)) or "scalar"
    if not entry.array.size or entry.array.dtype.kind == "c":
        return entry.key, entry.dtype, shape, "-", "-", ""
    return entry.key, entry.dtype, shape, *(f"{float(end(entry.array)):g}" for end in (np.min, np.max)), ""


def said(written: list[Path]) -> list[str]:
    """Where the result is."""
    few = [str(path) for path in written] if len(written) <= 3 else [f"{written[-1].parent} ({len(written)} files)"]
    return [f"written to {' and '.join(few)}"] if written else []
