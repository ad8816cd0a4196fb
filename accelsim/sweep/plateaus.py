"""Where a swept key makes no difference, and the resource that holds the cycles there."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from accelsim.hardware import Accelerator
from accelsim.hardware.balance import Shortage, shortages

from .grid import Axis, Candidate

if TYPE_CHECKING:
    from .runner import Point

#: Of the cycles of one of two points: a key that changes less makes no difference. Half of it would call 16 and 32
#: columns on the same banks different, of which the compiler cuts one a little better; twice it hides small gains.
_SAME = 0.01

#: Of a run's cycles: a resource with less of them does not hold the array.
_LITTLE = 0.05


@dataclass(frozen=True)
class Plateau:
    """A key whose step from `before` changed nothing, and what held the cycles: `held_by`."""

    key: str
    before: Any
    held_by: str


def held_by(bounds: Mapping[str, int] | None, accelerator: Accelerator) -> str:
    """The resource other than the array itself that takes most of the cycles; the array's own where none takes 5 %.

    Where these are banks of the array, with those that are fewer than it needs: `array_banks (buffers.weight.banks)`.
    """
    if not bounds:
        return ""
    others = {name: cycles for name, cycles in bounds.items() if name != "array"}
    most = max(others, key=lambda name: others[name], default="array")
    if others.get(most, 0) < _LITTLE * sum(bounds.values()):
        return "array"
    if most == "array_banks":
        few = [item.key for item in shortages(accelerator) if item.key.endswith(".banks")]
        return f"{most} ({', '.join(few)})" if few else most
    return most


def plateaus(axes: Sequence[Axis], points: Sequence[Point]) -> dict[int, tuple[Plateau, ...]]:
    """By a point's number: the keys by which it differs from the point one value before, and makes no difference."""
    numbers = {_place(axes, point.parameters): number for number, point in enumerate(points)}
    found: dict[int, tuple[Plateau, ...]] = {}
    for number, point in enumerate(points):
        flat = []
        for axis in axes:
            place = axis.values.index(point.parameters[axis.key]) if axis.key in point.parameters else 0
            if not place:
                continue
            before = axis.values[place - 1]
            other = numbers.get(_place(axes, point.parameters | dict.fromkeys(axis.keys, before)))
            if other is not None and _same(points[other], point):
                flat.append(Plateau(axis.key, before, point.held_by))
        if flat:
            found[number] = tuple(flat)
    return found


def _same(one: Point, other: Point) -> bool:
    cycles = one.measurement.cycles, other.measurement.cycles
    return None not in cycles and abs(cycles[0] - cycles[1]) <= _SAME * max(cycles)  # type: ignore[operator,type-var]


def _place(axes: Sequence[Axis], parameters: Mapping[str, Any]) -> str:
    return json.dumps([parameters.get(axis.key) for axis in axes])


def warnings_of(candidates: Sequence[Candidate]) -> list[str]:
    """Of each key that is less than the array needs at some points one warning, with the first of them."""
    first: dict[str, Shortage] = {}
    counts: Counter[str] = Counter()
    for item in candidates:
        for shortage in shortages(item.accelerator):
            first.setdefault(shortage.key, shortage)
            counts[shortage.key] += 1
    return [
        f"{shortage} (at {counts[key]} of {len(candidates)} points): the array may wait for it; give it as "
        f'"{shortage.of}" in the configuration, or let them move together: --set {shortage.of},{key}=...'
        for key, shortage in first.items()
    ]
