"""Pass `synchronize`: from a program that is right when run one instruction after the other to one whose units overlap.

Units run their own instructions in order, so an instruction that needs what earlier ones of another unit did needs only
the last of them. That one signals, this one waits; a token that an earlier wait has taken already is not asked for
again. Every wait is for an instruction that stands before it, so that no program made here can deadlock, whatever the
depth of the queues.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence

from accelsim.isa import Instruction, Memory, Region, Unit, Units

_NEVER = -1
_UNITS = len(Unit)
_NOTHING = (_NEVER,) * _UNITS
_BITS = [int(Units.of(unit)) for unit in Unit]  # sets of them as plain numbers: adding to a flag is slow


class _Accesses:
    """For every byte of one memory the last instruction of each unit that read it, and the last that wrote it.

    Kept as intervals with equal answers: interval i covers `starts[i]` up to `starts[i + 1]`.
    """

    def __init__(self) -> None:
        self.starts = [0]
        self.reads: list[list[int]] = [[_NEVER] * _UNITS]
        self.writes: list[list[int]] = [[_NEVER] * _UNITS]

    def _split(self, address: int) -> int:
        """The index of the interval that starts at `address`."""
        index = bisect_right(self.starts, address) - 1
        if self.starts[index] == address:
            return index
        self.starts.insert(index + 1, address)
        self.reads.insert(index + 1, self.reads[index].copy())
        self.writes.insert(index + 1, self.writes[index].copy())
        return index + 1

    def touch(self, start: int, stop: int, unit: Unit, number: int, *, write: bool, needed: list[int]) -> None:
        """Instruction `number` of `unit` touches start..stop - 1: raise `needed` to what it must come after."""
        first, last = self._split(start), self._split(stop)
        for index in range(first, last):
            needed[:] = map(max, needed, self.writes[index], self.reads[index] if write else _NOTHING)
        if write:
            # Whoever comes later and after this write also comes after all that it waited for.
            del self.starts[first + 1 : last], self.reads[first + 1 : last], self.writes[first + 1 : last]
            self.reads[first] = [_NEVER] * _UNITS
            self.writes[first] = [_NEVER] * _UNITS
            self.writes[first][unit] = number
            return
        for index in range(first, last):
            self.reads[index][unit] = number


def synchronize(instructions: Sequence[Instruction], seen: Mapping[int, Sequence[Region]]) -> tuple[Instruction, ...]:
    """The same instructions with the `wait` and `signal` fields that keep every read and write in order.

    `seen`: what is looked at when an instruction has completed, as if it read that.
    """
    memories = {memory: _Accesses() for memory in Memory}
    done = [[_NEVER] * _UNITS for _ in Unit]  # done[unit][other]: the last of other's that unit has waited for
    waits, signals = [0] * len(instructions), [0] * len(instructions)
    for number, instruction in enumerate(instructions):
        if instruction.unit is None:
            continue
        needed = [_NEVER] * _UNITS
        reads = (*instruction.reads(), *seen.get(number, ()))
        for write, regions in ((False, reads), (True, instruction.writes())):
            for region in regions:
                memories[region.memory].touch(
                    region.start, region.stop, instruction.unit, number, write=write, needed=needed
                )
        for other in Unit:
            if other != instruction.unit and needed[other] > done[instruction.unit][other]:
                waits[number] |= _BITS[other]
                signals[needed[other]] |= _BITS[instruction.unit]
                done[instruction.unit][other] = needed[other]
    # The end of the run is the last store; what signals nobody, nobody waits for.
    return tuple(
        instruction.with_tokens(Units(waits[number]), Units(signals[number]))
        if waits[number] or signals[number]
        else instruction
        for number, instruction in enumerate(instructions)
    )
