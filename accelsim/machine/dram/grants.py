"""Requests that are served in pieces, in order: of a controller or a cache that holds some of them at a time.

Grants are the bus's (`bus.Arbiter`): the request that came first goes first, in turns of so many pieces. A piece takes
an entry when it is granted, and leaves it when it has been served; entries are used in turn.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from .bus import Ending, Requester, Rows

#: Pieces that are held at a time.
ENTRIES = 32

_Piece = TypeVar("_Piece")


@dataclass(slots=True)
class Granted(Generic[_Piece]):
    """The pieces of a request, those before `next` granted; the request for that is seen in cycle `asked`."""

    requester: Requester
    pieces: Sequence[_Piece]
    asked: int
    next: int = 0


_Item = TypeVar("_Item", bound=Granted)  # type: ignore[type-arg]


class Grants(Generic[_Item]):
    """The order of grants, `turn` pieces a grant; what a piece takes says `_serve` of a kind of memory."""

    def __init__(self, turn: int) -> None:
        self._turn = turn
        self.waiting: list[_Item] = []
        self._holder: Requester | None = None
        self._left = 0  # pieces that the holder's grant still has
        self._way = 0  # the way there is free
        self._back = 0  # so is the way back
        self._entries: deque[int] = deque([0] * ENTRIES, ENTRIES)  # from when each is free, in order
        self._charged = dict.fromkeys(Requester, 0)  # up to which cycle each requester's waits are accounted for

    def ask(self, requester: Requester, rows: Rows, part: int, seen: int) -> None:
        """A request that is seen from cycle `seen` on, of a unit that takes `part` bytes of a beat in a cycle."""
        raise NotImplementedError

    def _wait(self, item: _Item) -> None:
        self.waiting.append(item)
        self._charged[item.requester] = max(self._charged[item.requester], item.asked)

    def advance(self) -> Ending | None:
        """Decide the grants of pieces, in order, until one of them ends its request.

        Returns that request's end, or None when nobody waits.
        """
        while self.waiting:
            item = min(self.waiting, key=lambda item: (item.asked, item.requester))
            if self._left:
                item = next(other for other in self.waiting if other.requester == self._holder)
            granted = max(item.asked, self._way, self._entries[0])
            end = self._serve(item, granted)
            item.next += 1
            if item.next == len(item.pieces):
                self._left = 0
                self.waiting.remove(item)
                return self._ending(item, granted, end)
            if not self._left:
                self._holder, self._left = item.requester, self._turn
            self._left -= 1
        return None

    def _serve(self, item: _Item, granted: int) -> int:
        """The next piece, granted in that cycle; returns the cycle after its last beat."""
        raise NotImplementedError

    def _ending(self, item: _Item, granted: int, end: int) -> Ending:
        """The end of a request whose last piece was granted in that cycle."""
        raise NotImplementedError
