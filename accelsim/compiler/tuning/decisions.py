"""What the passes are told, and what they made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from operator import attrgetter

from accelsim.compiler.operations import Lowered
from accelsim.compiler.plan.fusion import Fusion
from accelsim.compiler.plan.matrix import Allocation, MatrixPlan
from accelsim.compiler.plan.residency import Placement
from accelsim.compiler.plan.tiled import Tiled
from accelsim.hardware import Accelerator
from accelsim.isa import Instruction, Program
from accelsim.network.substitution import LayerUnit


@dataclass(frozen=True)
class Decisions:
    """What is not left to the passes.

    `halved`: resources that the passes are told to have been halved, and how often. `plans` of matrix operations, by
    the operation's number and the room it has. `streamed`: tensors that live in DRAM. `apart`: matrix operations that
    the next one is not fused with. `dense`: tensors without gaps between their pixels and lines. `gap`: bytes left free
    before the code.
    """

    halved: Mapping[str, int] = field(default_factory=dict)
    plans: Mapping[tuple[int, Allocation], MatrixPlan] = field(default_factory=dict)
    streamed: frozenset[str] = frozenset()
    apart: frozenset[int] = frozenset()
    dense: frozenset[str] = frozenset()
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
