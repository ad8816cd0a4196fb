"""Guided search over the points of a space."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accelsim.errors import SweepError
from accelsim.hardware import Accelerator
from accelsim.sweep import Space, run_sweep
from accelsim.sweep.search import front, objectives_of, search

from .networks import linear

EDGE = Accelerator.from_yaml("edge_16x16")


def test_the_front_is_what_nothing_else_is_better_than() -> None:
    values = [(3.0, 1.0), (1.0, 3.0), None, (2.0, 2.0), (2.0, 3.0), (3.0, 3.0), (2.0, 2.0)]
    assert front(values) == (1, 3, 0)
    assert front([None]) == ()
    assert front([(2.0,), (1.0,), (1.0,)]) == (1,)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=20))
def test_no_point_is_better_than_one_of_the_front_and_each_other_one_is_no_better(
    points: list[tuple[int, int]],
) -> None:
    values = [(float(a), float(b)) for a, b in points]
    found = front(values)
    for number, (a, b) in enumerate(values):
        as_good = [other for other in found if values[other][0] <= a and values[other][1] <= b]
        assert as_good
        if number in found:
            assert as_good == [number]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("speed", "--optimize speed: there is no key speed"),
        ("cycles,", "is no expression"),
        ("cycles,cycles", "given twice"),
        ("cycles < 3", "is no number"),
        ("dataflow", "is no number"),
    ],
)
def test_an_objective_that_no_point_has_is_named(text: str, said: str) -> None:
    with pytest.raises(SweepError) as caught:
        objectives_of(text, EDGE)
    assert said in str(caught.value)


def test_objectives_are_measures_and_expressions() -> None:
    found = objectives_of("cycles, max(rows, columns) * 2,utilization,dram_read + buffers.bytes", EDGE)
    assert [each.text for each in found] == [
        "cycles",
        "max(rows, columns) * 2",
        "utilization",
        "dram_read + buffers.bytes",
    ]


def test_without_optuna_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(SweepError, match=r"pip install 'accelsim\[optuna\]'"):
        search(
            linear(),
            EDGE,
            Space.of(["mac_array.rows=4,8"]),
            objectives_of("cycles", EDGE),
            trials=1,
            store=tmp_path / "s.sqlite",
        )


SPACE = Space.of(
    ["mac_array.rows=4..32", "mac_array.columns=4..32", "dram.bytes_per_cycle=4..32", "dram.latency=10,20"],
    ["rows * columns <= 256"],
)


def test_a_tenth_of_the_points_finds_one_as_good_as_the_best_of_the_grid(tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    grid = run_sweep(linear(), EDGE, SPACE, store=tmp_path / "grid.sqlite", jobs=2, effort=0)
    trials = len(grid.points) // 10
    assert trials == 10
    found = search(
        linear(),
        EDGE,
        SPACE,
        objectives_of("cycles", EDGE),
        trials=trials,
        store=tmp_path / "search.sqlite",
        jobs=1,
        effort=0,
    )
    assert len(found.sweep.points) == trials
    assert grid.best is not None
    (best,) = (found.sweep.points[number] for number in found.front)
    assert best.measurement.cycles == grid.best.measurement.cycles


def test_a_search_of_two_aims_looks_at_no_point_twice_and_goes_on_from_its_store(tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    options = {"store": tmp_path / "s.sqlite", "jobs": 2, "effort": 0}
    aims = objectives_of("cycles,rows * columns", EDGE)
    found = search(linear(), EDGE, SPACE, aims, trials=12, **options)
    parameters = [tuple(point.parameters.values()) for point in found.sweep.points]
    assert len(set(parameters)) == len(parameters) == 12
    assert all(rows * columns <= 256 for rows, columns, *_ in parameters)
    cells = [rows * columns for rows, columns, *_ in parameters]
    cycles = [point.measurement.cycles or 0 for point in found.sweep.points]
    for one, other in itertools.combinations(found.front, 2):  # from few cycles to few cells
        assert cycles[one] < cycles[other]
        assert cells[one] > cells[other]
    document = found.to_dict()
    assert document["objectives"] == ["cycles", "rows * columns"]
    assert document["front"] == list(found.front)
    again = search(linear(), EDGE, SPACE, aims, trials=12, **options)
    assert again.sweep.reused == 12
    assert {tuple(p.parameters.values()) for p in again.sweep.points} == set(parameters)
    more = search(linear(), EDGE, SPACE, aims, trials=14, **options)
    assert (more.sweep.reused, len(more.sweep.points)) == (12, 14)
    whole = search(linear(), EDGE, Space.of(["mac_array.rows=4,8"]), aims, trials=99, **options)
    assert len(whole.sweep.points) == 2
