"""The instruction set, programs, and assembly text."""

from .assembly import assemble, disassemble, instruction_text
from .blocks import Block, Region, meet, share_a_place
from .decoding import decode
from .fields import INSTRUCTION_BYTES, Field
from .instructions import INSTRUCTIONS
from .instructions.base import Instruction
from .instructions.elementwise import Add, AddFixed, Lookup, Multiply
from .instructions.halt import Halt
from .instructions.mac import Mac
from .instructions.pool import Pool, Reduction
from .instructions.requantization import (
    REQUANTIZATIONS,
    RequantFixed,
    RequantGemmlowp,
    Requantize,
    RequantTextbook,
    RequantThresholds,
)
from .instructions.transfer import Load, Store
from .ports import Part, Port, Probe
from .program import Program, Segment
from .units import Memory, Unit, Units

__all__ = [
    "INSTRUCTIONS",
    "INSTRUCTION_BYTES",
    "REQUANTIZATIONS",
    "Add",
    "AddFixed",
    "Block",
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
    "meet",
    "share_a_place",
]
