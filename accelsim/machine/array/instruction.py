"""The `mac` instruction on the array: what it moves, what it does to the accumulators. Its time is in `timing.py`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

import numpy as np

from accelsim.hardware import Accelerator
from accelsim.hardware.folds import groups_that_fit
from accelsim.isa import Instruction, Mac, Memory
from accelsim.isa.instructions.window import inside
from accelsim.machine.semantics import Move, Semantics, Work

from . import products
from .timing import mac_occupancy, tile_of


def _streamed(mac: Mac) -> int:
    """Bytes of the activations of all vectors, padding left out: pixels unrolled share one window."""
    vectors, stride = -(-mac.out_width // mac.unroll_pixels), mac.unroll_pixels * mac.stride_x
    return mac.gathered_bytes(inside(mac.left, vectors, stride, mac.unrolled_width, mac.dilation_x, mac.vector_width))


def _traffic(mac: Mac, accelerator: Accelerator) -> Iterator[Move]:
    """Each dataflow reads once what stays in the array, and what streams once for every fold that it passes."""
    array = accelerator.mac_array
    tile = tile_of(mac, accelerator)
    outputs = accelerator.buffers.accumulator.bytes_of(mac.pixels * mac.outputs)
    weights = mac.reduction * mac.outputs * mac.unroll_pixels
    activations = _streamed(mac)
    column_folds = -(-tile.sets[0].outputs // array.columns)  # more than one only where a set is one group
    if array.dataflow == "output_stationary":
        yield Memory.ACTIVATION, column_folds * activations, 0
        yield Memory.WEIGHT, -(-mac.vectors // array.rows) * weights, 0
        yield Memory.ACCUMULATOR, outputs * mac.accumulate, outputs
        return
    if array.dataflow == "weight_stationary":
        yield Memory.ACTIVATION, column_folds * activations, 0
        yield Memory.WEIGHT, sum(item.count * item.preloads * item.outputs for item in tile.sets), 0
    else:
        yield Memory.ACTIVATION, activations, 0
        yield Memory.WEIGHT, -(-mac.vectors // array.columns) * weights, 0
    for item in tile.sets:
        folds = item.folds
        words = accelerator.buffers.accumulator.bytes_of(mac.pixels * item.outputs * item.count)
        yield Memory.ACCUMULATOR, words * (folds - 1 + mac.accumulate), words * folds


def _bind(mac: Mac, work: Work) -> None:
    memories, actions = work.memories, work.actions
    activations = memories[Memory.ACTIVATION].readable(mac.window_blocks(), actions)
    weights = memories[Memory.WEIGHT].read(mac.weight_block(), actions).view(np.int8)
    product = products.product(mac, activations, weights, memories.operands)
    block, accumulators = mac.sum_block(), memories[Memory.ACCUMULATOR]
    runs = max(len(activations), len(weights))
    before = None
    if mac.accumulate:
        before = accumulators.read(block, actions)
        runs = max(runs, len(before))
    target = memories.target(block, runs)
    # What any data can make of these words; only what may leave their width is looked at, in every run.
    largest = memories.largest_sums.target(block, products.largest_sum(mac), add=bool(mac.accumulate))
    if largest >= 1 << (memories.accumulator_bits - 1):
        actions.append(partial(_add_checked, mac, work, target, before, product))
    elif before is None:
        actions.append(partial(_put, target, product))
    else:
        actions.append(partial(_add, target, before, product))


def _add_checked(
    mac: Mac, work: Work, target: np.ndarray, before: np.ndarray | None, product: products.Product
) -> None:
    bits = work.memories.accumulator_bits
    limit = 1 << (bits - 1)
    total = product().astype(np.int64)
    if before is not None:
        total = total + before
    if total.max() >= limit or total.min() < -limit:
        run, pixel, output = (int(axis) for axis in np.argwhere((total >= limit) | (total < -limit))[0])
        word = mac.accumulator + pixel * mac.accumulator_pitch + output
        raise work.error(
            f"the sum in accumulator word {word:#x} is {int(total[run, pixel, output])} "
            f"(pixel {pixel}, output {output}, run {run}), which {bits} bits do not hold; "
            "split the reduction and requantise the parts, scale the operands down, or raise "
            "buffers.accumulator.bits (32 at most)"
        )
    target[...] = total


def _put(target: np.ndarray, product: products.Product) -> None:
    np.copyto(target, product(), casting="unsafe")


def _add(target: np.ndarray, before: np.ndarray, product: products.Product) -> None:
    np.add(before, product().astype(np.int32), out=target)


def _host_cost(mac: Mac) -> tuple[int, int]:
    gathered, sums = products.gathered_elements(mac), mac.pixels * mac.outputs
    weights = mac.reduction * mac.outputs
    return 8 * (gathered + weights) + 24 * sums, gathered + weights + 8 * sums + mac.macs // 16


def _check(mac: Mac, accelerator: Accelerator) -> str | None:
    array, outputs = accelerator.mac_array, mac.outputs // mac.groups
    taken = mac.unroll_pixels * outputs
    if mac.unroll_pixels > 1 and taken > array.columns:
        return (
            f"unroll_pixels={mac.unroll_pixels} takes {taken} columns for one group, of {array.columns}; "
            "take fewer pixels unrolled"
        )
    if mac.unroll_groups > 1:
        reduction = mac.kernel_height * mac.unrolled_width * mac.channels // mac.groups
        most = groups_that_fit(array, mac.unroll_pixels, reduction, outputs, mac.groups)
        if mac.unroll_groups > most:
            return (
                f"unroll_groups={mac.unroll_groups}, and the array of {array.rows} rows and {array.columns} columns "
                f"takes {most} groups in one fold; take no more"
            )
    return None


SEMANTICS: Mapping[type[Instruction], Semantics] = {
    Mac: Semantics(
        traffic=_traffic,
        bind=_bind,
        host_cost=_host_cost,
        occupancy=mac_occupancy,
        check=_check,
        in_place=True,
    )
}
