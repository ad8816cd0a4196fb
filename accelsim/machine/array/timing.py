"""How long the MAC array takes for one instruction, in each dataflow: the closed forms of docs/architecture.md.

Each dataflow is a few times (a tuple) and the step by which a fold moves them on, every time the maximum of what the
registers and ports of the array have to wait for. Cycle 0 is the one in which the instruction starts. A vector "enters"
in the cycle in which the cell of row 0 and column 0 multiplies by its first element; a cell i stages down and j stages
to the right does so i + j cycles later. Memories are read one cycle before their data is used.

The array knows no border between instructions: the first fold of one follows the last fold of another as any fold
follows the one before it, so the times that an instruction leaves behind are where the next one begins.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import NamedTuple

from accelsim.hardware import Accelerator
from accelsim.hardware.banks import access_cycles
from accelsim.hardware.folds import pieces, weight_runs
from accelsim.isa import Mac, Units
from accelsim.machine.occupancy import Occupancy, Times, repeat

from .geometry import Chunks, GroupSet, group_sets

_Step = Callable[[GroupSet, Times], Times]

#: Instructions after which the times of the registers rise by as much for each further one: a register waits for those
#: of the fold before only, and there are up to four.
_SETTLED = 8


class Tile(NamedTuple):
    """What the timing of a MAC instruction depends on.

    `vectors` of activations, each for `unroll_pixels` pixels; the sum of one output has `reduction` terms. A vector of
    weights is `weight_runs` runs, `weight_step` apart, of weights `weight_pitch` apart; the sums of a vector are
    `unroll_pixels` runs of neighbouring words, `accumulator_pitch` apart. `weight_banks` and `accumulator_banks` are 0
    for memories that never conflict. `latency` is that of the array.
    """

    rows: int
    columns: int
    latency: int
    vectors: int
    sets: tuple[GroupSet, ...]
    unroll_pixels: int
    reduction: int
    weight_runs: int
    weight_step: int
    weight_pitch: int
    weight_banks: int
    accumulator_pitch: int
    accumulator_banks: int

    def weight_cycles(self, count: int) -> int:
        """Cycles to read one vector of weights, `count` in each run."""
        if not self.weight_banks:
            return 1
        return access_cycles(count, self.weight_pitch, self.weight_banks, self.weight_runs, self.weight_step)

    def accumulator_cycles(self, count: int) -> int:
        """Cycles to read, or write, the sums of one vector, `count` for each pixel."""
        if not self.accumulator_banks:
            return 1
        return access_cycles(count, 1, self.accumulator_banks, self.unroll_pixels, self.accumulator_pitch)

    def busy(self, dataflow: str) -> int:
        """Vectors that enter the array: no tile takes fewer cycles."""
        return DATAFLOWS[dataflow].vectors(self)

    def without_conflicts(self) -> Tile:
        """The same tile on memories with as many banks as it takes."""
        sets = tuple([item.ideal for item in self.sets])
        return self._replace(sets=sets, weight_banks=0, accumulator_banks=0)


def tile_of(mac: Mac, accelerator: Accelerator) -> Tile:
    """The tile of an instruction on a configuration."""
    array, buffers = accelerator.mac_array, accelerator.buffers
    by_output = array.dataflow == "input_stationary"
    sets = group_sets(mac, array.rows, buffers.activation.banks)
    if mac.same_weights and one_fold(sets, array.columns):
        sets = (sets[0].without_preload,)
    return Tile(
        rows=array.rows,
        columns=array.columns,
        latency=array.latency,
        vectors=mac.vectors,
        sets=sets,
        unroll_pixels=mac.unroll_pixels,
        reduction=mac.reduction,
        weight_runs=weight_runs(array, mac.unroll_pixels, mac.kernel_width, mac.stride_x),
        weight_step=mac.stride_x * mac.channels // mac.groups * mac.weight_pitch_k % buffers.weight.banks,
        weight_pitch=(mac.weight_pitch_k if by_output else mac.weight_pitch_n) % buffers.weight.banks,
        weight_banks=buffers.weight.banks,
        accumulator_pitch=mac.accumulator_pitch % buffers.accumulator.banks,
        accumulator_banks=buffers.accumulator.banks,
    )


def one_fold(sets: tuple[GroupSet, ...], columns: int) -> bool:
    """Whether all weights of an instruction stand in the array at once."""
    return sum(item.count * item.folds for item in sets) == 1 and sets[0].outputs <= columns


def late_tokens(accelerator: Accelerator) -> Units:
    """The units whose tokens a MAC instruction needs only when its vectors are read, not for its preload."""
    return DATAFLOWS[accelerator.mac_array.dataflow].late


def mac_occupancy(mac: Mac, accelerator: Accelerator, before: Times = (), opened: int = 0) -> Occupancy:
    """How a MAC instruction fills the cycles of the array.

    `before` is what the instruction before it leaves behind: its `Occupancy.since(start - its start)`. Empty for an
    array that has nothing in it. `opened`: the cycle in which it has all of its tokens and may read what streams.
    """
    dataflow = DATAFLOWS[accelerator.mac_array.dataflow]
    # Nothing is read before the instruction starts, so older times make no difference.
    times = tuple(map(max, dataflow.idle, before)) if before else dataflow.idle
    shared = max(before[1] + 1, 0) if before else 0
    return occupancy(tile_of(mac, accelerator), accelerator.mac_array.dataflow, times, shared, opened)


@lru_cache(maxsize=65536)
def occupancy(tile: Tile, dataflow: str, times: Times, shared: int, opened: int) -> Occupancy:
    """How a tile fills the cycles of an array in the state `times`, which takes vectors from cycle `shared` on."""
    schedule, _, first, _, tail, _ = DATAFLOWS[dataflow]
    unhindered = first(tile, times)
    # What streams is read as if the last vector of the instruction before had entered when the last token came.
    times = (times[0], max(times[1], opened), *times[2:])
    ideal = tile.without_conflicts()
    after = schedule(tile, times)
    cycles = after[-1] + tile.latency + tail
    issue = after[1] + 1
    return Occupancy(
        cycles=cycles,
        lead=first(tile, times),
        held=first(tile, times) - unhindered,
        busy=tile.busy(dataflow),
        conflict=issue - schedule(ideal, times)[1] - 1,
        drain=cycles - issue,
        overlap=cycles - after[0] + 1,
        shared=shared,
        state=after,
    )


def _weights_per_row(item: GroupSet, columns: int) -> int:
    """Weights that a row of `columns` outputs reads, for each unrolled pixel: the other groups' places are zeros that
    nobody stores."""
    return min(columns, item.outputs // item.groups)


def steady_cycles(tile: Tile, dataflow: str) -> int:
    """Cycles that an instruction adds to others like it before it, none of which waits for a token."""
    schedule, times = DATAFLOWS[dataflow].schedule, DATAFLOWS[dataflow].idle
    for _ in range(_SETTLED):
        before, times = times, schedule(tile, times)
        cycles = times[0] - before[0]
        if times == tuple([time + cycles for time in before]):
            return cycles
    return times[1] - before[1]


# Weight stationary. Times: first vector of the fold enters, last one does, accumulator ports free for a vector that
# enters. A preload may read from the cycle before the fold in the array takes its first vector. Where the array holds
# the weights already, the control takes the cycle of one access, and reads nothing.


def _weight_stationary(tile: Tile, times: Times) -> Times:
    def columns(item: GroupSet, width: int, times: Times) -> Times:
        weights, port = tile.weight_cycles(width), tile.accumulator_cycles(width)
        first, last, ready = times
        begin, end, between = item.chunks[0], item.chunks[-1], tile.vectors - 1
        first = max(last + begin.cycles, ready, first + max(begin.preload * weights, 1))
        # The next fold begins when the last vector of this one has had its cycles, or when its preload is done.
        for count, _, cycles, following, preload in item.transitions:
            stream = between * max(cycles, port) + max(following, port)
            first += count * max(stream, preload * weights)
        last = first + between * max(end.cycles, port)
        return first, last, last + port

    def group_set(item: GroupSet, times: Times) -> Times:
        for count, width in pieces(item.outputs, tile.columns):
            step = partial(columns, item, width)
            times = step(times) if count == 1 else repeat(times, step, count)
        return times

    return _every_set(tile, group_set, times)


def _weight_stationary_vectors(tile: Tile) -> int:
    folds = sum(item.count * item.folds * -(-item.outputs // tile.columns) for item in tile.sets)
    return folds * tile.vectors


def _weight_stationary_first(tile: Tile, times: Times) -> int:
    first, last, ready = times
    return max(last + 1, ready, first + max(tile.sets[0].chunks[0].preload, 1))


# Output stationary. Times: the block's first column enters, its last one does, last drain token of the fold enters,
# accumulator ports free for a token that enters. A block is what a transposer holds; one may be filled from the cycle
# before the other gives its first column.


def _output_stationary(tile: Tile, times: Times) -> Times:
    def fold(item: GroupSet, width: int, rows: int, times: Times) -> Times:
        weights = tile.weight_cycles(_weights_per_row(item, width))
        start, last, token, ready = times
        start = max(last + weights, start + rows * item.chunks[0].cycles)
        # The next block begins when its transposer is full, or when this one is empty.
        for count, indices, _, following, _ in item.transitions:
            start += count * max(indices * weights, rows * following)
        last = start + (item.chunks[-1].rows - 1) * weights
        # The last vector moves sums into the result registers, which tokens then empty row by row.
        last = max(last, token)
        if item.chunks[-1].rows == 1:
            start = last
        port = tile.accumulator_cycles(width)
        token = max(last + 1, ready) + (rows - 1) * port
        return start, last, token, token + port

    def columns(item: GroupSet, width: int, times: Times) -> Times:
        for count, rows in pieces(tile.vectors, tile.rows):
            times = repeat(times, partial(fold, item, width, rows), count)
        return times

    def group_set(item: GroupSet, times: Times) -> Times:
        for count, width in pieces(item.outputs, tile.columns):
            step = partial(columns, item, width)
            times = step(times) if count == 1 else repeat(times, step, count)
        return times

    return _every_set(tile, group_set, times)


def _output_stationary_vectors(tile: Tile) -> int:
    folds = -(-tile.vectors // tile.rows)
    return folds * sum(item.count * item.reduction * -(-item.outputs // tile.columns) for item in tile.sets)


def _output_stationary_first(tile: Tile, times: Times) -> int:
    start, last, token, _ = times
    start = max(last + 1, start + min(tile.vectors, tile.rows))
    return max(start, token) if tile.sets[0].reduction == 1 else start


# Input stationary. Times: first vector of the fold enters, last one so far, the block's results start to be written,
# accumulator ports free (the last two as if results came out when vectors enter). A block is what an output transposer
# holds; one may be filled once the other has started to empty.


def _input_stationary(tile: Tile, times: Times) -> Times:
    def block(outputs: int, columns: int, weights: int, times: Times) -> Times:
        first, last, draining, drained = times
        last = max(last + weights, draining) + (tile.unroll_pixels * outputs - 1) * weights
        draining = max(last, drained)
        return first, last, draining, draining + columns * tile.accumulator_cycles(outputs)

    def fold(item: GroupSet, columns: int, chunk: Chunks, times: Times) -> Times:
        weights = tile.weight_cycles(min(chunk.rows // item.groups, tile.reduction))
        first, last, draining, drained = times
        first = max(last + weights, draining, first + columns * chunk.cycles)
        times = first, first - weights, draining, drained
        for count, outputs in pieces(item.outputs, tile.columns):
            times = repeat(times, partial(block, outputs, columns, weights), count)
        return (first, *times[1:])

    def pixels(item: GroupSet, columns: int, times: Times) -> Times:
        for chunk in item.chunks:
            times = repeat(times, partial(fold, item, columns, chunk), chunk.repeats)
        return times

    def group_set(item: GroupSet, times: Times) -> Times:
        for count, columns in pieces(tile.vectors, tile.columns):
            times = repeat(times, partial(pixels, item, columns), count)
        return times

    return _every_set(tile, group_set, times)


def _input_stationary_vectors(tile: Tile) -> int:
    folds = -(-tile.vectors // tile.columns)
    return folds * tile.unroll_pixels * sum(item.count * item.folds * item.outputs for item in tile.sets)


def _input_stationary_first(tile: Tile, times: Times) -> int:
    first, last, draining, _ = times
    return max(last + 1, draining, first + min(tile.vectors, tile.columns))


def _every_set(tile: Tile, group_set: _Step, times: Times) -> Times:
    for item in tile.sets:
        times = group_set(item, times) if item.count == 1 else repeat(times, partial(group_set, item), item.count)
    return times


class Dataflow(NamedTuple):
    """How one dataflow is timed.

    `schedule` moves the times on by a tile; `vectors` counts the vectors of a tile; `first` is the cycle in which the
    first one enters on memories without conflicts; `idle` are the times of an array with nothing in it; results take
    `tail` cycles more than the array's latency; the preload needs no token of the units `late`. The first time, less
    one, is the cycle in which the next preload may read; the second the one in which the last vector enters; the last
    one the cycle after the accumulator ports' last work, as if it were done when vectors enter.
    """

    schedule: Callable[[Tile, Times], Times]
    vectors: Callable[[Tile], int]
    first: Callable[[Tile, Times], int]
    idle: Times
    tail: int
    late: Units = Units.NONE


DATAFLOWS = {
    "weight_stationary": Dataflow(
        _weight_stationary, _weight_stationary_vectors, _weight_stationary_first, (1, 0, 0), 0, Units.POST
    ),
    "output_stationary": Dataflow(
        _output_stationary, _output_stationary_vectors, _output_stationary_first, (1, 0, 0, 0), 0
    ),
    "input_stationary": Dataflow(
        _input_stationary, _input_stationary_vectors, _input_stationary_first, (1, 0, 0, 0), 1
    ),
}
