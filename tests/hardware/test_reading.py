"""Text, JSON and YAML from files that nobody vouches for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from accelsim import Accelerator
from accelsim.errors import ConfigurationError
from accelsim.reading import from_json, from_yaml, read_text, shown

BASE = (Path(__file__).parents[2] / "configs" / "teaching_4x4.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: 2020-13-45", {"a": "2020-13-45"}),
        ("a: 2020-01-02", {"a": "2020-01-02"}),
        ("a: 016", {"a": "016"}),  # 14 in YAML 1.1
        ("a: 1:30", {"a": "1:30"}),  # 90 in YAML 1.1
        ("a: yes", {"a": "yes"}),
        ("a: true", {"a": True}),
        ("a: 1_000", {"a": 1000}),
        ("a: 0x10", {"a": 16}),
        ("a: -3", {"a": -3}),
        ("a: 1e3", {"a": 1000.0}),
        ("a: 1.5", {"a": 1.5}),
        ("a: ~", {"a": None}),
        ("a:", {"a": None}),
        ("a: !!int 5", {"a": 5}),
        ("a: &b [1, 2]\nc: *b", {"a": [1, 2], "c": [1, 2]}),
        ("", None),
    ],
)
def test_yaml_means_what_it_looks_like(text: str, value: Any) -> None:
    found = from_yaml(text)
    assert (found, repr(found)) == (value, repr(value))


BOMB = "a: &a [1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"{name}: &{name} [{','.join(['*' + before] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: 1\nb: 2\na: 3", "line 3: key 'a' is given twice, first in line 1"),
        ("a: {b: 1,\n b: 2}", "line 2: key 'b' is given twice"),
        ("a: !!int x", "line 1: 'x' is no int"),
        ("a: !!float x", "is no float"),
        ("a: !!python/name:os.system x", "line 1: tag 'tag:yaml.org,2002:python/name:os.system'"),
        ("a: !!binary AAAA", "tag"),
        ("a: !!timestamp 2020-01-02", "tag"),
        ("a: !x 1", "tag '!x'"),
        ("? [1]\n: 2", "line 1: a key must be a name"),
        ("&a [*a]", "line 1: an alias stands within what it stands for"),
        (BOMB, "line 5: aliases make more than 10,000 values"),
        ("[" * 100_000, "line 1: nested more than 16 levels deep"),
        ("- " * 50 + "1", "nested more than 16 levels deep"),
        ("- 1\n" * 11_000, "more than 10,000 values"),
        ("a: " + "9" * 5000, "is no int"),
        ("a: [", "not YAML"),
        ("a: *b", "line 1: not YAML: found undefined alias 'b'"),
        ("a: \x00", "not YAML"),
        ("---\n1\n---\n2", "line 3: not YAML"),
    ],
)
def test_yaml_that_means_nothing_plain_is_refused_by_line(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        from_yaml(text)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"a": 1, "a": 1}', "key 'a' is given twice"),
        ("NaN", "NaN is no finite number"),
        ("[-Infinity]", "Infinity is no finite number"),
        ("1e999", "1e999 is no finite number"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        ("9" * 5000, "digits"),
        ("", "Expecting value"),
    ],
)
def test_json_is_read_strictly(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        from_json(text)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("clock_mhz: 100", "clock_mhz: .inf"), "clock_mhz: Input should be a finite number"),
        (("clock_mhz: 100", "clock_mhz: .nan"), "clock_mhz: Input should be a finite number"),
        (("clock_mhz: 100", "clock_mhz: 1.0e-300"), "greater than or equal to 0.001"),
        (("clock_mhz: 100", "clock_mhz: true"), "clock_mhz: .*valid number"),
        (("rows: 4", "rows: true"), "mac_array.rows: .*valid integer"),
        (("rows: 4", "rows: 016"), "mac_array.rows: .*valid integer"),
        (("rows: 4", "rows: !!int x"), "line 4: 'x' is no int"),
        (("rows: 4", "rows: 0x" + "f" * 30), "less than or equal to 4096"),
        (("name: teaching_4x4", "name: ''"), "name: String should have at least 1 character"),
        (("name: teaching_4x4", "name: " + "x" * 300), "at most 200 characters"),
        (("bytes: 4KiB", "bytes: " + "9" * 30 + "KiB"), "activation.bytes: .*no size"),
        (("bytes: 4KiB", "bytes: ٤KiB"), "no size"),
    ],
)
def test_a_configuration_names_what_no_machine_has(change: tuple[str, str], says: str, tmp_path: Path) -> None:
    path = tmp_path / "machine.yaml"
    assert change[0] in BASE
    path.write_text(BASE.replace(*change), encoding="utf-8")
    with pytest.raises(ConfigurationError, match=says) as caught:
        Accelerator.from_yaml(path)
    assert "machine.yaml" in str(caught.value)
    assert len(str(caught.value)) < 600


def test_a_date_is_a_name(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(BASE.replace("name: teaching_4x4", "name: 2020-13-45"))
    assert Accelerator.from_yaml(tmp_path / "a.yaml").name == "2020-13-45"


def test_many_wrong_keys_make_a_short_error(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(BASE + "".join(f"key{number}: 1\n" for number in range(500)))
    with pytest.raises(ConfigurationError, match="488 more are wrong") as caught:
        Accelerator.from_yaml(tmp_path / "a.yaml")
    assert len(str(caught.value)) < 2000


def test_only_a_file_of_some_size_is_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(b"#" * 1001)
    for path, says in {
        "/dev/zero": "a device or a pipe",
        tmp_path / "pipe": "a device or a pipe",
        tmp_path: "a directory",
        tmp_path / "nothing": "no such file",
        "a\0b": "no file has such a name",
        "\ud800": "no file has such a name",
        tmp_path / "large": "has 1,001 bytes; at most 1,000 are read",
    }.items():
        with pytest.raises(ValueError, match=says):
            read_text(path, 1000)
        with pytest.raises(ConfigurationError):
            Accelerator.from_yaml(path)


def test_a_value_is_shown_in_one_short_line() -> None:
    for value in ("x" * 10**6, "\x1b[31m\n\u2028\ud800", 10**5000, list(range(10**6)), {"a": [[]] * 9}, b"x" * 10**6):
        assert shown(value).isascii()
        assert len(shown(value)) < 100
        assert "\n" not in shown(value)
