"""`accelsim assemble`: assembly text becomes a saved program."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from accelsim.files import check_writable
from accelsim.hardware import Accelerator

from .application import application, guarded
from .options import Json
from .output import write_json, write_tables
from .programs import assemble_file, program_summary, program_table
from .status import OK


@application.command()
@guarded
def assemble(
    text: Annotated[Path, typer.Argument(metavar="TEXT.asm", help="Assembly text.", show_default=False)],
    out: Annotated[Path, typer.Option(metavar="P.bin", help="Where the program is written.", show_default=False)],
    config: Annotated[
        Path | None,
        typer.Option(metavar="CONFIG", help="Accelerator that the program names as its own.", show_default=False),
    ] = None,
    as_json: Json = False,
) -> int:
    """Assemble a program from text and save it."""
    check_writable(out)
    program = assemble_file(text, None if config is None else Accelerator.from_yaml(config))
    program.save(out)
    summary = program_summary(program) | {"out": str(out)}
    if as_json:
        write_json(summary)
    else:
        write_tables(program_table(summary), f"written to {out}")
    return OK
