"""Bytes that an instruction reads and writes in each memory: a function of its fields and the configuration."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from accelsim.hardware import Accelerator
from accelsim.isa import INSTRUCTION_BYTES, Instruction, Load, Lookup, Mac, Memory, Pool, Store
from accelsim.isa.instructions import _Binary, _Window, inside
from accelsim.isa.requantization import _Requantization
from accelsim.machine.array.timing import tile_of

#: The memories in the order of reports.
MEMORIES = (Memory.DRAM, Memory.ACTIVATION, Memory.WEIGHT, Memory.ACCUMULATOR, Memory.PARAMETER)


@dataclass(frozen=True)
class Traffic:
    """Bytes read from and written to a memory."""

    read: int = 0
    written: int = 0

    def __add__(self, other: Traffic) -> Traffic:
        return Traffic(self.read + other.read, self.written + other.written)


#: A memory, and the bytes read from and written to it.
Move = tuple[Memory, int, int]


def traffic_of(instruction: Instruction, accelerator: Accelerator) -> tuple[Move, ...]:
    """Bytes that the instruction moves, its own fetch included."""
    return ((Memory.DRAM, INSTRUCTION_BYTES, 0), *_moves(instruction, accelerator))


def by_memory(moves: Iterable[Move]) -> dict[str, Traffic]:
    """The sum of the moves, one Traffic a memory."""
    read, written = [0] * len(MEMORIES), [0] * len(MEMORIES)
    for memory, bytes_read, bytes_written in moves:
        read[memory] += bytes_read
        written[memory] += bytes_written
    return {memory.name.lower(): Traffic(read[memory], written[memory]) for memory in MEMORIES}


def _moves(instruction: Instruction, accelerator: Accelerator) -> Iterator[Move]:
    match instruction:
        case Load():
            yield Memory.DRAM, instruction.bytes, 0
            yield instruction.memory, 0, instruction.bytes
        case Store():
            yield Memory.ACTIVATION, instruction.bytes, 0
            yield Memory.DRAM, 0, instruction.bytes
        case Mac():
            yield from _mac(instruction, accelerator)
        case _Requantization():
            codes = instruction.pixels * instruction.channels
            yield Memory.ACCUMULATOR, accelerator.buffers.accumulator.bytes_of(codes), 0
            yield Memory.PARAMETER, 4 * instruction.planes * instruction.channels, 0
            yield Memory.ACTIVATION, 0, codes
        case _Binary():
            yield Memory.ACTIVATION, 2 * instruction.elements, instruction.elements
        case Lookup():
            yield Memory.ACTIVATION, instruction.elements, instruction.elements
            yield Memory.PARAMETER, 256, 0
        case Pool():
            yield Memory.ACTIVATION, _gathered(instruction), instruction.pixels * instruction.channels


def _gathered(window: _Window) -> int:
    """Bytes of the window's elements, each output position for itself, padding left out."""
    across = inside(
        window.left, window.out_width, window.stride_x, window.kernel_width, window.dilation_x, window.width
    )
    return _bytes(window, across)


def _streamed(mac: Mac) -> int:
    """Bytes of the activations of all vectors, padding left out: pixels unrolled share one window."""
    vectors, stride = -(-mac.out_width // mac.unroll_pixels), mac.unroll_pixels * mac.stride_x
    return _bytes(mac, inside(mac.left, vectors, stride, mac.unrolled_width, mac.dilation_x, mac.vector_width))


def _bytes(window: _Window, across: tuple[tuple[int, int], ...]) -> int:
    down = inside(
        window.top, window.out_height, window.stride_y, window.kernel_height, window.dilation_y, window.height
    )
    inside_taps = sum(stop - first for first, stop in down) * sum(stop - first for first, stop in across)
    return inside_taps * window.images * window.channels


def _mac(mac: Mac, accelerator: Accelerator) -> Iterator[Move]:
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
