"""Sets of places that nested loops of (count, pitch) visit: whether one is visited twice, and which two sets share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import MachineError

#: Rows told apart one by one; loops whose pitches nest need none of it.
_MOST_ROWS = 1 << 23

#: A loop: pitch, and how often.
Axis = tuple[int, int]


class Runs(NamedTuple):
    """Places `start + sum of i * pitch + 0..length - 1`, i below each axis's count: every pitch is above `length`."""

    start: int
    length: int
    axes: tuple[Axis, ...]

    @property
    def number(self) -> int:
        """How many runs, those that lie over one another counted each time."""
        return math.prod(size for _, size in self.axes)

    def starts(self, low: int, high: int) -> NDArray[np.int64]:
        """Where the runs begin that have a place in `low..high - 1`, in rising order.

        Raises MachineError where they lie across one another and are too many to be told apart.
        """
        found = np.array([self.start], np.int64)
        within = [self.length - 1]
        for pitch, size in self.axes:
            within.append(within[-1] + pitch * (size - 1))
        for (pitch, size), span in zip(reversed(self.axes), within[-2::-1], strict=True):
            if len(found) * size > _MOST_ROWS:
                raise MachineError(
                    f"{self.number:,} rows lie across one another, too many to tell apart ({_MOST_ROWS:,} at "
                    "most); make each pitch as large as all that it steps over"
                )
            found = (found[:, None] + np.arange(size, dtype=np.int64) * pitch).ravel()
            # From here the inner loops reach `span` places on.
            found = found[(found < high) & (found + span >= low)]
        found.sort()
        return found


def runs(start: int, sizes: Sequence[int], pitches: Sequence[int]) -> Runs:
    """The set of places of nested loops, in as few runs as one pass over the pitches finds."""
    axes: list[Axis] = []
    length = 1
    for pitch, size in sorted((pitch, size) for size, pitch in zip(sizes, pitches, strict=True) if size > 1 and pitch):
        if not axes and pitch <= length:
            length += pitch * (size - 1)
        else:
            axes.append((pitch, size))
    return Runs(start, length, tuple(axes))


def visited_twice(start: int, sizes: Sequence[int], pitches: Sequence[int]) -> int | None:
    """A place that nested loops visit more than once, or None. Raises MachineError as `Runs.starts`."""
    axes = sorted((pitch, size) for size, pitch in zip(sizes, pitches, strict=True) if size > 1)
    length = reach = 1
    outer: list[Axis] = []
    apart = True
    for pitch, size in axes:
        if not outer and pitch < length:
            return start + pitch
        if not outer and pitch == length:
            length *= size
        else:
            outer.append((pitch, size))
        apart = apart and pitch >= reach
        reach += pitch * (size - 1)
    if apart:
        return None
    if length * math.prod(size for _, size in outer) > reach:
        # More visits than places: a part of the loops that is as large as its own hull has it too.
        outer = _crowded(length, outer)
    found = Runs(start, length, tuple(outer)).starts(start, start + reach)
    twice = np.flatnonzero(np.diff(found) < length)
    return int(found[twice[0] + 1]) if twice.size else None


def _crowded(length: int, axes: list[Axis]) -> list[Axis]:
    """The loops cut to few turns that still visit more places than there are."""
    taken: list[Axis] = []
    visits, reach = length, length
    for pitch, size in axes:
        # Whether `turns` of this loop are too many: turns * visits > reach + (turns - 1) * pitch.
        turns = size if visits <= pitch else min(size, (reach - pitch) // (visits - pitch) + 1)
        turns = max(turns, 1)
        taken.append((pitch, turns))
        visits *= turns
        reach += pitch * (turns - 1)
        if visits > reach:
            break
    return taken


def shared(a: Runs, b: Runs) -> int | None:
    """The first place that two sets have in common, or None. Raises MachineError as `Runs.starts`."""
    ends = [item.start + item.length + sum(pitch * (size - 1) for pitch, size in item.axes) for item in (a, b)]
    low, high = max(a.start, b.start), min(ends)
    if low >= high:
        return None
    if not a.axes and not b.axes:
        return low
    one, two = a.starts(low, high), b.starts(low, high)
    if not one.size or not two.size:
        return None
    # The last run of `b` that begins at or before each of `a`'s, and the first one behind it.
    before = np.searchsorted(two, one, side="right") - 1
    places = [int(one[(before >= 0) & (two[before] + b.length > one)].min(initial=high))]
    behind = np.searchsorted(one, two, side="right") - 1
    places.append(int(two[(behind >= 0) & (one[behind] + a.length > two)].min(initial=high)))
    first = min(places)
    return first if first < high else None
