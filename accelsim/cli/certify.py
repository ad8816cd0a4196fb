"""`accelsim certify`: integer-only requantisation with proof, layer by layer."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from accelsim.export import check_certificates_out, write_certificates
from accelsim.report.certification import certification_table
from accelsim.report.certification import certify as certify_network

from .application import application, guarded
from .models import open_model
from .options import Engine, Input, Json, Lanes, Model, Trust, read_inputs
from .output import Failures, progress, write_json, write_tables
from .status import OK


@application.command()
@guarded
def certify(
    model: Model,
    multiplier_bits: Annotated[int, typer.Option(help="Width of the multiplier M, 1 to 31.")] = 31,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write M, B, S and the verdicts: .json or .safetensors.", show_default=False),
    ] = None,
    engine: Engine = None,
    lanes: Lanes = "host",
    inputs: Input = None,
    trust: Trust = False,
    as_json: Json = False,
) -> int:
    """Find fixed-point constants that equal the engine's roundings, or what they get wrong.

    A certificate holds for every accumulator that a channel can reach.
    """
    if out is not None:
        check_certificates_out(out)
    network = open_model(model, engine, lanes, read_inputs(inputs), trust=trust).network
    with progress("certifying") as advance:
        layers = certify_network(network, multiplier_bits, advance)
    failures, written = Failures(), None
    if out is not None:
        with failures.kept():
            write_certificates(network, {name: found for name, (_, found) in layers.items()}, out)
            written = str(out)
    rows = [summary for summary, _ in layers.values()]
    if as_json:
        document = [{**dataclasses.asdict(row), "share": row.share} for row in rows]
        write_json(
            {
                "network": network.name,
                "engine": network.engine,
                "multiplier_bits": multiplier_bits,
                "layers": document,
                "out": written,
            }
        )
    else:
        write_tables(
            certification_table(network, rows, multiplier_bits), "" if written is None else f"written to {written}"
        )
    return failures.status(OK)
