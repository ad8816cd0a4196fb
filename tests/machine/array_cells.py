"""The registers of the clocked array: read ports, skew, cells, the accumulator port. One `step` is one cycle."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable

import numpy as np

from .array_loops import Access, Machine, Write

NOTHING = -1


class Turns:
    """Accesses that a port still owes of what it was asked for last: every cycle each bank does one.

    `banks` 0: as many as it takes.
    """

    def __init__(self, banks: int) -> None:
        self.banks = banks
        self.waiting: Counter[int] = Counter()

    def ask(self, addresses: Iterable[int]) -> None:
        self.waiting = Counter(address % self.banks if self.banks else address for address in addresses)

    def tick(self) -> None:
        self.waiting = +(self.waiting - Counter(self.waiting.keys()))

    def __bool__(self) -> bool:
        return bool(self.waiting)


class Reader:
    """A read port for one vector at a time: each cycle every bank serves the lowest lane that waits for it.

    `banks` 0: as many as it takes.
    """

    def __init__(self, memory: np.ndarray, banks: int, width: int) -> None:
        self.memory, self.banks, self.width = memory, banks, width
        self.waiting: list[int] = []
        self.access: Access | None = None
        self.register = np.zeros(width, np.int64)

    def ask(self, access: Access) -> None:
        assert not self.waiting
        self.access = access
        self.waiting = list(range(len(access.addresses)))
        self.register = np.zeros(self.width, np.int64)

    def serve(self) -> bool:
        """One cycle; whether the vector will be complete at its end."""
        taken, left = set(), []
        for item in self.waiting:
            assert self.access is not None
            bank = self.access.addresses[item] % self.banks if self.banks else item
            if bank in taken:
                left.append(item)
                continue
            taken.add(bank)
            instead = self.access.instead[item]
            # A lane of padding takes its turn too: time must not depend on where a window lies.
            value = self.memory[self.access.addresses[item]] if instead is None else instead
            lane = self.access.lanes[item]
            if lane is not None:
                self.register[lane] = value
        self.waiting = left
        return not left


class Skew:
    """A triangle of registers: a lane comes out so many cycles after it went in. Values are (fields, lanes)."""

    def __init__(self, fields: int, delays: list[int], empty: int = 0) -> None:
        self.stages = np.full((max(delays), fields, len(delays)), empty, np.int64)
        self.delays, self.lanes = np.array(delays), np.arange(len(delays))

    def step(self, entering: np.ndarray) -> np.ndarray:
        every = np.concatenate([entering[None], self.stages])
        self.stages = every[:-1]
        return every[self.delays, :, self.lanes].T


class Stages:
    """Which cells lie between two rows, and two columns, of registers. Within, what moves is a wire."""

    def __init__(self, machine: Machine) -> None:
        self.rows = [row // machine.rows_per_stage for row in range(machine.rows)]
        self.columns = [column // machine.columns_per_stage for column in range(machine.columns)]
        self.to_bottom = [self.columns[-1] - stage for stage in self.columns]
        #: The row above (the column to the left) whose registers a cell sees; -1: the edge's.
        self.above = [stage * machine.rows_per_stage - 1 for stage in self.rows]
        self.left = [stage * machine.columns_per_stage - 1 for stage in self.columns]

    def from_left(self, edge: np.ndarray, register: np.ndarray) -> np.ndarray:
        """What each cell sees: the edge, or the last register to its left."""
        return np.concatenate([register, edge[:, :, None]], axis=2)[:, :, self.left]

    def from_above(self, edge: np.ndarray, register: np.ndarray) -> np.ndarray:
        return np.concatenate([register, edge[:, None, :]], axis=1)[:, self.above, :]

    def down(self, edge: np.ndarray, register: np.ndarray, cell: Callable[[int, np.ndarray], np.ndarray]) -> np.ndarray:
        """What each row of cells makes of what comes from above: from a register, within a stage from the row above."""
        made: list[np.ndarray] = []
        for row, seen in enumerate(self.from_above(edge, register).swapaxes(0, 1)):
            made.append(cell(row, seen if self.above[row] == row - 1 else made[-1]))
        return np.stack(made, axis=1)


class Line:
    """A shift register: what goes in comes out `length` cycles later."""

    def __init__(self, length: int) -> None:
        self.stages: deque[object] = deque([None] * length)

    def step(self, entering: object) -> object:
        self.stages.append(entering)
        return self.stages.popleft()

    def empty(self) -> bool:
        return all(stage is None for stage in self.stages)


class AccumulatorPort:
    """Read, add, write: one word a bank and cycle. The old words are read a cycle ahead, and a write of that very cycle
    is forwarded, so what is added to is what the memory holds when the sum is written."""

    def __init__(self, memory: np.ndarray, banks: int) -> None:
        self.memory, self.banks = memory, banks
        self.pending: list[tuple[int, int, bool]] = []
        self.write = Write((), (), False)

    def step(self, arriving: tuple[Write, np.ndarray] | None) -> int | None:
        """One cycle; the instruction whose last word it wrote, if it did."""
        if arriving is not None:
            assert not self.pending, "results came out while the port was at work"
            self.write, values = arriving
            self.pending = list(zip(self.write.addresses, values.tolist(), self.write.masked, strict=False))
        elif not self.pending:
            return None
        taken, left = set(), []
        for address, value, masked in self.pending:
            if self.banks and address % self.banks in taken:
                left.append((address, value, masked))
                continue
            taken.add(address % self.banks if self.banks else address)
            if not masked:
                self.memory[address] = value + (self.memory[address] if self.write.accumulate else 0)
        self.pending = left
        return None if left else self.write.end_of


class StationaryCells:
    """Cells that hold one operand: it passes by with the number of the row (or column) that keeps it, into a shadow
    register; the vector that carries `swap` makes it the active one, and leaves 0 in the shadow. Sums move down."""

    def __init__(self, machine: Machine, down: bool) -> None:
        shape = machine.rows, machine.columns
        self.down = down
        self.stream = np.zeros((2, *shape), np.int64)  # value, swap
        self.passing = np.full((2, *shape), NOTHING, np.int64)  # value, who keeps it
        self.shadow, self.active, self.sums = (np.zeros(shape, np.int64) for _ in range(3))
        self.mine = np.broadcast_to(np.arange(shape[0])[:, None] if down else np.arange(shape[1]), shape)
        self.stages = Stages(machine)
        self.rows_in, self.columns_out = Skew(2, self.stages.rows), Skew(1, self.stages.to_bottom)
        self.preload_in = Skew(2, self.stages.columns if down else self.stages.rows, NOTHING)

    def step(self, stream: np.ndarray, preload: np.ndarray) -> np.ndarray:
        """One cycle with these edge registers; the aligned results that can be used in it."""
        results = self.columns_out.step(self.sums[-1:])[0]
        value, swap = self.stages.from_left(self.rows_in.step(stream), self.stream)
        kept = self.preload_in.step(preload)
        passing = (self.stages.from_above if self.down else self.stages.from_left)(kept, self.passing)
        active, shadow = np.where(swap == 1, self.shadow, self.active), np.where(swap == 1, 0, self.shadow)
        products = value * active
        zeros = np.zeros((1, products.shape[1]), np.int64)
        self.sums = self.stages.down(zeros, self.sums[None], lambda row, above: above + products[row])[0]
        self.active = active
        self.shadow = np.where(passing[1] == self.mine, passing[0], shadow)
        self.passing = passing
        self.stream = np.stack([value, swap])
        return results


class OutputCells:
    """Cells that hold a sum: with `finish` it goes to the result register, which the token of its row takes out."""

    def __init__(self, machine: Machine) -> None:
        shape = machine.rows, machine.columns
        self.stream = np.zeros((3, *shape), np.int64)  # activation, clear, finish
        self.weights, self.sums, self.results = (np.zeros(shape, np.int64) for _ in range(3))
        self.leaving = np.full((2, *shape), NOTHING, np.int64)  # value, whose row
        self.stages = Stages(machine)
        self.rows_in, self.columns_in = Skew(3, self.stages.rows), Skew(1, self.stages.columns)
        self.tokens_in, self.columns_out = Skew(2, self.stages.columns, NOTHING), Skew(1, self.stages.to_bottom)

    def step(self, stream: np.ndarray, weights: np.ndarray, token: int) -> np.ndarray:
        """One cycle with these edge registers; the aligned results that can be used in it."""
        results = self.columns_out.step(self.leaving[0, -1:])[0]
        value, clear, finish = self.stages.from_left(self.rows_in.step(stream), self.stream)
        weight = self.stages.from_above(self.columns_in.step(weights[None]), self.weights[None])[0]
        entering = np.full((2, self.sums.shape[1]), NOTHING, np.int64)
        entering[1] = token
        self.leaving = self.stages.down(self.tokens_in.step(entering), self.leaving, self._take)
        self.sums = np.where(clear == 1, 0, self.sums) + value * weight
        self.results = np.where(finish == 1, self.sums, self.results)
        self.stream = np.stack([value, clear, finish])
        self.weights = weight
        return results

    def _take(self, row: int, above: np.ndarray) -> np.ndarray:
        return np.stack([np.where(above[1] == row, self.results[row], above[0]), above[1]])
