"""The committed instruction-set page is the one that the declarations give."""

from __future__ import annotations

from pathlib import Path

from accelsim.isa import INSTRUCTIONS
from accelsim.isa.documentation import markdown

PAGE = Path(__file__).parents[2] / "docs" / "instruction_set.md"


def test_the_committed_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == markdown(), (
        "python -m accelsim.isa.documentation > docs/instruction_set.md"
    )


def test_every_field_of_every_instruction_stands_on_the_page_with_its_bits() -> None:
    sections = dict(part.split("\n", 1) for part in PAGE.read_text(encoding="utf-8").split("\n## ")[1:])
    assert list(sections) == [kind.mnemonic for kind in INSTRUCTIONS]
    for kind in INSTRUCTIONS:
        offset = 8
        for field in kind.fields():
            bits = f"{offset + field.bits - 1}..{offset}" if field.bits > 1 else f"{offset}"
            assert f"| {bits} | `{field.name}` |" in sections[kind.mnemonic]
            offset += field.bits
