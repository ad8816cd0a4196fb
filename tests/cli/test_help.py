"""`accelsim --help` says what the sub-commands say of themselves, and imports none of them."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import accelsim
from accelsim.cli import COMMANDS
from accelsim.errors import ConfigurationError
from accelsim.hardware import shipped

from .calling import call

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_line_of_the_list_is_the_first_of_the_command(name: str) -> None:
    function = getattr(importlib.import_module(f"accelsim.cli.{name}"), name)
    assert function.__doc__.partition("\n")[0] == COMMANDS[name]
    assert call(name, "--help").status == 0


def test_every_file_with_a_command_is_listed() -> None:
    files = {
        path.stem for path in (ROOT / "accelsim" / "cli").glob("*.py") if "@application.command" in path.read_text()
    }
    assert files == set(COMMANDS)


def test_help_imports_no_sub_command_and_nothing_large() -> None:
    code = (
        "import sys, accelsim.cli as cli\n"
        "try:\n    cli.application(['--help'], prog_name='accelsim')\nexcept SystemExit:\n    pass\n"
        "large = {'torch', 'numpy', 'simpy', 'matplotlib', 'pydantic', 'onnx', 'accelsim.cli.run'}\n"
        "print(sorted(large & sys.modules.keys()))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "[]"


def test_configurations_come_along_under_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    listed = json.loads(call("configs", "--json").out)
    assert set(listed) == {path.stem for path in (ROOT / "configs").glob("*.yaml")} == set(shipped.names())
    assert all(line.endswith(".") for line in listed.values())
    for name in listed:
        printed = call("configs", name)
        assert printed.out == (ROOT / "configs" / f"{name}.yaml").read_text()
        accelerator = accelsim.Accelerator.from_yaml(name)
        assert accelerator == accelsim.Accelerator.from_dict(yaml.safe_load(printed.out))
        assert json.loads(call("configs", name, "--json").out) == accelerator.to_dict()


def test_a_file_of_that_very_name_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = shipped.text("teaching_4x4").replace("rows: 4", "rows: 5")
    (tmp_path / "teaching_4x4").write_text(text)
    assert accelsim.Accelerator.from_yaml("teaching_4x4").mac_array.rows == 5
    assert accelsim.Accelerator.from_yaml(ROOT / "configs" / "teaching_4x4.yaml").mac_array.rows == 4


def test_a_name_that_is_none_is_told_which_there_are() -> None:
    with pytest.raises(ConfigurationError, match=r"edge_17x17.*edge_16x16, edge_16x16_lpddr4"):
        accelsim.Accelerator.from_yaml("edge_17x17")
    wrong = call("configs", "edge_17x17")
    assert wrong.status == 2
    assert "server_64x64" in wrong.err
