"""Places of equal size in a scratchpad, which tiles take in turn."""

from __future__ import annotations

from typing import NamedTuple

from accelsim.errors import CompileError


class Slots(NamedTuple):
    """Slots of `size` bytes (of the accumulators: words) at these addresses, in the order in which they are taken."""

    addresses: tuple[int, ...]
    size: int = 0

    def __len__(self) -> int:
        return len(self.addresses)


#: For tiles of nothing.
NONE = Slots((0,))


def up(start: int, count: int, size: int) -> Slots:
    """So many slots from `start` on; one for tiles that take no room."""
    return Slots(tuple(start + i * size for i in range(count)) if size else (start,), size)


class Ring:
    """A memory that operations take turns in: each starts where the one before left off, so that what the next one
    needs can be loaded while the one before still works on its own."""

    def __init__(self, memory: str, size: int) -> None:
        self._memory, self._size = memory, size
        self._at = 0

    def slots(self, size: int, count: int) -> Slots:
        """Up to `count` slots of `size`, at least one. Raises CompileError where not one fits."""
        if not size or not count:
            return NONE
        if size > self._size:
            raise CompileError(
                f"{size:,} bytes must fit the {self._memory} buffer, which has {self._size:,}: {size - self._size:,} "
                f"missing; enlarge buffers.{self._memory}.bytes"
            )
        after = [self._at + i * size for i in range(min(count, max(self._size - self._at, 0) // size))]
        before = [i * size for i in range(min(count - len(after), self._at // size))]
        addresses = [*after, *before]
        most = min(count, self._size // size)
        if len(addresses) < most:
            # From the start of the memory there is room for more; those behind the last use still come first.
            whole = [i * size for i in range(self._size // size)]
            addresses = sorted(whole, key=lambda address: (address < self._at, address))[:most]
        self._at = (addresses[-1] + size) % self._size
        return Slots(tuple(addresses), size)
