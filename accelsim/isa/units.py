"""The units and the memories of the machine, and which unit has which port: each declared once.

What is true of every memory (sizes, banks, bounds, hazards, traffic, its rows in reports) follows from these
declarations and the configuration.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from accelsim.hardware import Accelerator
from accelsim.hardware.configuration import AccumulatorMemory, Scratchpad


class Unit(enum.IntEnum):
    """The units that execute instructions, each from a queue of its own; the fetcher feeds them."""

    LOAD = 0
    MAC = 1
    POST = 2
    STORE = 3

    @property
    def label(self) -> str:
        """The name in assembly text and in results."""
        return self.name.lower()


class Units(enum.IntFlag):
    """A set of units, as the bits of a `wait` or `signal` field."""

    NONE = 0
    LOAD = 1 << Unit.LOAD
    MAC = 1 << Unit.MAC
    POST = 1 << Unit.POST
    STORE = 1 << Unit.STORE

    @classmethod
    def of(cls, *units: Unit) -> Units:
        """The set of `units`."""
        result = cls.NONE
        for unit in units:
            result |= cls(1 << unit)
        return result

    def members(self) -> tuple[Unit, ...]:
        """The units in the set, in order."""
        return tuple(unit for unit in Unit if self & (1 << unit))


@dataclass(frozen=True, kw_only=True)
class Ports:
    """The ports of a memory: the units that write it and those that read it, each through a port of its own.

    `preloaded_by`: units that may read it before an instruction has the tokens that its data need. `sums`: its words
    are accumulators, of the width that the configuration says; of the other memories they are bytes.
    """

    written_by: Units
    read_by: Units
    preloaded_by: Units = Units.NONE
    sums: bool = False


class Memory(enum.IntEnum):
    """The memories, in the order of reports. Addresses are in words: accumulators, or bytes."""

    ports: Ports

    DRAM = 0, Ports(written_by=Units.STORE, read_by=Units.LOAD)
    ACTIVATION = 1, Ports(written_by=Units.LOAD | Units.POST, read_by=Units.MAC | Units.POST | Units.STORE)
    WEIGHT = 2, Ports(written_by=Units.LOAD, read_by=Units.MAC, preloaded_by=Units.MAC)
    ACCUMULATOR = 4, Ports(written_by=Units.MAC, read_by=Units.MAC | Units.POST, sums=True)
    PARAMETER = 3, Ports(written_by=Units.LOAD, read_by=Units.POST, preloaded_by=Units.POST)

    def __new__(cls, code: int, ports: Ports) -> Memory:
        """The member of that code in instruction words."""
        member = int.__new__(cls, code)
        member._value_ = code
        member.ports = ports
        return member

    @property
    def label(self) -> str:
        """The name in assembly text, in results, and of the buffer in a configuration."""
        return self.name.lower()

    @property
    def word(self) -> str:
        """What an address counts, as error messages call it."""
        return "word" if self.ports.sums else "byte"

    @property
    def macros(self) -> int:
        """Memory macros of one write and one read port that a bank is built of: one a pair of writer and reader.

        A table of live values (a bit or two a word) says which writer's copy holds the newest word (LaForest and
        Steffan, "Efficient multi-ported memories for FPGAs", FPGA 2010); one writer needs no table.
        """
        return len(self.ports.written_by.members()) * len(self.ports.read_by.members())


#: The memories on the chip: each is a buffer of the configuration.
ON_CHIP: tuple[Memory, ...] = tuple(memory for memory in Memory if memory != Memory.DRAM)
#: Those that a load may fill.
LOADED: tuple[Memory, ...] = tuple(memory for memory in ON_CHIP if memory.ports.written_by & Units.LOAD)


#: The level of memory that no instruction names, as results call it and as a configuration does that has it.
L2 = "l2"


def buffer_of(memory: Memory, accelerator: Accelerator) -> Scratchpad | AccumulatorMemory:
    """Size and banks of a memory on the chip."""
    buffer: Scratchpad | AccumulatorMemory = getattr(accelerator.buffers, memory.label)
    return buffer
