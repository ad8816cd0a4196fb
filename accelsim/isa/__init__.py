"""The instruction set, programs, and assembly text."""

from .assembly import assemble, disassemble, instruction_text
from .fields import INSTRUCTION_BYTES, Field, Memory, Unit, Units
from .instructions import (
    INSTRUCTIONS,
    Add,
    AddFixed,
    Halt,
    Instruction,
    Load,
    Lookup,
    Mac,
    Multiply,
    Pool,
    Reduction,
    Region,
    Requantize,
    Store,
    decode,
)
from .program import Port, Probe, Program, Segment

__all__ = [
    "INSTRUCTIONS",
    "INSTRUCTION_BYTES",
    "Add",
    "AddFixed",
    "Field",
    "Halt",
    "Instruction",
    "Load",
    "Lookup",
    "Mac",
    "Memory",
    "Multiply",
    "Pool",
    "Port",
    "Probe",
    "Program",
    "Reduction",
    "Region",
    "Requantize",
    "Segment",
    "Store",
    "Unit",
    "Units",
    "assemble",
    "decode",
    "disassemble",
    "instruction_text",
]
