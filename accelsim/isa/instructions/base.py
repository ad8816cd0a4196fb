"""What every instruction has: its tokens, its word, and what it touches.

An instruction is a macro-instruction: one scratchpad tile, walked by hardware address generators. Units run their own
instructions in order and wait for one another only through counting semaphores, one for each ordered pair of units:
`wait=load` takes a token from the semaphore (load -> this unit) before the instruction starts, `signal=post` puts one
into (this unit -> post) when it has completed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Self

from accelsim.arithmetic.requantize import Step
from accelsim.errors import AssemblyError
from accelsim.isa.blocks import Block, Region, regions
from accelsim.isa.fields import INSTRUCTION_BYTES, Field, choice, layout
from accelsim.isa.units import Unit, Units


@dataclass(frozen=True, kw_only=True)
class Instruction:
    """Fields that every instruction has. Raises AssemblyError for a value that does not fit its field."""

    opcode: ClassVar[int]
    unit: ClassVar[Unit | None]
    mnemonic: ClassVar[str]

    wait: Units = choice(Units, 8, "units whose semaphore towards this one gives a token before the start", Units.NONE)
    signal: Units = choice(Units, 8, "units whose semaphore gets a token at the end", Units.NONE)

    def __post_init__(self) -> None:
        values = self.__dict__
        for item in layout(type(self)):
            value = values[item.name]
            if type(value) is not int or not item.limits[0] <= value <= item.limits[1]:
                item.check(self.mnemonic, value)  # an enumeration, a number, or an error

    @classmethod
    def fields(cls) -> tuple[Field, ...]:
        """The declared fields, in the order of the word."""
        return layout(cls)

    @classmethod
    def most(cls, name: str) -> int:
        """The largest integer that the field of that name takes."""
        (field,) = (item for item in layout(cls) if item.name == name)
        return field.limits[1]

    def with_tokens(self, wait: Units, signal: Units) -> Self:
        """The same instruction with these `wait` and `signal` fields; what has been checked is not checked again."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__, wait=wait, signal=signal)
        return other

    def encode(self) -> bytes:
        """The instruction's word."""
        word = self.opcode
        for item in layout(type(self)):
            value = getattr(self, item.name)
            if value or item.kind == "float":  # most fields are 0, and leave their bits as they are
                word |= item.encode(value) << item.offset
        return word.to_bytes(INSTRUCTION_BYTES, "little")

    def read_blocks(self) -> tuple[Block, ...]:
        """Exactly what the instruction reads."""
        return ()

    def written_blocks(self) -> tuple[Block, ...]:
        """Exactly what the instruction writes."""
        return ()

    # Most passes ask again; the tokens, which `with_tokens` changes, play no part.

    @cached_property
    def _regions(self) -> tuple[tuple[Region, ...], tuple[Region, ...]]:
        return regions(self.read_blocks()), regions(self.written_blocks())

    def reads(self) -> tuple[Region, ...]:
        """What covers the places that the instruction reads."""
        return self._regions[0]

    def writes(self) -> tuple[Region, ...]:
        """What covers the places that the instruction writes."""
        return self._regions[1]

    @property
    def macs(self) -> int:
        """Products that the instruction makes, those with padding included."""
        return 0


def check_clamps(instruction: Instruction, minimum: int, maximum: int) -> None:
    """Raise AssemblyError for codes that are none of one byte: the memory would hold others."""
    if not (0 <= minimum <= maximum <= 255 or -128 <= minimum <= maximum <= 127):
        raise AssemblyError(
            f"{instruction.mnemonic}: minimum={minimum} maximum={maximum}; codes rise from minimum to maximum within "
            "0..255 or within -128..127"
        )


def check_steps(instruction: Instruction, steps: Step) -> None:
    """Raise AssemblyError for steps of which one would be left out without a word."""
    wrong = None
    if steps & Step.BIAS and steps & Step.FUSED_BIAS:
        wrong = "bias and fused_bias are two forms of one step"
    elif steps & Step.FUSED_ZERO_POINT and steps & Step.ZERO_POINT_FIRST:
        wrong = "fused_zero_point and zero_point_first are two forms of one step"
    elif steps & Step.FUSED_ZERO_POINT and not steps & Step.MULTIPLIER:
        wrong = "fused_zero_point is the multiplier's addition; it takes multiplier"
    if wrong is not None:
        raise AssemblyError(f"{instruction.mnemonic}: steps={str(steps.name).lower().replace('|', '+')}: {wrong}")


def check_positive(instruction: Instruction, *names: str) -> None:
    """Raise AssemblyError for a field of those that is 0."""
    for name in names:
        if getattr(instruction, name) < 1:
            raise AssemblyError(f"{instruction.mnemonic}: {name}=0; it must be at least 1")
