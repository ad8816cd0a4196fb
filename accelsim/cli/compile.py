"""`accelsim compile`: a model becomes a saved program."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from accelsim.compiler.dump import PASSES, dump
from accelsim.files import check_writable
from accelsim.hardware import Accelerator

from .application import application, guarded
from .arithmetic import certificates, certificates_table, uncertified
from .models import open_model
from .options import Config, Effort, Engine, Input, Json, Lanes, Limit, Model, Trust, limits_of, one_of, read_inputs
from .output import Failures, progress, write_json, write_tables, write_text
from .programs import plan_table, program_summary, program_table
from .status import OK


@application.command()
@guarded
def compile(
    config: Config,
    model: Model,
    out: Annotated[Path, typer.Option(metavar="NET.bin", help="Where the program is written.", show_default=False)],
    engine: Engine = None,
    lanes: Lanes = "host",
    inputs: Input = None,
    effort: Effort = 1,
    explain: Annotated[
        bool, typer.Option("--explain", help="Print how layers were cut, and what bounds each.")
    ] = False,
    dump_after: Annotated[
        str | None,
        typer.Option(
            "--dump-after",
            parser=one_of(tuple(PASSES)),
            metavar="PASS",
            help=f"Write what a pass leaves in place of the tables. The passes, in order: {', '.join(PASSES)}.",
            show_default=False,
        ),
    ] = None,
    limit: Limit = None,
    trust: Trust = False,
    as_json: Json = False,
) -> int:
    """Compile a model for an accelerator and save the program."""
    from accelsim.compiler import compile_with_plans
    from accelsim.compiler.sums import sum_bits

    limits = limits_of(limit)
    check_writable(out)
    accelerator = Accelerator.from_yaml(config)
    network = open_model(model, engine, lanes, read_inputs(inputs), trust=trust).network
    with progress("compile"):
        compilation = compile_with_plans(network, accelerator, effort=effort, limits=limits)
    program = compilation.program
    failures, written = Failures(), None
    with failures.kept():
        program.save(out)
        written = str(out)
    summary = program_summary(program) | {"out": written}
    needed = sum_bits(network) if explain else {}
    plans = [
        {
            "layer": name,
            **{name: value for name, value in vars(plan).items() if name != "footprint"},
            **vars(plan.footprint),
            "fused": compilation.fused_layer(index),
            "sum_bits": needed.get(name),
        }
        for index, (name, plan) in enumerate(compilation.plans)
        if plan is not None
    ]
    proved = certificates(network, compilation.units)
    notes = uncertified(compilation.units, accelerator, model, engine, lanes, trust=trust)
    dumped = None if dump_after is None else dump(compilation, dump_after)
    if as_json:
        more = {"plans": plans} if explain else {}
        more["certificates"] = [dataclasses.asdict(row) | {"share": row.share} for row in proved]
        write_json(summary | more | ({} if dumped is None else {"after": dump_after, "dump": dumped.splitlines()}))
    elif dumped is not None:
        write_text(dumped)
    else:
        tables = [
            program_table(summary),
            *([plan_table(plans, accelerator.buffers.accumulator.bits)] if explain else []),
        ]
        tables += certificates_table(network, proved, accelerator)
        write_tables(*tables, "\n".join([*notes, *([] if written is None else [f"written to {written}"])]))
    return failures.status(OK)
