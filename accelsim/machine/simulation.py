"""A program on an accelerator: first its run in time, then, given an input, its data."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np

from accelsim.errors import MachineError
from accelsim.hardware import Accelerator
from accelsim.isa import Instruction, Mac, Port, Program
from accelsim.network.inputs import Slot, prepare
from accelsim.network.output import Output

from . import timing
from .execution import check_fields, execute
from .hazards import check_races, check_writes
from .layers import layer_results
from .memory import Memories, sizes
from .result import Result
from .traffic import by_memory, traffic_of

#: Bytes that the memories of the runs executed at once may take.
_ROOM = 1 << 26


def simulate(program: Program, x: Any = None, *, accelerator: Accelerator | None = None) -> Result:
    """Run `program` on `accelerator` (by default the one that it was compiled for).

    `x`: an input for each of the program's, a tuple for several (`()` for a program whose data image holds all that it
    reads): real numbers, quantised on the way in, or codes, in PyTorch's shape. The first axis may be a multiple of the
    port's: those runs go in lockstep, and the time and the bytes reported are those of one. Without `x` no data move;
    everything but `outputs` and `values` is the same.

    Raises InputError for an input that does not fit, and MachineError, naming the instruction, for a program that the
    machine does not run: out of bounds, deadlock, a race, a byte that was never written, an overflow.
    """
    accelerator = accelerator or program.accelerator
    if accelerator is None:
        raise MachineError(f"{program.name}: the program names no accelerator; pass simulate(..., accelerator=...)")
    if x is None:
        return _timed(program, program.instructions, accelerator)
    codes, runs = prepare(x, [Slot(port.name, port.shape, port.affine) for port in program.inputs])
    places = sizes(program, accelerator)
    step = min(runs, max(1, _ROOM // sum(places.values())))
    batches = (
        Memories(
            program,
            places,
            [part[start : start + step] for part in codes],
            min(step, runs - start),
            accelerator.buffers.accumulator.bits,
        )
        for start in range(0, runs, step)
    )
    first = next(batches)
    instructions = timing.decoded(first.words(program))
    result = _timed(program, instructions, accelerator)
    seen, outputs = [], []
    for memories in chain([first], batches):
        seen.append(execute(program, instructions, result.timeline, memories, accelerator.requant_unit.arithmetic))
        outputs.append([memories.value(port, "output") for port in program.outputs])
    ends = zip(program.outputs, zip(*outputs, strict=True), strict=True)
    return replace(
        result,
        outputs=[_output(port, np.concatenate(parts)) for port, parts in ends],
        values=_values(program, [np.concatenate(parts) for parts in zip(*seen, strict=True)]),
    )


def _values(program: Program, seen: list[np.ndarray]) -> dict[str, Output]:
    """The values that probes have seen, those of which each byte was seen by one."""
    spans: dict[str, list[tuple[tuple[int, int], Port, np.ndarray]]] = {}
    for probe, raw in zip(program.probes, seen, strict=True):
        spans.setdefault(probe.port.name, []).append((probe.span, probe.port, raw))
    values = {}
    for name, parts in spans.items():
        parts.sort(key=lambda part: part[0])
        port = parts[0][1]
        edges = [0, *(stop for (_, stop), _, _ in parts)]
        if [start for (start, _), _, _ in parts] + [math.prod(port.stored)] == edges:
            values[name] = _output(port, port.from_memory(np.concatenate([raw for _, _, raw in parts], axis=1)))
    return values


def _output(port: Port, codes: np.ndarray) -> Output:
    """Codes (runs, *shape) with the runs along the first axis of the port's shape."""
    merged = codes.reshape(-1, *port.shape[1:]) if port.shape else codes.reshape(codes.shape if len(codes) > 1 else ())
    return Output(port.name, merged, port.affine.scale, port.affine.zero_point)


def _timed(program: Program, instructions: tuple[Instruction, ...], accelerator: Accelerator) -> Result:
    """Everything that does not depend on data."""
    timing.check_end(program, instructions)
    touched = tuple((instruction.reads(), instruction.writes()) for instruction in instructions)
    timing.check_bounds(program, instructions, touched, accelerator)
    check_fields(instructions, accelerator)
    check_writes(instructions, touched)
    run = timing.run(program, instructions, accelerator)
    check_races(instructions, touched, run.spans, run.opened)
    traffic = tuple(traffic_of(instruction, accelerator) for instruction in instructions)
    macs = sum(instruction.macs for instruction in instructions if isinstance(instruction, Mac))
    array = accelerator.mac_array
    return Result(
        name=program.name,
        accelerator=accelerator,
        cycles=run.cycles,
        macs=macs,
        utilization=macs / (run.cycles * array.rows * array.columns),
        layers=layer_results(program, instructions, run, traffic, accelerator),
        traffic=by_memory(chain.from_iterable(traffic)),
        units=run.units,
        timeline=run.spans,
    )
