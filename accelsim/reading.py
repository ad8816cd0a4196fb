"""How files that nobody vouches for are read: regular files of a bounded size, as text, JSON or YAML taken strictly."""

from __future__ import annotations

import json
import math
import os
import re
import stat
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import yaml

#: Bytes of a text file that are read at most: a configuration takes one or two thousand.
TEXT_BYTES = 1 << 24
CONFIGURATION_BYTES = 1 << 18

#: Of a YAML document: levels of nesting, and values in it, those behind an alias counted each time.
_LEVELS = 16
_VALUES = 10_000

#: Characters of an integer: more than any key takes.
_DIGITS = 40

#: Characters of a foreign value that an error repeats.
_SHOWN = 80


def regular_file(path: str | Path) -> os.stat_result:
    """What the system says of a file. Raises ValueError with the reason where `path` names no regular file."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        raise ValueError("no such file") from None
    except OSError as error:
        raise ValueError(error.strerror or "the system refuses it") from None
    except ValueError:
        raise ValueError("no file has such a name") from None
    if stat.S_ISDIR(found.st_mode):
        raise ValueError("is a directory")
    if not stat.S_ISREG(found.st_mode):
        raise ValueError("is a device or a pipe, not a file")
    return found


def read_text(path: str | Path, most: int = TEXT_BYTES) -> str:
    """The text of a UTF-8 file of at most `most` bytes. Raises ValueError with the reason, for a caller to name."""
    size = regular_file(path).st_size
    if size > most:
        raise ValueError(f"has {size:,} bytes; at most {most:,} are read")
    try:
        with open(path, "rb") as file:
            content = file.read(most + 1)
    except OSError as error:
        raise ValueError(error.strerror or "the system refuses it") from None
    if len(content) > most:
        raise ValueError(f"does not end after {most:,} bytes")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not text: byte {error.start} is not UTF-8") from None


def shown(value: Any) -> str:
    """A foreign value as an error repeats it: one line, short, in characters that any terminal shows."""
    try:
        text = ascii(value) if not isinstance(value, dict | list | tuple | set) else _outline(value)
    except ValueError:  # an integer of more digits than Python writes
        text = "an integer of thousands of digits"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _outline(value: Any) -> str:
    """A collection; what is in it, only where that is small and flat."""
    items = value.values() if isinstance(value, dict) else value
    if len(value) <= 8 and not any(isinstance(item, dict | list | tuple | set) for item in items):
        return ascii(value)
    return f"a {type(value).__name__} of {len(value)}"


def from_json(text: str) -> Any:
    """JSON without NaN and infinities, whose objects name each key once. Raises ValueError saying what is wrong."""
    try:
        return json.loads(text, object_pairs_hook=_object, parse_constant=_no_number, parse_float=_finite)
    except RecursionError:
        raise ValueError("not JSON: nested too deeply") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"key {shown(name)} is given twice")
        found[name] = value
    return found


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _no_number(text)


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{shown(text)[1:-1]} is no finite number")


class _Loader(yaml.SafeLoader):
    """YAML with the plain values of its version 1.2 alone: no dates, no numbers to base 8 or 60, no yes and no."""

    yaml_implicit_resolvers: ClassVar[dict[str, list[tuple[str, re.Pattern[str]]]]] = {}  # type: ignore[misc]

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._level = self._nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """A node, as soon as its text is read: what is deep or endless ends here."""
        self._level += 1
        self._nodes += 1
        if self._level > _LEVELS or self._nodes > _VALUES:
            line = _line(self.peek_event().start_mark)  # type: ignore[no-untyped-call]
            raise ValueError(f"{line}nested more than {_LEVELS} levels deep, or more than {_VALUES:,} values")
        node: yaml.Node | None = super().compose_node(parent, index)
        self._level -= 1
        return node

    @classmethod
    def plain_tag(cls, value: str) -> str:
        """The tag of a plain value."""
        found = (tag for tag, pattern in cls.yaml_implicit_resolvers.get(value[:1], []) if pattern.match(value))
        return next(found, "tag:yaml.org,2002:str")


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"(true|True|TRUE|false|False|FALSE)\Z"), list("tTfF")
)
_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"(~|null|Null|NULL|)\Z"), ["~", "n", "N", ""])
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"[-+]?(0|[1-9][0-9_]*|0x[0-9a-fA-F]+)\Z"), list("-+0123456789")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"([-+]?(\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))\Z"
    ),
    list("-+.0123456789"),
)
_PLAIN = {f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "map", "seq")}


def from_yaml(text: str) -> Any:
    """One YAML document of plain values. Raises ValueError with the line of a key given twice, of an unknown tag, of a
    value that its tag does not allow, of nesting or aliases that make too much of it."""
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _count(node, {})
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise ValueError(f"{_line(mark)}not YAML: {shown(error.problem or error.context)[1:-1]}") from None
    except yaml.YAMLError as error:
        raise ValueError(f"not YAML: {shown(str(error).splitlines()[0])[1:-1]}") from None


def _line(mark: Any) -> str:
    return "" if mark is None else f"line {mark.line + 1}: "


def _count(node: yaml.Node, known: dict[int, int]) -> int:
    """Values in the tree, each alias taken for what it stands for; checks tags and keys on the way.

    `known`: those counted by identity, 0 while they are being counted.
    """
    where = _line(node.start_mark)
    if id(node) in known:
        if not known[id(node)]:
            raise ValueError(f"{where}an alias stands within what it stands for")
        return known[id(node)]
    known[id(node)] = 0
    if node.tag not in _PLAIN:
        raise ValueError(f"{where}tag {shown(node.tag)}; a configuration holds plain values, without tags")
    total = 1
    if isinstance(node, yaml.MappingNode):
        _check_keys(node)
        parts = [part for pair in node.value for part in pair]
    else:
        parts = node.value if isinstance(node, yaml.SequenceNode) else []
        if isinstance(node, yaml.ScalarNode):
            _check_scalar(node)
    for part in parts:
        total += _count(part, known)
        if total > _VALUES:
            raise ValueError(f"{where}aliases make more than {_VALUES:,} values of it; write them out")
    known[id(node)] = total
    return total


def _check_keys(node: yaml.MappingNode) -> None:
    lines: dict[str, int] = {}
    for key, _ in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise ValueError(f"line {line}: a key must be a name")
        if key.value in lines:
            raise ValueError(f"line {line}: key {shown(key.value)} is given twice, first in line {lines[key.value]}")
        lines[key.value] = line


def _check_scalar(node: yaml.ScalarNode) -> None:
    """An explicit tag must fit its value: `!!int x` does not."""
    kind = node.tag.rpartition(":")[2]
    if kind == "str":
        return
    if _Loader.plain_tag(node.value) != node.tag or (kind == "int" and len(node.value) > _DIGITS):
        raise ValueError(f"{_line(node.start_mark)}{shown(node.value)} is no {kind}")
