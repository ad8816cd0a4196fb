"""The simulated memories: real bytes, and which of them have been written."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from accelsim.errors import MachineError
from accelsim.hardware import Accelerator
from accelsim.isa import INSTRUCTION_BYTES, Memory, Port, Program

from .footprint import Block


class Storage:
    """One memory in `runs` runs of the same program, (runs, size) elements of `dtype`.

    What is equal in all runs (weights, constants, code) is held once, the rest once for each run. Whether a place was
    written does not depend on data, so it is the same in every run.
    """

    def __init__(self, memory: Memory, size: int, runs: int, dtype: type[np.uint8] | type[np.int32]) -> None:
        self.size = size
        self.runs = runs
        try:
            self._written = np.zeros(size, bool)
            self._common = np.zeros((1, size), dtype)
            # Memory that is never touched costs no more than its addresses.
            self._own = np.empty((runs, size if runs > 1 else 0), dtype)
            self._differs = np.zeros(size if runs > 1 else 0, bool)
        except MemoryError:
            raise MachineError(
                f"the {memory.name.lower()} memory spans {size} places in {runs} runs, more than there is room for; "
                "use lower addresses or fewer runs"
            ) from None

    def first_unwritten(self, block: Block) -> int | None:
        """The lowest place of the block that was never written, or None."""
        written = block.view(self._written)
        if written.all():
            return None
        return int(block.view(np.arange(block.stop - block.start), block.start)[~written].min()) + block.start

    def readable(self, blocks: Iterable[Block]) -> np.ndarray:
        """An array (1 or runs, size) that holds the places of all the blocks; 1 where they are equal in all runs."""
        if self.runs == 1:
            return self._common
        blocks = tuple(blocks)
        if not any(block.view(self._differs).any() for block in blocks):
            return self._common
        for block in blocks:
            differs = block.view(self._differs)
            if not differs.all():
                np.copyto(block.view(self._own), block.view(self._common), where=~differs)
                differs[...] = True
        return self._own

    def read(self, block: Block) -> np.ndarray:
        """The block's content (1 or runs, *sizes), a view."""
        return block.view(self.readable((block,)))

    def write(self, block: Block, values: np.ndarray) -> None:
        """Write `values` (1 or runs, *sizes); of a wider integer the low bits are kept."""
        differs = self.runs > 1 and len(values) > 1
        block.view(self._own if differs else self._common)[...] = values
        if self.runs > 1:
            block.view(self._differs)[...] = differs
        block.view(self._written)[...] = True


class Memories:
    """Every memory, with the program's words, data image and inputs in DRAM. `places`: `sizes` of the program.

    An accumulator holds `accumulator_bits`.
    """

    def __init__(
        self,
        program: Program,
        places: dict[Memory, int],
        codes: list[np.ndarray],
        runs: int,
        accumulator_bits: int = 32,
    ) -> None:
        self.accumulator_bits = accumulator_bits
        self._storages = {
            memory: Storage(memory, size, runs, np.int32 if memory == Memory.ACCUMULATOR else np.uint8)
            for memory, size in places.items()
        }
        dram = self[Memory.DRAM]
        image = [(segment.address, segment.content) for segment in program.data]
        for address, content in [*image, (program.code, program.words())]:
            if content:
                dram.write(_bytes(Memory.DRAM, address, len(content)), np.frombuffer(content, np.uint8)[None])
        for port, given in zip(program.inputs, codes, strict=True):
            place = self._place(port, None)
            self[port.memory].write(place, port.to_memory(given).reshape(-1, *place.sizes))

    def __getitem__(self, memory: Memory) -> Storage:
        return self._storages[memory]

    def words(self, program: Program) -> bytes:
        """The instruction words, as they stand in DRAM."""
        block = _bytes(Memory.DRAM, program.code, INSTRUCTION_BYTES * len(program.instructions))
        return self[Memory.DRAM].read(block)[0].tobytes()

    def value(self, port: Port, what: str) -> np.ndarray:
        """The codes at a port (runs, *shape). Raises MachineError, naming `what`, where a byte was never written."""
        return port.from_memory(self.raw(port, None, what))

    def raw(self, port: Port, part: tuple[int, int] | None, what: str) -> np.ndarray:
        """What is stored at a port (runs, bytes), of a `part` (as a probe's) the bytes that lie at its address.

        Raises MachineError as `value` does.
        """
        block, storage = self._place(port, part), self[port.memory]
        missing = storage.first_unwritten(block)
        if missing is not None:
            raise MachineError(
                f"{what} {port.name}: byte {missing:#x} of the {port.memory.name.lower()} memory was never written; "
                "a store must fill the whole tensor"
            )
        raw = storage.read(block)
        # A copy: later instructions write over what is read here.
        return np.array(np.broadcast_to(raw, (storage.runs, *block.sizes))).reshape(storage.runs, -1)

    def _place(self, port: Port, part: tuple[int, int] | None) -> Block:
        if part is not None:
            block = _bytes(port.memory, port.address, part[1] - part[0])
        elif port.pitches:
            block = Block(port.memory, port.address, port.stored, port.pitches)
        else:
            block = _bytes(port.memory, port.address, port.bytes)
        if port.memory == Memory.ACCUMULATOR or block.stop > self[port.memory].size:
            raise MachineError(
                f"{port.name}: bytes {block.start:#x}..{block.stop - 1:#x} of the {port.memory.name.lower()} memory "
                "can hold no tensor here; a port's codes lie within DRAM, the activation, weight or parameter buffer"
            )
        return block


def sizes(program: Program, accelerator: Accelerator) -> dict[Memory, int]:
    """Places of each memory: words of the accumulators, else bytes. DRAM is as large as the program's use of it."""
    buffers = accelerator.buffers
    return {
        Memory.DRAM: program.dram_bytes,
        Memory.ACTIVATION: buffers.activation.bytes,
        Memory.WEIGHT: buffers.weight.bytes,
        Memory.PARAMETER: buffers.parameter.bytes,
        Memory.ACCUMULATOR: buffers.accumulator.words,
    }


def _bytes(memory: Memory, address: int, size: int) -> Block:
    return Block(memory, address, (size,), (1,))
