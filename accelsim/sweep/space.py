"""A study in a YAML file: configurations, networks, and the values of keys that every one of them is swept over."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from accelsim.errors import SweepError
from accelsim.reading import CONFIGURATION_BYTES, from_yaml, read_text, shown

from .grid import MOST_POINTS, Axis, Space, doublings

_KEYS = ("configurations", "networks", "set", "points", "random", "where")


@dataclass(frozen=True)
class Study:
    """Each of the `networks` on each of the `configurations`, over one `space`; both as a command line names them."""

    configurations: tuple[str, ...]
    networks: tuple[str, ...]
    space: Space

    @classmethod
    def from_yaml(cls, path: str | Path) -> Study:
        """Read `path`; its keys are described in docs/sweeps.md. Raises SweepError with the key that is wrong."""
        try:
            data = from_yaml(read_text(path, CONFIGURATION_BYTES))
        except ValueError as error:
            raise SweepError(f"{path}: cannot be read ({error}); give the YAML file of a study") from None
        if not isinstance(data, dict) or "networks" not in data:
            raise SweepError(f"{path}: is no study; give a model beside a configuration, or the key `networks` in it")
        for key in data:
            if key not in _KEYS:
                raise SweepError(f"{path}: {shown(key)[1:-1]}: unknown key; the keys are {', '.join(_KEYS)}")
        wrong = _Refusal(str(path))
        if ("set" in data) == ("points" in data):
            wrong("set", "give either `set`, with the values of keys, or `points`, a list of them")
        sample, seed = _random(data.get("random"), wrong)
        if sample is not None and "points" in data:
            wrong("random", "draws from the combinations of `set`; `points` are taken as they are")
        space = Space(
            axes=tuple(_axes(data.get("set", {}), wrong)),
            points=tuple(_points(data.get("points", []), wrong)),
            where=_texts(data.get("where", []), "where", wrong),
            sample=sample,
            seed=seed,
        )
        configurations = _texts(data.get("configurations"), "configurations", wrong)
        return cls(configurations, _texts(data["networks"], "networks", wrong), space)


@dataclass(frozen=True)
class _Refusal:
    """Raises SweepError for a key of the file."""

    path: str

    def __call__(self, key: str, reason: str) -> NoReturn:
        raise SweepError(f"{self.path}: {key}: {reason}")


def _texts(data: Any, key: str, wrong: _Refusal) -> tuple[str, ...]:
    listed = [data] if isinstance(data, str) else data
    needed = key != "where"
    if not isinstance(listed, list) or not all(isinstance(item, str) for item in listed) or (needed and not listed):
        wrong(key, f"{shown(data)} is no text and no list of texts")
    if len(set(listed)) < len(listed):
        wrong(key, "one is listed twice")
    return tuple(listed)


def _axes(data: Any, wrong: _Refusal) -> Iterator[Axis]:
    if not isinstance(data, dict):
        wrong("set", "holds keys and their values, for example `mac_array.rows: [4, 8]`")
    for named, values in data.items():
        keys = [key.strip() for key in str(named).split(",")]
        if not all(keys):
            wrong(f"set.{named}", "a key is missing between two commas or at an end")
        yield Axis(keys[0], _values(f"set.{named}", values, wrong), tuple(keys[1:]))


def _values(key: str, data: Any, wrong: _Refusal) -> tuple[Any, ...]:
    """A list, one value, `{powers_of_two: [4, 64]}` or `{range: [4, 64, 4]}`."""
    if isinstance(data, dict) and data.keys() & {"powers_of_two", "range"}:
        ((form, ends),) = data.items() if len(data) == 1 else ((None, None),)
        if not isinstance(ends, list) or not all(type(end) is int and 0 < end <= 2**40 for end in ends):
            wrong(key, f"{shown(data)} is no list of values; write `powers_of_two: [4, 64]` or `range: [4, 64, 4]`")
        if form == "powers_of_two" and len(ends) == 2 and ends[0] <= ends[1]:
            return doublings(*ends)
        if form == "range" and len(ends) == 3 and ends[0] <= ends[1] and (ends[1] - ends[0]) // ends[2] < MOST_POINTS:
            return tuple(range(ends[0], ends[1] + 1, ends[2]))
        wrong(key, f"{shown(data)}: powers_of_two takes [FIRST, LAST], range takes [FIRST, LAST, STEP]")
    values = data if isinstance(data, list) else [data]
    if not values or any(value is None for value in values):
        wrong(key, "a value is missing")
    return tuple(values)


def _points(data: Any, wrong: _Refusal) -> Iterator[Mapping[str, Any]]:
    if not isinstance(data, list) or len(data) > MOST_POINTS:
        wrong("points", f"is a list of at most {MOST_POINTS:,} points")
    for number, point in enumerate(data):
        if not isinstance(point, dict) or not point:
            wrong(f"points[{number}]", "holds keys and values, for example {mac_array.rows: 4, mac_array.columns: 8}")
        yield {str(key): value for key, value in point.items()}


def _random(data: Any, wrong: _Refusal) -> tuple[int | None, int]:
    """How many points are drawn, None for all, and the seed."""
    if data is None:
        return None, 0
    given = {"points": data} if type(data) is int else data
    if not isinstance(given, dict) or not {"points"} <= given.keys() <= {"points", "seed"}:
        wrong("random", "takes {points: N, seed: S}, or N")
    for key, value in given.items():
        if type(value) is not int or value < (key == "points"):
            wrong(f"random.{key}", f"{shown(value)} is no whole number above 0")
    return given["points"], given.get("seed", 0)
