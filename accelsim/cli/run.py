"""`accelsim run`: a model or a program on an accelerator, by layer."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from accelsim.errors import WriteError
from accelsim.hardware import Accelerator
from accelsim.report import tables
from accelsim.report.comparison import comparison_summary, comparison_table
from accelsim.report.places import check_picture, default_path

from .application import application, guarded
from .arithmetic import Labels
from .jobs import What, check, open_job, simulated, verification
from .options import Config, Effort, Engine, Input, Json, Lanes, Limit, Trust, limits_of, read_inputs
from .output import Failures, write_json, write_tables
from .pictures import draw
from .status import OK, WRONG_OUTPUTS

if TYPE_CHECKING:
    from accelsim.machine import Result


@application.command()
@guarded
def run(
    config: Config,
    what: What,
    engine: Engine = None,
    lanes: Lanes = "host",
    inputs: Input = None,
    labels: Labels = None,
    effort: Effort = 1,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="OUT.png",
            help="Picture of cycles and traffic, as PNG and as SVG.",
            show_default="results/<name>_utilization.png",
        ),
    ] = None,
    why: Annotated[
        bool,
        typer.Option(
            "--why",
            help="Two more tables: how each layer lies on the array (folds, rows, columns, cells that work and cells "
            "that are empty), and what the other units did meanwhile. --json has this always.",
        ),
    ] = False,
    limit: Limit = None,
    trust: Trust = False,
    as_json: Json = False,
) -> int:
    """Simulate a model or a program, check its layers, and show where cycles and bytes go.

    The layers of a PyTorch model are compared with PyTorch's own, the outputs of a saved network with the integer
    reference executor; a program is compared with nothing. What a requant unit changes whose arithmetic is not the
    engine's is counted by layer.
    """
    limits = limits_of(limit)
    if plot is not None:
        check_picture(plot)
    accelerator = Accelerator.from_yaml(config)
    x = read_inputs(inputs)
    job = open_job(
        what,
        accelerator,
        engine=engine,
        lanes=lanes,
        x=x,
        effort=effort,
        trust=trust,
        limits=limits,
        labels=labels,
    )
    result = simulated(job, accelerator, limits)
    verified = verification(job, result)
    checked = None if verified is not None else check(job, result, limits)
    failures = Failures()
    pictures, notes = _draw(result, plot, failures)
    notes = (*job.notes, *notes)
    if as_json:
        document = result.to_dict()
        for item, output in zip(document["outputs"], result.outputs, strict=True):
            item |= {"name": output.name, "codes": output.quantized.tolist()}
        document |= {
            "check": None if checked is None else {"outputs": checked[0], "differing": checked[1]},
            "verification": None if verified is None else verified.to_dict(),
            "effect": None if job.effect is None else dataclasses.asdict(job.effect),
            "notes": notes,
            "pictures": [str(path) for path in pictures],
        }
        write_json(document)
    else:
        parts = [tables.cycle_table(result)]
        parts += [tables.array_table(result), tables.unit_table(result)] if why else []
        parts += [tables.traffic_table(result)]
        parts += [tables.output_table(result.outputs)] if result.outputs else []
        parts += [tables.verification_table(verified)] if verified is not None else []
        parts += [comparison_table(job.effect)] if job.effect is not None else []
        lines = [tables.run_summary(result), *notes]
        lines += [comparison_summary(job.effect)] if job.effect is not None else []
        if checked is not None:
            lines.append(f"{checked[0]:,} outputs compared with the integer reference: {checked[1]:,} differ")
        if pictures:
            lines.append(f"pictures: {', '.join(map(str, pictures))}")
        write_tables(*parts, "\n".join(lines))
    wrong = (0 if checked is None else checked[1]) + (0 if verified is None else verified.mismatches)
    return failures.status(WRONG_OUTPUTS if wrong else OK)


def _draw(result: Result, plot: Path | None, failures: Failures) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    """The pictures written, and a note where nobody had asked for them and their place cannot be written to."""
    path = plot or default_path(result.name, "utilization")
    try:
        check_picture(path)
    except WriteError as error:
        if plot is None:
            return (), (f"no picture: {error}; --plot names another place",)

    def figure() -> Any:
        from accelsim.report.plots import utilization_figure

        return utilization_figure(result)

    return draw(figure, path, failures), ()
