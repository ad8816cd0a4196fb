"""`accelsim explain`: one output element of consecutive layers, worked through by numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.markdown import Markdown
from typer.core import TyperCommand

from accelsim.files import check_writable, write
from accelsim.network import Convolution, Linear
from accelsim.report.pages import to_markdown
from accelsim.report.worked_example import LayerExample, work_through

from .application import application, guarded
from .models import Source, no_example, open_model
from .options import Engine, Input, Json, Lanes, Limit, Model, Trust, limits_of, read_inputs
from .output import Failures, write_json, write_tables
from .status import OK, WRONG_OUTPUTS, CallError

_TERMS_IN_TERMINAL = 64


class _SeveralLayers(TyperCommand):
    """Accepts `--layers fc1 fc2` for `--layers fc1 --layers fc2`: every word up to the next option is a layer."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, _spread(args))


def _spread(args: Sequence[str]) -> list[str]:
    spread: list[str] = []
    first = listing = False
    for word in args:
        if word.startswith("-") and not first:
            listing = first = word == "--layers"
        elif first:
            first = False
        elif listing:
            spread.append("--layers")
        spread.append(word)
    return spread


@application.command(cls=_SeveralLayers)
@guarded
def explain(
    model: Model,
    layers: Annotated[
        list[str],
        typer.Option(metavar="LAYER...", help="One or more layers, in the order of the network.", show_default=False),
    ],
    element: Annotated[int, typer.Option(help="Index into the flattened output of the first layer.")] = 0,
    markdown: Annotated[
        Path | None, typer.Option(metavar="PAGE.md", help="Write the page as Markdown.", show_default=False)
    ] = None,
    engine: Engine = None,
    lanes: Lanes = "host",
    inputs: Input = None,
    limit: Limit = None,
    trust: Trust = False,
    as_json: Json = False,
) -> int:
    """Work through one output of each layer: sum, zero points, bias, roundings.

    Beside them stand its fixed point and PyTorch's own code.
    """
    if markdown is not None:
        check_writable(markdown)
    source = open_model(model, engine, lanes, read_inputs(inputs), trust=trust)
    names = [name for item in layers for name in item.split(",") if name]
    _check_call(source, model, names, element)
    codes = source.network.trace(source.x, limits=limits_of(limit))
    examples = work_through(source.network, names, element, codes, _torch_codes(source))
    failures, written = Failures(), ""
    if markdown is not None:
        with failures.kept():
            write(markdown, to_markdown(examples))
            written = f"written to {markdown}"
    if as_json:
        write_json({"network": source.network.name, "layers": [dataclasses.asdict(example) for example in examples]})
    else:
        write_tables(Markdown(to_markdown(examples, most_terms=_TERMS_IN_TERMINAL)))
        if written:
            write_tables(written)
    return failures.status(OK if all(map(_agrees, examples)) else WRONG_OUTPUTS)


def _agrees(example: LayerExample) -> bool:
    return example.code == example.reference_code and example.torch_code in (None, example.code)


def _check_call(source: Source, model: str, names: list[str], element: int) -> None:
    """Raises CallError for layers and elements that the network does not have, or without an input."""
    network = source.network
    able = [node.name for node in network.nodes if isinstance(node, Convolution | Linear)]
    some = ", ".join(able) or "convolutions and linear layers, of which this network has none"
    for name in names:
        if name not in {node.name for node in network.nodes}:
            raise CallError(f"--layers {name}: no such layer; explain takes {some}")
        if name not in able:
            kind = type(network.node(name)).__name__
            raise CallError(f"--layers {name}: is a {kind}; explain takes {some}")
    if not names:
        raise CallError(f"--layers: no layer given; explain takes {some}")
    size = network.values[names[0]].size
    if not 0 <= element < size:
        raise CallError(f"--element {element}: {names[0]}'s output has {size:,} elements; give 0 to {size - 1}")
    if source.x is None:
        raise no_example(model)


def _torch_codes(source: Source) -> dict[str, np.ndarray] | None:
    """PyTorch's own codes of every layer; None for a saved network."""
    if source.model is None:
        return None
    from accelsim.frontend import record_values

    return record_values(source.model, source.x, source.network)
