"""The table of instructions: what the machine knows of each, by its class."""

from __future__ import annotations

from collections.abc import Mapping

from accelsim.hardware import Accelerator
from accelsim.isa import Halt, Instruction

from .array.instruction import SEMANTICS as ARRAY
from .memory.transfers import SEMANTICS as TRANSFERS
from .occupancy import Occupancy, Times
from .post.elementwise import SEMANTICS as ELEMENTWISE
from .post.pool import SEMANTICS as POOL
from .post.requantization import SEMANTICS as REQUANTIZATION
from .post.vector import SEMANTICS as VECTOR
from .semantics import Semantics

#: `halt` ends the fetching, and does nothing else.
_HALT = Semantics(
    traffic=lambda _instruction, _accelerator: iter(()),
    bind=lambda _instruction, _work: None,
    host_cost=lambda _instruction: (0, 0),
)

SEMANTICS: Mapping[type[Instruction], Semantics] = {
    Halt: _HALT,
    **TRANSFERS,
    **ARRAY,
    **REQUANTIZATION,
    **ELEMENTWISE,
    **POOL,
    **VECTOR,
}


def occupancy(instruction: Instruction, accelerator: Accelerator, before: Times = (), opened: int = 0) -> Occupancy:
    """How an instruction of the mac or the post unit fills its unit's cycles; `before` and `opened` as in `Timing`."""
    timing = semantics_of(instruction).occupancy
    if timing is None:
        raise AssertionError(f"{instruction.mnemonic}: its time is DRAM's")
    return timing(instruction, accelerator, before, opened)


def semantics_of(instruction: Instruction) -> Semantics:
    """What the machine knows of the instruction."""
    return SEMANTICS[type(instruction)]
