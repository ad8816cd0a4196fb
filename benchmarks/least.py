"""The least DRAM traffic that a machine's buffers allow, one operation after the other.

Between two operations every value is on the chip, in DRAM, or in both, and what is on the chip must fit the activation
buffer together, an operation's operands beside its result. Of all such histories of a network the one that moves the
fewest bytes is found, exactly, by dynamic programming over the operations; what an operation loads again is that of its
own best tiling.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from accelsim.compiler.operations import Lowered, Matrix, Operation, sources_of, target_of


class Place(NamedTuple):
    """Where a value lies."""

    chip: bool
    dram: bool


_PLACES = (Place(True, False), Place(False, True), Place(True, True))
_State = tuple[tuple[str, Place], ...]


@dataclass(frozen=True)
class _Way:
    """The fewest bytes by which a state is reached, and those of the operations on the way."""

    total: int
    moved: tuple[int, ...]


def least_bytes(lowered: Lowered, capacity: int, streamed: Callable[[Operation, int], int]) -> list[int]:
    """Bytes of each operation on the best way through the network, instructions not counted.

    `capacity`: bytes of the activation buffer. `streamed(operation, read)`: bytes of constants and of what an operation
    loads again, if `read` bytes of its input come from DRAM.
    """
    ends = {lowered.forms[name].tensor for name in lowered.outputs}
    last = {name: index for index, op in enumerate(lowered.operations) for name in (target_of(op), *sources_of(op))}
    last |= dict.fromkeys(ends, len(lowered.operations))
    inputs = sorted({lowered.forms[name].tensor for name in lowered.inputs})
    ways: dict[_State, _Way] = {tuple((name, Place(False, True)) for name in inputs): _Way(0, ())}
    for index, operation in enumerate(lowered.operations):
        alive = {name for name, end in last.items() if end > index}
        after: dict[_State, _Way] = {}
        for state, way in ways.items():
            for found, written in _after(operation, dict(state), alive, lowered.tensors, ends, capacity):
                read = sum(lowered.tensors[n] for n in set(sources_of(operation)) if not dict(state)[n].chip)
                moved = read + written + streamed(operation, read)
                if found not in after or way.total + moved < after[found].total:
                    after[found] = _Way(way.total + moved, (*way.moved, moved))
        ways = after
    return list(min(ways.values(), key=lambda way: way.total).moved)


def _after(
    operation: Operation,
    before: Mapping[str, Place],
    alive: set[str],
    sizes: Mapping[str, int],
    ends: set[str],
    capacity: int,
) -> Iterator[tuple[_State, int]]:
    """The states that an operation may leave behind, and the bytes written to DRAM for each."""
    target = target_of(operation)
    choices = []
    for name in sorted((before.keys() | {target}) & alive):
        if name == target:
            part = operation.target.size if isinstance(operation, Matrix) else sizes[name]
            # Phases of a transposed convolution write parts of one value; it stays where the first one put it.
            places = [before[name]] if name in before else _PLACES
            choices.append([(name, place, part * place.dram) for place in places if place.dram or name not in ends])
            continue
        here = before[name].chip or name in sources_of(operation)
        choices.append(
            [
                (name, place, sizes[name] * (place.dram and not before[name].dram))
                for place in _PLACES
                if (here or not place.chip) and (place.dram or not before[name].dram)
            ]
        )
    for chosen in itertools.product(*choices):
        # An operand that has lain on the chip is there until the operation ends.
        held = {name for name, place, _ in chosen if place.chip} | {n for n in sources_of(operation) if before[n].chip}
        if sum(sizes[name] for name in held) <= capacity:
            yield tuple((name, place) for name, place, _ in chosen), sum(written for _, _, written in chosen)
