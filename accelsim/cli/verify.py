"""`accelsim verify`: every layer on the machine beside PyTorch's own run."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from accelsim.hardware import Accelerator
from accelsim.report.comparison import comparison_summary, comparison_table
from accelsim.report.tables import verification_table

from .application import application, guarded
from .arithmetic import Labels, effect, uncertified
from .kinds import saved_kind
from .models import open_model
from .options import CONFIG_HELP, Effort, Engine, Input, Json, Lanes, Limit, Model, Trust, limits_of, read_inputs
from .output import progress, write_json, write_tables
from .status import OK, WRONG_OUTPUTS, CallError


@application.command()
@guarded
def verify(
    model: Model,
    config: Annotated[str, typer.Option(metavar="CONFIG", help=CONFIG_HELP)] = "edge_16x16",
    engine: Engine = None,
    lanes: Lanes = "host",
    inputs: Input = None,
    labels: Labels = None,
    effort: Effort = 1,
    limit: Limit = None,
    trust: Trust = False,
    as_json: Json = False,
) -> int:
    """Compare every layer's outputs with PyTorch's, bit for bit.

    Exit status 1 if a difference is unexplained.

    What a requant unit changes whose arithmetic is not the engine's is explained, and counted by layer.
    """
    from accelsim.compiler import compile_with_plans
    from accelsim.machine import simulate
    from accelsim.verification import check_witness, compare

    limits = limits_of(limit)
    accelerator = Accelerator.from_yaml(config)
    if saved_kind(model) is not None:
        raise CallError(f"{model}: verify needs the PyTorch model, to compare with; `accelsim run` takes saved files")
    source = open_model(model, engine, lanes, read_inputs(inputs), trust=trust)
    check_witness(source.network)
    with progress("compile"):
        compilation = compile_with_plans(source.network, accelerator, effort=effort, limits=limits)
    units = compilation.units
    with progress("simulate"):
        result = simulate(compilation.program, source.x, accelerator=accelerator, limits=limits)
    with progress("compare with PyTorch"):
        verification = compare(source.network, result, source.model, source.x, units, limits=limits)
    changes = effect(source.network, source.x, accelerator, units, labels)
    notes = [*verification.notes, *uncertified(units, accelerator, model, engine, lanes, trust=trust)]
    if verification.mismatches:
        notes.append(
            "`accelsim selftest` says which rules hold for the kernels of this installation on this processor."
        )
    if as_json:
        more = {"notes": notes, "effect": None if changes is None else dataclasses.asdict(changes)}
        write_json(verification.to_dict() | more)
    elif changes is None:
        write_tables(verification_table(verification), "\n".join(notes))
    else:
        notes.append(comparison_summary(changes))
        write_tables(verification_table(verification), comparison_table(changes), "\n".join(notes))
    return WRONG_OUTPUTS if verification.mismatches else OK
