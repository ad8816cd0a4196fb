"""The search for the fastest program: where it starts, and what it keeps."""

from __future__ import annotations

from collections import Counter

from accelsim.hardware import Accelerator

from .decisions import Compilation, Decisions
from .moves import climb
from .search import RESOURCES, Build, Search, worth_timing


def fastest(build: Build, accelerator: Accelerator, effort: int) -> Compilation:
    """What `build` makes of the decisions that are found best.

    The search starts from what is made of the machine as it is, and of the machine with less of one resource: by the
    estimates more is faster, on the machine not always. From the best of these it changes decisions for the better,
    then from the next ones, while there is something left to spend.
    """
    first = build(Decisions(), set())
    assert first is not None
    if not worth_timing(first.program, effort):
        return first
    search = Search(build, accelerator, effort)
    views = [Counter[str]()]
    if effort > 1:
        # What would be found for a machine with half of one resource is to be found for this one, too.
        views += [Counter((name,)) for name in RESOURCES]
    for less in views:
        starts = search.starts(less)
        while starts:
            climb(search, starts)
            starts = [item for item in starts if item.cycles > starts[0].cycles]
    return search.chosen()
