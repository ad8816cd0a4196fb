"""The data of a run: each instruction acts on the simulated memories, in the order that the timing gives.

An instruction reads its operands when it starts, and its results are there when it ends. Since no two instructions that
overlap in time touch the same place (`hazards`), one after the other in the order of their ends comes to the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby

import numpy as np

from accelsim.errors import MachineError
from accelsim.hardware import Accelerator
from accelsim.hardware.configuration import Arithmetic, MacArray
from accelsim.hardware.folds import groups_that_fit
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
    Reduction,
    Store,
)
from accelsim.isa.requantization import _Requantization
from accelsim.machine.memory.storage import Action, Memories
from accelsim.machine.post.requantization import requantizer

from .array import products
from .memory import footprint
from .post import data as post
from .timing import describe
from .units import Span


class Execution:
    """The data of any number of runs, `memories.runs` at a time: the instructions' work, made ready once.

    `arithmetic`: that of the requant unit.

    Raises MachineError, naming the instruction, for a place that is read and was never written.
    """

    def __init__(
        self,
        program: Program,
        instructions: tuple[Instruction, ...],
        spans: tuple[Span, ...],
        memories: Memories,
        arithmetic: Arithmetic,
    ) -> None:
        probes: dict[int, list[int]] = {}
        for number, probe in enumerate(program.probes):
            probes.setdefault(probe.instruction, []).append(number)
        self._memories = memories
        self._actions: list[Action] = []
        self._seen: dict[int, np.ndarray] = {}
        self._probes = len(program.probes)
        for _, ending in groupby(sorted(spans, key=lambda span: span.end), key=lambda span: span.end):
            indices = [span.index for span in ending]
            for index in indices:
                self._actions.extend(actions_of(index, instructions[index], memories, arithmetic))
            for index in indices:
                for number in probes.get(index, ()):
                    what = f"value after {describe(index, instructions[index])},"
                    probe = program.probes[number]
                    self._actions.append(self._probe(number, memories.stored(probe.port, probe.part, what)))
        self._outputs = [memories.stored(port, None, "output") for port in program.outputs]

    def _probe(self, number: int, value: Callable[[], np.ndarray]) -> Action:
        def look() -> None:
            self._seen[number] = value()

        return look

    def run(self, codes: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Bytes (runs, bytes) that the program's probes have seen, then those of its outputs.

        `codes`: (runs, *shape) of each input. Raises MachineError, naming the instruction, for a sum that leaves the
        accumulators' width.
        """
        self._memories.fill(codes)
        for action in self._actions:
            action()
        return [self._seen.pop(number) for number in range(self._probes)] + [output() for output in self._outputs]


def check_fields(instructions: tuple[Instruction, ...], accelerator: Accelerator) -> None:
    """Raise MachineError for steps that an instruction's unit has no constant for, for pixels unrolled that the array
    has no columns for, and for a requantisation in another arithmetic than the requant unit's."""
    arithmetic = accelerator.requant_unit.arithmetic
    able = REQUANTIZATIONS[arithmetic.name]
    for index, instruction in enumerate(instructions):
        if isinstance(instruction, _Requantization) and type(instruction) is not able:
            raise MachineError(
                f"{describe(index, instruction)}: this machine's requant unit has the arithmetic {arithmetic}, whose "
                f"instruction is {able.mnemonic}; compile the network for this machine"
            )
        if isinstance(instruction, Mac):
            _check_unrolling(index, instruction, accelerator.mac_array)
        if isinstance(instruction, Add | Multiply | Pool):
            surplus = post.unavailable_steps(instruction.steps, divisor=not isinstance(instruction, Multiply))
            if surplus:
                raise MachineError(
                    f"{describe(index, instruction)}: has no constant for {str(surplus.name).lower()}; "
                    "only a requantize takes its constants from the parameter buffer"
                )


def _check_unrolling(index: int, mac: Mac, array: MacArray) -> None:
    outputs, columns = mac.outputs // mac.groups, array.columns
    if mac.unroll_pixels > 1 and mac.unroll_pixels * outputs > columns:
        raise MachineError(
            f"{describe(index, mac)}: unroll_pixels={mac.unroll_pixels} takes {mac.unroll_pixels * outputs} columns "
            f"for one group, of {columns}; take fewer pixels unrolled"
        )
    if mac.unroll_groups > 1:
        reduction = mac.kernel_height * mac.unrolled_width * mac.channels // mac.groups
        most = groups_that_fit(array, mac.unroll_pixels, reduction, outputs, mac.groups)
        if mac.unroll_groups > most:
            raise MachineError(
                f"{describe(index, mac)}: unroll_groups={mac.unroll_groups}, and the array of {array.rows} rows and "
                f"{columns} columns takes {most} groups in one fold; take no more"
            )


def actions_of(index: int, instruction: Instruction, memories: Memories, arithmetic: Arithmetic) -> list[Action]:
    """What one instruction does to the memories: read its operands, compute, write its result.

    `arithmetic`: that of the requant unit. To be called in the order of the run, and then done in that order, as often
    as there is data.
    """
    for block in footprint.reads(instruction):
        place = memories[block.memory].first_unwritten(block)
        if place is not None:
            kind = "word" if block.memory == Memory.ACCUMULATOR else "byte"
            raise MachineError(
                f"{describe(index, instruction)}: reads {kind} {place:#x} of the {block.memory.name.lower()} memory, "
                "which was never written; write it first, and let this instruction wait for that"
            )
    actions: list[Action] = []
    work = _WORK.get(type(instruction))
    if isinstance(instruction, _Requantization):
        _requantize(index, instruction, memories, arithmetic, actions)
    elif work is not None:
        work(index, instruction, memories, actions)
    return actions


def _copy(source: footprint.Block, target: footprint.Block, memories: Memories, actions: list[Action]) -> None:
    values = memories[source.memory].read(source, actions)
    actions.append(partial(np.copyto, memories.target(target, len(values)), values))


def _load(index: int, load: Load, memories: Memories, actions: list[Action]) -> None:
    _copy(footprint.dram_rows(load), footprint.local_rows(load, load.memory), memories, actions)


def _store(index: int, store: Store, memories: Memories, actions: list[Action]) -> None:
    _copy(footprint.local_rows(store, Memory.ACTIVATION), footprint.dram_rows(store), memories, actions)


def _mac(index: int, mac: Mac, memories: Memories, actions: list[Action]) -> None:
    activations = memories[Memory.ACTIVATION].readable(footprint.window(mac), actions)
    weights = memories[Memory.WEIGHT].read(footprint.weights(mac), actions).view(np.int8)
    product = products.product(mac, activations, weights, memories.operands)
    block, accumulators = footprint.sums(mac), memories[Memory.ACCUMULATOR]
    runs = max(len(activations), len(weights))
    before = None
    if mac.accumulate:
        before = accumulators.read(block, actions)
        runs = max(runs, len(before))
    target = memories.target(block, runs)
    # What any data can make of these words; only what may leave their width is looked at, in every run.
    largest = memories.largest_sums.target(block, products.largest_sum(mac), add=bool(mac.accumulate))
    limit = 1 << (memories.accumulator_bits - 1)

    def add_checked() -> None:
        total = product().astype(np.int64)
        if before is not None:
            total = total + before
        if total.max() >= limit or total.min() < -limit:
            run, pixel, output = (int(axis) for axis in np.argwhere((total >= limit) | (total < -limit))[0])
            word = mac.accumulator + pixel * mac.accumulator_pitch + output
            raise MachineError(
                f"{describe(index, mac)}: the sum in accumulator word {word:#x} is {int(total[run, pixel, output])} "
                f"(pixel {pixel}, output {output}, run {run}), which {memories.accumulator_bits} bits do not hold; "
                "split the reduction and requantise the parts, scale the operands down, or raise "
                "buffers.accumulator.bits (32 at most)"
            )
        target[...] = total

    def put() -> None:
        np.copyto(target, product(), casting="unsafe")

    if largest >= limit:
        actions.append(add_checked)
    else:
        actions.append(put if before is None else partial(_add, target, before, product))


def _add(target: np.ndarray, before: np.ndarray, product: products.Product) -> None:
    np.add(before, product().astype(np.int32), out=target)


def _requantize(
    index: int, tile: _Requantization, memories: Memories, arithmetic: Arithmetic, actions: list[Action]
) -> None:
    accumulators = memories[Memory.ACCUMULATOR].read(footprint.accumulators(tile), actions)
    words = np.empty((1, 0), np.uint8)
    if tile.planes:
        words = memories[Memory.PARAMETER].read(footprint.constants(tile), actions)
    codes = requantizer(tile, accumulators, words, arithmetic)
    target = memories.target(footprint.requantized(tile), max(len(accumulators), len(words)))
    bounds = tile.minimum, tile.maximum

    def requantize() -> None:
        try:
            post.store(target, codes(), bounds)
        except MachineError as error:
            raise MachineError(f"{describe(index, tile)}: {error}") from None

    actions.append(requantize)


def _binary(index: int, instruction: Add | AddFixed | Multiply, memories: Memories, actions: list[Action]) -> None:
    activation = memories[Memory.ACTIVATION]
    a = activation.read(footprint.lines(instruction, instruction.a, instruction.a_pitch), actions)
    b = activation.read(footprint.lines(instruction, instruction.b, instruction.b_pitch), actions)
    codes = post.binary(instruction, a, b)
    target = memories.target(footprint.writes(instruction)[0], max(len(a), len(b)))
    bounds = instruction.minimum, instruction.maximum
    actions.append(lambda: post.store(target, codes(), bounds))


def _lookup(index: int, instruction: Lookup, memories: Memories, actions: list[Action]) -> None:
    table = memories[Memory.PARAMETER].read(footprint.table(instruction), actions)
    block = footprint.lines(instruction, instruction.source, instruction.source_pitch)
    indices = memories[Memory.ACTIVATION].read(block, actions)
    codes = post.lookup(table, indices)
    target = memories.target(footprint.writes(instruction)[0], max(len(table), len(indices)))
    actions.append(lambda: np.copyto(target, codes()))


def _pool(index: int, tile: Pool, memories: Memories, actions: list[Action]) -> None:
    activations = memories[Memory.ACTIVATION].readable(footprint.window(tile), actions)
    try:
        codes = post.pool(tile, activations)
    except ValueError as error:
        line, pixel = error.args
        raise MachineError(
            f"{describe(index, tile)}: the window of output line {line}, pixel {pixel} is all padding and has no "
            "largest code; make the padding smaller than the kernel"
        ) from None
    target = memories.target(footprint.pooled(tile), len(activations))
    if tile.reduction == Reduction.MAX:
        # The codes of the maximum are bytes as they stand.
        actions.append(lambda: np.copyto(target, codes().view(np.uint8)))
    else:
        bounds = tile.minimum, tile.maximum
        actions.append(lambda: post.store(target, codes(), bounds))


_WORK: dict[type[Instruction], Callable[..., None]] = {
    Load: _load,
    Store: _store,
    Mac: _mac,
    Add: _binary,
    AddFixed: _binary,
    Multiply: _binary,
    Lookup: _lookup,
    Pool: _pool,
}
