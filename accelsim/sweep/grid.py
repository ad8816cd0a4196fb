"""The points of a sweep: the cartesian product of values for some keys of a configuration."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from accelsim.errors import ConfigurationError, SweepError
from accelsim.hardware import Accelerator

#: Their configurations are made and checked before the first one runs; so many take a minute, and a day to be timed.
MOST_POINTS = 100_000
_EXAMPLE = "mac_array.rows=4,8,16"


@dataclass(frozen=True)
class Axis:
    """A dotted configuration key and its values, as the configuration keeps them (`16KiB` is 16384)."""

    key: str
    values: tuple[Any, ...]


@dataclass(frozen=True)
class Candidate:
    """One configuration of the sweep and the values that set it apart, by key."""

    parameters: dict[str, Any]
    accelerator: Accelerator


def parse_axis(text: str) -> tuple[str, tuple[Any, ...]]:
    """`key=value,value` to the key and its values, typed as in YAML. Raises SweepError."""
    key, equals, listed = text.partition("=")
    key = key.strip()
    if not equals or not key or not listed.strip():
        raise SweepError(f"--set {text}: expected KEY=VALUE,VALUE, for example {_EXAMPLE}")
    values = []
    for item in listed.split(","):
        try:
            values.append(yaml.safe_load(item))
        except Exception:  # its constructors raise what they like: of dates, numbers, tags, depth
            raise SweepError(
                f"--set {key}: {item!r} is no value; write numbers or words, for example {_EXAMPLE}"
            ) from None
        if values[-1] is None:
            raise SweepError(f"--set {text}: a value is missing between two commas or at an end")
    return key, tuple(values)


def grid(accelerator: Accelerator, settings: Sequence[str]) -> tuple[tuple[Axis, ...], tuple[Candidate, ...]]:
    """The axes and all combinations, the last axis running fastest, each validated before anything runs.

    Raises SweepError naming the key and the value that a configuration does not take, or a key that is given twice.
    """
    axes: list[Axis] = []
    for key, values in map(parse_axis, settings):
        if any(axis.key == key for axis in axes):
            raise SweepError(f"--set {key}: given twice; list all its values in one --set")
        typed = tuple(_typed(accelerator, key, value) for value in values)
        if len(set(typed)) < len(typed):
            raise SweepError(f"--set {key}: a value is listed twice in {','.join(map(str, values))}")
        axes.append(Axis(key, typed))
    if not axes:
        raise SweepError(f"nothing to sweep; give at least one --set, for example --set {_EXAMPLE}")
    count = math.prod(len(axis.values) for axis in axes)
    if count > MOST_POINTS:
        raise SweepError(f"{count:,} combinations; a sweep takes at most {MOST_POINTS:,}: sweep fewer values at a time")
    candidates = []
    for combination in itertools.product(*(axis.values for axis in axes)):
        parameters = dict(zip((axis.key for axis in axes), combination, strict=True))
        candidates.append(Candidate(parameters, _replace(accelerator, parameters)))
    return tuple(axes), tuple(candidates)


def _typed(accelerator: Accelerator, key: str, value: Any) -> Any:
    """The value as the configuration keeps it."""
    data: Any = _replace(accelerator, {key: value}).to_dict()
    for part in key.split("."):
        data = data[part]
    if isinstance(data, dict):
        raise SweepError(f"--set {key}={value}: names a group of keys; sweep one of {', '.join(data)} in it")
    return data


def _replace(accelerator: Accelerator, parameters: dict[str, Any]) -> Accelerator:
    try:
        return accelerator.replace(**parameters)
    except ConfigurationError as error:
        said = " ".join(f"--set {key}={value}" for key, value in parameters.items())
        raise SweepError(f"{said}: {error}") from None
