"""A study in a YAML file is read strictly."""

from __future__ import annotations

from pathlib import Path

import pytest

from accelsim.errors import SweepError
from accelsim.hardware import Accelerator
from accelsim.sweep.grid import Axis
from accelsim.sweep.space import Study

WHOLE = """
configurations: [edge_16x16, mine.yaml]
networks: net.accelsim
set:
  mac_array.rows, mac_array.columns: {powers_of_two: [4, 32]}
  dram.latency: {range: [10, 30, 10]}
  requant_unit.arithmetic: [thresholds, {fixed_point: {multiplier_bits: 16}}]
random: {points: 5, seed: 3}
where: ["rows < 32"]
"""


def read(tmp_path: Path, text: str) -> Study:
    (tmp_path / "study.yaml").write_text(text)
    return Study.from_yaml(tmp_path / "study.yaml")


def test_a_study_says_what_runs_on_what(tmp_path: Path) -> None:
    study = read(tmp_path, WHOLE)
    assert study.configurations == ("edge_16x16", "mine.yaml")
    assert study.networks == ("net.accelsim",)
    assert study.space.axes == (
        Axis("mac_array.rows", (4, 8, 16, 32), ("mac_array.columns",)),
        Axis("dram.latency", (10, 20, 30)),
        Axis("requant_unit.arithmetic", ("thresholds", {"fixed_point": {"multiplier_bits": 16}})),
    )
    assert (study.space.sample, study.space.seed, study.space.where) == (5, 3, ("rows < 32",))
    assert len(study.space.candidates(Accelerator.from_yaml("edge_16x16"))[1]) == 5


def test_points_may_be_listed(tmp_path: Path) -> None:
    study = read(
        tmp_path,
        "configurations: edge_16x16\nnetworks: n\nwhere: rows > 3\n"
        "points: [{mac_array.rows: 4}, {mac_array.rows: 8, dram.latency: 1}, {mac_array.rows: 2}]",
    )
    axes, candidates = study.space.candidates(Accelerator.from_yaml("edge_16x16"))
    assert [item.parameters for item in candidates] == [{"mac_array.rows": 4}, {"mac_array.rows": 8, "dram.latency": 1}]
    assert [item.accelerator.dram.latency for item in candidates] == [60, 1]
    assert axes == (Axis("mac_array.rows", (4, 8)), Axis("dram.latency", (1,)))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rows: 4", "is no study"),
        ("- 1", "is no study"),
        ("networks: [", "cannot be read"),
        (WHOLE + "stores: 1", "stores: unknown key; the keys are configurations, networks, set, points, random, where"),
        (WHOLE + "points: []", "give either `set`"),
        (
            WHOLE.replace("{powers_of_two: [4, 32]}", "{powers_of_two: [32, 4]}"),
            "set.mac_array.rows, mac_array.columns",
        ),
        (WHOLE.replace("{range: [10, 30, 10]}", "{range: [1, 1000000000, 1]}"), "set.dram.latency"),
        (WHOLE.replace("{range: [10, 30, 10]}", "{range: [1, 2], powers_of_two: [1, 2]}"), "set.dram.latency"),
        (WHOLE.replace("{range: [10, 30, 10]}", "[10, null]"), "set.dram.latency: a value is missing"),
        (WHOLE.replace("points: 5", "points: 0"), "random.points: 0 is no whole number above 0"),
        (WHOLE.replace("points: 5, seed: 3", "seed: 3"), "random: takes"),
        (WHOLE.replace("net.accelsim", "[]"), "networks: [] is no text"),
        (WHOLE.replace('["rows < 32"]', "7"), "where: 7 is no text"),
        (WHOLE.replace("configurations:", "# "), "configurations: None is no text"),
        ("networks: n\nconfigurations: c\npoints: [{}]", "points[0]: holds keys and values"),
        ("networks: n\nconfigurations: c\nset: [1]", "set: holds keys and their values"),
        ("networks: n\nconfigurations: c\nrandom: 4\npoints: [{a: 1}]", "random: draws from"),
    ],
)
def test_what_a_study_does_not_say_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(SweepError) as caught:
        read(tmp_path, text)
    assert said in str(caught.value)
    assert "study.yaml: " in str(caught.value)
