"""Pools on the post unit: each window of the activation buffer becomes one code a channel."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from accelsim.hardware import Accelerator
from accelsim.isa import Instruction, Memory, Pool, Reduction
from accelsim.machine.semantics import Move, Semantics, Work

from . import timing
from .data import Codes, check_steps, rule_of, store


def _codes(tile: Pool, activations: np.ndarray) -> Codes:
    """Computes codes (runs, images, lines, pixels, channels). `activations`: (1 or runs, bytes), the whole memory.

    Raises ValueError with (line, pixel) for the maximum of a window that is all padding.
    """
    codes = activations.view(np.int8) if tile.signed_activation else activations
    shape = (len(codes), tile.images, tile.out_height, tile.out_width, tile.channels)
    count = np.zeros(shape[2:4], np.int32)
    largest = tile.reduction == Reduction.MAX
    parts = []
    for tap in tile.inside_taps():
        count[tap.down, tap.across] += 1
        parts.append((slice(None), slice(None), tap.down, tap.across, tap.block.view(codes)))
    if largest and not count.all():
        line, pixel = np.argwhere(count == 0)[0]
        raise ValueError(int(line), int(pixel))
    rule = rule_of(tile, tile.factor)
    padding = tile.subtract * count[:, :, None]

    def maximum() -> np.ndarray:
        result = np.full(shape, np.iinfo(codes.dtype).min, codes.dtype)
        for *where, part in parts:
            np.maximum(result[tuple(where)], part, out=result[tuple(where)])
        return result

    def total() -> np.ndarray:
        result = np.zeros(shape, np.int32)
        for *where, part in parts:
            np.add(result[tuple(where)], part, out=result[tuple(where)])
        result -= padding
        return rule.codes(result)

    return maximum if largest else total


def _bind(tile: Pool, work: Work) -> None:
    activations = work.memories[Memory.ACTIVATION].readable(tile.window_blocks(), work.actions)
    try:
        codes = _codes(tile, activations)
    except ValueError as error:
        line, pixel = error.args
        raise work.error(
            f"the window of output line {line}, pixel {pixel} is all padding and has no "
            "largest code; make the padding smaller than the kernel"
        ) from None
    target = work.memories.target(tile.written_blocks()[0], len(activations))
    if tile.reduction == Reduction.MAX:
        # The codes of the maximum are bytes as they stand.
        work.actions.append(lambda: np.copyto(target, codes().view(np.uint8)))
    else:
        bounds = tile.minimum, tile.maximum
        work.actions.append(lambda: store(target, codes(), bounds))


def _traffic(tile: Pool, _accelerator: Accelerator) -> Iterator[Move]:
    yield Memory.ACTIVATION, tile.gathered_bytes(), tile.pixels * tile.channels


def _work(tile: Pool, accelerator: Accelerator) -> timing.Work:
    """Each tap of a vector is an access; padding takes its turn, too."""
    return timing.vectors(tile.pixels, tile.channels, tile.taps, accelerator)


def _host_cost(tile: Pool) -> tuple[int, int]:
    elements = tile.pixels * tile.channels
    return 24 * elements, (tile.taps + 16) * elements


def _check(tile: Pool, _accelerator: Accelerator) -> str | None:
    return check_steps(tile.steps, divisor=True)


SEMANTICS: Mapping[type[Instruction], Semantics] = {
    Pool: Semantics(
        traffic=_traffic, bind=_bind, host_cost=_host_cost, occupancy=timing.occupancy_of(_work), check=_check
    )
}
