"""The end of a program."""

from __future__ import annotations

from dataclasses import dataclass

from accelsim.errors import AssemblyError

from .base import Instruction


@dataclass(frozen=True, kw_only=True)
class Halt(Instruction):
    """End of the program: the fetcher stops; the run ends when every unit has finished what it was given."""

    opcode = 0
    unit = None
    mnemonic = "halt"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.wait or self.signal:
            raise AssemblyError(
                "halt: has no unit, so it neither waits nor signals; the run ends when every unit has finished anyway"
            )


INSTRUCTIONS: tuple[type[Instruction], ...] = (Halt,)
