"""`accelsim report`: a run as one HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from accelsim import files
from accelsim.hardware import Accelerator

from .application import application, guarded
from .jobs import Job, What, check, open_job, simulated, verification
from .options import Config, Effort, Engine, Input, Json, Lanes, Limit, Trust, limits_of, read_inputs
from .output import progress, write_json, write_text
from .status import OK, WRONG_OUTPUTS

if TYPE_CHECKING:
    from accelsim.limits import Limits
    from accelsim.machine import Result
    from accelsim.report.faster import Outcome


@application.command()
@guarded
def report(
    config: Config,
    what: What,
    out: Annotated[Path, typer.Option("--out", metavar="REPORT.html", help="The page to write.")] = Path("report.html"),
    changes: Annotated[
        bool,
        typer.Option(
            "--changes/--no-changes",
            help="Compile and simulate again with twice the banks, lanes, bandwidth, array, and say what is faster.",
        ),
    ] = True,
    engine: Engine = None,
    lanes: Lanes = "host",
    inputs: Input = None,
    effort: Effort = 1,
    limit: Limit = None,
    trust: Trust = False,
    as_json: Json = False,
) -> int:
    """Write a run as one HTML page: utilisation, cycles, roofline, traffic, timeline, what would be faster.

    The page needs no network and no other file. Its layers are verified as `accelsim run` does it.
    """
    from accelsim.report.faster import best, sentence
    from accelsim.report.html.page import page

    limits = limits_of(limit)
    files.check_writable(out)
    accelerator = Accelerator.from_yaml(config)
    x = read_inputs(inputs)
    job = open_job(what, accelerator, engine=engine, lanes=lanes, x=x, effort=effort, trust=trust, limits=limits)
    result = simulated(job, accelerator, limits)
    verified = verification(job, result)
    checked = None if verified is not None else check(job, result, limits)
    outcomes = _changes(job, result, effort, limits) if changes else None
    with progress("draw"):
        text = page(job.program, result, notes=job.notes, verification=verified, checked=checked, outcomes=outcomes)
    files.write(out, text)
    faster = [sentence(outcome, result.cycles, accelerator) for outcome in best(outcomes or (), result.cycles)]
    if as_json:
        write_json({"page": str(out), "cycles": result.cycles, "notes": job.notes, "faster": faster})
    else:
        write_text("".join(f"{line}\n" for line in (*job.notes, *faster, f"page: {out}")))
    wrong = (0 if checked is None else checked[1]) + (0 if verified is None else verified.mismatches)
    return WRONG_OUTPUTS if wrong else OK


def _changes(job: Job, result: Result, effort: int, limits: Limits) -> tuple[Outcome, ...]:
    """The job's work on other machines; a model is compiled for each of them."""
    from accelsim.compiler import compile
    from accelsim.machine import simulate
    from accelsim.report.faster import try_changes

    def timed(accelerator: Accelerator) -> int:
        program = job.program
        if job.source is not None:
            program = compile(job.source.network, accelerator, effort=effort, limits=limits)
        return simulate(program, accelerator=accelerator, limits=limits).cycles

    with progress("simulate changes") as advance:
        return try_changes(result.accelerator, timed, advance)
