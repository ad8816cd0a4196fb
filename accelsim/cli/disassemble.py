"""`accelsim disassemble`: a program as text that assembles to the same words."""

from __future__ import annotations

from typing import Annotated

import typer

from .application import application, guarded
from .options import Json
from .output import write_json, write_text
from .programs import open_program, program_summary
from .status import OK


@application.command()
@guarded
def disassemble(
    program: Annotated[
        str, typer.Argument(metavar="PROGRAM", help="A saved program, or .asm text.", show_default=False)
    ],
    data: Annotated[
        bool, typer.Option("--data", help="With the data image, so that it can be assembled again.")
    ] = False,
    as_json: Json = False,
) -> int:
    """Print a program as assembly text."""
    opened = open_program(program)
    text = opened.assembly(data=data)
    if as_json:
        write_json(program_summary(opened) | {"assembly": text})
    else:
        write_text(text if text.endswith("\n") else text + "\n")
    return OK
