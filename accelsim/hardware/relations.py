"""Sizes of a configuration that follow others: `banks: "mac_array.columns"` in place of a number."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from pydantic import BaseModel

from .expressions import Expression, Value, parse, resolve

#: A number, or a size with its unit, of whatever unit: no expression.
_PLAIN = re.compile(r"\s*[-+]?(\d[\d.]*\s*[A-Za-z]*\s*)?")


@dataclass(frozen=True)
class RelationError(Exception):
    """What is wrong with the expression of a key."""

    key: str
    reason: str


def leaves(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of a nested configuration by dotted key."""
    found: dict[str, Any] = {}
    for name, value in data.items():
        found |= leaves(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return found


def named(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """What a constraint may name: the values by dotted key, and `buffers.bytes`, the sum of the on-chip memories."""
    found = leaves(configuration)
    sizes = [value for key, value in found.items() if re.fullmatch(r"buffers\.[^.]+\.bytes", key)]
    return found | {"buffers.bytes": sum(sizes)}


def split(model: type[BaseModel], data: Any) -> tuple[Any, dict[str, str]]:
    """The data of a configuration without its expressions, and those by key.

    In the data each gives way to the key's default, or to 1: the rest can be validated, defaults and all.
    """
    found = dict(_expressions(model, data, ""))
    plain = data
    for key in found:
        plain = _with(plain, key.split("."), model)
    return plain, found


def solve(texts: Mapping[str, str], known: Mapping[str, Any]) -> dict[str, int]:
    """The whole numbers that the expressions come to. `known`: every key's value, the placeholders of `split` included.

    Raises RelationError for a name that is no key or no number, for a cycle, and for what is no whole number.
    """
    found: dict[str, int] = {}
    parsed: dict[str, Expression] = {}
    for key, text in texts.items():
        try:
            parsed[key] = parse(text)
        except ValueError as error:
            raise RelationError(key, str(error)) from None

    def number(key: str, path: tuple[str, ...]) -> Value:
        if key in path:
            raise ValueError(f"{' needs '.join((*path[path.index(key) :], key))}, itself; give one of them as a number")
        if key not in parsed:
            return as_value(known[key])
        if key not in found:
            value = parsed[key].value(lambda name: number(resolve(name, known), (*path, key)))
            if not isinstance(value, Fraction) or value.denominator != 1:
                said = str(value) if isinstance(value, Fraction) else "no number"
                raise ValueError(
                    f"{parsed[key].text!r} comes to {said}, not to a whole number; // rounds down, ceil up"
                )
            found[key] = int(value)
        return Fraction(found[key])

    for key in parsed:
        try:
            number(key, ())
        except ValueError as error:
            raise RelationError(key, str(error)) from None
    return found


def as_value(value: Any) -> Value:
    """A configuration's value in an expression: numbers exact, everything else a word."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return Fraction(repr(value))
    return str(value)


def put(data: dict[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of nested data with the values of dotted keys, whose groups are there, replaced."""
    copy = {name: put(value, {}) if isinstance(value, dict) else value for name, value in data.items()}
    for key, value in values.items():
        *parents, last = key.split(".")
        part = copy
        for parent in parents:
            part = part[parent]
        part[last] = value
    return copy


def _expressions(model: type[BaseModel], data: Any, prefix: str) -> Iterator[tuple[str, str]]:
    """The texts at keys that hold whole numbers, where they are neither numbers nor sizes."""
    if not isinstance(data, dict):
        return
    for name, field in model.model_fields.items():
        value = data.get(name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _expressions(field.annotation, value, f"{prefix}{name}.")
        elif field.annotation is int and isinstance(value, str) and not _PLAIN.fullmatch(value):
            yield prefix + name, value


def _with(data: dict[str, Any], path: list[str], model: type[BaseModel]) -> dict[str, Any]:
    """A copy of the data with the key's placeholder: absent where there is a default, else 1."""
    name, *rest = path
    field = model.model_fields[name]
    copy = dict(data)
    if rest:
        assert isinstance(field.annotation, type)
        copy[name] = _with(data[name], rest, field.annotation)
    elif field.is_required():
        copy[name] = 1
    else:
        del copy[name]
    return copy
