"""The instructions: a file a family, in which each declares its fields and exactly what it reads and writes."""

from __future__ import annotations

from . import elementwise, halt, mac, pool, requantization, transfer, vector
from .base import Instruction

_FAMILIES = (halt, transfer, mac, requantization, elementwise, pool, vector)

#: Every instruction, in the order of its opcode.
INSTRUCTIONS: tuple[type[Instruction], ...] = tuple(
    sorted(
        (
            kind
            for family in (halt, transfer, mac, requantization, elementwise, pool, vector)
            for kind in family.INSTRUCTIONS
        ),
        key=lambda kind: kind.opcode,
    )
)
