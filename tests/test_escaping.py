"""Whatever a name holds, what is written of it stays what it is meant to be: one line, one comment, one file name."""

from __future__ import annotations

import json
import math
import re
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accelsim import escaping
from accelsim.errors import ModelError

#: Texts of all characters, half surrogates too, and of the pieces that end or begin something in some target.
PIECES = [
    "*/",
    "/*",
    "??/",
    "\\",
    "\\\n",
    "//",
    "`",
    "``",
    "$",
    "_",
    "<b>",
    "\x1b[0m",
    "\u202e",
    "\u2028",
    "\0",
    "\ud800",
]
HOSTILE = st.lists(st.one_of(st.characters(), st.sampled_from(PIECES), st.sampled_from("ab.1 -"))).map("".join)


@given(HOSTILE)
def test_nothing_but_characters_reaches_a_terminal(text: str) -> None:
    shown = escaping.printable(text)
    assert {unicodedata.category(char) for char in shown} <= {
        *("Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd", "Nl", "No"),
        *("Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "Sm", "Sc", "Sk", "So", "Zs"),
    }
    assert shown == text or not text.isprintable()
    assert escaping.printable(f"{text}\n\t", lines=True).endswith("\n\t")


def test_escapes_are_pythons() -> None:
    assert escaping.printable("a\x1b[31m\u202e\ud800\nü") == "a\\x1b[31m\\u202e\\ud800\\nü"
    assert str(ModelError("layer \x1b]0;x\x07: wrong\n  there")) == "layer \\x1b]0;x\\x07: wrong\n  there"
    assert len(str(ModelError("x" * 10**6))) == 4000


@given(HOSTILE)
def test_nothing_ends_a_comment_or_joins_its_line_to_the_next(text: str) -> None:
    said = escaping.c_comment(text)
    assert said.isascii()
    assert said.isprintable()
    assert len(said) <= 200 * 10
    # As a compiler reads it: trigraphs, then lines joined, then comments.
    source = f"/* {said} */\n// {said}\nend"
    for last, char in zip("=/'()!<>-", "#\\^[]|{}~", strict=True):
        source = source.replace(f"??{last}", char)
    source = source.replace("\\\n", "")
    assert re.sub(r"/\*.*?\*/|//[^\n]*", "", source, flags=re.DOTALL) == "\n\nend"
    assert "/*" not in said  # compilers warn of it


@given(HOSTILE)
def test_file_names_are_names_of_files_in_the_folder(text: str) -> None:
    name = escaping.file_name(text)
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}", name)
    assert not name.endswith(".")
    assert escaping.file_name(name) == name


def test_file_names_are_kept_where_they_are_harmless_and_never_devices() -> None:
    for name in ("two_layers", "ResNet.v1-5", "x" * 100, "con_x"):
        assert escaping.file_name(name) == name
    devices = {"CON", "NUL", "COM1", "AUX", "LPT0"}
    for name in ("CON", "nul", "com1.txt", "Aux.png", "LPT0", "../nul.x", "CON/"):
        assert escaping.file_name(name).partition(".")[0].upper() not in devices
    hostile = ["../../x", "/x", "x/", "", ".", "..", "x\0", "x" * 101, "x" * 102, "漢", "字"]
    assert len({escaping.file_name(name) for name in hostile}) == len(hostile)


@given(HOSTILE)
def test_a_code_span_holds_the_text(text: str) -> None:
    span = escaping.markdown_code(text)
    fence = re.match("`+", span)
    assert fence is not None
    inner = span[len(fence.group()) : -len(fence.group())]
    assert span.endswith(fence.group())
    assert fence.group() not in re.findall("`+", inner)
    assert inner.strip() == escaping.printable(text).strip()


@given(HOSTILE)
def test_markdown_shows_the_text_and_nothing_else(text: str) -> None:
    said = escaping.markdown(f"x {text}")
    assert said.isprintable()
    assert re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", said) == escaping.printable(f"x {text}")
    bare = re.sub(r"\\[!-/:-@\[-`{-~]", "", said)
    assert not set(bare) & set("`*<>&|~[]#\\")


def test_ordinary_names_are_left_alone_in_markdown() -> None:
    for name in ("layer1.0.conv", "fc_1", "0", "features.3", "conv2d-1"):
        assert escaping.markdown(name) == name
    assert escaping.markdown("1. x") == "1\\. x"
    assert escaping.markdown("_x_") == "\\_x\\_"


@given(HOSTILE, st.floats(), st.integers())
def test_json_is_taken_by_strict_readers(text: str, number: float, integer: int) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    document = {text: [text, (number, integer)], "array": np.array([[1.5, np.nan]]), "none": None}
    said = escaping.json_text(document)
    said.encode("ascii")
    back = json.loads(said, parse_constant=refuse)
    (key, *_) = back
    key.encode()
    assert back[key][1] == [number if math.isfinite(number) else back[key][1][0], integer]
    assert back["array"] == [[1.5, "NaN"]]
    if math.isinf(number):
        assert float(back[key][1][0]) == number


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
@given(text=HOSTILE)
def test_every_encoding_gets_the_text(encoding: str, text: str) -> None:
    escaping.in_encoding(escaping.printable(text), encoding).encode(encoding)


def test_a_picture_text_is_no_formula() -> None:
    from matplotlib.cbook import is_math_text

    for text in ("a$\\frac$", "$x$", "$$", "\\$x$", "$" * 99):
        assert not is_math_text(escaping.picture_text(text))
    assert escaping.picture_text("y" * 500) == "y" * 59 + "…"
