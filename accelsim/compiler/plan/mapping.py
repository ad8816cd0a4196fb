"""How a MAC instruction lies on the array, as the search for a tiling sees it: what shares the array, and cycles."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, Self

from accelsim.hardware import Accelerator
from accelsim.hardware.banks import Chunk, access_cycles, chunks
from accelsim.hardware.configuration import MacArray
from accelsim.hardware.folds import groups_that_fit, pieces, preloads, weight_runs, weights_by_output
from accelsim.isa import Mac
from accelsim.machine.array.geometry import GroupSet, alike
from accelsim.machine.array.timing import Tile, one_fold, steady_cycles

#: Pixels unrolled that an instruction takes.
_UNROLL_PIXELS = Mac.most("unroll_pixels")


class Work(NamedTuple):
    """Sizes of one MAC instruction: `lines` (of all its images) of `pixels`, `channels` of one group, all `outputs`.

    `kernel` and `dilation` down and across, `stride` across. `pitches`: bytes from line to line and from pixel to pixel
    where the input lies as it does; None where the compiler lays it out so that as few accesses as can be conflict with
    themselves. `by_output`: how weights lie that are loaded from a tensor, None for those that the compiler lays out.
    """

    lines: int
    pixels: int
    kernel: tuple[int, int]
    stride: int
    dilation: tuple[int, int]
    channels: int
    outputs: int
    groups: int
    pitches: tuple[int, int] | None
    by_output: bool | None = None

    def vectors(self, unroll_pixels: int) -> int:
        """Vectors of so many pixels of a line each."""
        return self.lines * -(-self.pixels // unroll_pixels)

    @property
    def kind(self) -> Work:
        """What it has in common with those of other output pixels."""
        return self._replace(lines=1, pixels=1)


def _taps(kernel: tuple[int, int], stride: int, unroll_pixels: int) -> tuple[int, int]:
    """Input pixels, down and across, under the outputs of so many pixels unrolled."""
    return kernel[0], kernel[1] + (unroll_pixels - 1) * stride


@dataclass(frozen=True)
class Mapping:
    """`unroll_pixels` pixels and `unroll_groups` groups share the array.

    An instruction adds `cycles` to those before it, and `again` where that took the same weights.
    """

    unroll_pixels: int
    unroll_groups: int
    cycles: int
    again: int


class WeightLayout(NamedTuple):
    """Bytes between the weights of neighbouring terms of a sum, and of neighbouring outputs; bytes of a tile."""

    pitch_k: int
    pitch_n: int
    size: int


@lru_cache(maxsize=1 << 12)
def weight_layout(array: MacArray, banks: int, work: Work, unroll_pixels: int) -> WeightLayout:
    """How the weights of an instruction lie: what an access reads side by side, or as they come from a tensor, with the
    smallest pitch for which an access takes the fewest cycles."""
    reduction, outputs = math.prod(work.kernel) * work.channels, work.outputs
    runs = weight_runs(array, unroll_pixels, work.kernel[1], work.stride)
    wanted = weights_by_output(array, unroll_pixels, work.kernel[1], work.stride)
    by_output = wanted if work.by_output is None else work.by_output
    pitches = range(outputs, outputs + 1)
    if by_output:
        pitches = range(reduction, reduction + banks)
    elif wanted:
        pitches = range(outputs, outputs + banks)

    def cycles(pitch: int) -> int:
        if by_output and runs > 1:
            return access_cycles(outputs // work.groups, pitch, banks, runs, work.stride * work.channels)
        if by_output == wanted:
            return 0  # one run of neighbours
        return access_cycles(min(array.columns, outputs) if by_output else min(array.rows, reduction), pitch, banks)

    pitch = min(pitches, key=lambda pitch: (cycles(pitch), pitch))
    return WeightLayout(1, pitch, outputs * pitch) if by_output else WeightLayout(pitch, 1, reduction * pitch)


@lru_cache(maxsize=1 << 12)
def line_after(taps: tuple[int, int], dilation: tuple[int, int], banks: int, pixel: int) -> int | None:
    """Bytes, modulo `banks`, from line to line of an input whose pixels lie `pixel` apart, with which the `taps` (down,
    across) of one line follow those of the line before bank after bank. None where there are none."""
    wanted = taps[1] * dilation[1] * pixel % banks
    return next((line for line in range(banks) if dilation[0] * line % banks == wanted), None)


@lru_cache(maxsize=1 << 12)
def follow(taps: tuple[int, int], dilation: tuple[int, int], channels: int, rows: int, banks: int, pixel: int) -> bool:
    """Whether there are such lines, and no vector of up to `rows` of the reduction (tap by tap, so many `channels`
    each) then asks one bank for two."""
    if taps[0] > 1 and line_after(taps, dilation, banks, pixel) is None:
        return False
    step = dilation[1] * pixel % banks
    return step == channels % banks or all(
        chunk.cycles == -(-chunk.rows // banks)
        for chunk in chunks((1, math.prod(taps)), (0, step), channels, rows, banks)
    )


class Conflicts(NamedTuple):
    """The vectors of a reduction where some ask one bank for two however the input lies; `lines`: by each of the best
    pitches of the pixels, modulo the banks, the pitch of the lines with which they take the fewest cycles."""

    chunks: tuple[Chunk, ...]
    lines: dict[int, int]


@lru_cache(maxsize=1 << 10)
def least_conflicts(
    taps: tuple[int, int], dilation: tuple[int, int], channels: int, rows: int, banks: int
) -> Conflicts | None:
    """The best pitches there are; None where taps can follow one another bank after bank, so that none conflict.

    Taps that lie an even number of pixels apart never lie in every bank where the number of banks is even, too.
    """
    down, across = (math.gcd(dilated, banks) for dilated in dilation)
    if channels % across == 0 and (taps[0] == 1 or taps[1] * channels % down == 0):
        return None
    every = {
        (pixel, line): chunks(taps, (dilation[0] * line, dilation[1] * pixel), channels, rows, banks)
        for pixel in range(banks // across)
        for line in range(banks // down if taps[0] > 1 else 1)
    }
    cycles = {pitches: sum(chunk.cycles for chunk in found) for pitches, found in every.items()}
    least = min(cycles.values())
    best = [pitches for pitches in every if cycles[pitches] == least]
    pixels = {pixel + turn * (banks // across): line for pixel, line in reversed(best) for turn in range(across)}
    return Conflicts(every[best[0]], pixels)


def best_pixel(
    pixel: int, taps: tuple[int, int], dilation: tuple[int, int], channels: int, rows: int, banks: int
) -> bool:
    """Whether a reduction is read in the fewest cycles where the pixels lie so far apart."""
    conflicts = least_conflicts(taps, dilation, channels, rows, banks)
    if conflicts is None:
        return follow(taps, dilation, channels, rows, banks, pixel % banks)
    return pixel % banks in conflicts.lines


def best_line(
    pixel: int, taps: tuple[int, int], dilation: tuple[int, int], channels: int, rows: int, banks: int
) -> int | None:
    """The lines' pitch, modulo the banks over what they have in common with the dilation, that goes with such pixels;
    None where any does, or none."""
    if taps[0] == 1:
        return None
    conflicts = least_conflicts(taps, dilation, channels, rows, banks)
    return line_after(taps, dilation, banks, pixel) if conflicts is None else conflicts.lines.get(pixel % banks)


class Banks(NamedTuple):
    """Of the memories that feed the array."""

    activation: int
    weight: int
    accumulator: int

    @classmethod
    def of(cls, accelerator: Accelerator) -> Self:
        buffers = accelerator.buffers
        return cls(buffers.activation.banks, buffers.weight.banks, buffers.accumulator.banks)


def mappings(accelerator: Accelerator, work: Work) -> tuple[Mapping, ...]:
    """One pixel after the other, and the best number of pixels unrolled where that takes fewer cycles."""
    return _mappings(accelerator.mac_array, Banks.of(accelerator), work)


def least_cycles(accelerator: Accelerator, work: Work) -> int:
    """No mapping of such an instruction takes fewer cycles: a vector enters in each, and a cell does one product."""
    array = accelerator.mac_array
    if not _can_unroll(array, work):
        return _kind(array, Banks.of(accelerator), work.kind).way(1).least(work.vectors(1))
    macs = work.lines * work.pixels * math.prod(work.kernel) * work.channels * work.outputs
    return macs // (array.rows * array.columns)


@lru_cache(maxsize=1 << 15)
def _mappings(array: MacArray, banks: Banks, work: Work) -> tuple[Mapping, ...]:
    kind = _kind(array, banks, work.kind)
    alone = kind.mapping(work, 1)
    # An array takes no more than a vector a cycle, so most ways are out of the question before they are timed.
    ways = {unroll: kind.way(unroll).least(work.vectors(unroll)) for unroll in _unrollings(array, work)}
    best = alone
    for unroll_pixels in sorted(ways, key=lambda unroll: (ways[unroll], unroll)):
        if ways[unroll_pixels] > best.cycles:
            break
        mapping = kind.mapping(work, unroll_pixels)
        if (mapping.cycles, mapping.unroll_pixels) < (best.cycles, best.unroll_pixels):
            best = mapping
    return (alone,) if best is alone else (alone, best)


def _unrollings(array: MacArray, work: Work) -> Iterator[int]:
    """The smallest numbers of pixels unrolled that cut a line into fewer vectors."""
    if not _can_unroll(array, work):
        return
    vectors = work.pixels
    for unroll_pixels in range(2, min(work.pixels, array.columns * work.groups // work.outputs, _UNROLL_PIXELS) + 1):
        if -(-work.pixels // unroll_pixels) < vectors:
            vectors = -(-work.pixels // unroll_pixels)
            yield unroll_pixels


def _can_unroll(array: MacArray, work: Work) -> bool:
    """Whether two pixels of one group have room, and windows that meet without a gap."""
    fits = 2 * work.outputs <= array.columns * work.groups and work.pixels > 1
    return fits and work.dilation[1] == 1 and work.stride <= work.kernel[1]


def mac_mapping(array: MacArray, banks: Banks, work: Work, unroll_pixels: int) -> Mapping:
    """What the machine takes for such an instruction after others like it, its operands laid out as the plan will."""
    return _kind(array, banks, work.kind).mapping(work, unroll_pixels)


class _Kind:
    """Instructions that differ in their output pixels alone: each way to unroll them, timed for each number of vectors
    once."""

    def __init__(self, array: MacArray, banks: Banks, work: Work) -> None:
        self._array, self._banks, self._work = array, banks, work
        self._ways: dict[int, _Way] = {}

    def way(self, unroll_pixels: int) -> _Way:
        """One of `unroll_pixels` pixels."""
        way = self._ways.get(unroll_pixels)
        if way is None:
            tile = _tile(self._array, self._banks, self._work, unroll_pixels)
            way = self._ways[unroll_pixels] = _Way(tile, self._array.dataflow)
        return way

    def mapping(self, work: Work, unroll_pixels: int) -> Mapping:
        """The mapping of an instruction of this kind."""
        way = self.way(unroll_pixels)
        return Mapping(unroll_pixels, way.groups, *way.cycles(work.vectors(unroll_pixels)))


class _Way:
    """One way to unroll instructions of a kind."""

    def __init__(self, tile: Tile, dataflow: str) -> None:
        self._tile, self._dataflow = tile, dataflow
        self._cycles: dict[int, tuple[int, int]] = {}
        self._again = one_fold(tile.sets, tile.columns)
        self.groups = tile.sets[0].groups

    def least(self, vectors: int) -> int:
        """Cycles that so many vectors take at least: one enters in each."""
        return self._tile._replace(vectors=vectors).busy(self._dataflow)

    def cycles(self, vectors: int) -> tuple[int, int]:
        """Cycles of so many vectors, with and without a weight reload."""
        found = self._cycles.get(vectors)
        if found is None:
            tile = self._tile._replace(vectors=vectors)
            first = again = steady_cycles(tile, self._dataflow)
            if self._again:
                again = steady_cycles(tile._replace(sets=(tile.sets[0].without_preload,)), self._dataflow)
            found = self._cycles[vectors] = first, again
        return found


@lru_cache(maxsize=1 << 10)
def _kind(array: MacArray, banks: Banks, kind: Work) -> _Kind:
    return _Kind(array, banks, kind)


def _tile(array: MacArray, banks: Banks, work: Work, unroll_pixels: int) -> Tile:
    """The tile of one vector of such an instruction."""
    outputs = work.outputs // work.groups
    down, across = _taps(work.kernel, work.stride, unroll_pixels)
    unroll_groups = groups_that_fit(array, unroll_pixels, down * across * work.channels, outputs, work.groups)
    weights = weight_layout(array, banks.weight, work.kind, unroll_pixels)
    read = weights.pitch_k if array.dataflow == "input_stationary" else weights.pitch_n
    gap = accumulator_gap(banks.accumulator, work.outputs, work.groups, unroll_pixels, unroll_groups)
    return Tile(
        rows=array.rows,
        columns=array.columns,
        latency=array.latency,
        vectors=1,
        sets=tuple(
            _group_set(work, unroll_pixels, unroll_groups, count, groups, array.rows, banks.activation)
            for count, groups in pieces(work.groups, unroll_groups)
        ),
        unroll_pixels=unroll_pixels,
        reduction=math.prod(work.kernel) * work.channels,
        weight_runs=weight_runs(array, unroll_pixels, work.kernel[1], work.stride),
        weight_step=work.stride * work.channels * weights.pitch_k % banks.weight,
        weight_pitch=read % banks.weight,
        weight_banks=banks.weight,
        accumulator_pitch=(work.outputs + gap) % banks.accumulator,
        accumulator_banks=banks.accumulator,
    )


def _group_set(
    work: Work, unroll_pixels: int, unroll_groups: int, count: int, groups: int, rows: int, banks: int
) -> GroupSet:
    """`count` sets of `groups` groups, the input laid out as it is, or as is best for sets of `unroll_groups`."""
    taps, channels, pitches = _taps(work.kernel, work.stride, unroll_pixels), groups * work.channels, work.pitches
    if pitches is None and groups < unroll_groups:
        reduction = taps, work.dilation, unroll_groups * work.channels, rows, banks
        held = work.groups * work.channels
        pixel = next((pixel for pixel in range(held, held + banks) if best_pixel(pixel, *reduction)), held)
        pitches = best_line(pixel, *reduction) or 0, pixel
    if pitches is not None:
        between = work.dilation[0] * pitches[0], work.dilation[1] * pitches[1]
        every: Sequence[Chunk] = chunks(taps, between, channels, rows, banks)
    else:
        conflicts = least_conflicts(taps, work.dilation, channels, rows, banks)
        sizes = [size for folds, size in pieces(math.prod(taps) * channels, rows) for _ in range(folds)]
        every = [Chunk(size, -(-size // banks)) for size in sizes] if conflicts is None else conflicts.chunks
    accesses = preloads(work.kernel, work.stride, work.channels, unroll_pixels, groups, rows)
    return GroupSet(count, groups, groups * (work.outputs // work.groups), alike(every, accesses))


def accumulator_gap(banks: int, outputs: int, groups: int, unroll_pixels: int, unroll_groups: int) -> int:
    """Words to leave free after the `outputs` of a pixel, `groups` of them, so that those that one vector writes
    (pixels unrolled, `unroll_groups` groups each) lie in as many banks as they are."""
    if unroll_pixels == 1 or groups <= unroll_groups:
        return 0
    return _accumulator_gap(banks, outputs, unroll_groups * (outputs // groups), unroll_pixels)


@lru_cache(maxsize=1 << 12)
def _accumulator_gap(banks: int, outputs: int, written: int, unroll_pixels: int) -> int:
    least = -(-unroll_pixels * written // banks)
    return next(gap for gap in range(banks) if access_cycles(written, 1, banks, unroll_pixels, outputs + gap) == least)
