"""What a pass leaves can be read, pass by pass."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest

import accelsim
from accelsim.compiler import compile_with_plans, pipeline
from accelsim.compiler.dump import PASSES, dump
from accelsim.errors import CompileError

sys.path.insert(0, str(Path(__file__).parent))

from networks import Draft

EDGE = accelsim.Accelerator.from_yaml(Path(__file__).parents[2] / "configs" / "edge_16x16.yaml")


@pytest.fixture(scope="module")
def compilation() -> pipeline.Compilation:
    draft = Draft(np.random.default_rng(0))
    name = draft.convolution(draft.input((1, 3, 8, 8)), 8, 3, padding=1)
    name = draft.add(name, draft.lookup(name))
    network = draft.network(draft.linear(draft.reshape(name, (1, 512)), 7))
    return compile_with_plans(network, EDGE)


def test_the_passes_are_those_of_the_page_in_its_order() -> None:
    page = (Path(__file__).parents[2] / "docs" / "compiler.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| (\w+) \| `", page, re.MULTILINE) == list(PASSES)


def test_lower_lists_every_tensor_and_operation(compilation: pipeline.Compilation) -> None:
    lines = dump(compilation, "lower").splitlines()
    assert "tensor x0: 192 bytes" in lines
    kinds = [line.split(": ")[1].split()[0] for line in lines if line.startswith("operation")]
    assert kinds == ["matrix", "elementwise", "elementwise", "matrix"]


def test_place_says_where_each_tensor_lives(compilation: pipeline.Compilation) -> None:
    text = dump(compilation, "place")
    assert "tensor x0: DRAM\n" in text
    assert re.search(r"tensor n0: activation buffer from 0x", text)


def test_tile_has_a_plan_for_each_matrix(compilation: pipeline.Compilation) -> None:
    lines = dump(compilation, "tile").splitlines()
    assert [line.split(":")[0] for line in lines] == ["operation 0 of n0", "operation 3 of n4"]
    assert all("outputs=" in line and "bound=" in line for line in lines)


def test_reuse_and_synchronize_differ_in_nothing_but_tokens(compilation: pipeline.Compilation) -> None:
    before, after = (dump(compilation, name).splitlines() for name in ("reuse", "synchronize"))
    assert not any("wait=" in line or "signal=" in line for line in before)
    assert any("wait=" in line for line in after)
    assert [re.sub(r",? (wait|signal)=[^ ,]+", "", line) for line in after] == before
    assert len(after) == len(compilation.program.instructions)


def test_a_pass_that_there_is_not_is_refused(compilation: pipeline.Compilation) -> None:
    names = "lower, place, fuse, tile, allocate, emit, schedule, reuse, synchronize, time"
    with pytest.raises(CompileError, match=f"'fold' is no pass; the passes are {names}"):
        dump(compilation, "fold")
