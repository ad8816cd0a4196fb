"""`accelsim trace`: a run as a trace for ui.perfetto.dev."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from accelsim import files
from accelsim.hardware import Accelerator

from .application import application, guarded
from .jobs import What, open_job
from .options import Config, Effort, Engine, Json, Lanes, Limit, Trust, limits_of
from .output import progress, write_json, write_text
from .status import OK


@application.command()
@guarded
def trace(
    config: Config,
    what: What,
    out: Annotated[Path, typer.Option("--out", metavar="RUN.perfetto-trace", help="The trace to write.")] = Path(
        "run.perfetto-trace"
    ),
    engine: Engine = None,
    lanes: Lanes = "host",
    effort: Effort = 1,
    limit: Limit = None,
    trust: Trust = False,
    as_json: Json = False,
) -> int:
    """Write a run in time as a trace for ui.perfetto.dev: units, instructions, bandwidths, semaphores.

    Each unit is a track, each instruction a slice with its text, layer and bytes; arrows lead from the instruction that
    signals to the one that waits. A nanosecond of the trace is a cycle. Needs the package perfetto.
    """
    from accelsim.machine import simulate
    from accelsim.report.trace import trace as trace_of

    limits = limits_of(limit)
    files.check_writable(out)
    accelerator = Accelerator.from_yaml(config)
    job = open_job(what, accelerator, engine=engine, lanes=lanes, x=None, effort=effort, trust=trust, limits=limits)
    with progress("simulate"):
        result = simulate(job.program, accelerator=accelerator, limits=limits)
    with progress("write the trace"):
        content = trace_of(job.program, result)
        files.write(out, content)
    if as_json:
        write_json({"trace": str(out), "cycles": result.cycles, "instructions": len(result.timeline)})
    else:
        write_text(
            f"trace: {out} ({len(result.timeline):,} instructions, {len(content):,} bytes; open it in "
            "https://ui.perfetto.dev)\n"
        )
    return OK
