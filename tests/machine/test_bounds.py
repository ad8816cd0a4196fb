"""Each cycle of a run is given to what the array waited for in it."""

from __future__ import annotations

from pathlib import Path

import accelsim
from accelsim.machine.bounds import RESOURCES, bounds
from accelsim.machine.units import Span

from ..sweep.networks import linear

Intervals = dict[str, list[tuple[int, int, str]]]


def idle(cycles: int) -> Intervals:
    return {unit: [(0, cycles, "finished")] for unit in ("mac", "post", "load", "store", "fetch")}


def test_a_chain_of_waiting_units_is_followed_to_the_one_that_works() -> None:
    """By hand: the array waits for a load (10 cycles of which DRAM answers for 4, a beat moves for 6, and data fly for
    5 more), works for 20, repeats for 3, and waits for the post unit, which waits for the store, which writes."""
    intervals = idle(60) | {
        "mac": [(0, 15, "wait_load"), (15, 35, "busy"), (35, 38, "bank_conflict"), (38, 60, "wait_post")],
        "load": [(0, 4, "dram_latency"), (4, 10, "busy"), (10, 60, "wait_mac")],
        "post": [(0, 38, "wait_mac"), (38, 50, "wait_store"), (50, 55, "busy"), (55, 60, "wait_mac")],
        "store": [(0, 40, "wait_post"), (40, 50, "dram_contention"), (50, 60, "finished")],
    }
    spans = [Span(0, "load", "a", 0, 15), Span(1, "mac", "a", 15, 38), Span(2, "post", "a", 50, 60)]
    assert bounds(intervals, spans, 60) == {
        "array": 20,
        "array_banks": 3,
        "post_lanes": 5,
        "dram_bandwidth": 16,  # six beats of the load, ten cycles of the store's
        "dram_latency": 9,  # four before, five while the data fly
        "latency": 7,  # the store has not seen the post unit's token for 2, the post unit's results come out for 5
    }


def test_a_unit_without_an_instruction_waits_for_the_fetcher_or_for_another_queue() -> None:
    intervals = idle(10) | {
        "mac": [(0, 6, "fetch"), (6, 7, "fill"), (7, 10, "finished")],
        "fetch": [(0, 2, "dram_latency"), (2, 6, "queue_full"), (6, 10, "finished")],
        "post": [(0, 9, "fill"), (9, 10, "finished")],
        "store": [(0, 9, "fetch"), (9, 10, "busy")],
    }
    found = bounds(intervals, [], 10)
    assert found == {"array_fill": 1, "post_fill": 2, "dram_bandwidth": 1, "fetcher": 2, "queues": 4}
    assert list(found) == [name for name in RESOURCES if name in found]


def test_the_cycles_of_a_run_are_given_once() -> None:
    edge = accelsim.Accelerator.from_yaml("edge_16x16")
    for changes in ({}, {"buffers.accumulator.banks": 2}, {"requant_unit.lanes": 1}, {"dram.bytes_per_cycle": 1}):
        result = accelsim.simulate(accelsim.compile(linear(), edge.replace(**changes), effort=0))
        assert sum(result.bounds.values()) == result.cycles
        assert result.bounds["array"] == result.units["mac"]["busy"]
        assert result.bounds.get("array_banks", 0) == result.units["mac"].get("bank_conflict", 0)
        assert result.to_dict()["bounds"] == result.bounds


def test_the_page_on_sweeps_has_the_list_of_resources() -> None:
    page = (Path(__file__).parents[2] / "docs" / "sweeps.md").read_text()
    assert "|---|---|\n" + "".join(f"| {name} | {what} |\n" for name, what in RESOURCES.items()) in page
