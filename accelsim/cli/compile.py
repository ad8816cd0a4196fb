"""`accelsim compile`: a model becomes a saved program."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from accelsim.hardware import Accelerator

from .application import application, guarded
from .models import open_model
from .options import Config, Engine, Input, Json, Lanes, Model, read_inputs
from .output import progress, write_json, write_tables
from .programs import program_summary, program_table
from .status import OK


@application.command()
@guarded
def compile(
    config: Config,
    model: Model,
    out: Annotated[Path, typer.Option(metavar="NET.bin", help="Where the program is written.", show_default=False)],
    engine: Engine = None,
    lanes: Lanes = "host",
    inputs: Input = None,
    as_json: Json = False,
) -> int:
    """Compile a model for an accelerator and save the program."""
    from accelsim.compiler import compile as compile_network

    accelerator = Accelerator.from_yaml(config)
    network = open_model(model, engine, lanes, read_inputs(inputs)).network
    with progress("compile"):
        program = compile_network(network, accelerator)
    program.save(out)
    summary = program_summary(program) | {"out": str(out)}
    if as_json:
        write_json(summary)
    else:
        write_tables(program_table(summary), f"written to {out}")
    return OK
