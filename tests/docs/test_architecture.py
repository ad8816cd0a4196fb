"""The architecture page names what exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from accelsim.report import causes

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`([a-z_]+(?:/[a-z_]+)+\.(?:py|md))", PAGE))))
def test_files_that_it_names_exist(path: str) -> None:
    assert (ROOT / path).exists() or (ROOT / "accelsim" / path).exists()


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#]+)\)", PAGE))))
def test_links_and_pictures_exist(target: str) -> None:
    assert (ROOT / "docs" / target).exists()


def test_every_cause_of_a_stall_is_explained() -> None:
    table = PAGE.split("| cause | the unit |")[1].split("\n\n")[0]
    explained = {name.strip() for row in table.splitlines()[2:] for name in row.split("|")[1].split(",")}
    assert explained == set(causes._CAUSES)
