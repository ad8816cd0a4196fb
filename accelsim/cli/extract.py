"""`accelsim extract`: the integers of a model, listed and saved."""

from __future__ import annotations

import dataclasses
import zipfile
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from accelsim.errors import ModelError
from accelsim.export import FORMATS, check_out, network_bundle, tensors_bundle, write
from accelsim.files import check_writable
from accelsim.report.comparison import UNIFORM, Comparison, compare, lanes_summary
from accelsim.report.parameters import parameter_table, parameters
from accelsim.report.tables import plain_table

from .application import application, guarded
from .models import Source, open_model, saved_kind
from .options import Engine, Input, Json, Lanes, Model, read_inputs
from .output import Failures, say, write_json, write_tables
from .status import OK, CallError


@application.command()
@guarded
def extract(
    model: Model,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Save the network, or in a --format its integers (mem: a directory).",
            show_default=False,
        ),
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(help=f"Write --out as {', '.join(FORMATS)}, with a manifest beside it.", show_default=False),
    ] = None,
    engine: Engine = None,
    lanes: Lanes = "host",
    inputs: Input = None,
    as_json: Json = False,
) -> int:
    """List every parameter of a model: key, shape, dtype, scales, zero points, range. Takes a bare state_dict too."""
    if format is not None and format not in FORMATS:
        raise CallError(f"--format {format}: no such format; there are {', '.join(FORMATS)}")
    if format is not None and out is None:
        raise CallError(f"--format {format}: says how --out is written; give --out too")
    if out is not None:
        check_out(format, out) if format is not None else check_writable(out)
    if Path(model).is_file() and zipfile.is_zipfile(model) and saved_kind(model) is None:
        from accelsim.frontend.state_dict import is_state_dict, read_state_dict

        if is_state_dict(model):
            return _state_dict(model, read_state_dict(model), format, out, as_json)
    source = open_model(model, engine, lanes, read_inputs(inputs))
    network = source.network
    changed = _changed_by_uniform_lanes(source)
    written: list[Path] = []
    failures = Failures()
    with failures.kept():
        if out is not None and format is not None:
            written = write(network_bundle(network), format, out)
        elif out is not None:
            network.save(out)
            written = [out]
    rows = parameters(network)
    if as_json:
        write_json(
            {
                "network": network.name,
                "engine": network.engine,
                "kernels": dataclasses.asdict(network.kernels),
                "parameters": [dataclasses.asdict(row) for row in rows],
                "notes": network.notes,
                "uniform_lanes": None if changed is None else dataclasses.asdict(changed),
                "out": str(out) if written else None,
                "written": [str(path) for path in written],
            }
        )
        return failures.status(OK)
    kernels = f"{network.kernels.aten} and {network.kernels.matrix} kernels"
    write_tables(
        parameter_table(rows, f"{network.name}: {network.engine}, {kernels}"),
        "\n".join([*network.notes, *([] if changed is None else [lanes_summary(changed)]), *_said(written)]),
    )
    return failures.status(OK)


def _changed_by_uniform_lanes(source: Source) -> Comparison | None:
    """What uniform lanes change of this computer's results on the example; None where there is nothing to compare."""
    if source.model is None or source.network.kernels.aten != UNIFORM:
        return None
    try:
        host = source.under("host")
    except ModelError as error:
        say(f"what uniform lanes change is not counted: {error}")
        return None
    return compare(host, source.x, [UNIFORM], uniform=source.network)[0]


def _said(written: list[Path]) -> list[str]:
    """Where the result is."""
    few = [str(path) for path in written] if len(written) <= 3 else [f"{written[-1].parent} ({len(written)} files)"]
    return [f"written to {' and '.join(few)}"] if written else []


def _state_dict(model: str, arrays: dict[str, np.ndarray], format: str | None, out: Path | None, as_json: bool) -> int:
    """List and write the arrays of a file that has no graph."""
    if out is not None and format is None:
        raise CallError(f"{model}: a state_dict has no graph to save as a network; say --format {', '.join(FORMATS)}")
    written: list[Path] = []
    failures = Failures()
    if out is not None and format is not None:
        with failures.kept():
            written = write(tensors_bundle(model, arrays), format, out)
    if as_json:
        rows = [{"key": key, "shape": value.shape, "dtype": str(value.dtype)} for key, value in arrays.items()]
        write_json({"state_dict": model, "parameters": rows, "written": [str(path) for path in written]})
        return failures.status(OK)
    table = plain_table(f"{model}: a state_dict, without a graph", ["key", "dtype", "shape", "min", "max"], left=3)
    for key, value in arrays.items():
        shape = "x".join(map(str, value.shape)) or "scalar"
        ends = (np.min, np.max) if value.size else ()
        table.add_row(key, str(value.dtype), shape, *(f"{end(value):g}" for end in ends))
    write_tables(table, "\n".join(_said(written)))
    return failures.status(OK)
