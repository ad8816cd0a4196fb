"""`accelsim sweep`: one model on many configurations, in local processes."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from accelsim.hardware import Accelerator
from accelsim.report.places import check_picture
from accelsim.report.tables import sweep_table
from accelsim.sweep import Sweep, grid, run_sweep

from .application import application, guarded
from .models import open_model
from .options import Config, Effort, Engine, Input, Json, Lanes, Limit, Model, Trust, limits_of, read_inputs
from .output import Failures, progress, say, write_json, write_tables
from .pictures import draw
from .status import INTERRUPTED, OK, WRONG_OUTPUTS

_MEGABYTE = 2**20


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
    memory: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="MIB",
            help="What each process may take at most; a point that needs more is a row that says so.",
            show_default=False,
        ),
    ] = None,
    retry: Annotated[
        bool,
        typer.Option(
            "--retry",
            help="Run the points of the store again that crashed (killed, out of memory, by a bug) or met a limit.",
        ),
    ] = False,
    engine: Engine = None,
    lanes: Lanes = "host",
    inputs: Input = None,
    effort: Effort = 1,
    limit: Limit = None,
    trust: Trust = False,
    as_json: Json = False,
) -> int:
    """Time a model for all combinations of configuration values.

    A point that cannot run, or whose process crashes, is a row with its reason, and the others go on. Exit status 1 if
    no point can run, or a point crashed; 2 if the picture cannot be drawn.
    """
    limits = limits_of(limit)
    check_picture(plot)
    accelerator = Accelerator.from_yaml(config)
    count = len(grid(accelerator, settings)[1])  # a wrong value is said before a model is trained and extracted
    network = open_model(model, engine, lanes, read_inputs(inputs), trust=trust).network
    finished = 0
    try:
        with progress("sweep") as show:

            def advance(done: int, total: int) -> None:
                nonlocal finished
                finished = done
                show(done, total)

            most = None if memory is None else memory * _MEGABYTE
            done = run_sweep(
                network,
                accelerator,
                settings,
                store=store,
                jobs=jobs,
                effort=effort,
                retry=retry,
                memory=most,
                limits=limits,
                on_progress=advance,
            )
    except KeyboardInterrupt:
        words: dict[str, object] = {"--store": store, "--plot": plot, "--jobs": jobs, "--memory": memory}
        words |= {"--engine": engine, "--lanes": lanes, "--effort": effort}
        words |= {"--retry": retry, "--trust": trust, "--json": as_json}
        command = _command(config, model, settings, inputs or [], limit or [], words)
        say(f"interrupted; {finished} of {count} points are in {store}; this goes on:\n{command}")
        return INTERRUPTED
    failures = Failures()
    pictures = draw(lambda: _figure(done), plot, failures)
    _write(done, store, pictures, as_json)
    if done.crashed:
        say(f"{done.crashed} of {count} points crashed or met a limit; --retry runs them again")
    return failures.status(OK if done.best is not None and not done.crashed else WRONG_OUTPUTS)


def _figure(done: Sweep) -> Any:
    from accelsim.report.sweep_plots import sweep_figure

    return sweep_figure(done)


def _write(done: Sweep, store: Path, pictures: tuple[Path, ...], as_json: bool) -> None:
    if as_json:
        write_json(done.to_dict() | {"store": str(store), "pictures": [str(path) for path in pictures]})
        return
    line = f"{len(done.points)} points, {done.reused} of them from {store}"
    drawn = f"; pictures: {', '.join(map(str, pictures))}" if pictures else ""
    write_tables(sweep_table(done), line + drawn)


def _command(
    config: str,
    model: str,
    settings: list[str],
    inputs: list[Path],
    limits: list[str],
    options: dict[str, object],
) -> str:
    """The call that takes the sweep up again."""
    words = ["accelsim", "sweep", config, model]
    listed = [("--set", setting) for setting in settings] + [("--input", str(path)) for path in inputs]
    listed += [("--limit", item) for item in limits]
    for name, value in (*listed, *options.items()):
        if value is True:
            words.append(name)
        elif value is not None and value is not False:
            words += [name, str(value)]
    return shlex.join(words)
