"""The points of a sweep: values for some keys of a configuration, every combination of them or some."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from accelsim.errors import ConfigurationError, SweepError
from accelsim.hardware import Accelerator
from accelsim.hardware.expressions import Expression, Value, parse, resolve
from accelsim.hardware.relations import as_value, leaves, named

#: Their configurations are made and checked before the first one runs; so many take a minute, and a day to be timed.
MOST_POINTS = 100_000
_EXAMPLE = "mac_array.rows=4,8,16"

#: Combinations that are drawn at most for each point that is wanted, where few satisfy the constraints.
_DRAWS = 50

#: The group of keys that has a value of its own as a whole.
_ARITHMETIC = "requant_unit.arithmetic"


@dataclass(frozen=True)
class Axis:
    """A dotted configuration key and its values, as the configuration keeps them (`16KiB` is 16384).

    `others`: keys that always have the same value. A value may be a group of keys, and an expression of other keys.
    """

    key: str
    values: tuple[Any, ...]
    others: tuple[str, ...] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        """All keys that move."""
        return (self.key, *self.others)


@dataclass(frozen=True)
class Candidate:
    """One configuration of the sweep and the values that set it apart, by key."""

    parameters: dict[str, Any]
    accelerator: Accelerator


@dataclass(frozen=True, kw_only=True)
class Space:
    """What a sweep covers, of any configuration: axes of keys and values as they were written, or a list of points.

    `where`: expressions that hold at every point. `sample`: so many of all combinations, drawn with `seed`.
    """

    axes: tuple[Axis, ...] = ()
    points: tuple[Mapping[str, Any], ...] = ()
    where: tuple[str, ...] = ()
    sample: int | None = None
    seed: int = 0

    @classmethod
    def of(cls, settings: Sequence[str], where: Sequence[str] = (), sample: int | None = None, seed: int = 0) -> Space:
        """The space of `KEY,KEY=VALUE,VALUE` settings. Raises SweepError."""
        return cls(axes=tuple(map(_parsed, settings)), where=tuple(where), sample=sample, seed=seed)

    def candidates(self, accelerator: Accelerator) -> tuple[tuple[Axis, ...], tuple[Candidate, ...]]:
        """The axes with this configuration's values, and the points, the last axis running fastest; each validated.

        Raises SweepError naming the key and the value that the configuration does not take, a key given twice, or a
        constraint that says nothing or that no point satisfies.
        """
        constraints = tuple(_constraint(text) for text in self.where)
        if self.points:
            listed = tuple(Candidate(dict(point), _replace(accelerator, point)) for point in self.points)
            found = tuple(item for item in listed if _holds(constraints, item.accelerator))
            axes = _axes_of(found)
        else:
            axes = _typed_axes(accelerator, self.axes)
            found = tuple(self._combinations(accelerator, axes, constraints))
        if not found:
            raise SweepError(f"no point satisfies {' and '.join(f'--where {text!r}' for text in self.where)}")
        return axes, found

    def _combinations(
        self, accelerator: Accelerator, axes: tuple[Axis, ...], constraints: tuple[Expression, ...]
    ) -> Iterator[Candidate]:
        count = math.prod(len(axis.values) for axis in axes)
        wanted = count if self.sample is None else self.sample
        if min(wanted, count) > MOST_POINTS:
            raise SweepError(
                f"{count:,} combinations; a sweep takes at most {MOST_POINTS:,}: sweep fewer values at a time, or "
                "draw some of them (--random)"
            )
        order: Sequence[int] = range(count)
        if self.sample is not None:
            order = random.Random(self.seed).sample(order, min(count, max(_DRAWS * wanted, 1000)))
        for number in order:
            parameters = _combination(axes, number)
            machine = _replace(accelerator, parameters)
            if _holds(constraints, machine):
                yield Candidate(parameters, machine)
                wanted -= 1
            if not wanted:
                return


def grid(
    accelerator: Accelerator, settings: Sequence[str], where: Sequence[str] = ()
) -> tuple[tuple[Axis, ...], tuple[Candidate, ...]]:
    """The axes and all combinations of `KEY,KEY=VALUE,VALUE` settings that satisfy `where`, as `Space.candidates`."""
    return Space.of(settings, where).candidates(accelerator)


def parse_axis(text: str) -> tuple[tuple[str, ...], tuple[Any, ...]]:
    """`key,key=value,value` to the keys that move together and their values, typed as in YAML. Raises SweepError.

    `4..64` stands for 4, 8, 16, 32 and 64. Commas within brackets or quotes belong to a value.
    """
    named, equals, listed = text.partition("=")
    keys = tuple(key.strip() for key in named.split(","))
    if not equals or not all(keys) or not listed.strip():
        raise SweepError(f"--set {text}: expected KEY=VALUE,VALUE, for example {_EXAMPLE}")
    values: list[Any] = []
    for item in split(listed):
        if not item.strip():
            raise SweepError(f"--set {text}: a value is missing between two commas or at an end")
        values += _values(named, item)
    return keys, tuple(values)


def doublings(first: int, last: int) -> tuple[int, ...]:
    """`first`, twice that, and so on up to `last`."""
    return tuple(first << power for power in range(max(last // first, 1).bit_length()))


def _values(named: str, item: str) -> tuple[Any, ...]:
    first, dots, last = item.strip().partition("..")
    if dots and first.isdecimal() and last.isdecimal() and 0 < int(first[:12]) <= int(last[:12]):
        return doublings(int(first[:12]), int(last[:12]))
    try:
        value = yaml.safe_load(item)
    except Exception:  # its constructors raise what they like: of dates, numbers, tags, depth
        raise SweepError(
            f"--set {named}: {item!r} is no value; write numbers or words, for example {_EXAMPLE}"
        ) from None
    if value is None:
        raise SweepError(f"--set {named}: {item!r} is no value; write numbers or words, for example {_EXAMPLE}")
    return (value,)


def split(text: str) -> list[str]:
    """The parts between commas that are in no brackets and no quotes."""
    parts, depth, quote = [""], 0, ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        else:
            depth += (character in "([{") - (character in ")]}")
        if character == "," and depth <= 0 and not quote:
            parts.append("")
        else:
            parts[-1] += character
    return parts


def _parsed(text: str) -> Axis:
    keys, values = parse_axis(text)
    return Axis(keys[0], values, keys[1:])


def _typed_axes(accelerator: Accelerator, axes: Sequence[Axis]) -> tuple[Axis, ...]:
    """The axes with their values as the configuration keeps them."""
    if not axes:
        raise SweepError(f"nothing to sweep; give at least one --set, for example --set {_EXAMPLE}")
    keys = [key for axis in axes for key in axis.keys]
    for key in keys:
        if keys.count(key) > 1:
            raise SweepError(f"--set {key}: given twice; list all its values in one --set")
    typed = []
    for axis in axes:
        values = tuple([_typed(accelerator, key, value) for value in axis.values] for key in axis.keys)
        if len({json.dumps(value) for value in values[0]}) < len(axis.values):
            raise SweepError(f"--set {axis.key}: a value is listed twice in {','.join(map(str, axis.values))}")
        typed.append(Axis(axis.key, tuple(values[0]), axis.others))
    return tuple(typed)


def _typed(accelerator: Accelerator, key: str, value: Any) -> Any:
    """The value as the configuration keeps it; an expression, and a group of keys, as they were written."""
    machine = _replace(accelerator, {key: value})
    data: Any = machine.to_dict()
    for part in key.split("."):
        data = data[part]
    return value if isinstance(data, dict) or key in machine.relations else data


def _combination(axes: tuple[Axis, ...], number: int) -> dict[str, Any]:
    """The parameters of the combination of that number, in the order of the keys."""
    values = []
    for axis in reversed(axes):
        number, index = divmod(number, len(axis.values))
        values.append(axis.values[index])
    return {key: value for axis, value in zip(axes, reversed(values), strict=True) for key in axis.keys}


def _axes_of(candidates: Sequence[Candidate]) -> tuple[Axis, ...]:
    """The keys of a list of points with the values that they have there."""
    values: dict[str, list[Any]] = {}
    for item in candidates:
        for key, value in item.parameters.items():
            if value not in values.setdefault(key, []):
                values[key].append(value)
    return tuple(Axis(key, tuple(found)) for key, found in values.items())


def _replace(accelerator: Accelerator, parameters: Mapping[str, Any]) -> Accelerator:
    changes: dict[str, Any] = {}
    for key, value in parameters.items():
        # A group changes the keys that it names, and leaves the others of the group as they are.
        changes |= leaves(value, f"{key}.") if isinstance(value, dict) and key != _ARITHMETIC else {key: value}
    try:
        return accelerator.replace(**changes)
    except ConfigurationError as error:
        said = " ".join(f"--set {key}={value}" for key, value in parameters.items())
        raise SweepError(f"{said}: {error}") from None


def _constraint(text: str) -> Expression:
    try:
        return parse(text)
    except ValueError as error:
        raise SweepError(f"--where {text}: {error}") from None


def _holds(constraints: Sequence[Expression], accelerator: Accelerator) -> bool:
    """Whether a machine satisfies all constraints. Raises SweepError for one that is neither true nor false."""
    if not constraints:
        return True
    known = {key: as_value(value) for key, value in named(accelerator.to_dict()).items()}

    def lookup(name: str) -> Value:
        return known[resolve(name, known)]

    for expression in constraints:
        try:
            value = expression.value(lookup)
        except ValueError as error:
            raise SweepError(f"--where {expression.text}: {error}") from None
        if not isinstance(value, bool):
            raise SweepError(f"--where {expression.text}: is neither true nor false; write a comparison")
        if not value:
            return False
    return True
