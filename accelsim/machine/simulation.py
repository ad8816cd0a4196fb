"""A program on an accelerator: first its run in time, then, given an input, its data."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cached_property, lru_cache
from itertools import chain
from threading import Lock
from typing import Any

import numpy as np

from accelsim.errors import MachineError
from accelsim.hardware import Accelerator
from accelsim.isa import Instruction, Mac, Memory, Part, Port, Probe, Program
from accelsim.limits import DEFAULT, Limits
from accelsim.machine.array.products import gathered_elements
from accelsim.machine.hazards import check_races, check_same_weights, check_writes
from accelsim.machine.memory.storage import Memories, sizes
from accelsim.machine.traffic import by_memory, total, traffic_of
from accelsim.network.inputs import Slot, prepare
from accelsim.network.output import Output

from . import timing
from .bounds import bounds
from .collector import collector_at_rest
from .costs import check_data, check_timing
from .execution import Execution, check_fields
from .layers import layer_results
from .result import Result

#: Bytes that the memories of the runs executed at once may take, and elements that the MAC unit gathers for them.
_ROOM = 1 << 26
_GATHERED = 1 << 22


def simulate(
    program: Program, x: Any = None, *, accelerator: Accelerator | None = None, limits: Limits = DEFAULT
) -> Result:
    """Run `program` on `accelerator` (by default the one that it was compiled for).

    `x`: an input for each of the program's, a tuple for several (`()` for a program whose data image holds all that it
    reads): real numbers, quantised on the way in, or codes, in PyTorch's shape. The first axis may be a multiple of the
    port's: those runs go in lockstep, and the time and the bytes reported are those of one. Without `x` no data move;
    everything but `outputs` and `values` is the same.

    Raises InputError for an input that does not fit, and MachineError, naming the instruction, for a program that the
    machine does not run: out of bounds, deadlock, a race, a byte that was never written, an overflow, or more than the
    `limits` allow.
    """
    accelerator = accelerator or program.accelerator
    if accelerator is None:
        raise MachineError(f"{program.name}: the program names no accelerator; pass simulate(..., accelerator=...)")
    if x is None:
        return _prepared(program, accelerator, limits).result
    codes, runs = prepare(
        x, [Slot(port.name, port.shape, port.affine, port.rounding) for port in program.inputs], limits
    )
    return _prepared(program, accelerator, limits).run(codes, runs)


class _Prepared:
    """A program on an accelerator with everything done that does not depend on data: its run in time, and the work of
    its instructions on the memories, bound to them when the first data arrive."""

    def __init__(self, program: Program, accelerator: Accelerator, limits: Limits) -> None:
        with collector_at_rest():
            self.result = _timed(program, program.instructions, accelerator, limits)
        self._program, self._limits = program, limits
        self._executions: dict[int, Execution] = {}
        self._memories_in_use = Lock()

    @cached_property
    def _places(self) -> dict[Memory, int]:
        places = sizes(self._program, self.result.accelerator)
        check_data(self._program, places, self._limits)
        return places

    @cached_property
    def _gathered(self) -> int:
        instructions = self._program.instructions
        return max((gathered_elements(mac) for mac in instructions if isinstance(mac, Mac)), default=1)

    def run(self, codes: list[np.ndarray], runs: int) -> Result:
        """The result with outputs and values. `codes` (runs, *shape) of each input, as many at once as have room."""
        program = self._program
        step = min(runs, max(1, min(_ROOM // sum(self._places.values()), _GATHERED // self._gathered)))
        with self._memories_in_use:
            seen = [
                self._execution(min(step, runs - start)).run([part[start : start + step] for part in codes])
                for start in range(0, runs, step)
            ]
        stored = [parts[0] if len(parts) == 1 else np.concatenate(parts) for parts in zip(*seen, strict=True)]
        probed = len(program.probes)
        return replace(
            self.result,
            outputs=[
                _output(port, port.from_memory(raw)) for port, raw in zip(program.outputs, stored[probed:], strict=True)
            ],
            values=_values(program, stored[:probed]),
        )

    def _execution(self, runs: int) -> Execution:
        if runs not in self._executions:
            program, accelerator = self._program, self.result.accelerator
            memories = Memories(program, self._places, runs, accelerator.buffers.accumulator.bits)
            # What runs is what the words in DRAM say.
            instructions = timing.decoded(memories.words(program))
            if instructions != program.instructions:
                raise AssertionError(f"{program.name}: its words do not encode its instructions")
            # The whole batches and their rest: two numbers of runs are enough to keep.
            if len(self._executions) == 2:
                del self._executions[next(iter(self._executions))]
            with collector_at_rest():
                arithmetic = accelerator.requant_unit.arithmetic
                self._executions[runs] = Execution(program, instructions, self.result.timeline, memories, arithmetic)
        return self._executions[runs]


#: What ran last may well run again, with other data.
_prepared = lru_cache(maxsize=2)(_Prepared)


def forget() -> None:
    """Let go of what is kept of the programs that ran last: their memories, and their run in time."""
    _prepared.cache_clear()


def _values(program: Program, seen: list[np.ndarray]) -> dict[str, Output]:
    """The values that probes have seen, those of which each byte was seen by one."""
    found: dict[str, list[tuple[Probe, np.ndarray]]] = {}
    for probe, raw in zip(program.probes, seen, strict=True):
        found.setdefault(probe.port.name, []).append((probe, raw))
    values = {}
    for name, parts in found.items():
        (probe, raw), port = parts[0], parts[0][0].port
        if len(parts) > 1 or probe.part is not None:
            size = math.prod(port.stored)
            raw, times = np.empty((len(raw), size), np.uint8), np.zeros((1, size), np.uint8)
            for probe, bytes_seen in parts:
                part = Part(0, size) if probe.part is None else probe.part
                _rows(raw, part)[...] = bytes_seen.reshape(len(raw), part.lines, part.length)
                _rows(times, part)[...] += 1
            if not np.all(times == 1):
                continue
        values[name] = _output(port, port.from_memory(raw))
    return values


def _rows(raw: np.ndarray, part: Part) -> np.ndarray:
    """A part of `raw` (runs, bytes) as a view (runs, lines, length)."""
    shape, strides = (len(raw), part.lines, part.length), (raw.strides[0], part.pitch, 1)
    return np.ndarray(shape, np.uint8, raw, part.first, strides)


def _output(port: Port, codes: np.ndarray) -> Output:
    """Codes (runs, *shape) with the runs along the first axis of the port's shape."""
    merged = codes.reshape(-1, *port.shape[1:]) if port.shape else codes.reshape(codes.shape if len(codes) > 1 else ())
    return Output(port.name, merged, port.affine.scale, port.affine.zero_point)


def _timed(program: Program, instructions: tuple[Instruction, ...], accelerator: Accelerator, limits: Limits) -> Result:
    """Everything that does not depend on data."""
    timing.check_end(program, instructions)
    check_timing(program, accelerator, limits)
    touched = tuple((instruction.reads(), instruction.writes()) for instruction in instructions)
    timing.check_bounds(program, instructions, touched, accelerator)
    check_fields(instructions, accelerator)
    check_writes(instructions, touched)
    run = timing.run(program, instructions, accelerator, limits=limits)
    check_races(instructions, touched, run.spans, run.opened)
    check_same_weights(instructions, run.spans)
    traffic = tuple(traffic_of(instruction, accelerator) for instruction in instructions)
    macs = sum(instruction.macs for instruction in instructions)
    array = accelerator.mac_array
    return Result(
        name=program.name,
        accelerator=accelerator,
        cycles=run.cycles,
        macs=macs,
        utilization=macs / (run.cycles * array.rows * array.columns),
        layers=layer_results(program, instructions, run, traffic, accelerator),
        traffic=by_memory(chain.from_iterable(traffic), accelerator, run.lines.values()),
        units=run.units,
        timeline=run.spans,
        l2=None if accelerator.l2 is None else total(run.lines.values()),
        bounds=bounds(run.intervals, run.spans, run.cycles),
    )
