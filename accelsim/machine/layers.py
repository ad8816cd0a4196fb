"""Which cycle belongs to which layer.

A layer's window opens when its first compute (mac or post) instruction starts, but not before the last vector of the
layers before it has entered the array; it closes when the next one opens. The first opens at 0, the last closes at the
end; a layer without compute gets no cycle, nor does one whose compute starts after a later layer's. So the windows are
a partition, and since a layer's vectors all enter within its window, no layer is more than 100 % utilised as long as a
program issues one layer's MACs before the next's.
"""

from __future__ import annotations

from collections.abc import Sequence

from accelsim.hardware import Accelerator
from accelsim.isa import Instruction, Mac, Program
from accelsim.machine.array.use import array_use
from accelsim.machine.traffic import by_memory

from .result import LayerResult
from .semantics import Move
from .timing import Timing


def layer_results(
    program: Program,
    instructions: tuple[Instruction, ...],
    timing: Timing,
    traffic: Sequence[tuple[Move, ...]],
    accelerator: Accelerator,
) -> tuple[LayerResult, ...]:
    """One result a layer, in the order of `program.layers`."""
    windows = layer_windows(program, timing)
    units = {name: _by_window(windows, intervals) for name, intervals in timing.intervals.items()}
    macs: list[list[Mac]] = [[] for _ in windows]
    moves: list[list[Move]] = [[] for _ in windows]
    for index, instruction in enumerate(instructions):
        layer = program.layer_of[index]
        moves[layer].extend(traffic[index])
        if isinstance(instruction, Mac):
            macs[layer].append(instruction)
    uses = [array_use(some, accelerator) for some in macs]
    cells = accelerator.mac_array.rows * accelerator.mac_array.columns
    return tuple(
        LayerResult(
            name=name,
            start=start,
            cycles=stop - start,
            macs=use.working,
            utilization=use.working / ((stop - start) * cells) if stop > start else 0.0,
            stalls={cause: cycles for cause, cycles in units["mac"][layer].items() if cause != "busy"},
            traffic=by_memory(moves[layer]),
            units={unit: found[layer] for unit, found in units.items()},
            array=use,
        )
        for layer, (name, (start, stop), use) in enumerate(zip(program.layers, windows, uses, strict=True))
    )


def layer_windows(program: Program, timing: Timing) -> list[tuple[int, int]]:
    """The first cycle of each layer's window, and the one after its last."""
    first: dict[int, int] = {}
    last_mac: dict[int, int] = {}
    for span in timing.spans:
        if span.unit in ("mac", "post"):
            layer = program.layer_of[span.index]
            first[layer] = min(first.get(layer, span.start), span.start)
            if span.unit == "mac":
                last_mac[layer] = max(last_mac.get(layer, 0), timing.issued[span.index])
    computing = sorted(first) or [0]
    opens: dict[int, int] = {}
    after = timing.cycles
    for layer in reversed(computing):
        before = max((end for other, end in last_mac.items() if other < layer), default=0)
        opens[layer] = after = min(after, max(before, first.get(layer, 0)))
    opens[computing[0]] = 0
    windows = []
    close = timing.cycles
    for layer in reversed(range(len(program.layers))):
        start = opens.get(layer, close)
        windows.append((start, close))
        close = start
    return windows[::-1]


def _by_window(windows: Sequence[tuple[int, int]], intervals: Sequence[tuple[int, int, str]]) -> list[dict[str, int]]:
    """A unit's cycles by window and cause, "busy" first. `intervals`: (start, end, cause) in order of time."""
    found: list[dict[str, int]] = [{"busy": 0} for _ in windows]
    layer, counts, end_of_window = 0, found[0], windows[0][1]
    for start, stop, cause in intervals:
        while start < stop:
            while end_of_window <= start:
                layer += 1
                counts, end_of_window = found[layer], windows[layer][1]
            end = min(stop, end_of_window)
            counts[cause] = counts.get(cause, 0) + end - start
            start = end
    return found
