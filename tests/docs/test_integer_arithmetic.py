"""Every figure on the page about integer arithmetic is what its code blocks compute."""

from __future__ import annotations

import doctest
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

PAGE = Path(__file__).parents[2] / "docs" / "integer_arithmetic.md"


@pytest.fixture
def engine_kept() -> Iterator[None]:
    before = torch.backends.quantized.engine
    yield
    torch.backends.quantized.engine = before


@pytest.mark.usefixtures("engine_kept")
def test_the_page_computes_its_figures() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = doctest.testfile(str(PAGE), module_relative=False, report=False)
    assert result.attempted > 50
    assert result.failed == 0, "the differences are in the captured output"


def test_every_block_of_code_is_run() -> None:
    text = PAGE.read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert blocks
    assert all(block.startswith(">>> ") for block in blocks)
