"""Pass `place`: which stored tensors stay in the activation buffer from the operation that writes them to the last that
reads them, and where. The others live in DRAM and pass through the rest of the buffer tile by tile."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

from accelsim.compiler.operations import (
    Elementwise,
    Lowered,
    Matrix,
    Operation,
    Pool,
    TensorWeights,
    in_place,
    sources_of,
    target_of,
)

from .layout import Layout
from .streams import room_wanted

_Viewing = TypeVar("_Viewing", Matrix, Pool)


@dataclass(frozen=True)
class Placement:
    """`addresses` of resident tensors in the activation buffer; operation i has `staging[i]` = (start, stop) free.

    `layouts` of those that do not lie dense.
    """

    addresses: Mapping[str, int]
    layouts: Mapping[str, Layout]
    staging: tuple[tuple[int, int], ...]

    @property
    def key(self) -> Hashable:
        """Equal for equal placements."""
        return tuple(self.addresses.items()), tuple(self.layouts.items()), self.staging

    def laid_out(self, operation: _Viewing) -> _Viewing:
        """The operation with the views of what does not lie dense as it lies."""
        source, target = (
            self.layouts[view.tensor].view(view) if view.tensor in self.layouts else view
            for view in (operation.source, operation.target)
        )
        return replace(operation, source=source, target=target)


@dataclass(frozen=True)
class _LiveRange:
    """A tensor's bytes from the first operation that writes it to the last that uses it."""

    tensor: str
    first: int
    last: int
    uses: int


def place(lowered: Lowered, capacity: int, layouts: Mapping[str, Layout], streamed: Collection[str] = ()) -> Placement:
    """Greedy by bytes of DRAM traffic saved; a tensor stays if every operation meanwhile keeps room for its tiles.

    An operation all of whose operands stay needs none, so what found no room is tried again, alone and together with
    the other operands of an operation, until nothing more finds any. A tensor lies as one of the `layouts` says where
    there is one for it and room for that. The result of element-wise work may lie where an operand does that nothing
    reads afterwards. Those `streamed` live in DRAM whatever room there is.
    """
    fixed = {lowered.forms[name].tensor for name in (*lowered.inputs, *lowered.outputs)} | set(streamed)
    fixed |= set(lowered.constants)
    # The weight buffer is filled from DRAM alone.
    weights = [operation.weights for operation in lowered.operations if isinstance(operation, Matrix)]
    fixed |= {item.tensor for item in weights if isinstance(item, TensorWeights)}
    lives = {life.tensor: life for life in _lives(lowered) if life.tensor not in fixed}
    order = sorted(lives.values(), key=lambda life: (-lowered.tensors[life.tensor] * life.uses, life.first))
    rank = {life.tensor: number for number, life in enumerate(order)}
    together = [sorted(users & lives.keys(), key=rank.__getitem__) for users in map(_users, lowered.operations)]
    groups = [[life.tensor] for life in order] + [group for group in together if len(group) > 1]
    buffer = _Buffer(lowered, capacity, layouts, _heirs(lowered, lives))
    found = True
    while found:
        found = False
        for group in groups:
            found |= buffer.take([lives[tensor] for tensor in group if tensor not in buffer.placed])
    return Placement(
        {tensor: address for tensor, (_, address, _) in buffer.placed.items()},
        {tensor: layouts[tensor] for tensor, (_, _, size) in buffer.placed.items() if size > lowered.tensors[tensor]},
        tuple((buffer.top(index), capacity) for index in range(len(lowered.operations))),
    )


def _users(operation: Operation) -> set[str]:
    return {target_of(operation), *sources_of(operation)}


class _Place(NamedTuple):
    """Where a tensor lies while it lives."""

    life: _LiveRange
    address: int
    size: int


class _Buffer:
    """The activation buffer as it fills: `placed` tensors, and of each operation those it meets."""

    def __init__(
        self, lowered: Lowered, capacity: int, layouts: Mapping[str, Layout], heirs: set[frozenset[str]]
    ) -> None:
        self._lowered, self._capacity, self._layouts, self._heirs = lowered, capacity, layouts, heirs
        self._users = [_users(operation) for operation in lowered.operations]
        self.placed: dict[str, _Place] = {}
        self._at: list[list[_Place]] = [[] for _ in lowered.operations]

    def top(self, index: int) -> int:
        """What is free from there on while operation `index` works."""
        return max((place.address + place.size for place in self._at[index]), default=0)

    def take(self, lives: Sequence[_LiveRange]) -> bool:
        """Place all of them, if every operation meanwhile keeps room for its tiles; whether there was any to place."""
        return bool(lives) and self._take(lives, {i for life in lives for i in range(life.first, life.last + 1)})

    def _take(self, lives: Sequence[_LiveRange], meanwhile: Iterable[int]) -> bool:
        if not lives:
            return all(self.top(index) + self._room(index) <= self._capacity for index in meanwhile)
        life, *others = lives
        for place in self._places(life):
            self.placed[life.tensor] = place
            for index in range(life.first, life.last + 1):
                self._at[index].append(place)
            if self._take(others, meanwhile):
                return True
            del self.placed[life.tensor]
            for index in range(life.first, life.last + 1):
                self._at[index].pop()
        return False

    def _room(self, index: int) -> int:
        return room_wanted(self._lowered.operations[index], self._users[index] - self.placed.keys())

    def _places(self, life: _LiveRange) -> Iterator[_Place]:
        """Where the tensor meets none that is alive at the same time, within the buffer: in the place of its heir or of
        the one whose heir it is, and at the lowest address; laid out for the banks first, if it can be."""
        dense = self._lowered.tensors[life.tensor]
        alive = {place for index in range(life.first, life.last + 1) for place in self._at[index]}
        layout = self._layouts.get(life.tensor)
        for size in (dense,) if layout is None else (layout.size(dense), dense):
            partners = {
                place for place in alive if place.size == size and {place.life.tensor, life.tensor} in self._heirs
            }
            for at in sorted({place.address for place in partners}):
                others = (place for place in alive if place not in partners or place.address != at)
                if all(place.address >= at + size or place.address + place.size <= at for place in others):
                    yield _Place(life, at, size)
            at = 0
            for start, stop in sorted((place.address, place.address + place.size) for place in alive):
                if at + size <= start:
                    break
                at = max(at, stop)
            if at + size <= self._capacity:
                yield _Place(life, at, size)


def _lives(lowered: Lowered) -> list[_LiveRange]:
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    uses: dict[str, int] = {}
    for index, operation in enumerate(lowered.operations):
        for tensor in (target_of(operation), *sources_of(operation)):
            first.setdefault(tensor, index)
            last[tensor] = index
            uses[tensor] = uses.get(tensor, 0) + 1
    return [_LiveRange(tensor, first[tensor], last[tensor], uses[tensor]) for tensor in first]


def _heirs(lowered: Lowered, lives: Mapping[str, _LiveRange]) -> set[frozenset[str]]:
    """Pairs of an operand and a result of element-wise work that may lie in one place: the one ends where the other
    begins, element for element.

    Not an operand that the matrix operation before reads too: if the work is fused with that, tile by tile, results
    would take the place of what the next tile needs.
    """
    found = set()
    for index, operation in enumerate(lowered.operations):
        if not isinstance(operation, Elementwise) or not in_place(operation) or operation.target[1]:
            continue
        target = operation.target[0]
        before = lowered.operations[index - 1] if index else operation
        for source, offset in operation.sources:
            if isinstance(before, Matrix) and before.source.tensor == source:
                continue
            whole = operation.size == lowered.tensors[source] == lowered.tensors[target] and not offset
            if whole and {source, target} <= lives.keys() and lives[source].last == index == lives[target].first:
                found.add(frozenset((source, target)))
    return found
