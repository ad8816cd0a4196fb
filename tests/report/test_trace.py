"""A trace, read back from its bytes: slices, notes, counters and arrows are those of the run."""

from __future__ import annotations

import importlib
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

import accelsim
from accelsim.isa import Program
from accelsim.machine import Result
from accelsim.network.topology import read_topology
from accelsim.report.trace import trace

from .builders import EDGE, ROOT

FORMAT = "perfetto.protos.perfetto.trace.perfetto_trace_pb2"
pytest.importorskip(FORMAT)

#: A depthwise-like layer behind a wide one: several tiles, so that units run ahead of one another.
TOPOLOGY = """Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, Strides,
first, 18, 16, 3, 3, 4, 24, 1,
second, 8, 8, 1, 1, 24, 20, 1,
"""


@cache
def ran(what: str) -> tuple[Program, Result]:
    if what == "two_layers":
        program = accelsim.assemble((ROOT / "programs" / "two_layers.asm").read_text(), EDGE)
        return program, accelsim.simulate(program)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "net.csv"
        path.write_text(TOPOLOGY)
        program = accelsim.compile(read_topology(str(path)), EDGE, effort=0)
    return program, accelsim.simulate(program)


@dataclass
class Slice:
    name: str
    start: int
    notes: dict[str, Any]
    flows: list[int]
    end: int = -1
    inner: list[Slice] = field(default_factory=list)


@dataclass
class Read:
    """Slices by the name of their track, values of the counters, as a reader of the format sees them: a track's slices
    are a stack, an end closes the last one that is open."""

    slices: dict[str, list[Slice]] = field(default_factory=dict)
    counters: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    process: str = ""

    @classmethod
    def of(cls, content: bytes) -> Read:
        found, tracks = cls(), {}
        open_slices: dict[int, list[Slice]] = {}
        packets = importlib.import_module(FORMAT).Trace.FromString(content).packet
        now = 0
        for packet in packets:
            assert packet.trusted_packet_sequence_id == 1
            if packet.HasField("track_descriptor"):
                track = packet.track_descriptor
                found.process = found.process or track.process.process_name
                tracks[track.uuid] = track
                assert not track.name or track.parent_uuid == packets[0].track_descriptor.uuid
                continue
            assert packet.timestamp >= now  # in order of time
            now = packet.timestamp
            found._event(packet.track_event, now, tracks[packet.track_event.track_uuid], open_slices)
        assert not any(open_slices.values())
        return found

    def _event(self, event: Any, now: int, track: Any, open_slices: dict[int, list[Slice]]) -> None:
        stack = open_slices.setdefault(track.uuid, [])
        if event.type == event.TYPE_COUNTER:
            assert track.HasField("counter")
            self.counters.setdefault(track.name, []).append((now, event.double_counter_value))
        elif event.type == event.TYPE_SLICE_BEGIN:
            notes = {note.name: getattr(note, note.WhichOneof("value")) for note in event.debug_annotations}
            item = Slice(event.name, now, notes, list(event.flow_ids))
            (stack[-1].inner if stack else self.slices.setdefault(track.name, [])).append(item)
            stack.append(item)
        else:
            stack.pop().end = now


@pytest.mark.parametrize("what", ["two_layers", "net"])
def test_each_instruction_is_a_slice_of_its_unit(what: str) -> None:
    program, result = ran(what)
    read = Read.of(trace(program, result))
    for unit in ("load", "mac", "post", "store", "fetch"):
        shown = [(item.notes["instruction"], item.start, item.end) for item in read.slices[unit]]
        assert sorted(shown) == [(span.index, span.start, span.end) for span in result.timeline if span.unit == unit]
    assert sum(len(read.slices[unit]) for unit in result.units) == len(program.instructions)
    lines = [line.strip() for line in program.assembly(data=False).splitlines()]
    for unit in result.units:
        for item in read.slices[unit]:
            assert item.notes["text"] in lines
            assert item.notes["text"].split()[0] == item.name
            assert item.notes["layer"] == program.layers[program.layer_of[item.notes["instruction"]]]
    layers = [(item.name, item.start, item.end) for item in read.slices["layers"]]
    assert layers == [(layer.name, layer.start, layer.start + layer.cycles) for layer in result.layers if layer.cycles]
    assert read.process == f"{program.name} on edge_16x16 (16 x 16)"


def test_the_bytes_of_a_slice_are_the_instructions() -> None:
    """The first layer of two_layers.asm by hand: 4 x 3 weights, 4 inputs, 3 sums of 4 bytes."""
    program, result = ran("two_layers")
    first = Read.of(trace(program, result)).slices["mac"][0]
    assert first.notes["MACs"] == 12
    assert first.notes["activation read"] == 4
    assert first.notes["weight read"] == 12
    assert first.notes["accumulator written"] == 12
    assert "dram read" not in first.notes


@pytest.mark.parametrize("what", ["two_layers", "net"])
def test_the_area_under_a_bandwidth_is_the_traffic(what: str) -> None:
    program, result = ran(what)
    read = Read.of(trace(program, result))
    words = 64 * len(program.instructions)
    for memory, moved in result.traffic.items():
        for way, size in (("read", moved.read - words * (memory == "dram")), ("written", moved.written)):
            values = read.counters.get(f"{memory} bytes {way} a cycle", [(0, 0.0)])
            area = sum((after - now) * value for (now, value), (after, _) in pairwise(values))
            assert area == pytest.approx(size)
            assert values[-1][1] == 0
            assert min(value for _, value in values) >= 0
    # A beat of the bus is 16 bytes, and one load has the bus at a time.
    assert max(value for _, value in read.counters["dram bytes read a cycle"]) <= 16 + 1e-9


@pytest.mark.parametrize("what", ["two_layers", "net"])
def test_an_arrow_leads_from_each_token_given_to_where_it_is_taken(what: str) -> None:
    program, result = ran(what)
    read = Read.of(trace(program, result))
    ends: dict[int, list[tuple[int, str, Slice, Slice]]] = {}
    for unit in result.units:
        for item in read.slices[unit]:
            for part in (item, *item.inner):
                for flow in part.flows:
                    ends.setdefault(flow, []).append((part.start, unit, item, part))
    waits = sum(len(instruction.wait.members()) for instruction in program.instructions)
    assert len(ends) == waits > 0
    pairs = Counter[tuple[str, str]]()
    for both in ends.values():
        (_, source, giver, outer), (at, target, taker, _) = sorted(both, key=lambda end: end[0])
        assert outer is giver
        assert giver.end <= at <= taker.end  # a token is put at the end and seen from then on
        assert target in giver.notes["text"].partition("signal=")[2].split()[0].split("+")
        assert source in taker.notes["text"].partition("wait=")[2].split()[0].split("+")
        pairs[source, target] += 1
    given = Counter(
        (instruction.unit.label, other.label)
        for instruction in program.instructions
        if instruction.unit is not None
        for other in instruction.signal.members()
    )
    assert pairs == given


def test_names_of_any_characters_are_written(tmp_path: Path) -> None:
    program, result = ran("two_layers")
    odd = replace(result, name="\ud800<b>", layers=tuple(replace(layer, name="\x1b\ud800") for layer in result.layers))
    assert Read.of(trace(program, odd)).process.startswith("\\ud800<b> on")
