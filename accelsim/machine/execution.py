"""The data of a run: each instruction acts on the simulated memories, in the order that the timing gives.

An instruction reads its operands when it starts, and its results are there when it ends. Since no two instructions that
overlap in time touch the same place (`hazards`), one after the other in the order of their ends comes to the same.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby

import numpy as np

from accelsim.errors import MachineError
from accelsim.hardware import Accelerator
from accelsim.hardware.configuration import Arithmetic
from accelsim.isa import (
    REQUANTIZATIONS,
    Add,
    AddFixed,
    Instruction,
    Load,
    Lookup,
    Mac,
    Memory,
    Multiply,
    Pool,
    Program,
    Store,
)
from accelsim.isa.requantization import _Requantization

from . import footprint, post
from .memory import Memories
from .products import mac_sums
from .requantization import requantize
from .timing import describe
from .units import Span


def execute(
    program: Program,
    instructions: tuple[Instruction, ...],
    spans: tuple[Span, ...],
    memories: Memories,
    arithmetic: Arithmetic,
) -> list[np.ndarray]:
    """Run the instructions; returns the bytes (runs, bytes) that each of the program's probes has seen.

    `arithmetic`: that of the requant unit.

    Raises MachineError, naming the instruction, for a place that is read and was never written, and for a sum that
    leaves the accumulators' width.
    """
    probes: dict[int, list[int]] = {}
    for number, probe in enumerate(program.probes):
        probes.setdefault(probe.instruction, []).append(number)
    seen: dict[int, np.ndarray] = {}
    for _, ending in groupby(sorted(spans, key=lambda span: span.end), key=lambda span: span.end):
        indices = [span.index for span in ending]
        for index in indices:
            step(index, instructions[index], memories, arithmetic)
        for index in indices:
            for number in probes.get(index, ()):
                what = f"value after {describe(index, instructions[index])},"
                probe = program.probes[number]
                seen[number] = memories.raw(probe.port, probe.part, what)
    return [seen[number] for number in range(len(program.probes))]


def check_fields(instructions: tuple[Instruction, ...], accelerator: Accelerator) -> None:
    """Raise MachineError for steps that an instruction's unit has no constant for, for pixels abreast that the array
    has no columns for, and for a requantisation in another arithmetic than the requant unit's."""
    arithmetic = accelerator.requant_unit.arithmetic
    able = REQUANTIZATIONS[arithmetic.name]
    for index, instruction in enumerate(instructions):
        if isinstance(instruction, _Requantization) and type(instruction) is not able:
            raise MachineError(
                f"{describe(index, instruction)}: this machine's requant unit has the arithmetic {arithmetic}, whose "
                f"instruction is {able.mnemonic}; compile the network for this machine"
            )
        if isinstance(instruction, Mac) and instruction.pixels_abreast > 1:
            _check_abreast(index, instruction, accelerator)
        if isinstance(instruction, Add | Multiply | Pool):
            surplus = post.unavailable_steps(instruction.steps, divisor=isinstance(instruction, Pool))
            if surplus:
                raise MachineError(
                    f"{describe(index, instruction)}: has no constant for {str(surplus.name).lower()}; "
                    "only a requantize takes its constants from the parameter buffer"
                )


def _check_abreast(index: int, mac: Mac, accelerator: Accelerator) -> None:
    taken, columns = mac.pixels_abreast * mac.outputs // mac.groups, accelerator.mac_array.columns
    if taken > columns:
        raise MachineError(
            f"{describe(index, mac)}: pixels_abreast={mac.pixels_abreast} takes {taken} columns for one group, of "
            f"{columns}; take fewer pixels abreast"
        )


def step(index: int, instruction: Instruction, memories: Memories, arithmetic: Arithmetic) -> None:
    """One instruction: read its operands, compute, write its result. `arithmetic`: that of the requant unit."""
    for block in footprint.reads(instruction):
        place = memories[block.memory].first_unwritten(block)
        if place is not None:
            kind = "word" if block.memory == Memory.ACCUMULATOR else "byte"
            raise MachineError(
                f"{describe(index, instruction)}: reads {kind} {place:#x} of the {block.memory.name.lower()} memory, "
                "which was never written; write it first, and let this instruction wait for that"
            )
    action = _ACTIONS.get(type(instruction))
    if isinstance(instruction, _Requantization):
        _requantize(index, instruction, memories, arithmetic)
    elif action is not None:
        action(index, instruction, memories)


def _copy(source: footprint.Block, target: footprint.Block, memories: Memories) -> None:
    memories[target.memory].write(target, memories[source.memory].read(source))


def _load(index: int, load: Load, memories: Memories) -> None:
    _copy(footprint.dram_rows(load), footprint.local_rows(load, load.memory), memories)


def _store(index: int, store: Store, memories: Memories) -> None:
    _copy(footprint.local_rows(store, Memory.ACTIVATION), footprint.dram_rows(store), memories)


def _mac(index: int, mac: Mac, memories: Memories) -> None:
    activations = memories[Memory.ACTIVATION].readable(footprint.window(mac))
    weights = memories[Memory.WEIGHT].read(footprint.weights(mac)).view(np.int8)
    total, largest = mac_sums(mac, activations, weights)
    block, accumulators = footprint.sums(mac), memories[Memory.ACCUMULATOR]
    if mac.accumulate:
        before = accumulators.read(block)
        largest += max(abs(int(before.min())), abs(int(before.max())))
        total = total + (before if largest < 2**31 else before.astype(np.int64))
    limit = 1 << (memories.accumulator_bits - 1)
    if largest >= limit:
        outside = np.argwhere((total >= limit) | (total < -limit))
        if len(outside):
            run, pixel, output = (int(axis) for axis in outside[0])
            word = mac.accumulator + pixel * mac.accumulator_pitch + output
            raise MachineError(
                f"{describe(index, mac)}: the sum in accumulator word {word:#x} is {int(total[run, pixel, output])} "
                f"(pixel {pixel}, output {output}, run {run}), which {memories.accumulator_bits} bits do not hold; "
                "split the reduction and requantise the parts, scale the operands down, or raise "
                "buffers.accumulator.bits (32 at most)"
            )
    accumulators.write(block, total)


def _requantize(index: int, tile: _Requantization, memories: Memories, arithmetic: Arithmetic) -> None:
    accumulators = memories[Memory.ACCUMULATOR].read(footprint.accumulators(tile))
    words = np.empty((1, 0), np.uint8)
    if tile.planes:
        words = memories[Memory.PARAMETER].read(footprint.constants(tile))
    try:
        codes = requantize(tile, accumulators, words, arithmetic)
    except MachineError as error:
        raise MachineError(f"{describe(index, tile)}: {error}") from None
    block = footprint.requantized(tile)
    memories[Memory.ACTIVATION].write(block, codes.reshape(-1, *block.sizes))


def _binary(index: int, instruction: Add | AddFixed | Multiply, memories: Memories) -> None:
    activation = memories[Memory.ACTIVATION]
    a = activation.read(footprint.lines(instruction, instruction.a, instruction.a_pitch))
    b = activation.read(footprint.lines(instruction, instruction.b, instruction.b_pitch))
    activation.write(footprint.writes(instruction)[0], post.binary(instruction, a, b))


def _lookup(index: int, instruction: Lookup, memories: Memories) -> None:
    activation = memories[Memory.ACTIVATION]
    table = memories[Memory.PARAMETER].read(footprint.table(instruction))
    indices = activation.read(footprint.lines(instruction, instruction.source, instruction.source_pitch))
    activation.write(footprint.writes(instruction)[0], post.lookup(table, indices))


def _pool(index: int, tile: Pool, memories: Memories) -> None:
    activation = memories[Memory.ACTIVATION]
    try:
        codes = post.pool(tile, activation.readable(footprint.window(tile)))
    except ValueError as error:
        line, pixel = error.args
        raise MachineError(
            f"{describe(index, tile)}: the window of output line {line}, pixel {pixel} is all padding and has no "
            "largest code; make the padding smaller than the kernel"
        ) from None
    activation.write(footprint.pooled(tile), codes)


_ACTIONS: dict[type[Instruction], Callable[..., None]] = {
    Load: _load,
    Store: _store,
    Mac: _mac,
    Add: _binary,
    AddFixed: _binary,
    Multiply: _binary,
    Lookup: _lookup,
    Pool: _pool,
}
