"""How an instruction is declared: a frozen dataclass whose fields say their width and meaning.

Encoder, decoder, assembler, disassembler and the instruction-set page of the documentation are all derived from the
declarations in `accelsim.isa.instructions`.
"""

from __future__ import annotations

import dataclasses
import enum
import math
import struct
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np

from accelsim.errors import AssemblyError

#: Every instruction is one word of this many bytes, little endian, the first field in the lowest bits.
INSTRUCTION_BYTES = 64
#: The lowest bits of a word say which instruction it is.
OPCODE_BITS = 8


@dataclass(frozen=True)
class Field:
    """One field: `kind` is "unsigned", "signed", "float", or an enumeration class."""

    name: str
    bits: int
    kind: str | type[enum.IntEnum] | type[enum.IntFlag]
    meaning: str
    default: Any
    offset: int = 0

    @cached_property
    def limits(self) -> tuple[int, int]:
        """Smallest and largest integer that fits."""
        if self.kind == "signed":
            return -(1 << (self.bits - 1)), (1 << (self.bits - 1)) - 1
        return 0, (1 << self.bits) - 1

    def check(self, mnemonic: str, value: Any) -> None:
        """Raise AssemblyError when `value` does not fit."""
        if self.kind == "float":
            if not math.isfinite(value) or abs(value) >= 2.0**128 or np.float32(value) != value:
                raise AssemblyError(f"{mnemonic}: {self.name}={value!r} is no finite binary32 number; round it first")
            return
        low, high = self.limits
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise AssemblyError(f"{mnemonic}: {self.name}={value!r} does not fit; it takes an integer {low}..{high}")

    def encode(self, value: Any) -> int:
        """The field's bits, unshifted."""
        if self.kind == "float":
            return int(struct.unpack("<I", struct.pack("<f", value))[0])
        return int(value) & ((1 << self.bits) - 1)

    def decode(self, bits: int) -> Any:
        """The value from the field's bits, unshifted."""
        if self.kind == "float":
            return struct.unpack("<f", struct.pack("<I", bits))[0]
        if self.kind == "signed":
            return bits - (1 << self.bits) if bits >> (self.bits - 1) else bits
        return bits if isinstance(self.kind, str) else self.kind(bits)


def unsigned(bits: int, meaning: str, default: int | None = None) -> Any:
    """Declare an unsigned field; one without a default must be given."""
    return _declare(bits, "unsigned", meaning, default)


def signed(bits: int, meaning: str, default: int | None = None) -> Any:
    """Declare a two's complement field."""
    return _declare(bits, "signed", meaning, default)


def binary32(meaning: str, default: float | None = None) -> Any:
    """Declare a binary32 immediate."""
    return _declare(32, "float", meaning, default)


def choice(kind: type[enum.IntEnum] | type[enum.IntFlag], bits: int, meaning: str, default: Any = None) -> Any:
    """Declare a field that holds a member (or a set of members) of an enumeration."""
    return _declare(bits, kind, meaning, default)


def _declare(bits: int, kind: Any, meaning: str, default: Any) -> Any:
    metadata = {"field": (bits, kind, meaning)}
    if default is None:
        return dataclasses.field(metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def layout(instruction: type) -> tuple[Field, ...]:
    """The fields of an instruction class with their bit offsets, behind the opcode."""
    return _layout(instruction)


@cache
def _layout(instruction: type) -> tuple[Field, ...]:
    offset = OPCODE_BITS
    fields = []
    for item in dataclasses.fields(instruction):
        bits, kind, meaning = item.metadata["field"]
        default = None if item.default is dataclasses.MISSING else item.default
        fields.append(Field(item.name, bits, kind, meaning, default, offset))
        offset += bits
    if offset > 8 * INSTRUCTION_BYTES:
        raise AssertionError(f"{instruction.__name__} takes {offset} bits of {8 * INSTRUCTION_BYTES}")
    return tuple(fields)
