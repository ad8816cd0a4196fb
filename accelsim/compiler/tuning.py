"""Pass `time`: a small program is compiled again with other decisions, and the one that the machine runs fastest is kept.

Estimates are off by some per cent, and see one operation at a time. What the machine does, layer borders included, its
run in time tells exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from accelsim.errors import CompileError
from accelsim.hardware import Accelerator
from accelsim.isa import Instruction, Program
from accelsim.machine.timing import run
from accelsim.network.substitution import LayerUnit

from .cost import MatrixPlan
from .fusion import Fusion, room_of
from .operations import Lowered, Matrix
from .residency import Placement
from .shape import Shape
from .tiling import near

#: By effort: how many plans of an operation are timed, and instructions altogether.
_PLANS = (0, 6, 16)
_INSTRUCTIONS = (0, 6000, 200_000)


@dataclass(frozen=True)
class Compilation:
    """A program and what every pass left on the way: the operations, where their tensors live, and the instructions
    before they were synchronised.

    `plans`: for each operation its layer's name and, for a matrix, its plan; `fusions`: by the number of their matrix
    operation. `units`: how each layer of sums is requantised, with the certificate where that is in fixed point.
    """

    program: Program
    lowered: Lowered
    placement: Placement
    fusions: Mapping[int, Fusion]
    plans: tuple[tuple[str, MatrixPlan | None], ...]
    units: Mapping[str, LayerUnit]
    emitted: tuple[Instruction, ...]

    def fused_layer(self, index: int) -> str | None:
        """The layer that works on the tiles of operation `index`."""
        fusion = self.fusions.get(index)
        return None if fusion is None else self.lowered.layers[fusion.operation.layer]


@dataclass(frozen=True)
class Decisions:
    """What is not left to the passes: tensors that live in DRAM (`streamed`), matrix operations that the next one is not
    fused with (`apart`), `plans` of others; the last two by the number of the operation."""

    streamed: frozenset[str] = frozenset()
    apart: frozenset[int] = frozenset()
    plans: Mapping[int, MatrixPlan] = field(default_factory=dict)


def fastest(build: Callable[[Decisions], Compilation], accelerator: Accelerator, effort: int) -> Compilation:
    """What `build` makes of the decisions that are found best, changed one at a time from none at all."""
    search = _Search(build, accelerator, effort)
    search.placements()
    search.plans()
    return search.best


class _Search:
    """The best compilation so far, and what may still be spent."""

    def __init__(self, build: Callable[[Decisions], Compilation], accelerator: Accelerator, effort: int) -> None:
        self._build, self._accelerator, self._effort = build, accelerator, effort
        self._decisions = Decisions()
        self.best = build(self._decisions)
        self._left = _INSTRUCTIONS[effort]
        self._cycles = self._timed(self.best) if self._affordable else 0

    @property
    def _affordable(self) -> bool:
        return len(self.best.program.instructions) <= self._left

    def _timed(self, compilation: Compilation) -> int:
        program = compilation.program
        self._left -= len(program.instructions)
        return run(program, program.instructions, self._accelerator).cycles

    def _offer(self, decisions: Decisions) -> None:
        """Keep the decisions if they are faster."""
        if not self._affordable:
            return
        try:
            compilation = self._build(decisions)
        except CompileError:
            return
        cycles = self._timed(compilation)
        if cycles < self._cycles:
            self.best, self._cycles, self._decisions = compilation, cycles, decisions

    def placements(self) -> None:
        """Try each resident tensor in DRAM, and each fused operation apart."""
        for tensor in self.best.placement.addresses:
            self._offer(replace(self._decisions, streamed=self._decisions.streamed | {tensor}))
        for index in self.best.fusions:
            self._offer(replace(self._decisions, apart=self._decisions.apart | {index}))

    def plans(self) -> None:
        """Try other plans of each matrix operation, the ones with the lowest estimates first."""
        ways = list(self._near())
        for rank in range(1, _PLANS[self._effort]):
            for index, plans in ways:
                if rank < len(plans):
                    self._offer(replace(self._decisions, plans={**self._decisions.plans, index: plans[rank]}))

    def _near(self) -> Iterator[tuple[int, tuple[MatrixPlan, ...]]]:
        """For each matrix operation that none is fused with its plans."""
        lowered, placement = self.best.lowered, self.best.placement
        for index, operation in enumerate(lowered.operations):
            if isinstance(operation, Matrix) and index not in self.best.fusions:
                room = room_of(placement.laid_out(operation), placement, placement.staging[index], cold=not index)
                shape = Shape.of(placement.laid_out(operation), self._accelerator)
                yield index, near(shape, self._accelerator, room, self._effort)
