"""What CONFIG and MODEL_OR_PROGRAM name, as one job: compiled, ready to be simulated, and compared with its model."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from accelsim.hardware import Accelerator
from accelsim.isa import Program
from accelsim.network.substitution import LayerUnit, trace_on

from .arithmetic import effect, uncertified
from .models import Source, open_model
from .output import progress
from .programs import is_program, open_program
from .status import CallError

if TYPE_CHECKING:
    from accelsim.limits import Limits
    from accelsim.machine import Result
    from accelsim.report.comparison import Comparison
    from accelsim.verification import Verification

What = Annotated[
    str,
    typer.Argument(
        metavar="MODEL_OR_PROGRAM",
        help="A model (module:callable, TorchScript file with --trust, saved network) or a program (.asm text, "
        "saved program).",
        show_default=False,
    ),
]


@dataclasses.dataclass(frozen=True)
class Job:
    """What is to be simulated: `x` is None for timing only; with a `source` the outputs are checked against it.

    `units`: of the compilation, None for a program.
    """

    program: Program
    x: Any
    source: Source | None
    notes: tuple[str, ...]
    effect: Comparison | None = None
    units: Mapping[str, LayerUnit] | None = None


def open_job(
    what: str,
    accelerator: Accelerator,
    *,
    engine: str | None,
    lanes: str,
    x: Any,
    effort: int,
    trust: bool,
    limits: Limits,
    labels: Path | None = None,
) -> Job:
    """The job of a program, or of a model, which it compiles. Raises CallError and what reading and compiling raise."""
    if is_program(what):
        if labels is not None:
            raise CallError(f"--labels {labels}: {what} is a program, which is compared with nothing")
        return _program(what, accelerator, engine, x)
    return _model(what, accelerator, engine, lanes, x, labels, effort, trust, limits)


def simulated(job: Job, accelerator: Accelerator, limits: Limits) -> Result:
    """The job's run, with data where it has an input."""
    from accelsim.machine import simulate

    with progress("simulate"):
        return simulate(job.program, job.x, accelerator=accelerator, limits=limits)


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
) -> Job:
    from accelsim.compiler import compile_with_plans

    source = open_model(what, engine, lanes, x, trust=trust)
    with progress("compile"):
        compilation = compile_with_plans(source.network, accelerator, effort=effort, limits=limits)
    units = compilation.units
    notes = (*source.network.notes, *uncertified(units, accelerator, what, engine, lanes, trust=trust))
    if source.x is None:
        notes = (*notes, "timing only: the model's file carries no example input; give one with --input")
    changes = effect(source.network, source.x, accelerator, units, labels)
    return Job(compilation.program, source.x, source, notes, changes, units)


def _program(what: str, accelerator: Accelerator, engine: str | None, x: Any) -> Job:
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
    return Job(program, x, None, notes)


def verification(job: Job, result: Result) -> Verification | None:
    """The layers beside PyTorch's, where there is a PyTorch model."""
    if job.source is None or job.source.model is None:
        return None
    from accelsim.verification import compare

    with progress("compare with PyTorch"):
        return compare(job.source.network, result, job.source.model, job.x, job.units)


def check(job: Job, result: Result, limits: Limits) -> tuple[int, int] | None:
    """How many outputs of a saved network were compared with the integer reference executor, and how many differ."""
    if job.source is None or job.x is None:
        return None
    arithmetic = result.accelerator.requant_unit.arithmetic
    expected = trace_on(job.source.network, arithmetic, job.x, job.units, limits)
    codes = [(output.quantized, expected[output.name]) for output in result.outputs]
    return sum(b.size for _, b in codes), sum(int(np.count_nonzero(a != b)) for a, b in codes)
