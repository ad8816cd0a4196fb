"""Pass `time`: a small program is compiled again with other decisions, and what the machine runs fastest is kept.

Estimates are off by some per cent, and see one operation at a time. What the machine does, layer borders included, its
run in time tells exactly.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import Any, NamedTuple, Protocol

from accelsim.compiler.plan.fusion import Fusion, allocation_of
from accelsim.compiler.plan.matrix import Allocation, MatrixPlan
from accelsim.compiler.plan.residency import Placement
from accelsim.compiler.plan.shape import Shape
from accelsim.compiler.plan.tiled import Tiled
from accelsim.compiler.plan.tiling import near
from accelsim.errors import CompileError
from accelsim.hardware import Accelerator
from accelsim.isa import Instruction, Load, Program, Store
from accelsim.machine.layers import layer_windows
from accelsim.machine.timing import run
from accelsim.network.substitution import LayerUnit

from .operations import Lowered, Matrix

#: By effort: how many instructions are timed altogether, where a program counts as so many at least.
_INSTRUCTIONS = (0, 12_000, 200_000)
_LEAST = 100

#: What the passes may be told that there is less of.
_RESOURCES = (
    "dram.bytes_per_cycle",
    *(f"buffers.{memory}.bytes" for memory in ("weight", "accumulator", "activation", "parameter")),
    *(f"{unit}.lanes" for unit in ("requant_unit", "vector_unit")),
)

#: How much slower than the fastest a start may be for what the passes were told there to be tried with other plans.
_NEAR = 1.04

#: How many more cycles than with its fastest plan a layer may have taken with a plan for that to be tried.
_PROMISING = 1.1
#: What share of a program's cycles the fastest plans must save, going by the layers, to be tried together.
_SAVED = 0.005

#: How much slower than the fastest a program may be for the sake of bytes, so that more hardware is not slower by a per
#: cent, and how many per cent of the bytes that it moves count as much as one of the cycles, which are exact here.
_FRUGAL, _PER_CENT = 1.009, 10


@dataclass(frozen=True)
class Decisions:
    """What is not left to the passes.

    `halved`: resources that the passes are told to have been halved, and how often. `plans` of matrix operations, by
    the operation's number and the room it has. `streamed`: tensors that live in DRAM. `apart`: matrix operations that
    the next one is not fused with. `gap`: bytes left free before the code.
    """

    halved: Mapping[str, int] = field(default_factory=dict)
    plans: Mapping[tuple[int, Allocation], MatrixPlan] = field(default_factory=dict)
    streamed: frozenset[str] = frozenset()
    apart: frozenset[int] = frozenset()
    gap: int = 0

    def view(self, accelerator: Accelerator) -> Accelerator:
        """The accelerator that the passes are told of."""
        return accelerator.replace(
            **{name: attrgetter(name)(accelerator) >> times for name, times in self.halved.items()}
        )


@dataclass(frozen=True, kw_only=True)
class Compilation:
    """A program and what every pass left on the way: the operations, where their tensors live, and the instructions
    before they were synchronised.

    `plans`: for each operation its layer's name and, for a matrix, its plan; `tiled`: its tiles. `fusions`: by the
    number of their matrix operation. `units`: how each layer of sums is requantised, with the certificate where that is
    in fixed point. `order`: the numbers in `emitted` of the program's instructions. `decisions`: what was not left to
    the passes.
    """

    program: Program
    lowered: Lowered
    placement: Placement
    fusions: Mapping[int, Fusion]
    plans: tuple[tuple[str, MatrixPlan | None], ...]
    tiled: tuple[Tiled | None, ...]
    units: Mapping[str, LayerUnit]
    emitted: tuple[Instruction, ...]
    order: tuple[int, ...]
    decisions: Decisions

    def fused_layer(self, index: int) -> str | None:
        """The layer that works on the tiles of operation `index`."""
        fusion = self.fusions.get(index)
        return None if fusion is None else self.lowered.layers[fusion.operation.layer]


class Build(Protocol):
    """The passes from placement to synchronisation. What they make is None if the same is `known` already, and is known
    afterwards."""

    def __call__(self, decisions: Decisions, known: set[Hashable]) -> Compilation | None: ...


def fastest(build: Build, accelerator: Accelerator, effort: int) -> Compilation:
    """What `build` makes of the decisions that are found best.

    The search starts from what is made of the machine as it is, and of the machine with less of one resource: by the
    estimates more is faster, on the machine not always. From the best of these it changes decisions for the better,
    then from the next ones, while there is something left to spend.
    """
    first = build(Decisions(), set())
    assert first is not None
    if 2 * len(first.program.instructions) > _INSTRUCTIONS[effort]:
        return first  # a program that takes the whole budget alone is not worth timing
    search = _Search(build, accelerator, effort)
    views = [Counter[str]()]
    if effort > 1:
        # What would be found for a machine with half of one resource is to be found for this one, too.
        views += [Counter((name,)) for name in _RESOURCES]
    for less in views:
        starts = search.starts(less)
        while starts:
            search.climb(starts)
            starts = [item for item in starts if item.cycles > starts[0].cycles]
    return search.chosen()


class _Timed(NamedTuple):
    """A compilation, its cycles, and the bytes of DRAM that it moves without its own words."""

    cycles: int
    moved: int
    compilation: Compilation


class _Search:
    """What has been timed so far, the place where the search is, and what may still be spent."""

    def __init__(self, build: Build, accelerator: Accelerator, effort: int) -> None:
        self._build, self._accelerator, self._effort = build, accelerator, effort
        self._left = _INSTRUCTIONS[effort]
        self._known: set[Hashable] = set()
        self._timed: list[_Timed] = []
        self._chosen: dict[tuple[Shape, Allocation], dict[MatrixPlan, None]] = {}
        self._layers: dict[tuple[int, Allocation], dict[MatrixPlan, int]] = {}

    def starts(self, less: Counter[str]) -> list[_Timed]:
        """What the search starts from, the fastest first: what a machine has with `less` and with less of one more."""
        before = len(self._timed)
        if not less:
            self._time(Decisions())
        names, times = list(_RESOURCES), 1
        while names:
            names = [name for name in names if self._worth_while(less + Counter({name: times}), before)]
            times += 1
        new = sorted(self._timed[before:], key=lambda item: item.cycles)
        return [item for item in new if item.cycles <= _NEAR * new[0].cycles]

    def _worth_while(self, halved: Mapping[str, int], first: int) -> bool:
        """Time what is made of resources halved so many times; whether halving more may be worth while: nothing timed
        since `first` was as fast."""
        if self._spent() or not all(attrgetter(name)(self._accelerator) >> times for name, times in halved.items()):
            return False
        fastest = min((item.cycles for item in self._timed[first:]), default=math.inf)
        try:
            found = self._time(Decisions(halved=halved))
        except CompileError:
            return False
        return found is None or found.cycles < fastest

    def climb(self, starts: Sequence[_Timed]) -> None:
        """Change decisions of the first start for the better: where the code lies, the plans, what the passes are told
        of the machine (as for the other starts), the places of tensors."""
        self._best = starts[0]
        self._tried: set[tuple[int, Allocation]] = set()
        self.places_of_code()
        self.cross()
        self.plans()
        for other in starts[1:]:
            self._offer(halved=other.compilation.decisions.halved)
        self.placements()
        self.plans()

    def chosen(self) -> Compilation:
        """Of what is about as fast as the fastest the most frugal."""
        limit = _FRUGAL * min(item.cycles for item in self._timed)
        near = [item for item in self._timed if item.cycles <= limit]
        return min(near, key=lambda item: item.cycles**_PER_CENT * item.moved).compilation

    def _time(self, decisions: Decisions) -> _Timed | None:
        """Build and time what has not been yet. Raises CompileError where the decisions do not fit the machine."""
        compilation = self._build(decisions, self._known)
        if compilation is None:
            return None
        program = compilation.program
        self._left -= max(len(program.instructions), _LEAST)
        timing = run(program, program.instructions, self._accelerator)
        found = _Timed(timing.cycles, _moved(compilation), compilation)
        self._timed.append(found)
        layers = layer_windows(program, timing)
        for key, shape, plan in self._matrices(compilation):
            start, end = layers[compilation.lowered.operations[key[0]].layer]
            taken = self._layers.setdefault(key, {})
            taken[plan] = min(taken.get(plan, end), end - start)
            if not decisions.plans:
                self._chosen.setdefault((shape, key[1]), {})[plan] = None
        return found

    def _spent(self) -> bool:
        """Whether another program, as long as the one timed last, would be one too many."""
        return len(self._timed[-1].compilation.program.instructions) > self._left

    @property
    def _decisions(self) -> Decisions:
        return self._best.compilation.decisions

    def _offer(self, **changes: Any) -> None:
        """Keep changes of the decisions that make the program faster."""
        if self._spent():
            return
        try:
            found = self._time(replace(self._decisions, **changes))
        except CompileError:
            return
        if found is not None and found[:2] < self._best[:2]:
            self._best = found

    def places_of_code(self) -> None:
        """Try the code in other banks of DRAM: beside what a layer loads, in the same one, rows would open in turn."""
        timings = self._accelerator.dram.timings
        if timings is not None:
            for bank in range(1, timings.banks_per_group, max(timings.banks_per_group // 4, 1)):
                self._offer(gap=bank * timings.bank_groups * timings.row_bytes)

    def plans(self) -> None:
        """Try other plans of the matrix operations, those with the lowest estimates first, then those that other starts
        have: of all that have the same at once, and then of each."""
        others = [(key, plans) for key, plans in self._others() if key not in self._tried]
        self._tried.update(key for key, _ in others)
        alike: dict[tuple[MatrixPlan, ...], list[tuple[int, Allocation]]] = {}
        for key, plans in others:
            alike.setdefault(plans, []).append(key)
        for some in ([(keys, plans) for plans, keys in alike.items()], [([key], plans) for key, plans in others]):
            for rank in range(max((len(plans) for _, plans in some), default=0)):
                for keys, plans in some:
                    if rank < len(plans) and any(self._promising(key, plans[rank]) for key in keys):
                        self._offer(plans={**self._decisions.plans, **dict.fromkeys(keys, plans[rank])})

    def _promising(self, key: tuple[int, Allocation], plan: MatrixPlan) -> bool:
        """Whether the layer is not known to take much longer with the plan than with another."""
        taken = self._layers[key]
        return taken.get(plan, 0) <= _PROMISING * min(taken.values())

    def cross(self) -> None:
        """Take of each matrix operation the plan with which its layer has taken the fewest cycles so far."""
        fastest = {}
        saved = 0
        for key, _, plan in self._matrices(self._best.compilation):
            taken = self._layers[key]
            fastest[key] = min(taken, key=taken.__getitem__)
            saved += taken[plan] - taken[fastest[key]]
        if saved > _SAVED * self._best.cycles:
            self._offer(plans={**self._decisions.plans, **fastest})

    def placements(self) -> None:
        """Try each resident tensor in DRAM, and each pair of fused operations apart."""
        for tensor in self._best.compilation.placement.addresses:
            self._offer(streamed=self._decisions.streamed | {tensor})
        for index in self._best.compilation.fusions:
            self._offer(apart=self._decisions.apart | {index})

    def _others(self) -> Iterator[tuple[tuple[int, Allocation], tuple[MatrixPlan, ...]]]:
        """For each matrix operation that none is fused with its number and room, and plans to try."""
        view = self._decisions.view(self._accelerator)
        for key, shape, _ in self._matrices(self._best.compilation):
            allocation = key[1]
            estimated = near(shape, view, allocation, self._effort)
            yield key, tuple(dict.fromkeys([*estimated, *self._chosen.get((shape, allocation), ())]))

    def _matrices(self, compilation: Compilation) -> Iterator[tuple[tuple[int, Allocation], Shape, MatrixPlan]]:
        """The matrix operations that none is fused with: number and room, shape, plan."""
        lowered, placement = compilation.lowered, compilation.placement
        for index, operation in enumerate(lowered.operations):
            plan = compilation.plans[index][1]
            if isinstance(operation, Matrix) and index not in compilation.fusions and plan is not None:
                laid_out = placement.laid_out(operation)
                allocation = allocation_of(laid_out, placement, placement.staging[index], cold=not index)
                yield (index, allocation), Shape.of(laid_out, self._accelerator), plan


def _moved(compilation: Compilation) -> int:
    """Bytes of DRAM that the program moves, without its own words."""
    instructions = compilation.program.instructions
    return sum(instruction.bytes for instruction in instructions if isinstance(instruction, Load | Store))
