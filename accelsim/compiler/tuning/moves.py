"""The moves of the search: kinds of changes of the decisions, in the order in which they are tried.

A move proposes changes, one after the other, and sees what became of those before. A change that makes the program
faster is kept, every other one undone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from accelsim.compiler.plan.matrix import Allocation, MatrixPlan

from .search import Changes, Search, Timed

#: How many more cycles than with its fastest plan a layer may have taken with a plan for that to be tried.
_PROMISING = 1.1
#: What share of a program's cycles the fastest plans must save, going by the layers, to be tried together.
_SAVED = 0.005

_Key = tuple[int, Allocation]


@dataclass(frozen=True)
class Move:
    """A kind of change, and those that it proposes. `starts`: what the search may start from; it is at the first."""

    name: str
    proposals: Callable[[Search, Sequence[Timed]], Iterator[Changes]]


def climb(search: Search, starts: Sequence[Timed]) -> None:
    """Go on from the first start, move by move, while there is something left to spend."""
    search.move_to(starts[0])
    for move in MOVES:
        for changes in move.proposals(search, starts):
            search.offer(changes)


def _code(search: Search, starts: Sequence[Timed]) -> Iterator[Changes]:
    """The code in another bank of DRAM: beside what a layer loads, in the same one, rows would open in turn."""
    timings = search.accelerator.dram.timings
    if timings is not None:
        for bank in range(1, timings.banks_per_group, max(timings.banks_per_group // 4, 1)):
            yield {"gap": bank * timings.bank_groups * timings.row_bytes}


def _fastest_plans(search: Search, starts: Sequence[Timed]) -> Iterator[Changes]:
    """Of each matrix operation the plan with which its layer has taken the fewest cycles so far, all at once."""
    fastest = {}
    saved = 0
    for key, _, plan in search.matrices(search.best.compilation):
        taken = search.layers[key]
        fastest[key] = min(taken, key=taken.__getitem__)
        saved += taken[plan] - taken[fastest[key]]
    if saved > _SAVED * search.best.cycles:
        yield {"plans": {**search.decisions.plans, **fastest}}


def _plans(search: Search, starts: Sequence[Timed]) -> Iterator[Changes]:
    """Other plans, the lowest estimates first: of all operations that have the same at once, then of each."""
    others = [(key, plans) for key, plans in search.others() if key not in search.tried]
    search.tried.update(key for key, _ in others)
    alike: dict[tuple[MatrixPlan, ...], list[_Key]] = {}
    for key, plans in others:
        alike.setdefault(plans, []).append(key)
    for group in ([(keys, plans) for plans, keys in alike.items()], [([key], plans) for key, plans in others]):
        for rank in range(max((len(plans) for _, plans in group), default=0)):
            for keys, plans in group:
                if rank < len(plans) and any(_promising(search, key, plans[rank]) for key in keys):
                    yield {"plans": {**search.decisions.plans, **dict.fromkeys(keys, plans[rank])}}


def _promising(search: Search, key: _Key, plan: MatrixPlan) -> bool:
    """Whether the layer is not known to take much longer with the plan than with another."""
    taken = search.layers[key]
    return taken.get(plan, 0) <= _PROMISING * min(taken.values())


def _resources(search: Search, starts: Sequence[Timed]) -> Iterator[Changes]:
    """What the passes are told of the machine, as for the other starts."""
    for other in starts[1:]:
        yield {"halved": other.compilation.decisions.halved}


def _streamed(search: Search, starts: Sequence[Timed]) -> Iterator[Changes]:
    """Each tensor that stays on the chip in DRAM."""
    for tensor in search.best.compilation.placement.addresses:
        yield {"streamed": search.decisions.streamed | {tensor}}


def _dense(search: Search, starts: Sequence[Timed]) -> Iterator[Changes]:
    """Each tensor that has gaps for the banks without them."""
    for tensor in search.best.compilation.placement.layouts:
        yield {"dense": search.decisions.dense | {tensor}}


def _apart(search: Search, starts: Sequence[Timed]) -> Iterator[Changes]:
    """Each fused pair apart."""
    for index in search.best.compilation.fusions:
        yield {"apart": search.decisions.apart | {index}}


MOVES = (
    Move("code in another bank", _code),
    Move("fastest plans so far", _fastest_plans),
    Move("other plans", _plans),
    Move("other resources", _resources),
    Move("tensor in DRAM", _streamed),
    Move("tensor without gaps", _dense),
    Move("pair apart", _apart),
    # Of operations that have another room now.
    Move("other plans again", _plans),
)
