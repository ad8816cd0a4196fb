"""How an instruction fills its unit's cycles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

#: Times of a unit's registers, in cycles from the start of an instruction.
Times = tuple[int, ...]


@dataclass(frozen=True)
class Occupancy:
    """Times are cycles from the instruction's start; it is complete, and its tokens are seen, after `cycles`.

    `lead` cycles come before the first vector of operands (preload, constants, a table), `busy` cycles bring a vector
    each, `conflict` cycles repeat an access for want of banks, and the last `drain` cycles come after the last vector.

    A unit that overlaps its instructions starts the next one up to `overlap` cycles before this one is complete. In
    the first `shared` cycles vectors of the instruction before still enter; `state` is what this one leaves behind. In
    the last `held` cycles of the lead all that is missing is a token that the preload did not need.
    """

    cycles: int
    lead: int
    busy: int
    conflict: int
    drain: int = 0
    overlap: int = 0
    shared: int = 0
    held: int = 0
    state: Times = ()

    @property
    def issue(self) -> int:
        """From here on the cycles belong to what comes next: the last vector has entered."""
        return self.cycles - self.drain

    @property
    def free(self) -> int:
        """The next instruction may start."""
        return self.cycles - self.overlap

    def since(self, cycles: int) -> Times:
        """`state`, seen by an instruction that starts `cycles` after this one."""
        return tuple(time - cycles for time in self.state)

    def phases(self, late: str) -> tuple[tuple[str, int], ...]:
        """The cycles `shared` to `issue` by cause, in the order in which they are charged; `late`: of those `held`."""
        return (
            ("fill", self.lead - self.held - self.shared),
            (late, self.held),
            ("busy", self.busy),
            ("bank_conflict", self.conflict),
            ("fill", self.issue - self.lead - self.busy - self.conflict),
        )


def repeat(state: Times, step: Callable[[Times], Times], count: int) -> Times:
    """`step` applied `count` times to a state of times, where `step` commutes with a shift of all of them.

    As soon as one step only shifts the state, the rest is one multiplication.
    """
    for done in range(1, count + 1):
        new = step(state)
        shift = new[0] - state[0]
        if all(after - before == shift for before, after in zip(state, new, strict=True)):
            return tuple(time + shift * (count - done) for time in new)
        state = new
    return state
