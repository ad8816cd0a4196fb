"""The committed page of the functions is the one that the lists of steps give, and its example runs."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from accelsim.arithmetic import functions
from accelsim.arithmetic.functions.documentation import markdown

PAGE = Path(__file__).parents[2] / "docs" / "functions.md"


def test_the_committed_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == markdown(), (
        "python -m accelsim.arithmetic.functions.documentation > docs/functions.md"
    )


def test_the_example_gives_what_it_says() -> None:
    example = re.search(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert example is not None
    first, second, third = (line for line in example[1].splitlines() if line.startswith("functions."))
    assert eval(first, {"functions": functions}).tolist() == [1, float(np.float32(2.7182817)), 0]
    for line in (second, third):
        assert eval(line, {"functions": functions}) == float(line.rsplit("# ", 1)[1])
