"""`accelsim results`: the points that sweeps have kept."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from accelsim.files import check_writable, write
from accelsim.report.sweep_tables import results_table
from accelsim.sweep import Store
from accelsim.sweep.results import by, chosen, record, to_csv
from accelsim.sweep.store import Row

from .application import application, guarded
from .options import Json
from .output import Failures, say, write_json, write_tables
from .status import OK, CallError


@application.command()
@guarded
def results(
    stores: Annotated[
        list[Path],
        typer.Argument(metavar="FILE.sqlite...", help="Stores of sweeps.", show_default=False),
    ],
    where: Annotated[
        list[str] | None,
        typer.Option(
            "--where",
            metavar="EXPRESSION",
            help="What holds of each point that is shown: \"rows <= 16 and network == 'ResNet8'\".",
            show_default=False,
        ),
    ] = None,
    sort: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Sort by a measure or a configuration key.", show_default=False),
    ] = None,
    top: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Show the first N points.", show_default=False)
    ] = None,
    export: Annotated[
        Path | None,
        typer.Option("--csv", metavar="OUT.csv", help="Write the points that are shown as CSV.", show_default=False),
    ] = None,
    merge: Annotated[
        Path | None,
        typer.Option(
            metavar="OUT.sqlite",
            help="Put all points of the stores into this one, made where it does not exist.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> int:
    """List, choose and export the points that sweeps have kept, and merge stores.

    A point that several stores hold is shown once, without its crashes where one has a result.
    """
    if export is not None:
        check_writable(export)
    for path in stores:
        if not path.is_file():
            raise CallError(f"{path}: no such file; give the --store of a sweep")
    if merge is not None and any(merge.exists() and merge.samefile(path) for path in stores):
        raise CallError(f"--merge {merge}: is one of the stores; give another file")
    found = _rows(stores)
    if merge is not None:
        say(f"{_merge(stores, merge)} points put into {merge}")
    shown = chosen(found, where or ())
    shown = (by(shown, sort) if sort is not None else shown)[:top]
    failures, written = Failures(), ""
    if export is not None:
        with failures.kept():
            write(export, to_csv(shown))
            written = f", written to {export}"
    if as_json:
        write_json([dict(record(row)) | {"parameters": row.parameters} for row in shown])
    else:
        write_tables(results_table(shown), f"{len(shown)} of {len(found)} points{written}")
    return failures.status(OK)


def _rows(stores: list[Path]) -> list[Row]:
    """The points of all stores, each once."""
    found: dict[str, Row] = {}
    for path in stores:
        with Store.opened(path) as store:
            for row in store.rows():
                if row.key not in found or found[row.key].measurement.crashed:
                    found[row.key] = row
    return list(found.values())


def _merge(stores: list[Path], target: Path) -> int:
    """Merge the stores into one; returns how many points that has more, or in place of crashes."""
    taken = 0
    with Store.opened(target) as into:
        for path in stores:
            with Store.opened(path) as store:
                taken += into.merge(store)
    return taken
