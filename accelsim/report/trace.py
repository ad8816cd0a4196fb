"""A run as a trace for ui.perfetto.dev: a track a unit, a slice an instruction, bandwidths, arrows along semaphores.

One nanosecond of the trace is one cycle, so that every time is exact.
"""

from __future__ import annotations

import importlib
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from accelsim.errors import WriteError
from accelsim.escaping import printable, whole_characters
from accelsim.hardware import Accelerator
from accelsim.isa import Memory, Program, Unit, instruction_text
from accelsim.machine import Result, Span
from accelsim.machine.traffic import traffic_of

#: Steps of a counter over the run; each is a packet of some 30 bytes.
_STEPS = 1000
_PROCESS = 1  # the uuid of the track that all others lie under
_SEQUENCE = 1
_LAYERS = "layers"


def trace(program: Program, result: Result) -> bytes:
    """The trace of the `result` of a run of `program`: a file for Perfetto's viewer and its trace processor.

    Raises WriteError where the package perfetto is missing.
    """
    builder = _Builder(_protobuf())
    array = result.accelerator.mac_array
    builder.process(f"{result.name} on {result.accelerator.name} ({array.rows} x {array.columns})")
    for layer in result.layers:
        if layer.cycles:
            about = {"MACs": layer.macs, "cycles": layer.cycles, "utilisation": layer.utilization}
            builder.slice(_LAYERS, _Slice(layer.name, layer.start, layer.start + layer.cycles, about))
    flows = _flows(program, result.timeline)
    for span in sorted(result.timeline, key=lambda span: (span.start, span.index)):
        notes = _notes(program, span, result.accelerator)
        name = program.instructions[span.index].mnemonic
        builder.slice(span.unit, _Slice(name, span.start, span.end, notes, *flows[span.index]))
    for memory, way, values in _bandwidths(program, result):
        builder.counter(f"{memory} bytes {way} a cycle", values)
    return builder.serialized()


@dataclass(frozen=True)
class _Slice:
    """`begins` and `ends`: arrows from this slice, and to it; of an arrow that `ends` here, the cycle from which it may
    be drawn, where that is after the slice's start."""

    name: str
    start: int
    end: int
    notes: Mapping[str, int | float | str]
    begins: Sequence[int] = ()
    ends: Sequence[tuple[int, int]] = ()


def _protobuf() -> Any:
    name = "perfetto.protos.perfetto.trace.perfetto_trace_pb2"
    try:
        return importlib.import_module(name)
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in ("perfetto", "google"):
            raise
        raise WriteError(
            "traces need the package perfetto, which is not installed: pip install 'accelsim[trace]'"
        ) from None


class _Builder:
    """Packets of a trace, in the order in which they are written."""

    def __init__(self, protobuf: Any) -> None:
        self._types = protobuf
        self._packets: list[tuple[int, int, Any]] = []  # cycle, order, packet
        self._trace = protobuf.Trace()
        self._ends: dict[str, list[int]] = defaultdict(list)  # of each track of a name, when its last slice ends
        self._uuids: dict[tuple[str, int], int] = {}

    def process(self, name: str) -> None:
        """The one process that all tracks belong to."""
        packet = self._trace.packet.add()
        packet.trusted_packet_sequence_id = _SEQUENCE
        packet.sequence_flags = packet.SEQ_INCREMENTAL_STATE_CLEARED
        packet.track_descriptor.uuid = _PROCESS
        packet.track_descriptor.process.pid = 1
        packet.track_descriptor.process.process_name = printable(name)

    def slice(self, track: str, item: _Slice) -> None:
        """A slice on the track, or on another one of its name where it overlaps what is there: slices only nest."""
        ends = self._ends[track]
        place = next((place for place, end in enumerate(ends) if end <= item.start), len(ends))
        ends[place : place + 1] = [item.end]
        uuid = self._uuid(track, place)
        late = max((cycle for _, cycle in item.ends), default=item.start)
        event = self._event(item.start, uuid, "TYPE_SLICE_BEGIN")
        event.name = printable(item.name)
        event.categories.append(track)
        for key, value in item.notes.items():
            note = event.debug_annotations.add(name=key)
            if isinstance(value, str):
                note.string_value = whole_characters(value)
            elif isinstance(value, int):
                note.int_value = value
            else:
                note.double_value = value
        event.flow_ids.extend([*item.begins, *(flow for flow, cycle in item.ends if cycle <= item.start)])
        if late > item.start:
            # Here it started without all of its tokens: the arrows end where the last of them came.
            inner = self._event(late, uuid, "TYPE_SLICE_BEGIN")
            inner.name = "has its tokens"
            inner.flow_ids.extend(flow for flow, cycle in item.ends if cycle > item.start)
            self._event(item.end, uuid, "TYPE_SLICE_END")
        self._event(item.end, uuid, "TYPE_SLICE_END")

    def counter(self, name: str, values: Sequence[tuple[int, float]]) -> None:
        """A counter of `values`: from each cycle on, a number."""
        uuid = self._uuid(name, 0, counter=True)
        for cycle, value in values:
            self._event(cycle, uuid, "TYPE_COUNTER").double_counter_value = value

    def serialized(self) -> bytes:
        """The file's bytes."""
        # What ends in a cycle ends before anything begins in it.
        self._packets.sort(key=lambda item: item[:2])
        for _, _, packet in self._packets:
            self._trace.packet.append(packet)
        return self._trace.SerializeToString(deterministic=True)

    def _uuid(self, name: str, place: int, *, counter: bool = False) -> int:
        if (name, place) not in self._uuids:
            self._uuids[name, place] = uuid = _PROCESS + 1 + len(self._uuids)
            packet = self._trace.packet.add()
            packet.trusted_packet_sequence_id = _SEQUENCE
            track = packet.track_descriptor
            track.uuid, track.parent_uuid, track.name = uuid, _PROCESS, name
            if counter:
                track.counter.unit_name = "bytes a cycle"
        return self._uuids[name, place]

    def _event(self, cycle: int, uuid: int, kind: str) -> Any:
        packet = self._types.TracePacket()
        packet.timestamp = cycle
        packet.trusted_packet_sequence_id = _SEQUENCE
        packet.track_event.type = getattr(packet.track_event, kind)
        packet.track_event.track_uuid = uuid
        self._packets.append((cycle, kind != "TYPE_SLICE_END", packet))
        return packet.track_event


def _notes(program: Program, span: Span, accelerator: Accelerator) -> dict[str, int | float | str]:
    """What stands beside a slice: the instruction's text, place and layer, MACs, bytes by memory."""
    instruction = program.instructions[span.index]
    notes: dict[str, int | float | str] = {
        "instruction": span.index,
        "text": instruction_text(instruction),
        "layer": span.layer,
    }
    if instruction.macs:
        notes["MACs"] = instruction.macs
    # The first move is the instruction's own word, which the fetcher has read before.
    for memory, read, written in traffic_of(instruction, accelerator)[1:]:
        for way, size in (("read", read), ("written", written)):
            if size:
                key = f"{memory.label} {way}"
                notes[key] = int(notes.get(key, 0)) + size
    return notes


def _flows(program: Program, spans: Sequence[Span]) -> defaultdict[int, tuple[list[int], list[tuple[int, int]]]]:
    """The arrows along semaphores, by instruction: those that begin, and those that end with the cycle of their token.

    A semaphore is first in, first out, and both units run their instructions in order, so that its k-th signal is taken
    by the k-th instruction that waits for it.
    """
    flows: defaultdict[int, tuple[list[int], list[tuple[int, int]]]] = defaultdict(lambda: ([], []))
    put: defaultdict[tuple[Unit, Unit], deque[int]] = defaultdict(deque)
    for index, instruction in enumerate(program.instructions):
        if instruction.unit is not None:
            for target in instruction.signal.members():
                put[instruction.unit, target].append(index)
    by_index = {span.index: span for span in spans}
    number = 0
    for index, instruction in enumerate(program.instructions):
        if instruction.unit is not None:
            for source in instruction.wait.members():
                giver = put[source, instruction.unit].popleft()
                number += 1
                flows[giver][0].append(number)
                flows[index][1].append((number, by_index[giver].end))
    return flows


def _bandwidths(program: Program, result: Result) -> Iterator[tuple[str, str, list[tuple[int, float]]]]:
    """For each memory and way, bytes a cycle from each of some cycles on, 0 at the end of the run.

    An instruction's bytes are spread evenly over its time. A load has the bus until a latency before its end, and from
    where the load before it had; what it writes comes a latency later. The words of the program are left out.
    """
    edges = np.unique(np.linspace(0, result.cycles, min(_STEPS, result.cycles) + 1).astype(np.int64))
    latency = result.accelerator.dram.latency
    moved: dict[tuple[Memory, str], np.ndarray] = {}
    on_bus = 0
    for span in result.timeline:
        is_load = span.unit == Unit.LOAD.label
        asked, on_bus = max(span.start, on_bus), span.end - latency if is_load else on_bus
        for memory, read, written in traffic_of(program.instructions[span.index], result.accelerator)[1:]:
            start, end = span.start, span.end
            if is_load:
                start, end = (asked, on_bus) if memory == Memory.DRAM else (asked + latency, end)
            for way, size in (("read", read), ("written", written)):
                if size:
                    steps = moved.setdefault((memory, way), np.zeros(len(edges) - 1))
                    _spread(steps, edges, start, end, size)
    for (memory, way), bytes_moved in sorted(moved.items()):
        rates = bytes_moved / np.diff(edges)
        yield memory.label, way, [*zip(edges[:-1].tolist(), rates.tolist(), strict=True), (result.cycles, 0.0)]


def _spread(steps: np.ndarray, edges: np.ndarray, start: int, end: int, size: int) -> None:
    """Add `size` to the steps between `edges`, evenly over the cycles from `start` to `end`."""
    first, last = np.searchsorted(edges, start, "right") - 1, np.searchsorted(edges, end)
    steps[first:last] += size * np.diff(np.clip(edges[first : last + 1], start, end)) / (end - start)
