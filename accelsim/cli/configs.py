"""`accelsim configs`: the configurations that come along."""

from __future__ import annotations

from typing import Annotated

import typer

from accelsim.hardware import Accelerator, shipped

from .application import application, guarded
from .options import Json
from .output import write_json, write_tables, write_text
from .status import OK


@application.command()
@guarded
def configs(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Print the file of this one.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> int:
    """List the configurations that come along, or print one.

    `accelsim configs edge_16x16 > mine.yaml` starts one of your own.
    """
    if name is not None:
        text = shipped.text(name)
        if as_json:
            write_json(Accelerator.from_yaml(name).to_dict())
        else:
            write_text(text)
        return OK
    summaries = {each: shipped.summary(each) for each in shipped.names()}
    if as_json:
        write_json(summaries)
    else:
        from accelsim.report.tables import plain_table

        table = plain_table("Configurations", ("name", "what it is"), left=2)
        for each, summary in summaries.items():
            table.add_row(each, summary)
        write_tables(table)
    return OK
