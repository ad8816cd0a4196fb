"""Functions of one code: the lookup node for recorded steps, its tables filled by PyTorch under the wanted kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from accelsim.arithmetic.affine import Affine
from accelsim.errors import ModelError
from accelsim.network import Lookup, Node

from .builder import Builder, Codes, Foreign, Real
from .calls import Call
from .float_operators import compute
from .host import aten_kernels
from .layouts import order_of
from .tables import Here, Layout, Number, Program, Step, Tables, joined, probe, probe_body, probe_layout


def step_of(call: Call, places: dict[int, int]) -> Step | None:
    """The call as a step; `places` gives the index of each tensor by its identity, other tensors are constants.

    None if a constant holds more than one number: what it does then depends on the place.
    """
    constants = [tensor for tensor in call.tensors if id(tensor) not in places]
    return placed_step(call, places) if all(tensor.numel() == 1 for tensor in constants) else None


def placed_step(call: Call, places: dict[int, int]) -> Step:
    """As `step_of`, with constants of any size: what it does holds for a tensor of that very shape."""

    def plain(argument: Any) -> Any:
        if isinstance(argument, torch.Tensor):
            if id(argument) in places:
                return Here(places[id(argument)])
            plain_number = argument.dim() == 0 and not argument.is_quantized
            return Number(argument.item(), argument.dtype) if plain_number else argument
        if isinstance(argument, list | tuple):
            return tuple(plain(item) for item in argument)
        return argument

    overload = str(call.function._schema.overload_name) or "default"
    args = tuple(plain(argument) for argument in call.args)
    kwargs = tuple((name, plain(value)) for name, value in call.kwargs.items())
    in_place = call.operator.endswith("_")
    return Step(f"{call.operator.removesuffix('_')}.{overload}", args, kwargs, in_place)


def look_up(
    builder: Builder, call: Call, source: str, program: Program, given: torch.Tensor, *, operator: str, named: Call
) -> None:
    """Make `call`'s result a lookup of value `source` through `program`; `given` has the layout that goes in."""
    result = call.results[0]
    affine = builder.value(source).affine
    after = builder.affine(call, result)
    check_kernels(builder, call, operator)
    layout = Layout(tuple(given.shape), given.stride(), order_of(result))
    tables = tables_for(builder, program, affine, layout)
    identity = len(tables.tables) == 1 and np.array_equal(tables.tables[0], np.arange(256))
    if identity and affine == after:
        builder.made(source)
        builder.assign(result, Codes(source))
        return

    def make(name: str) -> Node:
        return Lookup(name, (source,), operator, tables.tables, tables.spans)

    builder.emit(call, make, result, name=builder.name(named))


def tables_for(builder: Builder, program: Program, source: Affine, layout: Layout) -> Tables:
    """The tables of an element-wise operator under the builder's kernel set."""
    if builder.kernels.aten == "uniform":
        return probe_body(program, source, layout.count, builder.engine)
    return probe(program, source, layout, builder.engine)


def tables_of_layout(
    builder: Builder, program: Program, source: Affine, layout: Layout, *, merge: bool = True
) -> Tables:
    """The tables of an operator that follows the rows of a layout, under the builder's kernel set.

    With `merge`, "uniform" lanes take the table of most elements for all: where only lanes tell them apart.
    """
    if builder.kernels.aten == "uniform" and merge:
        tables = probe_layout(program, source, layout, builder.engine)
        sizes = np.bincount([table for _, _, table in tables.spans], [b - a for a, b, _ in tables.spans])
        return Tables(tables.tables[[int(sizes.argmax())]], ((0, layout.count, 0),))
    return probe_layout(program, source, layout, builder.engine)


#: Operators whose vector loops round otherwise in ATen's default kernels than in the others.
_BY_KERNELS = frozenset({"hardswish", "leaky_relu", "elu", "celu"})


def check_kernels(builder: Builder, call: Call, operator: str) -> None:
    """Raises ModelError where PyTorch, in this process, would fill a table by other kernels than are asked for."""
    asked, here = builder.kernels.aten, aten_kernels()
    if operator in _BY_KERNELS and asked != "uniform" and (asked == "default") != (here == "default"):
        raise ModelError(
            f"{builder.where(call)}: {call.operator} is rounded otherwise by the {asked} kernels than by this "
            f"process's ({here}); set ATEN_CPU_CAPABILITY={asked} before Python starts"
        )


def float_operator(builder: Builder, call: Call) -> None:
    """A float operator between dequantize and quantize: one more step, if all it needs is at the same place; else work
    in binary32, if there is such."""
    program: Program = ()
    places: dict[int, int] = {}
    names = set()
    for tensor in call.tensors:
        reference = builder.reference(tensor)
        if reference is None:
            continue
        if not isinstance(reference, Real):
            if not compute(builder, call):
                foreign = builder.foreign(call, "computes in float on an input that is not quantised yet")
                known = isinstance(reference, Foreign)
                builder.assign(call.results[0], reference if known else foreign)
            return
        program, indices = joined(program, reference.program)
        places[id(tensor)] = indices[reference.index]
        names.add(reference.name)
    step = step_of(call, places) if len(names) == 1 else None
    if step is not None and call.results[0].shape == builder.value(next(iter(names))).shape:
        builder.assign(call.results[0], Real(next(iter(names)), (*program, step), len(program) + 1, call))
    elif not compute(builder, call):
        where = f"{builder.where(call)}: {call.operator} computes in float with several tensors"
        builder.assign(call.results[0], Foreign(where))
