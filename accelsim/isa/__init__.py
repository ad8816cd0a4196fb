"""The instruction set, programs, and assembly text."""

from .assembly import assemble, disassemble, instruction_text
from .decoding import INSTRUCTIONS, decode
from .fields import INSTRUCTION_BYTES, Field, Memory, Unit, Units
from .instructions import (
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
    Store,
)
from .ports import Part, Port, Probe
from .program import Program, Segment
from .requantization import (
    REQUANTIZATIONS,
    RequantFixed,
    RequantGemmlowp,
    Requantize,
    RequantTextbook,
    RequantThresholds,
)

__all__ = [
    "INSTRUCTIONS",
    "INSTRUCTION_BYTES",
    "REQUANTIZATIONS",
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
    "Part",
    "Pool",
    "Port",
    "Probe",
    "Program",
    "Reduction",
    "Region",
    "RequantFixed",
    "RequantGemmlowp",
    "RequantTextbook",
    "RequantThresholds",
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
