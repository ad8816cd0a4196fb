"""How a MAC instruction lies on the array, as the search for a tiling sees it: what shares the array, and cycles."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from accelsim.hardware import Accelerator
from accelsim.hardware.banks import access_cycles, chunks
from accelsim.hardware.folds import pieces, preloads, side_by_side, weight_runs

#: Limit of the instruction's field.
_ABREAST = (1 << 8) - 1


@dataclass(frozen=True)
class Work:
    """Sizes of one MAC instruction: `lines` (of all its images) of `pixels`, `channels` of one group, all `outputs`.

    `kernel` and `dilation` down and across, `stride` across. `pitches`: bytes from line to line and from pixel to pixel
    where the input lies as it does; None where the compiler lays it out so that no access conflicts with itself.
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

    def taps(self, abreast: int) -> tuple[int, int]:
        """Input pixels, down and across, under the outputs of so many pixels abreast."""
        return self.kernel[0], self.kernel[1] + (abreast - 1) * self.stride


@dataclass(frozen=True)
class Mapping:
    """`abreast` pixels and `side` groups share the array; an instruction adds `cycles` to those before it."""

    abreast: int
    side: int
    cycles: int


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


def mappings(accelerator: Accelerator, work: Work) -> tuple[Mapping, ...]:
    """One pixel after the other, and the best number of pixels abreast where that takes fewer cycles."""
    alone, *others = (mac_mapping(accelerator, work, abreast) for abreast in _abreast(accelerator, work))
    best = min(others, key=lambda mapping: mapping.cycles, default=alone)
    return (alone, best) if best.cycles < alone.cycles else (alone,)


def _abreast(accelerator: Accelerator, work: Work) -> Iterator[int]:
    """1, and the smallest numbers of pixels abreast that cut a line into fewer vectors."""
    yield 1
    array = accelerator.mac_array
    if work.dilation[1] > 1 or work.stride > work.kernel[1]:
        return
    vectors = work.pixels
    for abreast in range(2, min(work.pixels, array.columns * work.groups // work.outputs, _ABREAST) + 1):
        if -(-work.pixels // abreast) < vectors:
            vectors = -(-work.pixels // abreast)
            yield abreast


@lru_cache(maxsize=1 << 14)
def mac_mapping(accelerator: Accelerator, work: Work, abreast: int) -> Mapping:
    """The estimate: folds of the array, each as long as what streams or what is preloaded."""
    reduction = math.prod(work.taps(abreast)) * work.channels
    side = side_by_side(accelerator.mac_array, abreast, reduction, work.outputs // work.groups, work.groups)
    time = sum(count * _set_cycles(accelerator, work, abreast, groups) for count, groups in pieces(work.groups, side))
    return Mapping(abreast, side, time)


def _set_cycles(accelerator: Accelerator, work: Work, abreast: int, side: int) -> int:
    """Cycles of the folds of `side` groups side by side."""
    array, buffers = accelerator.mac_array, accelerator.buffers
    rows, columns = array.rows, array.columns
    outputs = work.outputs // work.groups
    width = side * outputs
    vectors = work.lines * -(-work.pixels // abreast)
    parts = _parts(work, abreast, side, rows, buffers.activation.banks)
    port = -(-abreast * min(width, columns) // buffers.accumulator.banks)
    blocks = -(-width // columns)
    banks, runs = buffers.weight.banks, weight_runs(array, abreast, work.kernel[1], work.stride)
    if array.dataflow == "input_stationary":
        return sum(
            folds * max(abreast * width, held * cycles, blocks * held * port)
            for folds, held in pieces(vectors, columns)
            for _, cycles in parts
        )
    if array.dataflow == "weight_stationary":
        weights = -(-min(width, columns) // banks)
        accesses = preloads(work.kernel, work.stride, work.channels, abreast, side, rows)
        return blocks * sum(
            max(vectors * max(cycles, port), count * weights)
            for (_, cycles), count in zip(parts, accesses, strict=True)
        )
    pitch = weight_pitch(banks, work.kernel, work.stride, work.channels, outputs, runs)
    weights = access_cycles(outputs, pitch, banks, runs, work.stride * work.channels) if runs > 1 else 1
    return blocks * sum(
        folds * max(sum(max(depth * weights, held * cycles) for depth, cycles in parts), held * port)
        for folds, held in pieces(vectors, rows)
    )


def _parts(work: Work, abreast: int, side: int, rows: int, banks: int) -> list[tuple[int, int]]:
    """Rows of each chunk of the reduction, and the cycles of an access of activations."""
    taps = work.taps(abreast)
    channels = side * work.channels
    if work.pitches is not None:
        pitches = work.dilation[0] * work.pitches[0], work.dilation[1] * work.pitches[1]
        return [(chunk.rows, chunk.cycles) for chunk in chunks(taps, pitches, channels, rows, banks)]
    every = pieces(math.prod(taps) * channels, rows)
    return [(size, -(-size // banks)) for count, size in every for _ in range(count)]
