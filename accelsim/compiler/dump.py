"""The form between two passes as text: `accelsim compile --dump-after PASS`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields

import numpy as np

from accelsim.compiler.plan.slots import Slots
from accelsim.compiler.schedule.reuse import reuse
from accelsim.errors import CompileError
from accelsim.isa import Instruction, instruction_text

from .operations import Operation, View
from .tuning.decisions import Compilation


def dump(compilation: Compilation, after: str) -> str:
    """What the pass left, a line an item. Raises CompileError for a pass that there is not."""
    if after not in PASSES:
        raise CompileError(f"{after!r} is no pass; the passes are {', '.join(PASSES)}")
    return "".join(f"{line}\n" for line in PASSES[after](compilation))


def _lowered(compilation: Compilation) -> Iterator[str]:
    lowered = compilation.lowered
    for tensor, size in lowered.tensors.items():
        yield f"tensor {tensor}: {size} bytes"
    for number, operation in enumerate(lowered.operations):
        yield f"operation {number} of {lowered.layers[operation.layer]}: {_text(operation)}"


def _text(operation: Operation) -> str:
    parts = []
    for item in fields(operation):
        value = getattr(operation, item.name)
        if not item.repr or item.name in ("layer", "rule"):
            continue  # weights and constants: the data image has them
        if isinstance(value, View):
            value = f"{value.tensor}+{value.offset} sizes {value.sizes} pitches {value.pitches}"
        elif item.name in ("parts", "pieces"):
            value = len(value)
        parts.append(f"{item.name}={value}")
    return f"{type(operation).__name__.lower()} {', '.join(parts)}"


def _placed(compilation: Compilation) -> Iterator[str]:
    lowered, placement = compilation.lowered, compilation.placement
    for tensor in lowered.tensors:
        address = placement.addresses.get(tensor)
        layout = placement.layouts.get(tensor)
        gaps = "" if layout is None else f", pixels {layout.pixel_pitch} and lines {layout.line_pitch} bytes apart"
        yield f"tensor {tensor}: " + ("DRAM" if address is None else f"activation buffer from {address:#x}{gaps}")
    for number, (start, stop) in enumerate(placement.staging):
        layer = lowered.layers[lowered.operations[number].layer]
        yield f"operation {number} of {layer}: tiles in {start:#x}..{stop - 1:#x}"


def _fused(compilation: Compilation) -> Iterator[str]:
    for number in compilation.fusions:
        layer = compilation.plans[number][0]
        yield f"operation {number + 1} of {compilation.fused_layer(number)}: on the tiles of {number} of {layer}"


def _tiled(compilation: Compilation) -> Iterator[str]:
    for number, (layer, plan) in enumerate(compilation.plans):
        if plan is not None:
            decided = {**vars(plan), **vars(plan.footprint)}
            yield f"operation {number} of {layer}: " + ", ".join(
                f"{name}={value}" for name, value in decided.items() if name != "footprint"
            )


def _allocated(compilation: Compilation) -> Iterator[str]:
    for number, tiled in enumerate(compilation.tiled):
        if tiled is None:
            continue
        layer = compilation.lowered.layers[tiled.operation.layer]
        for item in fields(tiled):
            slots = getattr(tiled, item.name)
            if isinstance(slots, Slots) and slots.size:
                places = " ".join(f"{address:#x}" for address in slots.addresses)
                yield f"operation {number} of {layer}: {item.name} of {slots.size} in {places}"


def _listed(
    compilation: Compilation, instructions: Sequence[Instruction], places: Sequence[int] | None = None
) -> Iterator[str]:
    """`places`: where in the program each instruction stands, if not at its number."""
    program = compilation.program
    for number, instruction in enumerate(instructions):
        layer = program.layer_of[number if places is None else places[number]]
        yield f"{number} {program.layers[layer]}: {instruction_text(instruction)}"


def _emitted(compilation: Compilation) -> Iterator[str]:
    return _listed(compilation, compilation.emitted, np.argsort(compilation.order).tolist())


def _decided(compilation: Compilation) -> Iterator[str]:
    decisions = compilation.decisions
    yield from (f"{resource} halved {times} times" for resource, times in sorted(decisions.halved.items()))
    yield from (f"operation {number}: another plan" for number, _ in decisions.plans)
    yield from (f"tensor {tensor}: DRAM" for tensor in sorted(decisions.streamed))
    yield from (f"tensor {tensor}: no gaps" for tensor in sorted(decisions.dense))
    yield from (f"operation {number}: not fused with the next" for number in sorted(decisions.apart))
    if decisions.gap:
        yield f"code: {decisions.gap} bytes behind the data"


#: The passes in order, and how what each leaves is written.
PASSES: dict[str, Callable[[Compilation], Iterator[str]]] = {
    "lower": _lowered,
    "place": _placed,
    "fuse": _fused,
    "tile": _tiled,
    "allocate": _allocated,
    "emit": _emitted,
    "schedule": lambda compilation: _listed(compilation, [compilation.emitted[i] for i in compilation.order]),
    "reuse": lambda compilation: _listed(compilation, reuse([compilation.emitted[i] for i in compilation.order])),
    "synchronize": lambda compilation: _listed(compilation, compilation.program.instructions),
    "time": _decided,
}
