"""The state of the search: programs that were built and timed, and which of them it goes on from.

Estimates are off by some per cent, and see one operation at a time. What the machine does, layer borders included, its
run in time tells exactly.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import replace
from operator import attrgetter
from typing import Any, NamedTuple, Protocol

from accelsim.compiler.operations import Matrix
from accelsim.compiler.plan.fusion import allocation_of
from accelsim.compiler.plan.matrix import Allocation, MatrixPlan
from accelsim.compiler.plan.shape import Shape
from accelsim.compiler.plan.tiling import near
from accelsim.errors import CompileError
from accelsim.hardware import Accelerator
from accelsim.isa import Load, Program, Store
from accelsim.machine.layers import layer_windows
from accelsim.machine.timing import run

from .decisions import Compilation, Decisions

#: Fields of the decisions, with what they become.
Changes = Mapping[str, Any]

#: By effort: how many instructions are timed altogether, where a program counts as so many at least.
_INSTRUCTIONS = (0, 12_000, 200_000)
_LEAST = 100

#: What the passes may be told that there is less of.
RESOURCES = (
    "dram.bytes_per_cycle",
    *(f"buffers.{memory}.bytes" for memory in ("weight", "accumulator", "activation", "parameter")),
    *(f"{unit}.lanes" for unit in ("requant_unit", "vector_unit")),
)

#: How much slower than the fastest a start may be for what the passes were told there to be tried with other plans.
_NEAR = 1.04

#: How much slower than the fastest a program may be for the sake of bytes, so that more hardware is not slower by a per
#: cent, and how many per cent of the bytes that it moves count as much as one of the cycles, which are exact here.
_FRUGAL, _PER_CENT = 1.009, 10


class Build(Protocol):
    """The passes from placement to synchronisation. What they make is None if the same is `known` already, and is known
    afterwards."""

    def __call__(self, decisions: Decisions, known: set[Hashable]) -> Compilation | None: ...


def worth_timing(program: Program, effort: int) -> bool:
    """Whether there is something to spend beyond the program as estimated."""
    return 2 * len(program.instructions) <= _INSTRUCTIONS[effort]


class Timed(NamedTuple):
    """A compilation, its cycles, and the bytes of DRAM that it moves without its own words."""

    cycles: int
    moved: int
    compilation: Compilation


class Search:
    """What has been timed so far, where the search is (`best`), and what may still be spent.

    `tried`: operations whose other plans were tried from there. `layers`: by matrix operation and plan the fewest
    cycles that its layer has taken.
    """

    best: Timed
    tried: set[tuple[int, Allocation]]

    def __init__(self, build: Build, accelerator: Accelerator, effort: int) -> None:
        self._build, self.accelerator, self._effort = build, accelerator, effort
        self._left = _INSTRUCTIONS[effort]
        self._known: set[Hashable] = set()
        self._timed: list[Timed] = []
        self._chosen: dict[tuple[Shape, Allocation], dict[MatrixPlan, None]] = {}
        self.layers: dict[tuple[int, Allocation], dict[MatrixPlan, int]] = {}

    def starts(self, less: Counter[str]) -> list[Timed]:
        """What the search starts from, the fastest first: what a machine has with `less` and with less of one more."""
        before = len(self._timed)
        if not less:
            self._time(Decisions())
        names, times = list(RESOURCES), 1
        while names:
            names = [name for name in names if self._worth_while(less + Counter({name: times}), before)]
            times += 1
        new = sorted(self._timed[before:], key=lambda item: item.cycles)
        return [item for item in new if item.cycles <= _NEAR * new[0].cycles]

    def _worth_while(self, halved: Mapping[str, int], first: int) -> bool:
        """Time what is made of resources halved so many times; whether halving more may be worth while: nothing timed
        since `first` was as fast."""
        if self._spent() or not all(attrgetter(name)(self.accelerator) >> times for name, times in halved.items()):
            return False
        fastest = min((item.cycles for item in self._timed[first:]), default=math.inf)
        try:
            found = self._time(Decisions(halved=halved))
        except CompileError:
            return False
        return found is None or found.cycles < fastest

    def chosen(self) -> Compilation:
        """Of what is about as fast as the fastest the most frugal."""
        limit = _FRUGAL * min(item.cycles for item in self._timed)
        near = [item for item in self._timed if item.cycles <= limit]
        return min(near, key=lambda item: item.cycles**_PER_CENT * item.moved).compilation

    def _time(self, decisions: Decisions) -> Timed | None:
        """Build and time what has not been yet. Raises CompileError where the decisions do not fit the machine."""
        compilation = self._build(decisions, self._known)
        if compilation is None:
            return None
        program = compilation.program
        self._left -= max(len(program.instructions), _LEAST)
        timing = run(program, program.instructions, self.accelerator)
        found = Timed(timing.cycles, _moved(compilation), compilation)
        self._timed.append(found)
        layers = layer_windows(program, timing)
        for key, shape, plan in self.matrices(compilation):
            start, end = layers[compilation.lowered.operations[key[0]].layer]
            taken = self.layers.setdefault(key, {})
            taken[plan] = min(taken.get(plan, end), end - start)
            if not decisions.plans:
                self._chosen.setdefault((shape, key[1]), {})[plan] = None
        return found

    def _spent(self) -> bool:
        """Whether another program, as long as the one timed last, would be one too many."""
        return len(self._timed[-1].compilation.program.instructions) > self._left

    def move_to(self, start: Timed) -> None:
        """Go on from there."""
        self.best, self.tried = start, set()

    @property
    def decisions(self) -> Decisions:
        """Of the program where the search is."""
        return self.best.compilation.decisions

    def offer(self, changes: Changes) -> None:
        """Keep changes of the decisions that make the program faster; others leave everything as it was."""
        if self._spent():
            return
        try:
            found = self._time(replace(self.decisions, **changes))
        except CompileError:
            return
        if found is not None and found[:2] < self.best[:2]:
            self.best = found

    def others(self) -> Iterator[tuple[tuple[int, Allocation], tuple[MatrixPlan, ...]]]:
        """For each matrix operation that none is fused with its number and room, and plans to try."""
        view = self.decisions.view(self.accelerator)
        for key, shape, _ in self.matrices(self.best.compilation):
            allocation = key[1]
            estimated = near(shape, view, allocation, self._effort)
            yield key, tuple(dict.fromkeys([*estimated, *self._chosen.get((shape, allocation), ())]))

    def matrices(self, compilation: Compilation) -> Iterator[tuple[tuple[int, Allocation], Shape, MatrixPlan]]:
        """The matrix operations that none is fused with: number and room, shape, plan."""
        lowered, placement = compilation.lowered, compilation.placement
        for index, operation in enumerate(lowered.operations):
            plan = compilation.plans[index][1]
            if isinstance(operation, Matrix) and index not in compilation.fusions and plan is not None:
                laid_out = placement.laid_out(operation)
                allocation = allocation_of(laid_out, placement, placement.staging[index], cold=not index)
                yield (index, allocation), Shape.of(laid_out, self.accelerator), plan


def _moved(compilation: Compilation) -> int:
    """Bytes of DRAM that the program moves, without its own words."""
    instructions = compilation.program.instructions
    return sum(instruction.bytes for instruction in instructions if isinstance(instruction, Load | Store))
