"""A name of any characters survives assembly: the text of a program gives the same words and the same names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accelsim.errors import AssemblyError
from accelsim.isa import Program, assemble
from accelsim.isa.words import quoted, statement, words

TWO_LAYERS = assemble((Path(__file__).parents[2] / "programs" / "two_layers.asm").read_text(encoding="utf-8"))
HOSTILE = [
    "a;b",
    "a\nhalt",
    "a\u2028halt",
    "a\rb",
    "\x85",
    "\x1c",
    "it's",
    '"',
    "'\"",
    "\\",
    "a\\",
    "",
    " ",
    "x=y",
    "\ud800",
]
NAMES = st.one_of(st.sampled_from(HOSTILE), st.text(st.characters()), st.text("ab;'\"\\ \n#=.\u2028"))


@given(st.lists(NAMES, min_size=1, max_size=4), st.text("abc;'\" ").map(lambda text: f"; {text}"))
def test_words_are_read_as_they_were_written(names: list[str], comment: str) -> None:
    line = " ".join(map(quoted, names))
    assert line.isascii()
    assert len(line.splitlines()) == 1
    assert words(statement(f"  {line} {comment}")) == names


@given(NAMES.filter(bool))
def test_a_program_of_such_names_is_the_same_program(name: str) -> None:
    program: Program = replace(
        TWO_LAYERS,
        name=name,
        layers=tuple(f"{name}{index}" for index in range(len(TWO_LAYERS.layers))),
        inputs=tuple(replace(port, name=f"{index}{name}") for index, port in enumerate(TWO_LAYERS.inputs)),
        outputs=tuple(replace(port, name=f"{name}{index}") for index, port in enumerate(TWO_LAYERS.outputs)),
        probes=tuple(
            replace(probe, port=replace(probe.port, name=f"{name}{index}"))
            for index, probe in enumerate(TWO_LAYERS.probes)
        ),
    )
    text = program.assembly()
    assert text.isascii()
    again = assemble(text)
    assert again == program
    assert again.words() == program.words()


def test_both_quotes_are_taken_and_a_comment_may_hold_either() -> None:
    assert words(statement("""'a; "b"' "c; 'd'\\n" plain ; it's "open""")) == ['a; "b"', "c; 'd'\n", "plain"]


@pytest.mark.parametrize("line", ['.program "a', ".program 'a", '.program "\\q"'])
def test_a_wrong_quote_is_named_with_its_line(line: str) -> None:
    with pytest.raises(AssemblyError, match=r"line 1: .*(not closed|not JSON's)"):
        assemble(line)
