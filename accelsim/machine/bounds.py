"""What bounds a run: each of its cycles given to the one resource that the MAC array waited for in it.

Where the array takes no vector, it waits for a unit, which in that very cycle works, or waits for another one. The
chain is followed to the unit that works, and the cycle is given to what that one works with. A unit that does nothing
while one of its instructions is on its way (data from DRAM, results in a pipeline) is waited for because of that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from .units import Span

#: A resource, and which cycles are given to it.
RESOURCES = {
    "array": "a vector enters the MAC array",
    "array_fill": "the MAC array preloads, or drains",
    "array_banks": "the MAC array repeats an access for want of banks",
    "post_lanes": "a vector enters the post unit",
    "post_fill": "the post unit reads constants or a table, or drains",
    "post_banks": "the post unit repeats an access for want of banks",
    "dram_bandwidth": "a beat moves on DRAM's bus, or a row is opened or closed",
    "dram_latency": "DRAM has been asked, and its answer is on its way",
    "l2_latency": "with an L2: it has been asked, and a hit is on its way",
    "l2_entries": "with an L2: all its entries are taken",
    "transfer_banks": "a transfer waits for a scratchpad with fewer banks than the bus has bytes",
    "fetcher": "a unit has no instruction, because none has come yet",
    "queues": "a unit has no instruction, because the queue of another one is full",
    "latency": "a result is on its way through a unit's pipeline",
}

_TRANSFER = {
    "busy": "dram_bandwidth",
    "dram_contention": "dram_bandwidth",
    "dram_row": "dram_bandwidth",
    "dram_latency": "dram_latency",
    "l2_miss": "dram_latency",
    "l2_latency": "l2_latency",
    "l2_full": "l2_entries",
    "request": "dram_latency",
    "bank_conflict": "transfer_banks",
}
_WORKS: Mapping[str, Mapping[str, str]] = {
    "mac": {"busy": "array", "fill": "array_fill", "bank_conflict": "array_banks"},
    "post": {"busy": "post_lanes", "fill": "post_fill", "bank_conflict": "post_banks"},
    "load": _TRANSFER,
    "store": _TRANSFER,
}
#: Who is waited for when a unit has no work any more: the end of a run is what comes behind it.
_BEHIND = {"mac": "post", "post": "store", "store": "load", "load": "load"}
_FETCH = "fetch"


def bounds(
    intervals: Mapping[str, Sequence[tuple[int, int, str]]], spans: Sequence[Span], cycles: int
) -> dict[str, int]:
    """Cycles by resource, in the order of `RESOURCES`, those with none left out; their sum is `cycles`.

    `intervals`: of each unit and of the fetcher its cycles 0 to `cycles` - 1 in order of time, as (start, end, cause).
    `spans`: when each instruction ran, up to its last result.
    """
    names = (*_WORKS, _FETCH)
    flying = {unit: np.array([(s.start, s.end) for s in spans if s.unit == unit]).reshape(-1, 2) for unit in _WORKS}
    starts = {name: np.array([start for start, _, _ in intervals[name]]) for name in names}
    edges = np.unique(np.concatenate([*starts.values(), *(each.ravel() for each in flying.values())]))
    edges = edges[edges < cycles]
    causes = sorted({cause for name in names for _, _, cause in intervals[name]})
    number = {cause: index for index, cause in enumerate(causes)}
    # What all units do from an edge on, as the digits of one number.
    states = np.zeros(len(edges), np.int64)
    for name in names:
        codes = np.array([number[cause] for _, _, cause in intervals[name]])
        states = states * len(causes) + codes[np.searchsorted(starts[name], edges, side="right") - 1]
    for unit in _WORKS:
        begun, ended = (np.searchsorted(np.sort(flying[unit][:, i]), edges, side="right") for i in (0, 1))
        states = states * 2 + (begun > ended)
    kinds, which = np.unique(states, return_inverse=True)
    lengths = np.bincount(which.ravel(), np.diff(edges, append=cycles), len(kinds))
    found = dict.fromkeys(RESOURCES, 0)
    for kind, length in zip(kinds.tolist(), lengths.tolist(), strict=True):
        on_way, doing = set[str](), {}
        for unit in reversed(list(_WORKS)):
            kind, flag = divmod(kind, 2)
            on_way |= {unit} if flag else set()
        for name in reversed(names):
            kind, code = divmod(kind, len(causes))
            doing[name] = causes[code]
        found[_resource(doing, on_way)] += int(length)
    return {name: total for name, total in found.items() if total}


def _resource(doing: Mapping[str, str], flying: set[str]) -> str:
    """What the array waits for in a cycle. `doing`: each unit's cause in it; `flying`: who has something on its way."""
    unit, visited = "mac", set[str]()
    while unit not in visited:
        visited.add(unit)
        cause = doing[unit]
        if cause in _WORKS[unit]:
            return _WORKS[unit][cause]
        if unit != "mac" and unit in flying:
            break
        if cause == _FETCH:
            return "queues" if doing[_FETCH] == "queue_full" else "fetcher"
        unit = _BEHIND[unit] if cause == "finished" else cause.removeprefix("wait_")
    return "dram_latency" if unit == "load" else "latency"
