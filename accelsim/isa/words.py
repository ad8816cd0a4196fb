"""The words of a line of assembly: how a name of any characters is written as one, and read back as it was."""

from __future__ import annotations

import json
import re

from accelsim.errors import AssemblyError

#: Between quotes a name may hold anything: "double" with the escapes of JSON, 'single' as it stands.
_QUOTED = r"\"(?:[^\"\\]|\\.)*\"|'[^']*'"
_STATEMENT = re.compile(rf"(?:{_QUOTED}|[^;\"'])*")
_WORD = re.compile(rf"(?:{_QUOTED}|[^\s\"'])+")
_PART = re.compile(rf"({_QUOTED})|[^\"']+")
_PLAIN = re.compile(r"[\w./:+*@%-]+", re.ASCII)


def quoted(name: str) -> str:
    """A name as one word of ASCII: as it stands where it is plain, else between double quotes with JSON's escapes."""
    return name if _PLAIN.fullmatch(name) else json.dumps(name)


def statement(line: str) -> str:
    """A line without its comment. Raises AssemblyError for a quote that is not closed."""
    if not _has_quotes(line):
        return line.partition(";")[0].strip()
    found = _STATEMENT.match(line)
    end = 0 if found is None else found.end()
    if line[end : end + 1] not in ("", ";"):
        raise AssemblyError(f"the quote {line[end]} is not closed; a quote in a name is written between the other kind")
    return line[:end].strip()


def words(text: str) -> list[str]:
    """The words of a statement, without their quotes. Raises AssemblyError for an escape that JSON does not have."""
    if not _has_quotes(text):
        return text.split()
    return ["".join(map(_unquoted, _PART.finditer(word))) for word in _WORD.findall(text)]


def _has_quotes(text: str) -> bool:
    return '"' in text or "'" in text


def _unquoted(part: re.Match[str]) -> str:
    text, between = part.group(), part.group(1)
    if between is None:
        return text
    if between[0] == "'":
        return between[1:-1]
    try:
        return str(json.loads(between, strict=False))
    except ValueError:
        raise AssemblyError(f"{between}: its escapes are not JSON's (\\n, \\u00e9, \\\\, \\\")") from None
