"""`accelsim extract`: the integers of a model, listed and saved."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from accelsim.errors import ModelError
from accelsim.export import FORMATS, check_out, network_bundle, write
from accelsim.files import check_writable
from accelsim.frontend.archive import STATE_DICT
from accelsim.report.comparison import UNIFORM, Comparison, compare, lanes_summary
from accelsim.report.parameters import parameter_table, parameters

from .application import application, guarded
from .checkpoints import list_state_dict, said
from .kinds import file_kind
from .models import Source, open_model
from .options import Engine, Input, Json, Lanes, Model, Trust, read_inputs
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
    trust: Trust = False,
    as_json: Json = False,
) -> int:
    """List every parameter of a model: key, shape, dtype, scales, zero points, range.

    Takes a bare state_dict, too.
    """
    if format is not None and format not in FORMATS:
        raise CallError(f"--format {format}: no such format; there are {', '.join(FORMATS)}")
    if format is not None and out is None:
        raise CallError(f"--format {format}: says how --out is written; give --out too")
    if out is not None:
        check_out(format, out) if format is not None else check_writable(out)
    if file_kind(model) == STATE_DICT:
        return list_state_dict(model, format, out, as_json)
    source = open_model(model, engine, lanes, read_inputs(inputs), trust=trust)
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
        "\n".join([*network.notes, *([] if changed is None else [lanes_summary(changed)]), *said(written)]),
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
