"""What the units tell one another, and where each unit's cycles go. Everything here is registered.

Times are cycles. A unit that works in cycles s..e-1 starts at s and ends at e; what it signals in its last cycle is
seen in cycle e. Every message carries the cycle from which it is seen, and each process keeps its own time: it waits
in the simulator only for a message that does not exist yet. So a process may run ahead of the simulator's clock, and
it makes no difference which one is visited first; the bus, which units share, decides when none of them can go on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from typing import Any, TypeVar

import numpy as np
import simpy

_T = TypeVar("_T")

#: A process of the machine, or a part of one that returns a value.
Process = Generator[simpy.Event, Any, _T]


class Tokens:
    """A counting semaphore with one consumer; each token is seen from a given cycle on, and those cycles never fall."""

    def __init__(self, env: simpy.Environment, initial: int = 0) -> None:
        self._env = env
        self._seen_from = [0] * initial
        self._taken: list[int] = []
        self._waiter: simpy.Event | None = None

    def __len__(self) -> int:
        return len(self._seen_from) - len(self._taken)

    def put(self, seen_from: int) -> None:
        """Add a token that the consumer sees in cycle `seen_from` and after."""
        self._seen_from.append(seen_from)
        if self._waiter is not None:
            self._waiter.succeed()
            self._waiter = None

    def is_empty(self) -> bool:
        """Whether no token has been put that is not taken yet; then wait for `next_put` before `take`."""
        return len(self._seen_from) == len(self._taken)

    def next_put(self) -> simpy.Event:
        """The event of the next token's being put."""
        self._waiter = self._env.event()
        return self._waiter

    def take(self, now: int) -> int:
        """Take a token that has been put in cycle `now`, or as soon as it is seen; returns that cycle."""
        seen = self._seen_from[len(self._taken)]
        at = seen if seen > now else now
        self._taken.append(at)
        return at

    def highest(self) -> int:
        """The largest count that the consumer has seen: it only grows between two takes, so before one of them."""
        seen = np.searchsorted(np.array(self._seen_from), np.array(self._taken), side="right")
        return int(np.max(seen - np.arange(len(seen)), initial=0))


class Queue:
    """A first-in first-out queue of `depth` entries between one writer and one reader.

    An entry written, or freed, in cycle t is seen by the other side in t + 1.
    """

    def __init__(self, env: simpy.Environment, depth: int) -> None:
        self._items: list[int] = []
        self._read = 0
        self._entries = Tokens(env)
        self.space = Tokens(env, depth)

    def put(self, item: int, seen_from: int) -> None:
        """Write an entry; the writer has taken a token of `space` for it."""
        self._items.append(item)
        self._entries.put(seen_from)

    def is_empty(self) -> bool:
        """Whether nothing has been written that is not read yet; then wait for `next_put` before `head`."""
        return self._entries.is_empty()

    def next_put(self) -> simpy.Event:
        """The event of the next entry's being written."""
        return self._entries.next_put()

    def head(self, now: int) -> tuple[int, int]:
        """The entry at the head, and the cycle in which it is seen: `now` or later."""
        return self._items[self._read], self._entries.take(now)

    def free(self, now: int) -> None:
        """Give the entry at the head back in cycle `now`; the reader has copied it."""
        self._read += 1
        self.space.put(now + 1)


class Ledger:
    """Where one unit's cycles go: "busy", or one cause for each cycle that is not. Charged in order of time."""

    def __init__(self) -> None:
        self.charged_until = 0
        self.intervals: list[tuple[int, int, str]] = []

    def charge(self, cause: str, until: int) -> None:
        """Every cycle that is not charged yet, up to `until` (not included), goes to `cause`."""
        if until > self.charged_until:
            self.intervals.append((self.charged_until, until, cause))
            self.charged_until = until

    def totals(self) -> dict[str, int]:
        """Cycles by cause, "busy" first."""
        counts: Counter[str] = Counter({"busy": 0})
        for start, stop, cause in self.intervals:
            counts[cause] += stop - start
        return dict(counts)
