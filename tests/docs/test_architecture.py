"""The architecture page names what exists."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from accelsim import isa
from accelsim.hardware.configuration import MacArray
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
    rows = [[cell.strip() for cell in row.split("|")[1:3]] for row in table.splitlines()[2:]]
    explained = {name.strip(): text for names, text in rows for name in names.split(",")}
    assert explained == {cause: causes.meaning(cause) for cause in causes._CAUSES}


def files_to_touch(addition: str) -> set[str]:
    """What the table names for an addition, as paths from the repository's root."""
    row = next(line for line in PAGE.splitlines() if line.startswith(f"| {addition} |"))
    named: set[str] = set()
    folder = ""
    for path in re.findall(r"`([\w/*]+\.(?:py|md))`", row.split("|")[2]):
        if "/" in path:
            folder = path.rpartition("/")[0]
        path = path if "/" in path else f"{folder}/{path}"
        named.add(path if (ROOT / path).exists() else f"accelsim/{path}")
    return named


def sources(*folders: str) -> Iterator[tuple[str, list[ast.AST]]]:
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield str(path.relative_to(ROOT)), list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


def test_a_dataflow_s_name_stands_in_the_files_that_it_names_and_no_other() -> None:
    names = set(get_args(MacArray.model_fields["dataflow"].annotation))
    assert len(names) == 3
    naming = {
        path
        for path, nodes in sources("accelsim", "benchmarks")
        if any(isinstance(node, ast.Constant) and node.value in names for node in nodes)
    }
    assert naming == {path for path in files_to_touch("a dataflow") if not path.startswith(("docs/", "tests/"))}


def test_a_post_instruction_s_name_stands_in_the_files_that_it_names_and_no_other() -> None:
    """In the compiler the networks' operations have the same names: what counts there is who makes an instruction."""
    kinds = {"Add", "AddFixed", "Multiply", "Lookup", "Pool"}
    assert all(issubclass(getattr(isa, kind), isa.Instruction) for kind in kinds)
    naming = {
        path
        for path, nodes in sources("accelsim/isa", "accelsim/machine", "tests/machine")
        if not Path(path).name.startswith(("test_", "__init__"))
        and any(_declares(node, kinds) or _imports(node, kinds) for node in nodes)
    }
    making = {
        path
        for path, nodes in sources("accelsim")
        for imported in [_imported_instructions(nodes, kinds)]
        if any(
            isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in imported
            for node in nodes
        )
    }
    assert making == {"accelsim/compiler/emit/elementwise.py", "accelsim/compiler/emit/pool.py"}
    named = files_to_touch("a post instruction")
    assert {path for path in named if path.startswith(("accelsim/isa", "accelsim/machine", "tests"))} == naming
    assert making < named


def test_the_maximum_of_two_tensors_stands_in_six_files() -> None:
    """From the call that PyTorch records to the instruction: its rule, its node, its instruction, by whatever name."""
    names = {"LargerCode", "Maximum"}
    naming = {
        path
        for path, nodes in sources("accelsim")
        if any(_declares(node, names) or _imports(node, names) for node in nodes)
    }
    row = "a function of two codes, as the maximum, from a node of the network to the machine"
    assert naming == files_to_touch(row)
    assert len(naming) == 6


def _declares(node: ast.AST, names: set[str]) -> bool:
    return isinstance(node, ast.ClassDef) and node.name in names


def _imports(node: ast.AST, names: set[str]) -> bool:
    return isinstance(node, ast.ImportFrom) and any(alias.name in names for alias in node.names)


def _imported_instructions(nodes: list[ast.AST], kinds: set[str]) -> set[str]:
    """The names under which a file has the instructions."""
    return {
        alias.asname or alias.name
        for node in nodes
        if isinstance(node, ast.ImportFrom) and node.module == "accelsim.isa"
        for alias in node.names
        if alias.name in kinds
    }
