"""`accelsim sweep`: one model on many configurations, in local processes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from accelsim.hardware import Accelerator
from accelsim.report.tables import sweep_table
from accelsim.sweep import grid, run_sweep

from .application import application, guarded
from .models import open_model
from .options import Config, Effort, Engine, Input, Json, Lanes, Model, Trust, read_inputs
from .output import progress, write_json, write_tables
from .status import OK, WRONG_OUTPUTS


@application.command()
@guarded
def sweep(
    config: Config,
    model: Model,
    settings: Annotated[
        list[str],
        typer.Option(
            "--set",
            metavar="KEY=V1,V2",
            help="Configuration key and its values; once for each key, all combinations are run.",
            show_default=False,
        ),
    ],
    store: Annotated[
        Path, typer.Option(metavar="FILE.sqlite", help="Keeps finished points; they are not run again.")
    ] = Path("results/sweep.sqlite"),
    plot: Annotated[
        Path, typer.Option(metavar="OUT.png", help="Heat map (two keys) or curve (one), as PNG and as SVG.")
    ] = Path("results/sweep.png"),
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Processes; by default one for each processor.", show_default=False)
    ] = None,
    engine: Engine = None,
    lanes: Lanes = "host",
    inputs: Input = None,
    effort: Effort = 1,
    trust: Trust = False,
    as_json: Json = False,
) -> int:
    """Time a model for all combinations of configuration values. Exit status 1 if none of them can run it."""
    accelerator = Accelerator.from_yaml(config)
    grid(accelerator, settings)  # a wrong value is said before a model is trained and extracted
    network = open_model(model, engine, lanes, read_inputs(inputs), trust=trust).network
    with progress("sweep") as on_progress:
        done = run_sweep(network, accelerator, settings, store=store, jobs=jobs, effort=effort, on_progress=on_progress)
    from accelsim.report.plots import save
    from accelsim.report.sweep_plots import sweep_figure

    pictures = save(sweep_figure(done), plot)
    if as_json:
        write_json(done.to_dict() | {"store": str(store), "pictures": [str(path) for path in pictures]})
    else:
        count = len(done.points)
        write_tables(
            sweep_table(done),
            f"{count} points, {done.reused} of them from {store}; pictures: {', '.join(map(str, pictures))}",
        )
    return OK if done.best is not None else WRONG_OUTPUTS
