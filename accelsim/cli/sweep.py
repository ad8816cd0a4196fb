"""`accelsim sweep`: models on many configurations, in local processes."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from accelsim.escaping import file_name
from accelsim.hardware import Accelerator
from accelsim.network import Network
from accelsim.report.places import check_picture
from accelsim.report.sweep_tables import best_table, front_table, sort_keys, sorted_numbers, sweep_table
from accelsim.report.tables import duration
from accelsim.sweep import Estimate, Measurement, Space, Sweep, run_sweep
from accelsim.sweep.plateaus import warnings_of
from accelsim.sweep.search import Objective, Search, objectives_of, optuna_package, search
from accelsim.sweep.space import Study

from .application import application, guarded
from .models import open_model
from .options import Effort, Engine, Input, Json, Lanes, Limit, Trust, limits_of, read_inputs
from .output import Failures, progress, say, write_json, write_tables
from .pictures import draw
from .status import INTERRUPTED, OK, WRONG_OUTPUTS, CallError

_MEGABYTE = 2**20

#: Panels of a picture that can still be read; a sweep of more keys has tables alone.
_MOST_PANELS = 12

_Several = list[str] | None


def _several(name: str, metavar: str, words: str) -> Any:
    return typer.Option(name, metavar=metavar, help=words, show_default=False)


@application.command()
@guarded
def sweep(
    config: Annotated[
        str,
        typer.Argument(
            metavar="CONFIG|STUDY.yaml",
            help="YAML file of the accelerator, or the name of one that comes along (`accelsim configs`); without a "
            "MODEL, the YAML file of a study (docs/sweeps.md).",
            show_default=False,
        ),
    ],
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL",
            help="module:callable that returns (model, example_input), an ONNX file, a TorchScript file (with --trust),"
            " a topology of shapes alone (CSV), or a saved network.",
            show_default=False,
        ),
    ] = None,
    settings: Annotated[
        _Several,
        _several(
            "--set", "KEY=V1,V2", "Key and values; all combinations run. KEY,KEY=... move together; 4..64 doubles."
        ),
    ] = None,
    where: Annotated[
        _Several, _several("--where", "EXPRESSION", 'What holds at each point, such as "rows * columns <= 1024".')
    ] = None,
    draws: Annotated[
        int | None, typer.Option("--random", min=1, metavar="N", help="Run N of the combinations.", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Decides what --random draws, and --optimize tries.")] = 0,
    optimize: Annotated[
        str | None,
        typer.Option(
            metavar="OBJECTIVE,...",
            help="Search, guided by Optuna, for the least of measures or expressions: cycles,rows * columns.",
            show_default=False,
        ),
    ] = None,
    trials: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Points that --optimize looks at.", show_default=False)
    ] = None,
    configs: Annotated[_Several, _several("--config", "CONFIG", "One more configuration.")] = None,
    models: Annotated[_Several, _several("--model", "MODEL", "One more model.")] = None,
    sort: Annotated[
        str | None,
        typer.Option(
            metavar="KEY", help="Sort rows: cycles, time, utilization, dram, a swept key.", show_default=False
        ),
    ] = None,
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
    """Time models for combinations of configuration values.

    The number of points and an estimate of the time are printed first. A point that cannot run, or whose process
    crashes, is a row with its reason, and the others go on. Exit status 1 if no point can run, or a point crashed; 2 if
    the picture cannot be drawn.
    """
    limits = limits_of(limit)
    check_picture(plot)
    if (optimize is None) != (trials is None):
        raise CallError("--optimize and --trials: neither does anything without the other; give both")
    study = _study(config, model, configs, models, Space.of(settings or (), where or (), draws, seed))
    machines = _checked(study, sort)  # a wrong value is said before a model is trained and extracted
    aim = None if optimize is None or trials is None else _aim(optimize, machines[0], trials, seed)
    x = read_inputs(inputs)
    networks = [open_model(name, engine, lanes, x, trust=trust).network for name in study.networks]
    finished = _Finished(study, machines, aim)
    try:
        done = [
            finished.run(
                network,
                machine,
                jobs=jobs,
                effort=effort,
                retry=retry,
                memory=None if memory is None else memory * _MEGABYTE,
                limits=limits,
                store=store,
            )
            for network in networks
            for machine in machines
        ]
    except KeyboardInterrupt:
        words: dict[str, object] = {"--set": settings, "--where": where, "--random": draws, "--seed": seed or None}
        words |= {"--optimize": optimize, "--trials": trials}
        words |= {"--config": configs, "--model": models, "--input": inputs, "--limit": limit, "--sort": sort}
        words |= {"--store": store, "--plot": plot, "--jobs": jobs, "--memory": memory}
        words |= {"--engine": engine, "--lanes": lanes, "--effort": effort}
        words |= {"--retry": retry, "--trust": trust, "--json": as_json}
        say(f"interrupted; {finished.points} of {finished.total} points are in {store}; this goes on:")
        say(_command([config, *([] if model is None else [model])], words))
        return INTERRUPTED
    failures = Failures()
    pictures = _draw(done, plot, failures)
    _write(done, finished.searches, store, pictures, sort, as_json)
    crashed = sum(each.crashed for each in done)
    if crashed:
        say(f"{crashed} of {finished.total} points crashed or met a limit; --retry runs them again")
    return failures.status(OK if all(each.best for each in done) and not crashed else WRONG_OUTPUTS)


def _study(config: str, model: str | None, configs: _Several, models: _Several, space: Space) -> Study:
    """What is to be run: a file of a study, or what the options say."""
    if model is not None:
        return Study((config, *(configs or ())), (model, *(models or ())), space)
    if configs or models or space != Space():
        raise CallError(
            f"{config}: a study says all itself; leave out --set, --where, --random, --seed, --config and --model, or "
            "give a configuration and a model"
        )
    return Study.from_yaml(config)


def _checked(study: Study, sort: str | None) -> list[Accelerator]:
    """The configurations, each with a space that it takes; says which memories do not keep up with their arrays."""
    machines, counts = [], []
    for name in study.configurations:
        machine = Accelerator.from_yaml(name)
        axes, candidates = study.space.candidates(machine)
        machines.append(machine)
        counts.append(len(candidates))
        taken = sort_keys(axes)
        if sort is not None and sort not in taken:
            raise CallError(f"--sort {sort}: takes one of {', '.join(taken)}")
        for warning in warnings_of(candidates):
            say(f"{name}: {warning}")
    if len(study.networks) * len(machines) > 1:
        total = len(study.networks) * sum(counts)
        say(f"{total:,} points: networks {len(study.networks)}, configurations {len(machines)}")
    return machines


@dataclass(frozen=True)
class _Aim:
    """What a search is for, and how many points it looks at."""

    objectives: tuple[Objective, ...]
    trials: int
    seed: int


def _aim(optimize: str, machine: Accelerator, trials: int, seed: int) -> _Aim:
    optuna_package()  # that it is missing is said before a model is trained and extracted
    return _Aim(objectives_of(optimize, machine), trials, seed)


class _Tally:
    """The best and the failures of the points that have run so far."""

    def __init__(self) -> None:
        self._best: int | None = None
        self._failed = 0

    def add(self, measurement: Measurement) -> None:
        """One more point."""
        if measurement.cycles is None:
            self._failed += 1
        elif self._best is None or measurement.cycles < self._best:
            self._best = measurement.cycles

    def __str__(self) -> str:
        best = "" if self._best is None else f", best {self._best:,} cycles"
        return best + (f", {self._failed} failed" if self._failed else "")


class _Finished:
    """Runs the sweeps of a study one after the other, and counts the points that are in the store."""

    def __init__(self, study: Study, machines: Sequence[Accelerator], aim: _Aim | None) -> None:
        self._space, self._aim = study.space, aim
        self.points = 0
        self.searches: list[Search] = []
        sizes = [len(self._space.candidates(machine)[1]) for machine in machines]
        self.total = len(study.networks) * sum(size if aim is None else min(size, aim.trials) for size in sizes)

    def run(self, network: Network, machine: Accelerator, **options: Any) -> Sweep:
        """One network on one configuration."""
        before, tally = self.points, _Tally()
        with progress(f"{network.name} on {machine.name}") as show:

            def advance(done: int, total: int) -> None:
                self.points = before + done
                show(done, total, str(tally))

            options |= {"on_estimate": lambda ahead: _say_estimate(network, machine, ahead)}
            options |= {"on_point": tally.add, "on_progress": advance}
            if self._aim is None:
                return run_sweep(network, machine, self._space, **options)
            options |= {"trials": self._aim.trials, "seed": self._aim.seed}
            found = search(network, machine, self._space, self._aim.objectives, **options)
            self.searches.append(found)
            return found.sweep


def _say_estimate(network: Network, machine: Accelerator, estimate: Estimate) -> None:
    held = f", {estimate.held} of them in the store" if estimate.held else ""
    points = f"{estimate.points} points" if estimate.points > 1 else "1 point"
    line = f"{network.name} on {machine.name}: {points}{held}"
    if estimate.seconds:
        source = "" if estimate.measured else ", guessed from the number of layers"
        line += f"; about {duration(estimate.seconds)} in {estimate.jobs} process{'es' * (estimate.jobs > 1)}{source}"
    say(line)


def _draw(done: Sequence[Sweep], plot: Path, failures: Failures) -> list[Path]:
    """A picture of each sweep, with its network and configuration in the name where there are several."""
    pictures: list[Path] = []
    for each in done:
        path = plot
        if len(done) > 1:
            name = f"{plot.stem}_{file_name(each.network)}_{file_name(each.accelerator.name)}"
            path = plot.with_name(name + plot.suffix)
        if math.prod(len(axis.values) for axis in each.axes[2:]) > _MOST_PANELS:
            say(f"{path}: not drawn; so many keys and values make more than {_MOST_PANELS} maps")
            continue
        pictures += draw(lambda each=each: _figure(each), path, failures)  # type: ignore[misc]
    return pictures


def _figure(done: Sweep) -> Any:
    from accelsim.report.sweep_plots import sweep_figure

    return sweep_figure(done)


def _write(
    done: Sequence[Sweep],
    searches: Sequence[Search],
    store: Path,
    pictures: Sequence[Path],
    sort: str | None,
    as_json: bool,
) -> None:
    if as_json:
        files = {"store": str(store), "pictures": [str(path) for path in pictures]}
        documents = [each.to_dict() for each in searches or done]
        for document, each in zip(documents, done, strict=True):
            numbers = sorted_numbers(each, sort)
            document["points"] = [document["points"][number] for number in numbers]
            if "front" in document:
                document["front"] = [numbers.index(number) for number in document["front"]]
        write_json((documents[0] if len(done) == 1 else {"sweeps": documents}) | files)
        return
    points, reused = sum(len(each.points) for each in done), sum(each.reused for each in done)
    drawn = f"; pictures: {', '.join(map(str, pictures))}" if pictures else ""
    tables = [*(sweep_table(each, sort) for each in done), *map(front_table, searches)]
    if len(done) > 1:
        tables.append(best_table(done))
    write_tables(*tables, f"{points} points, {reused} of them from {store}{drawn}")


def _command(arguments: Sequence[str], options: dict[str, object]) -> str:
    """The call that takes the sweep up again."""
    words = ["accelsim", "sweep", *arguments]
    for name, value in options.items():
        for item in value if isinstance(value, list) else [value]:
            if item is True:
                words.append(name)
            elif item is not None and item is not False:
                words += [name, str(item)]
    return shlex.join(words)
