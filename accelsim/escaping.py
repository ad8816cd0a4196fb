"""How text from outside is written where it is read: one function for each target.

Names come from models, files and command lines, and may hold anything: control characters that move a terminal's
cursor, marks that turn the direction of writing, half a surrogate pair, the end of a comment. Whatever writes such a
text passes it through the function of its target, and nothing else escapes.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from typing import Any

#: Names that Windows gives to devices, whatever ending follows.
_DEVICES = {"CON", "PRN", "AUX", "NUL", *(f"{name}{digit}" for name in ("COM", "LPT") for digit in range(10))}
_LONGEST_FILE_NAME = 100
_LONGEST_IN_A_COMMENT = 200
_LONGEST_IN_A_PICTURE = 60


def printable(text: str, *, lines: bool = False) -> str:
    """`text` for a terminal: what is not printed as a character of its own is shown as Python's escape.

    These are control characters, marks of direction, half surrogates and unusual spaces. With `lines`, line feeds and
    tabs stay.
    """
    if text.isprintable():
        return text
    kept = "\n\t" if lines else ""
    return "".join(char if char.isprintable() or char in kept else repr(char)[1:-1] for char in text)


def in_encoding(text: str, encoding: str) -> str:
    """`text` with what `encoding` cannot hold as escapes; the marks of our own tables as their like in ASCII."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.translate(_ASCII).encode(encoding, "backslashreplace").decode(encoding)
    return text


_ASCII = str.maketrans({"…": "...", "µ": "u", "×": "x", "–": "-", "─": "-", "—": "-", "•": "*", "’": "'"})


def picture_text(text: str) -> str:
    """`text` for matplotlib: no formula, and short enough to leave room for the picture."""
    return shortened(printable(text), _LONGEST_IN_A_PICTURE).replace("$", r"\$")


def shortened(text: str, most: int) -> str:
    """The first `most` characters, the last of them an ellipsis where some are left out."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def c_comment(text: str) -> str:
    """`text` inside a comment of C or Verilog, on one line: nothing in it ends the comment or joins lines."""
    ascii_only = "".join(
        char if char.isascii() and char.isprintable() and char != "\\" else f"<U+{ord(char):04X}>"
        for char in (text if len(text) <= _LONGEST_IN_A_COMMENT else f"{text[: _LONGEST_IN_A_COMMENT - 3]}...")
    )
    # Neither the ends of comments nor trigraphs.
    return re.sub(r"\?(?=\?)", "? ", ascii_only.replace("*/", "* /").replace("/*", "/ *"))


def markdown(text: str) -> str:
    """`text` inside a line of Markdown: no mark-up, no HTML, no link."""
    one_line = printable(text)
    # Between letters and digits an underscore marks nothing.
    marks = r"[\\`*<>&|~\[\]#]|(?<![^\W_])_|_(?![^\W_])"
    starts = r"^[-+=]|(?<=^\d)[.)](?=\s|$)"  # of a list, of the line under a title
    return re.sub(f"{marks}|{starts}", lambda found: f"\\{found.group()}", one_line)


def markdown_code(text: str) -> str:
    """`text` as a code span of Markdown, with its backticks."""
    one_line = printable(text)
    longest = max(map(len, re.findall("`+", one_line)), default=0)
    fence = "`" * (longest + 1)
    space = " " if longest or not one_line.strip() else ""
    return f"{fence}{space}{one_line}{space}{fence}"


def file_name(text: str) -> str:
    """`text` as the name of a file: letters, digits, `.`, `_` and `-` of ASCII, 1 to 100 of them, no path, no device.

    A name that has to be changed gets a part of its hash, so that two such names do not become one.
    """
    harmless = re.fullmatch(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9_-])?", text)
    if harmless and not _is_device(text):
        return text
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", text)[: _LONGEST_FILE_NAME - 10].strip("_.-") or "unnamed"
    mark = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{'_' if _is_device(plain) else ''}{plain}-{mark}"


def _is_device(name: str) -> bool:
    return name.partition(".")[0].upper() in _DEVICES


def json_text(document: Any, indent: int | None = None) -> str:
    """`document` as JSON in ASCII that every reader takes: no NaN, no infinities, no half surrogates.

    Those numbers become the words "NaN", "Infinity" and "-Infinity", half surrogates Python's escapes. Arrays and
    numbers of numpy become lists and numbers, complex ones pairs.
    """
    return json.dumps(_json(document), indent=indent, allow_nan=False)


def _json(item: Any) -> Any:
    if isinstance(item, str):
        return whole_characters(item)
    if item is None or isinstance(item, bool | int):
        return item
    if isinstance(item, float):
        return item if math.isfinite(item) else "NaN" if math.isnan(item) else "Infinity" if item > 0 else "-Infinity"
    if isinstance(item, complex):
        return [_json(item.real), _json(item.imag)]
    if isinstance(item, dict):
        return {_json(key): _json(value) for key, value in item.items()}
    if isinstance(item, list | tuple):
        return [_json(part) for part in item]
    return _json(item.tolist())  # numpy's


def whole_characters(text: str) -> str:
    """`text` in characters that UTF-8 has: half surrogates as Python's escapes."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")
