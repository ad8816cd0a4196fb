"""`accelsim compare`: a network in its engine's arithmetic beside others."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from accelsim.report.comparison import NAMES, UNIFORM, comparison_summary, comparison_table, lanes_summary
from accelsim.report.comparison import compare as compare_network

from .application import application, guarded
from .arithmetic import Labels, read_labels
from .models import no_example, open_model
from .options import Engine, Input, Json, Lanes, Model, Trust, read_inputs
from .output import write_json, write_tables
from .status import OK, CallError

_USUAL = ("fbgemm", "qnnpack", "textbook")


@application.command()
@guarded
def compare(
    model: Model,
    beside: Annotated[
        list[str] | None,
        typer.Option(
            "--with",
            metavar="NAME",
            help=f"Once for each arithmetic: {', '.join(NAMES)}. By default {', '.join(_USUAL)}, and {UNIFORM} "
            f"(one rule for all lanes) of a model that has lanes.",
            show_default=False,
        ),
    ] = None,
    labels: Labels = None,
    multiplier_bits: Annotated[int, typer.Option(help="Width of the multiplier of fixed_point.")] = 31,
    engine: Engine = None,
    lanes: Lanes = "host",
    inputs: Input = None,
    trust: Trust = False,
    as_json: Json = False,
) -> int:
    """Count by layer how many outputs other arithmetics change, by how much, and why.

    And what becomes of the result.
    """
    source = open_model(model, engine, lanes, read_inputs(inputs), trust=trust)
    if source.x is None:
        raise no_example(model)
    for name in beside or ():
        if name not in NAMES:
            raise CallError(f"--with {name}: no such arithmetic; there are {', '.join(NAMES)}")
    if source.model is None and UNIFORM in (beside or ()):
        raise CallError(f"--with {UNIFORM}: {model} is a saved network; give the model, whose tables are filled anew")
    has_lanes = source.model is not None and source.network.kernels.aten != UNIFORM
    usual = [name for name in _USUAL if name != source.network.engine] + [UNIFORM] * has_lanes
    names = beside or usual
    uniform = source.under(UNIFORM) if UNIFORM in names else None
    right = read_labels(labels)
    results = compare_network(source.network, source.x, names, right, multiplier_bits=multiplier_bits, uniform=uniform)
    if as_json:
        document = [dataclasses.asdict(result) for result in results]
        write_json({"network": source.network.name, "reference": source.network.engine, "comparisons": document})
    else:
        lines = [*map(comparison_summary, results)]
        lines += [lanes_summary(result) for result in results if result.arithmetic == UNIFORM]
        write_tables(*map(comparison_table, results), "\n".join(lines))
    return OK
