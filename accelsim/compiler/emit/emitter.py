"""What emitting instructions needs: the list so far, the DRAM image, and what the slots of the buffers hold."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from accelsim.compiler.operations import Lowered
from accelsim.compiler.plan.residency import Placement
from accelsim.compiler.plan.slots import Slots
from accelsim.errors import CompileError
from accelsim.hardware import Accelerator
from accelsim.isa import Instruction, Memory, Part, Segment
from accelsim.limits import over

from .transfers import loads

#: Tensors and constants start at multiples of this, so that their first beat is a whole one on any bus.
_ALIGNMENT = 128


class Image:
    """DRAM: addresses handed out in order, and the constants that lie there when the program starts."""

    def __init__(self) -> None:
        self.end = 0
        self.segments: list[Segment] = []

    def allocate(self, size: int) -> int:
        """The address of `size` free bytes."""
        address = self.end
        self.end = -(-(address + size) // _ALIGNMENT) * _ALIGNMENT
        return address

    def put(self, content: np.ndarray) -> int:
        """The address at which an array's bytes lie."""
        data = np.ascontiguousarray(content).tobytes()
        address = self.allocate(len(data))
        self.segments.append(Segment(address, data))
        return address


class Residents:
    """What the slots of a buffer hold; where something new comes in, it takes the slot used least recently."""

    def __init__(self, slots: Slots) -> None:
        self._order = list(slots.addresses)
        self._held: dict[int, Hashable] = {}
        self._used: dict[Hashable, int] = {}

    def get(self, key: Hashable) -> tuple[int, bool]:
        """The slot of `key`, and whether it has to be filled."""
        if key in self._used:
            address = self._used[key]
            self._order.remove(address)
            self._order.append(address)
            return address, False
        address = self._order.pop(0)
        self._order.append(address)
        if address in self._held:
            del self._used[self._held[address]]
        self._held[address], self._used[key] = key, address
        return address, True

    def next(self) -> int:
        """The slot used least recently, for something that nobody asks for again."""
        return self.get(object())[0]


class Constants:
    """Constants of the data image that pass through slots of a scratchpad, loaded where they are not there."""

    def __init__(self, emitter: Emitter, memory: Memory, slots: Slots) -> None:
        self._emitter, self._memory, self._residents = emitter, memory, Residents(slots)
        self._stored: dict[Hashable, int] = {}

    def at(self, key: Hashable, content: np.ndarray, pitch: int = 0) -> int:
        """Where the constants called `key` lie, which are `content`; it goes to the data image when first asked for.

        With a `pitch` the rows of the first axis lie that many bytes apart in the scratchpad.
        """
        address, missing = self._residents.get(key)
        if missing:
            if key not in self._stored:
                self._stored[key] = self._emitter.image.put(content)
            row = content.nbytes // len(content) if pitch else content.nbytes
            loops = ((len(content), row, pitch),) if pitch else ()
            self._emitter.emit_all(loads(self._memory, self._stored[key], address, loops, row))
        return address


class Passed(NamedTuple):
    """A part of a tensor lies at `address` of the activation buffer after an instruction."""

    instruction: int
    address: int
    part: Part


class Emitter:
    """The instructions so far, in an order that is right for units that do not overlap.

    Raises CompileError where there are more than `most_instructions`.
    """

    def __init__(
        self,
        lowered: Lowered,
        accelerator: Accelerator,
        placement: Placement,
        passing: Collection[str],
        most_instructions: int,
    ) -> None:
        self._most = most_instructions
        self.lowered, self.accelerator, self.placement = lowered, accelerator, placement
        self.instructions: list[Instruction] = []
        self.layer_of: list[int] = []
        self.image = Image()
        self.dram = {
            tensor: self.image.allocate(size)
            for tensor, size in lowered.tensors.items()
            if tensor not in placement.addresses and tensor not in passing
        }
        for tensor, content in lowered.constants.items():
            self.image.segments.append(Segment(self.dram[tensor], content))
        #: Of a tensor that is nowhere whole (`passing`), where its parts lay after an instruction.
        self.passed: dict[str, list[Passed]] = {tensor: [] for tensor in passing}
        #: For each tensor the number of the last instruction that wrote to where it lives.
        self.written: dict[str, int] = {}
        self.layer = 0

    def emit(self, *instructions: Instruction) -> None:
        """Append instructions of the current layer."""
        self.instructions += instructions
        self.layer_of += [self.layer] * len(instructions)
        if len(self.instructions) > self._most:
            raise CompileError(over("instructions", len(self.instructions), self._most, "the program up to here"))

    def emit_all(self, instructions: Iterable[Instruction]) -> None:
        """Append what a generator makes."""
        for instruction in instructions:
            self.emit(instruction)

    @contextmanager
    def as_layer(self, layer: int) -> Iterator[None]:
        """What is emitted meanwhile belongs to another layer."""
        before, self.layer = self.layer, layer
        yield
        self.layer = before

    def passes(self, tensor: str, address: int, part: Part) -> None:
        """After the last instruction, a part of a tensor that passes lies at `address`, byte after byte."""
        self.passed[tensor].append(Passed(len(self.instructions) - 1, address, part))

    def wrote(self, tensor: str) -> None:
        """The last instruction wrote to `tensor`."""
        self.written[tensor] = len(self.instructions) - 1

    def resident(self, tensor: str) -> int | None:
        """The tensor's address in the activation buffer, None if it lives in DRAM."""
        return self.placement.addresses.get(tensor)

    def home(self, tensor: str) -> tuple[Memory, int]:
        """Where a tensor lives; of one that passes, the memory only."""
        if tensor in self.passed:
            return Memory.ACTIVATION, 0
        address = self.resident(tensor)
        return (Memory.DRAM, self.dram[tensor]) if address is None else (Memory.ACTIVATION, address)
