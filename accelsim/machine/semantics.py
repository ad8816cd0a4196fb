"""What the machine knows of an instruction: one `Semantics` says how long it takes, what it moves and what it computes.

It is declared in `memory/transfers.py`, `array/instruction.py` or `post/`; `instructions.py` is the table of all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from accelsim.errors import MachineError
from accelsim.hardware import Accelerator
from accelsim.hardware.configuration import Arithmetic
from accelsim.isa import Block, Instruction, Memory, instruction_text
from accelsim.isa.units import buffer_of
from accelsim.machine.dram.bus import Rows
from accelsim.machine.memory.storage import Action, Memories
from accelsim.machine.occupancy import Occupancy, Times

#: A memory, and the bytes read from and written to it.
Move = tuple[Memory, int, int]


def describe(index: int, instruction: Instruction) -> str:
    """An instruction as error messages name it."""
    return f"instruction {index} ({instruction_text(instruction)})"


@dataclass(frozen=True)
class Work:
    """What one instruction is bound to: the memories, whose places are known before any data, and its `actions`, which
    are done in order, as often as there is data. `arithmetic`: that of the requant unit."""

    index: int
    instruction: Instruction
    memories: Memories
    arithmetic: Arithmetic
    actions: list[Action]

    def error(self, text: object) -> MachineError:
        """An error that names the instruction."""
        return MachineError(f"{describe(self.index, self.instruction)}: {text}")


class Timing(Protocol):
    """How an instruction fills the cycles of its unit.

    `before` is what the instruction before it leaves behind, its `Occupancy.since(start - its start)`; empty for a unit
    that has nothing in it. `opened`: the cycle in which it has all of its tokens and may read more than it preloads.
    """

    def __call__(
        self, instruction: Any, accelerator: Accelerator, before: Times = (), opened: int = 0, /
    ) -> Occupancy: ...


@dataclass(frozen=True, kw_only=True)
class Semantics:
    """What is true of one instruction.

    `traffic`: the bytes that it moves in each memory, its own word left out. `bind` appends its actions to the work.
    `host_cost`: bytes of host memory and operations that its work on data takes at most. Its time is that of the unit's
    cycles (`occupancy`), or of its `rows` on the way between DRAM and a scratchpad; `halt` has neither. `check`: what a
    configuration has no hardware for, as a text, or None. `in_place`: a result may lie exactly over an operand.
    """

    traffic: Callable[[Any, Accelerator], Iterator[Move]]
    bind: Callable[[Any, Work], None]
    host_cost: Callable[[Any], tuple[int, int]]
    occupancy: Timing | None = None
    rows: Callable[[Any], Rows] | None = None
    check: Callable[[Any, Accelerator], str | None] = lambda _instruction, _accelerator: None
    in_place: bool = False


def each_place_once(instruction: Instruction, accelerator: Accelerator) -> Iterator[Move]:
    """The traffic of an instruction that reads each place of its blocks once and writes each once."""
    for block in instruction.read_blocks():
        yield block.memory, _bytes(block, accelerator), 0
    for block in instruction.written_blocks():
        yield block.memory, 0, _bytes(block, accelerator)


def _bytes(block: Block, accelerator: Accelerator) -> int:
    places = 1
    for size in block.sizes:
        places *= size
    return buffer_of(block.memory, accelerator).bytes_of(places) if block.memory.ports.sums else places
