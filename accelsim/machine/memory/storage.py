"""The simulated memories: real bytes, and which of them have been written."""

from __future__ import annotations

import mmap
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np

from accelsim.errors import MachineError
from accelsim.hardware import Accelerator
from accelsim.isa import INSTRUCTION_BYTES, Block, Memory, Part, Port, Program
from accelsim.isa.blocks import line
from accelsim.isa.units import ON_CHIP, buffer_of

from .operands import Operands

#: One part of an instruction's work on the data.
Action = Callable[[], None]


#: From this size on an array takes single pages, where it is touched, instead of as many as the system likes.
_SPARSE_BYTES = 1 << 26
#: Linux: address space without memory set aside for it. Python has the name since 3.13.
_MAP_NORESERVE = 0x4000 if sys.platform == "linux" else 0


def untouched(size: int, dtype: type[Any]) -> np.ndarray:
    """`size` zeros, of which those that are never touched cost no more than their addresses."""
    length = size * np.dtype(dtype).itemsize
    if length < _SPARSE_BYTES or not _MAP_NORESERVE:
        return np.zeros(size, dtype)
    pages = mmap.mmap(-1, length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE)
    pages.madvise(mmap.MADV_NOHUGEPAGE)
    return np.frombuffer(pages, dtype)


class Storage:
    """One memory in `runs` runs of the same program, (runs, size) elements of `dtype`.

    What is equal in all runs (weights, constants, code) is held once, the rest once for each run. Where something was
    written, and what may differ between runs, does not depend on data: it is known for each instruction before the
    first run, in the order in which `read` and `target` are called. They hand out the places that the instruction's
    actions will find, or leave, its data in.
    """

    def __init__(self, memory: Memory, size: int, runs: int, dtype: type[np.uint8] | type[np.int32]) -> None:
        self.size = size
        self.runs = runs
        try:
            self._written = untouched(size, bool)
            self._common = untouched(size, dtype)[None]
            self._own = np.empty((runs, size if runs > 1 else 0), dtype)
            self._differs = np.zeros(size if runs > 1 else 0, bool)
        except (MemoryError, OSError, ValueError, OverflowError):
            raise MachineError(
                f"the {memory.label} memory spans {size} places in {runs} runs, more than there is room for; "
                "use lower addresses or fewer runs"
            ) from None

    def first_unwritten(self, block: Block) -> int | None:
        """The lowest place of the block that was never written, or None."""
        block = block.distinct()
        block = block._replace(sizes=(1, *block.sizes), pitches=(0, *block.pitches))
        written = block.view(self._written)
        if written.all():
            return None
        missing = np.nonzero(~written.all(axis=-1))
        starts = sum(axis * pitch for axis, pitch in zip(missing, block.pitches[:-1], strict=True))
        return block.start + int((starts + np.argmin(written[missing], axis=-1)).min())

    def readable(self, blocks: Iterable[Block], actions: list[Action]) -> np.ndarray:
        """An array (1 or runs, size) that holds the places of all the blocks; 1 where they are equal in all runs.

        `actions` gets what has to be done first.
        """
        if self.runs == 1:
            return self._common
        blocks = tuple(blocks)
        if not any(block.view(self._differs).any() for block in blocks):
            return self._common
        for block in blocks:
            differs = block.view(self._differs)
            if not differs.all():
                equal = ~differs
                actions.append(partial(np.copyto, block.view(self._own), block.view(self._common), where=equal))
                differs[...] = True
        return self._own

    def read(self, block: Block, actions: list[Action]) -> np.ndarray:
        """The block's places (1 or runs, *sizes), a view. `actions` gets what has to be done first."""
        return block.view(self.readable((block,), actions))

    def target(self, block: Block, runs: int) -> np.ndarray:
        """The block's places (runs, *sizes), a view, for an action that writes values of 1 or of all runs."""
        differs = self.runs > 1 and runs > 1
        if self.runs > 1:
            block.view(self._differs)[...] = differs
        block.view(self._written)[...] = True
        return block.view(self._own if differs else self._common)


class LargestSums:
    """For each accumulator a bound of its magnitude that holds for any data; before its first sum, all that fits."""

    #: What fits an accumulator; kept are the differences to it, so that what is never touched costs nothing.
    _FITS = 1 << 31

    def __init__(self, words: int) -> None:
        self._bounds = untouched(words, np.int64)

    def target(self, block: Block, largest: int, *, add: bool) -> int:
        """Sums up to `largest` are written to the block, or added to what it holds: the bound from then on."""
        bounds = block.view(self._bounds)
        if add:
            largest += int(bounds.max()) + self._FITS
        bounds[...] = largest - self._FITS
        return largest


class Memories:
    """Every memory; the program's words and data image are in DRAM, its inputs once `fill` was called.

    `places`: `sizes` of the program. An accumulator holds `accumulator_bits`.
    """

    def __init__(self, program: Program, places: dict[Memory, int], runs: int, accumulator_bits: int = 32) -> None:
        self.runs, self.accumulator_bits = runs, accumulator_bits
        self._storages = {
            memory: Storage(memory, size, runs, np.int32 if memory.ports.sums else np.uint8)
            for memory, size in places.items()
        }
        self.largest_sums = LargestSums(places[Memory.ACCUMULATOR])
        #: Operands of the MAC array that are still what the memories hold.
        self.operands = Operands()
        image = [(segment.address, segment.content) for segment in program.data]
        self._image = [
            (self[Memory.DRAM].target(line(Memory.DRAM, address, len(content)), 1), np.frombuffer(content, np.uint8))
            for address, content in [*image, (program.code, program.words())]
            if content
        ]
        self._inputs = [(port, self[port.memory].target(self._place(port, None), runs)) for port in program.inputs]
        self._write_image()

    def _write_image(self) -> None:
        for target, content in self._image:
            target[...] = content

    def fill(self, codes: Sequence[np.ndarray]) -> None:
        """The state before a run: the image as the program has it, and `codes` (runs, *shape) at the inputs' ports."""
        self._write_image()
        for (port, target), given in zip(self._inputs, codes, strict=True):
            target[...] = port.to_memory(given).reshape(-1, *target.shape[1:])

    def __getitem__(self, memory: Memory) -> Storage:
        return self._storages[memory]

    def target(self, block: Block, runs: int) -> np.ndarray:
        """Where an action writes values of 1 or of all runs, (runs, *sizes); what was made of those places is stale."""
        self.operands.forget(block)
        return self[block.memory].target(block, runs)

    def words(self, program: Program) -> bytes:
        """The instruction words, as they stand in DRAM."""
        block = line(Memory.DRAM, program.code, INSTRUCTION_BYTES * len(program.instructions))
        return self[Memory.DRAM].read(block, [])[0].tobytes()

    def stored(self, port: Port, part: Part | None, what: str) -> Callable[[], np.ndarray]:
        """Reads what is stored at a port (runs, bytes), now or in any later run at this point of the program.

        Of a `part` (as a probe's) those bytes, which lie at the port's address. Raises MachineError, naming `what`,
        where a byte was never written.
        """
        block, storage = self._place(port, part), self[port.memory]
        missing = storage.first_unwritten(block)
        if missing is not None:
            raise MachineError(
                f"{what} {port.name}: byte {missing:#x} of the {port.memory.label} memory was never written; "
                "a store must fill the whole tensor"
            )
        actions: list[Action] = []
        raw = storage.read(block, actions)

        def read() -> np.ndarray:
            for action in actions:
                action()
            # A copy: later instructions write over what is read here.
            return np.broadcast_to(raw, (storage.runs, *block.sizes)).copy().reshape(storage.runs, -1)

        return read

    def _place(self, port: Port, part: Part | None) -> Block:
        if part is not None:
            block = line(port.memory, port.address, part.size)
        elif port.pitches:
            block = Block(port.memory, port.address, (*port.stored, port.affine.bytes), (*port.pitches, 1))
        else:
            block = line(port.memory, port.address, port.bytes)
        if port.memory.ports.sums or block.stop > self[port.memory].size:
            raise MachineError(
                f"{port.name}: bytes {block.start:#x}..{block.stop - 1:#x} of the {port.memory.label} memory "
                "can hold no tensor here; a port's codes lie within DRAM or a buffer of bytes"
            )
        return block


def sizes(program: Program, accelerator: Accelerator) -> dict[Memory, int]:
    """Places of each memory: words of the accumulators, else bytes. DRAM is as large as the program's use of it."""
    on_chip = {memory: buffer_of(memory, accelerator).words for memory in ON_CHIP}
    return {Memory.DRAM: program.dram_bytes, **on_chip}
