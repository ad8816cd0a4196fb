"""How a MAC instruction lies on the array, as the search for a tiling sees it: what shares the array, and cycles."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, Self

from accelsim.hardware import Accelerator
from accelsim.hardware.banks import Chunk, access_cycles, chunks
from accelsim.hardware.configuration import MacArray
from accelsim.hardware.folds import groups_in_a_fold, pieces, preloads, weight_runs
from accelsim.isa import Mac

#: Pixels unrolled that an instruction takes.
_UNROLL_PIXELS = Mac.most("unroll_pixels")


@dataclass(frozen=True)
class Work:
    """Sizes of one MAC instruction: `lines` (of all its images) of `pixels`, `channels` of one group, all `outputs`.

    `kernel` and `dilation` down and across, `stride` across. `pitches`: bytes from line to line and from pixel to pixel
    where the input lies as it does; None where the compiler lays it out so that as few accesses as can be conflict with
    themselves.
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


@lru_cache(maxsize=1 << 12)
def weight_pitch(banks: int, kernel: tuple[int, int], stride: int, channels: int, outputs: int, runs: int) -> int:
    """Places from one output's weights of a part of the sum to the next one's.

    Where an access reads several `runs` of one weight of each of a group's `outputs`, the smallest pitch for which that
    takes the fewest cycles.
    """
    reduction = kernel[0] * kernel[1] * channels
    if runs == 1:
        return reduction
    pitches = range(reduction, reduction + banks)
    return min(pitches, key=lambda pitch: (access_cycles(outputs, pitch, banks, runs, stride * channels), pitch))


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


@lru_cache(maxsize=1 << 15)
def _mappings(array: MacArray, banks: Banks, work: Work) -> tuple[Mapping, ...]:
    alone, *others = (mac_mapping(array, banks, work, unroll_pixels) for unroll_pixels in _unrollings(array, work))
    best = min(others, key=lambda mapping: mapping.cycles, default=alone)
    return (alone, best) if best.cycles < alone.cycles else (alone,)


def _unrollings(array: MacArray, work: Work) -> Iterator[int]:
    """1, and the smallest numbers of pixels unrolled that cut a line into fewer vectors."""
    yield 1
    if work.dilation[1] > 1 or work.stride > work.kernel[1]:
        return
    vectors = work.pixels
    for unroll_pixels in range(2, min(work.pixels, array.columns * work.groups // work.outputs, _UNROLL_PIXELS) + 1):
        if -(-work.pixels // unroll_pixels) < vectors:
            vectors = -(-work.pixels // unroll_pixels)
            yield unroll_pixels


def mac_mapping(array: MacArray, banks: Banks, work: Work, unroll_pixels: int) -> Mapping:
    """The estimate: folds of the array, each as long as what streams or what is preloaded."""
    reduction = math.prod(_taps(work.kernel, work.stride, unroll_pixels)) * work.channels
    unroll_groups = groups_in_a_fold(array, unroll_pixels, reduction, work.outputs // work.groups, work.groups)
    sets = [
        (count, *_set_cycles(array, banks, work, unroll_pixels, groups))
        for count, groups in pieces(work.groups, unroll_groups)
    ]
    time = sum([count * cycles for count, cycles, _ in sets])
    count, _, again = sets[0]
    return Mapping(unroll_pixels, unroll_groups, time, again if len(sets) == count == 1 else time)


def _set_cycles(array: MacArray, banks: Banks, work: Work, unroll_pixels: int, unroll_groups: int) -> tuple[int, int]:
    """Cycles of the folds of `unroll_groups` groups side by side, and of the same after folds of the same weights."""
    rows, columns = array.rows, array.columns
    outputs = work.outputs // work.groups
    width = unroll_groups * outputs
    vectors = work.lines * -(-work.pixels // unroll_pixels)
    pitches = None
    if work.pitches is not None:
        pitches = work.dilation[0] * work.pitches[0], work.dilation[1] * work.pitches[1]
    parts = _parts(
        work.kernel,
        work.stride,
        work.dilation,
        work.channels,
        unroll_pixels,
        unroll_groups,
        rows,
        pitches,
        banks.activation,
    )
    blocks = [
        (count, across, -(-unroll_pixels * across // banks.accumulator)) for count, across in pieces(width, columns)
    ]
    cycles = 0
    if array.dataflow == "input_stationary":
        for folds, held in pieces(vectors, columns):
            turns = []
            for part in parts:
                weights = unroll_pixels * -(-part.rows // (unroll_groups * banks.weight))
                # While the outputs of a block stream past, the results of the one before are written.
                turn = _in_turn([(count, held * port, across * weights) for count, across, port in blocks])
                turns.append((part.times, turn, held * part.cycles))
            cycles += folds * _in_turn(turns)
        return cycles, cycles
    for count, across, port in blocks:
        if array.dataflow == "weight_stationary":
            weights = -(-across // banks.weight)
            cycles += count * _in_turn(
                [(part.times, vectors * max(part.cycles, port), part.preloads * weights) for part in parts]
            )
        else:
            read, runs, pitch = min(across, outputs), weight_runs(array, unroll_pixels, work.kernel[1], work.stride), 1
            if runs > 1:
                pitch = weight_pitch(banks.weight, work.kernel, work.stride, work.channels, outputs, runs)
            weights = access_cycles(read, pitch, banks.weight, runs, work.stride * work.channels)
            for folds, held in pieces(vectors, rows):
                fold = _in_turn([(part.times, part.rows * weights, held * part.cycles) for part in parts])
                cycles += count * folds * max(fold, held * port)
    if array.dataflow == "weight_stationary" and len(blocks) == blocks[0][0] == len(parts) == parts[0].times == 1:
        return cycles, vectors * max(parts[0].cycles, blocks[0][2])  # all weights stand in the array
    return cycles, cycles


def _in_turn(items: Sequence[tuple[int, int, int]]) -> int:
    """Cycles of (times, work, load) in turn, round and round: each works while what is needed next is loaded."""
    cycles, after = 0, items[0][2]
    for times, work, load in reversed(items):
        cycles += max(work, after) + (times - 1) * max(work, load)
        after = load
    return cycles


class _Part(NamedTuple):
    """`times` chunks of the reduction, of `rows` each, which `preloads` accesses of weights fill (weight stationary);
    one access of activations takes `cycles`."""

    times: int
    rows: int
    cycles: int
    preloads: int


@lru_cache(maxsize=1 << 12)
def _parts(
    kernel: tuple[int, int],
    stride: int,
    dilation: tuple[int, int],
    channels: int,
    unroll_pixels: int,
    unroll_groups: int,
    rows: int,
    pitches: tuple[int, int] | None,
    banks: int,
) -> tuple[_Part, ...]:
    """The chunks of a reduction, those that are alike together. They are the same for tiles of any size.

    `pitches`: bytes from tap to tap, down and across, or None where the input lies as is best.
    """
    taps, set_channels = _taps(kernel, stride, unroll_pixels), unroll_groups * channels
    conflicts = least_conflicts(taps, dilation, set_channels, rows, banks) if pitches is None else None
    if conflicts is not None:
        every = [(chunk.rows, chunk.cycles) for chunk in conflicts.chunks]
    elif pitches is None:
        every = [
            (size, -(-size // banks))
            for count, size in pieces(math.prod(taps) * set_channels, rows)
            for _ in range(count)
        ]
    else:
        every = [(chunk.rows, chunk.cycles) for chunk in chunks(taps, pitches, set_channels, rows, banks)]
    alike = Counter(zip(every, preloads(kernel, stride, channels, unroll_pixels, unroll_groups, rows), strict=True))
    return tuple(_Part(count, *chunk, accesses) for (chunk, accesses), count in alike.items())
