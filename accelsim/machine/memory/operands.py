"""Operands as the products want them, in binary32, kept as long as the memory that they were made of stays as it is.

Activations are gathered once for all the instructions in a row that multiply them, weights converted once for all the
tiles that they meet while they are in the buffer. Which write ends an operand's life does not depend on data, so the
same buffers serve every run.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from accelsim.isa import Block, Memory

#: Elements that are kept at most; what was used least recently goes first.
_ROOM = 1 << 22


class _Kept(NamedTuple):
    memory: Memory
    start: int
    stop: int
    buffer: NDArray[np.float32]
    bound: NDArray[np.float64]


class Operands:
    """Buffers by what they hold. Two lives of one buffer never overlap in the order of the program."""

    def __init__(self) -> None:
        self._kept: dict[Hashable, _Kept] = {}
        self._elements = 0
        self._free: list[NDArray[np.float32]] = []
        self._scratch = np.empty(0, np.float32)

    def find(
        self, key: Hashable, memory: Memory, start: int, stop: int, size: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float64], bool]:
        """A buffer of `size` elements for what `key` stands for, made of places `start..stop - 1` of a memory, one
        number beside it, and whether both are there already; if not, the caller has them made."""
        kept = self._kept.pop(key, None)
        if kept is not None:
            self._kept[key] = kept
            return kept.buffer[:size], kept.bound, True
        # The one found last is an operand of the same instruction.
        while len(self._kept) > 1 and self._elements + size > _ROOM:
            self._drop(next(iter(self._kept)))
        fitting = [number for number, buffer in enumerate(self._free) if buffer.size >= size]
        if fitting:
            buffer = self._free.pop(min(fitting, key=lambda number: self._free[number].size))
        else:
            buffer = np.empty(_rounded(size), np.float32)
        bound = np.zeros(1)
        self._kept[key] = _Kept(memory, start, stop, buffer, bound)
        self._elements += buffer.size
        return buffer[:size], bound, False

    def scratch(self, size: int) -> NDArray[np.float32]:
        """A buffer of `size` elements for what is used before the next instruction runs."""
        if self._scratch.size < size:
            self._scratch = np.empty(_rounded(size), np.float32)
        return self._scratch[:size]

    def forget(self, block: Block) -> None:
        """The block is written: what was made of any place of its hull is no longer what the memory holds."""
        start, stop = block.start, block.stop
        kept = self._kept.items()
        stale = [key for key, item in kept if item.start < stop and start < item.stop and item.memory == block.memory]
        for key in stale:
            self._drop(key)

    def _drop(self, key: Hashable) -> None:
        buffer = self._kept.pop(key).buffer
        self._elements -= buffer.size
        self._free.append(buffer)


def _rounded(size: int) -> int:
    """A power of two, so that buffers fit what comes later."""
    return 1 << max(size - 1, 1).bit_length()
