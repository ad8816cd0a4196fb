"""The tables show the numbers of a result, with their sums."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

from rich.console import Console

from accelsim.report import tables
from accelsim.verification import LayerVerification, Verification

from .builders import result


def rows(table: Any) -> list[list[str]]:
    console = Console(file=io.StringIO(), width=400)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    return [cells for line in lines if (cells := [cell.strip() for cell in line.split("   ") if cell.strip()])]


def test_cycles_stand_by_layer_with_every_cause_and_a_total() -> None:
    shown = rows(tables.cycle_table(result()))
    assert shown[1][:4] == ["layer", "MACs", "cycles", "utilisation"]
    assert shown[1][4:] == ["fill", "wait load", "wait post", "odd cause"]
    assert ["conv", "25,600", "200", "50.0 %", "40", "60", "-", "-"] in shown
    assert ["pool", "-", "300", "0.0 %", "-", "-", "290", "10"] in shown
    assert ["total", "25,600", "500", "20.0 %", "40", "60", "290", "10"] in shown


def test_busy_cycles_are_split_into_cells_that_work_and_cells_that_are_empty() -> None:
    made, (layer, other) = result(), result().layers
    # 100 vectors on 12 rows and 8 columns of 16 x 16: 4 x 16 cells empty by rows, 12 x 8 by columns, 24 of 96 work.
    use = replace(
        layer.array,
        rows_used=1200,
        columns_used=800,
        working=2400,
        empty_rows=6400,
        empty_columns=9600,
        empty_between=7200,
        unroll_groups=4,
    )
    made = replace(made, layers=(replace(layer, macs=2400, utilization=2400 / 256 / 200, array=use), other))
    shown = rows(tables.array_table(made))
    assert ["conv", "2", "50", "12", "8", "1 x 4", "200", "100", "9", "91", "25", "38", "28"] in shown
    assert not any(row[0] == "pool" for row in shown)
    assert (made.layers[0].busy, made.layers[0].working, made.layers[0].empty) == (100, 9.375, 90.625)


def test_other_units_stand_by_layer_with_their_longest_cause() -> None:
    shown = rows(tables.unit_table(result()))
    assert ["conv", "200", "63", "finished 137"] in shown
    assert ["pool", "300", "-", "finished 300"] in shown
    assert ["total", "500", "63", "finished 437"] in shown


def test_bytes_stand_by_layer_and_memory() -> None:
    shown = rows(tables.traffic_table(result()))
    assert ["conv", "1,000", "-", "2,048", "512"] in shown
    assert ["pool", "-", "64", "64", "64"] in shown
    assert ["total", "1,000", "64", "2,112", "576"] in shown


def test_a_summary_names_the_machine_the_cycles_and_the_time() -> None:
    said = tables.run_summary(result())
    # 500 cycles at 500 MHz.
    assert said == "two on edge_16x16 (16x16 weight stationary): 500 cycles, 1 µs at 500 MHz, utilisation 20.0 %"


def test_outputs_show_their_first_codes() -> None:
    (row,) = [row for row in rows(tables.output_table(result().outputs)) if row[0] == "pool"]
    assert row == ["pool", "1x20", "uint8", "0.125", "7", "0 1 2 3 4 5 6 7 8 9 10 11 …"]


def test_a_verification_counts_what_is_explained_and_what_is_not() -> None:
    layers = (LayerVerification("a", 100, 0, 0, 0, ""), LayerVerification("b", 50, 5, 9, 2, "some reason"))
    shown = rows(tables.verification_table(Verification("fbgemm", layers, ())))
    assert ["a", "100", "0", "0", "0", "0"] in shown
    assert ["b", "50", "5", "9", "2", "3", "some reason"] in shown
    assert ["total", "150", "5", "9", "2", "3"] in shown


def test_small_shares_and_times_stay_readable() -> None:
    assert [tables.percent(share) for share in (0.0, 1.0, 0.123, 0.0001234)] == [
        "0.0 %",
        "100.0 %",
        "12.3 %",
        "0.012 %",
    ]
    assert [tables.duration(t) for t in (2.5, 0.0025, 2.5e-6, 2e-9)] == ["2.5 s", "2.5 ms", "2.5 µs", "2 ns"]
    assert tables.numbers([3, 1, 2]) == "3, 1, 2"
    assert tables.numbers(range(10)) == "0 … 9 (10)"
