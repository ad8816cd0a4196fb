"""Pass `time`: a small program is compiled again with other decisions, and what the machine runs fastest is kept.

Estimates are off by some per cent, and see one operation at a time. What the machine does, layer borders included, its
run in time tells exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import Any

from accelsim.errors import CompileError
from accelsim.hardware import Accelerator
from accelsim.isa import Instruction, Load, Program, Store
from accelsim.machine.timing import run
from accelsim.network.substitution import LayerUnit

from .cost import MatrixPlan, Room
from .fusion import Fusion, room_of
from .operations import Lowered, Matrix
from .residency import Placement
from .shape import Shape
from .tiling import near

#: By effort: how many plans of an operation are timed, and instructions altogether.
_PLANS = (0, 5, 15)
_INSTRUCTIONS = (0, 6000, 200_000)

#: How many per cent of DRAM's traffic a per cent of the cycles is worth.
_WORTH = 4

#: What the passes may be told that there is half as much of.
_RESOURCES = ("buffers.activation.bytes", "buffers.weight.bytes", "buffers.accumulator.bytes", "dram.bytes_per_cycle")


@dataclass(frozen=True)
class Decisions:
    """What is not left to the passes.

    `halved`: resources of which the passes are told that there is half as much. `plans` of matrix operations, by the
    operation's number and the room it has. `streamed`: tensors that live in DRAM. `apart`: matrix operations that the
    next one is not fused with. `gap`: bytes left free before the code.
    """

    halved: frozenset[str] = frozenset()
    plans: Mapping[tuple[int, Room], MatrixPlan] = field(default_factory=dict)
    streamed: frozenset[str] = frozenset()
    apart: frozenset[int] = frozenset()
    gap: int = 0

    def view(self, accelerator: Accelerator) -> Accelerator:
        """The accelerator that the passes are told of."""
        for name in sorted(self.halved):
            accelerator = accelerator.replace(**{name: attrgetter(name)(accelerator) // 2})
        return accelerator


@dataclass(frozen=True)
class Compilation:
    """A program and what every pass left on the way: the operations, where their tensors live, and the instructions
    before they were synchronised.

    `plans`: for each operation its layer's name and, for a matrix, its plan; `fusions`: by the number of their matrix
    operation. `units`: how each layer of sums is requantised, with the certificate where that is in fixed point.
    `order`: the numbers in `emitted` of the program's instructions. `decisions`: what was not left to the passes.
    """

    program: Program
    lowered: Lowered
    placement: Placement
    fusions: Mapping[int, Fusion]
    plans: tuple[tuple[str, MatrixPlan | None], ...]
    units: Mapping[str, LayerUnit]
    emitted: tuple[Instruction, ...]
    order: tuple[int, ...]
    decisions: Decisions

    def fused_layer(self, index: int) -> str | None:
        """The layer that works on the tiles of operation `index`."""
        fusion = self.fusions.get(index)
        return None if fusion is None else self.lowered.layers[fusion.operation.layer]


def fastest(build: Callable[[Decisions], Compilation], accelerator: Accelerator, effort: int) -> Compilation:
    """What `build` makes of the decisions that are found best, changed one at a time from none at all."""
    first = build(Decisions())
    if 2 * len(first.program.instructions) > _INSTRUCTIONS[effort]:
        return first  # a program that takes the whole budget alone is not worth timing
    search = _Search(build, first, accelerator, effort)
    search.less()
    search.places_of_code()
    search.plans()
    search.placements()
    search.plans()
    return search.best


class _Search:
    """The best compilation so far, and what may still be spent."""

    def __init__(
        self, build: Callable[[Decisions], Compilation], first: Compilation, accelerator: Accelerator, effort: int
    ) -> None:
        self._build, self._accelerator, self._effort = build, accelerator, effort
        self.best = first
        self._left = _INSTRUCTIONS[effort]
        self._tried: set[tuple[int, Room]] = set()
        self._cycles = self._timed(first)

    @property
    def _decisions(self) -> Decisions:
        return self.best.decisions

    def _timed(self, compilation: Compilation) -> int:
        program = compilation.program
        self._left -= len(program.instructions)
        return run(program, program.instructions, self._accelerator).cycles

    def _offer(self, **changes: Any) -> None:
        """Keep changes of the decisions that make the program faster, if it does not pay too much traffic for that."""
        if len(self.best.program.instructions) > self._left:
            return
        decisions = replace(self._decisions, **changes)
        try:
            compilation = self._build(decisions)
        except CompileError:
            return
        cycles = self._timed(compilation)
        traffic = (cycles / self._cycles) ** _WORTH * _moved(compilation)
        if cycles < self._cycles and traffic <= _moved(self.best):
            self.best, self._cycles = compilation, cycles

    def less(self) -> None:
        """Try what would be made of half a resource: by the estimates more is faster, on the machine not always."""
        for name in _RESOURCES:
            if attrgetter(name)(self._accelerator) > 1:
                self._offer(halved=self._decisions.halved | {name})

    def places_of_code(self) -> None:
        """Try the code in other banks of DRAM: beside what a layer loads, in the same one, rows would open in turn."""
        timings = self._accelerator.dram.timings
        if timings is not None:
            for bank in range(1, timings.banks_per_group, max(timings.banks_per_group // 4, 1)):
                self._offer(gap=bank * timings.bank_groups * timings.row_bytes)

    def plans(self) -> None:
        """Try other plans of each matrix operation, those with the lowest estimates first."""
        ways = [(key, plans) for key, plans in self._near() if key not in self._tried]
        self._tried.update(key for key, _ in ways)
        for rank in range(_PLANS[self._effort]):
            for key, plans in ways:
                if rank < len(plans):
                    self._offer(plans={**self._decisions.plans, key: plans[rank]})

    def placements(self) -> None:
        """Try each resident tensor in DRAM, and each pair of fused operations apart."""
        for tensor in self.best.placement.addresses:
            self._offer(streamed=self._decisions.streamed | {tensor})
        for index in self.best.fusions:
            self._offer(apart=self._decisions.apart | {index})

    def _near(self) -> Iterator[tuple[tuple[int, Room], tuple[MatrixPlan, ...]]]:
        """For each matrix operation that none is fused with its plans."""
        lowered, placement = self.best.lowered, self.best.placement
        view = self._decisions.view(self._accelerator)
        for index, operation in enumerate(lowered.operations):
            if isinstance(operation, Matrix) and index not in self.best.fusions:
                laid_out = placement.laid_out(operation)
                room = room_of(laid_out, placement, placement.staging[index], cold=not index)
                yield (index, room), near(Shape.of(laid_out, view), view, room, self._effort)


def _moved(compilation: Compilation) -> int:
    """Bytes of DRAM that the program moves, without its own words."""
    instructions = compilation.program.instructions
    return sum(instruction.bytes for instruction in instructions if isinstance(instruction, Load | Store))
