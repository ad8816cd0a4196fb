"""What would make a run faster: its work timed again with twice of one thing, or of things that belong together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from accelsim.errors import AccelsimError
from accelsim.hardware import Accelerator

#: A change that says no more than another one, by less than this share of the cycles, is not named beside it.
_SAME = 0.01


@dataclass(frozen=True)
class Change:
    """`what` in words, the resource that there is more of, and the configuration's keys with their new values."""

    what: str
    resource: str
    values: Mapping[str, int]


@dataclass(frozen=True)
class Outcome:
    """The cycles of the run with a change; None with the `error` where it cannot run so."""

    change: Change
    cycles: int | None
    error: str = ""

    def speedup(self, before: int) -> float:
        """How many times as fast as a run of `before` cycles; 0 where it cannot run."""
        return before / self.cycles if self.cycles else 0.0


def changes(accelerator: Accelerator) -> tuple[Change, ...]:
    """What is tried: twice the banks of a memory, the lanes, the bandwidth, the bytes, the rows and columns of the
    array, alone and with the banks and lanes that serve them; half the latency of DRAM."""
    data = accelerator.to_dict()

    def twice(*keys: str) -> dict[str, int]:
        return {key: 2 * _value(data, key) for key in keys}

    memories = ("activation", "weight", "accumulator")
    banks = [f"buffers.{memory}.banks" for memory in memories]
    lanes = ["requant_unit.lanes", "vector_unit.lanes"]
    rows, columns = "mac_array.rows", "mac_array.columns"
    served = "with twice the banks and lanes"
    return (
        *(
            Change(f"twice the banks of the {m} buffer", "banks", twice(k))
            for m, k in zip(memories, banks, strict=True)
        ),
        Change("twice the banks of all three", "banks", twice(*banks)),
        Change("twice the lanes of the post unit", "lanes", twice(*lanes)),
        Change("twice the bytes of the three buffers", "bytes", twice(*(f"buffers.{m}.bytes" for m in memories))),
        Change("twice the DRAM bandwidth", "bandwidth", twice("dram.bytes_per_cycle")),
        Change("half the DRAM latency", "latency", {"dram.latency": accelerator.dram.latency // 2}),
        Change("twice the rows of the array", "array", twice(rows)),
        Change("twice the columns of the array", "array", twice(columns)),
        Change(f"twice the rows of the array {served}", "array", twice(rows, *banks, *lanes)),
        Change(f"twice the columns of the array {served}", "array", twice(columns, *banks, *lanes)),
    )


def try_changes(
    accelerator: Accelerator,
    timed: Callable[[Accelerator], int],
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Outcome, ...]:
    """The outcome of each change, the fastest first. `timed` gives the cycles of the run on a configuration; `advance`
    is called with how many are done and how many there are."""
    outcomes = []
    every = changes(accelerator)
    for done, change in enumerate(every):
        advance(done, len(every))
        try:
            outcomes.append(Outcome(change, timed(accelerator.replace(**change.values))))
        except AccelsimError as error:
            outcomes.append(Outcome(change, None, str(error).partition("\n")[0]))
    advance(len(every), len(every))
    return tuple(sorted(outcomes, key=lambda outcome: (outcome.cycles is None, outcome.cycles or 0)))


def best(outcomes: Iterable[Outcome], before: int, most: int = 3) -> tuple[Outcome, ...]:
    """The changes to name, the fastest first, one a resource: each faster by 1 % or more than `before`, and than every
    smaller change that is a part of it."""
    ran = [outcome for outcome in outcomes if outcome.cycles is not None]

    def worth_it(outcome: Outcome) -> bool:
        parts = [other for other in ran if other.change.values.items() < outcome.change.values.items()]
        least = min([before, *(part.cycles or before for part in parts)])
        return (outcome.cycles or before) < least * (1 - _SAME)

    named: dict[str, Outcome] = {}
    for outcome in sorted(ran, key=lambda outcome: outcome.cycles or before):
        if worth_it(outcome):
            named.setdefault(outcome.change.resource, outcome)
    return tuple([*named.values()][:most])


def sentence(outcome: Outcome, before: int, accelerator: Accelerator) -> str:
    """An outcome in words: `Twice the DRAM bandwidth: 1.31 x, 1,234 cycles (dram.bytes_per_cycle 16 → 32).`"""
    data = accelerator.to_dict()
    keys = ", ".join(f"{key} {_value(data, key):,} → {value:,}" for key, value in outcome.change.values.items())
    what = outcome.change.what[0].upper() + outcome.change.what[1:]
    if outcome.cycles is None:
        return f"{what}: cannot run, {outcome.error} ({keys})."
    return f"{what}: {outcome.speedup(before):.2f} x, {outcome.cycles:,} cycles ({keys})."


def none_sentence(outcomes: Sequence[Outcome]) -> str:
    """What is said where no change is worth naming."""
    return f"None of {len(outcomes)} changes makes this run faster by 1 % or more."


def _value(data: Mapping[str, Any], key: str) -> int:
    part: Any = data
    for name in key.split("."):
        part = part[name]
    return int(part)
