"""The instruction that a word encodes."""

from __future__ import annotations

from typing import Any

from accelsim.errors import AssemblyError

from .fields import INSTRUCTION_BYTES, OPCODE_BITS
from .instructions import INSTRUCTIONS
from .instructions.base import Instruction

_BY_OPCODE = {kind.opcode: kind for kind in INSTRUCTIONS}


def decode(word: bytes) -> Instruction:
    """The instruction that `word` (INSTRUCTION_BYTES long) encodes. Raises AssemblyError if none does."""
    bits = int.from_bytes(word, "little")
    if len(word) != INSTRUCTION_BYTES:
        raise AssemblyError(f"{len(word)} bytes are left, which are no instruction; one has {INSTRUCTION_BYTES}")
    opcode = bits & ((1 << OPCODE_BITS) - 1)
    kind = _BY_OPCODE.get(opcode)
    if kind is None:
        raise AssemblyError(f"word {word.hex()} is no instruction: there is no opcode {opcode}")
    used = kind.fields()[-1]
    if bits >> (used.offset + used.bits):
        raise AssemblyError(
            f"word {word.hex()}: {kind.mnemonic} ends at bit {used.offset + used.bits - 1}; the others are 0"
        )
    values: dict[str, Any] = {}
    for item in kind.fields():
        part = (bits >> item.offset) & ((1 << item.bits) - 1)
        try:
            values[item.name] = item.decode(part)
        except ValueError:
            raise AssemblyError(f"word {word.hex()}: {kind.mnemonic} has no {item.name} {part}") from None
    return kind(**values)
