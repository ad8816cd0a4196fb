"""`accelsim run`: a model or a program on an accelerator, by layer."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from accelsim.errors import WriteError
from accelsim.hardware import Accelerator
from accelsim.isa import Program
from accelsim.network.substitution import LayerUnit, trace_on
from accelsim.report import tables
from accelsim.report.comparison import comparison_summary, comparison_table
from accelsim.report.places import check_picture, default_path

from .application import application, guarded
from .arithmetic import Labels, effect, uncertified
from .models import Source, open_model
from .options import Config, Effort, Engine, Input, Json, Lanes, Limit, Trust, limits_of, read_inputs
from .output import Failures, progress, write_json, write_tables
from .pictures import draw
from .programs import is_program, open_program
from .status import OK, WRONG_OUTPUTS, CallError

if TYPE_CHECKING:
    from accelsim.limits import Limits
    from accelsim.machine import Result
    from accelsim.report.comparison import Comparison
    from accelsim.verification import Verification


@dataclasses.dataclass(frozen=True)
class _Run:
    """What is to be simulated: `x` is None for timing only; with a `source` the outputs are checked against it.

    `units`: of the compilation, None for a program.
    """

    program: Program
    x: Any
    source: Source | None
    notes: tuple[str, ...]
    effect: Comparison | None = None
    units: Mapping[str, LayerUnit] | None = None


@application.command()
@guarded
def run(
    config: Config,
    what: Annotated[
        str,
        typer.Argument(
            metavar="MODEL_OR_PROGRAM",
            help="A model (module:callable, TorchScript file with --trust, saved network) or a program (.asm text, "
            "saved program).",
            show_default=False,
        ),
    ],
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
    from accelsim.machine import simulate

    limits = limits_of(limit)
    if plot is not None:
        check_picture(plot)
    accelerator = Accelerator.from_yaml(config)
    x = read_inputs(inputs)
    if is_program(what):
        if labels is not None:
            raise CallError(f"--labels {labels}: {what} is a program, which is compared with nothing")
        job = _program(what, accelerator, engine, x)
    else:
        job = _model(what, accelerator, engine, lanes, x, labels, effort, trust, limits)
    with progress("simulate"):
        if job.x is None:
            result = simulate(job.program, accelerator=accelerator, limits=limits)
        else:
            result = simulate(job.program, job.x, accelerator=accelerator, limits=limits)
    verification = _verification(job, result)
    check = None if verification is not None else _check(job, result, limits)
    failures = Failures()
    pictures, notes = _draw(result, plot, failures)
    notes = (*job.notes, *notes)
    if as_json:
        document = result.to_dict()
        for item, output in zip(document["outputs"], result.outputs, strict=True):
            item |= {"name": output.name, "codes": output.quantized.tolist()}
        document |= {
            "check": None if check is None else {"outputs": check[0], "differing": check[1]},
            "verification": None if verification is None else verification.to_dict(),
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
        parts += [tables.verification_table(verification)] if verification is not None else []
        parts += [comparison_table(job.effect)] if job.effect is not None else []
        lines = [tables.run_summary(result), *notes]
        lines += [comparison_summary(job.effect)] if job.effect is not None else []
        if check is not None:
            lines.append(f"{check[0]:,} outputs compared with the integer reference: {check[1]:,} differ")
        if pictures:
            lines.append(f"pictures: {', '.join(map(str, pictures))}")
        write_tables(*parts, "\n".join(lines))
    wrong = (0 if check is None else check[1]) + (0 if verification is None else verification.mismatches)
    return failures.status(WRONG_OUTPUTS if wrong else OK)


def _model(
    what: str,
    accelerator: Accelerator,
    engine: str | None,
    lanes: str,
    x: Any,
    labels: Path | None,
    effort: int,
    trust: bool,
    limits: Limits,
) -> _Run:
    from accelsim.compiler import compile_with_plans

    source = open_model(what, engine, lanes, x, trust=trust)
    with progress("compile"):
        compilation = compile_with_plans(source.network, accelerator, effort=effort, limits=limits)
    units = compilation.units
    notes = (*source.network.notes, *uncertified(units, accelerator, what, engine, lanes, trust=trust))
    if source.x is None:
        notes = (*notes, "timing only: the model's file carries no example input; give one with --input")
    changes = effect(source.network, source.x, accelerator, units, labels)
    return _Run(compilation.program, source.x, source, notes, changes, units)


def _program(what: str, accelerator: Accelerator, engine: str | None, x: Any) -> _Run:
    if engine is not None:
        raise CallError(f"--engine {engine}: {what} is a program, whose arithmetic stands in its instructions")
    program = open_program(what)
    notes: tuple[str, ...] = ()
    if x is None and program.inputs:
        names = ", ".join(port.name for port in program.inputs)
        notes = (f"timing only: the program reads {names}; give it with --input",)
    elif x is None:
        x = ()  # the data image holds everything that the program reads
    if program.accelerator is not None and program.accelerator != accelerator:
        notes = (*notes, f"the program was compiled for {program.accelerator.name} and runs on {accelerator.name} here")
    return _Run(program, x, None, notes)


def _verification(job: _Run, result: Result) -> Verification | None:
    """The layers beside PyTorch's, where there is a PyTorch model."""
    if job.source is None or job.source.model is None:
        return None
    from accelsim.verification import compare

    with progress("compare with PyTorch"):
        return compare(job.source.network, result, job.source.model, job.x, job.units)


def _check(job: _Run, result: Result, limits: Limits) -> tuple[int, int] | None:
    """How many outputs of a saved network were compared with the integer reference executor, and how many differ."""
    if job.source is None or job.x is None:
        return None
    arithmetic = result.accelerator.requant_unit.arithmetic
    expected = trace_on(job.source.network, arithmetic, job.x, job.units, limits)
    codes = [(output.quantized, expected[output.name]) for output in result.outputs]
    return sum(b.size for _, b in codes), sum(int(np.count_nonzero(a != b)) for a, b in codes)


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
