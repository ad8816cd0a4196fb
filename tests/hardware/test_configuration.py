"""A configuration file is read strictly, and what is wrong with it is said by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from accelsim import Accelerator
from accelsim.errors import ConfigurationError

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))


def plain() -> dict[str, Any]:
    data = yaml.safe_load((Path(__file__).parents[2] / "configs" / "edge_16x16.yaml").read_text())
    assert isinstance(data, dict)
    return data


def test_there_are_a_teaching_an_edge_and_a_larger_configuration() -> None:
    sizes = {(a.mac_array.rows, a.mac_array.columns) for a in map(Accelerator.from_yaml, CONFIGS)}
    assert {(4, 4), (16, 16), (32, 32)} <= sizes


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_shipped_configuration_survives_a_round_trip(path: Path) -> None:
    accelerator = Accelerator.from_yaml(path)
    assert accelerator.name == path.stem
    assert Accelerator.from_dict(accelerator.to_dict()) == accelerator


@pytest.mark.parametrize(
    ("text", "size"),
    [("128KiB", 131072), ("1MiB", 1 << 20), ("64KB", 64000), ("4096", 4096), (4096, 4096), (" 2 KiB", 2048)],
)
def test_sizes_are_read_with_their_units(text: str | int, size: int) -> None:
    data = plain()
    data["buffers"]["activation"]["bytes"] = text
    assert Accelerator.from_dict(data).buffers.activation.bytes == size


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("mac_array.rows", 0, "greater than or equal to 1"),
        ("mac_array.rows", "16", "valid integer"),
        ("mac_array.rows", 2.5, "valid integer"),
        ("mac_array.dataflow", "row_stationary", "'weight_stationary', 'output_stationary' or 'input_stationary'"),
        ("buffers.weight.bytes", "12 furlongs", "is no size"),
        ("buffers.weight.bytes", -1, "greater than 0"),
        ("buffers.accumulator.banks", None, "valid integer"),
        ("requant_unit.arithmetic", "guesswork", "float32_exact"),
        ("dram.bytes_per_cycle", 0, "greater than or equal to 1"),
        ("clock_mhz", 0, "greater than or equal to 0.001"),
    ],
)
def test_an_impossible_value_is_refused_by_key_value_and_limit(key: str, value: object, said: str) -> None:
    data = plain()
    part = data
    *parents, last = key.split(".")
    for parent in parents:
        part = part[parent]
    part[last] = value
    with pytest.raises(ConfigurationError) as error:
        Accelerator.from_dict(data, "some.yaml")
    assert f"some.yaml: {key}: " in str(error.value)
    assert said in str(error.value)
    assert repr(value) in str(error.value)


def test_unknown_and_missing_keys_are_named_all_at_once() -> None:
    data = plain()
    data["mac_array"]["colums"] = data["mac_array"].pop("columns")
    data["speed"] = "fast"
    with pytest.raises(ConfigurationError) as error:
        Accelerator.from_dict(data)
    for said in ("mac_array.colums: unknown key", "mac_array.columns: missing", "speed: unknown key"):
        assert said in str(error.value)


@pytest.mark.parametrize(
    ("dram", "said"),
    [
        ({"model": "banked"}, "dram: preset: missing; model banked needs one of ddr4_2400, lpddr4_3200, hbm2"),
        ({"preset": "hbm2"}, "dram: preset: hbm2 belongs to model banked"),
        ({"model": "banked", "preset": "ddr9"}, "dram.preset: Input should be 'ddr4_2400', 'lpddr4_3200' or 'hbm2'"),
        ({"model": "paged"}, "dram.model: Input should be 'flat' or 'banked'"),
    ],
)
def test_a_banked_dram_needs_a_preset_and_only_that(dram: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        Accelerator.from_dict(plain() | {"dram": dram}, "some.yaml")
    assert f"some.yaml: {said}" in str(error.value)


def test_a_banked_dram_moves_what_the_bus_and_the_pins_can() -> None:
    machine = Accelerator.from_dict(
        plain() | {"dram": {"model": "banked", "preset": "ddr4_2400", "bytes_per_cycle": 64}}
    )
    assert machine.dram_bytes_per_cycle == pytest.approx(19.2e9 / 500e6)
    assert machine.replace(**{"dram.bytes_per_cycle": 8}).dram_bytes_per_cycle == 8


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"l2": {"line_bytes": 64}}, "l2.bytes: missing"),
        (
            {"l2": {"bytes": 3 << 16}},
            "l2: bytes: 196608 is no power of two times line_bytes * ways = 512; write 131072",
        ),
        ({"l2": {"bytes": 100}}, "l2: bytes: 100 is no power of two times line_bytes * ways = 512; write 512"),
        ({"l2": {"bytes": "1MiB", "line_bytes": 48}}, "l2: line_bytes: 48 is no power of two; write 64"),
        ({"l2": {"bytes": "1MiB", "bytes_per_cycle": 24}}, "l2: bytes_per_cycle: 24 is no power of two; write 32"),
        ({"l2": {"bytes": "1MiB", "bytes_per_cycle": 128}}, "l2: bytes_per_cycle: 128 is more than line_bytes, 64"),
        (
            {"l2": {"bytes": "1MiB", "line_bytes": 32}, "dram": {"model": "banked", "preset": "hbm2"}},
            "l2.line_bytes: 32 is no whole number of DRAM's bursts of 64 bytes; write 64",
        ),
    ],
)
def test_an_l2_that_cannot_be_built_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        Accelerator.from_dict(plain() | changes, "some.yaml")
    assert said in str(error.value)


def test_an_l2_comes_and_goes_by_its_keys() -> None:
    without = Accelerator.from_dict(plain())
    assert without.l2 is None
    assert "l2" not in without.to_dict()
    machine = without.replace(**{"l2.ways": 12, "l2.bytes": "768KiB"})
    assert machine.to_dict()["l2"] == {
        "bytes": 768 << 10,
        "line_bytes": 64,
        "ways": 12,
        "bytes_per_cycle": 32,
        "latency": 10,
    }
    assert machine.l2 is not None
    assert machine.l2.sets == 1024
    assert Accelerator.from_dict(machine.to_dict()) == machine
    assert machine.replace(**{"l2.latency": 3}).replace(l2=None) == without


@pytest.mark.parametrize("content", ["", "- 1\n- 2\n", "just text", "{a: [}"])
def test_a_file_that_is_no_configuration_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(content)
    with pytest.raises(ConfigurationError, match=r"bad\.yaml"):
        Accelerator.from_yaml(path)


def test_a_missing_or_binary_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        Accelerator.from_yaml(tmp_path / "none.yaml")
    (tmp_path / "binary.yaml").write_bytes(bytes(range(256)))
    with pytest.raises(ConfigurationError, match="not text"):
        Accelerator.from_yaml(tmp_path / "binary.yaml")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        Accelerator.from_yaml(tmp_path)


@given(rows=st.integers(1, 4096), banks=st.integers(1, 4096))
def test_replace_changes_what_is_named_and_nothing_else(rows: int, banks: int) -> None:
    before = Accelerator.from_dict(plain())
    after = before.replace(**{"mac_array.rows": rows, "buffers.weight.banks": banks})
    assert (after.mac_array.rows, after.buffers.weight.banks) == (rows, banks)
    back = {"mac_array.rows": before.mac_array.rows, "buffers.weight.banks": before.buffers.weight.banks}
    assert after.replace(**back) == before


@pytest.mark.parametrize("key", ["mac_array.row", "mac_array", "rows.mac_array", "name.first", ""])
def test_replace_refuses_a_key_that_does_not_exist(key: str) -> None:
    with pytest.raises(ConfigurationError, match=r"mac_array\.rows|mapping|valid dictionary"):
        Accelerator.from_dict(plain()).replace(**{key: 8})
