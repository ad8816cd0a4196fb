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
from accelsim.isa import (
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
    Requantize,
    Store,
)

from . import footprint, post, products
from .memory import Action, Memories
from .timing import describe
from .units import Span


class Execution:
    """The data of any number of runs, `memories.runs` at a time: the instructions' work, made ready once.

    Raises MachineError, naming the instruction, for a place that is read and was never written.
    """

    def __init__(
        self, program: Program, instructions: tuple[Instruction, ...], spans: tuple[Span, ...], memories: Memories
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
                self._actions.extend(actions_of(index, instructions[index], memories))
            for index in indices:
                for number in probes.get(index, ()):
                    what = f"value after {describe(index, instructions[index])},"
                    self._actions.append(self._probe(number, memories.value(program.probes[number].port, what)))
        self._outputs = [memories.value(port, "output") for port in program.outputs]

    def _probe(self, number: int, value: Callable[[], np.ndarray]) -> Action:
        def look() -> None:
            self._seen[number] = value()

        return look

    def run(self, codes: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Codes (runs, *shape) that the program's probes have seen, then those of its outputs.

        `codes`: (runs, *shape) of each input. Raises MachineError, naming the instruction, for a sum that leaves int32.
        """
        self._memories.fill(codes)
        for action in self._actions:
            action()
        return [self._seen.pop(number) for number in range(self._probes)] + [output() for output in self._outputs]


def check_fields(instructions: tuple[Instruction, ...]) -> None:
    """Raise MachineError for steps that an instruction's unit has no constant for."""
    for index, instruction in enumerate(instructions):
        if isinstance(instruction, Add | Multiply | Pool):
            surplus = post.unavailable_steps(instruction.steps, divisor=isinstance(instruction, Pool))
            if surplus:
                raise MachineError(
                    f"{describe(index, instruction)}: has no constant for {str(surplus.name).lower()}; "
                    "only a requantize takes its constants from the parameter buffer"
                )


def actions_of(index: int, instruction: Instruction, memories: Memories) -> list[Action]:
    """What one instruction does to the memories: read its operands, compute, write its result.

    To be called in the order of the run, and then done in that order, as often as there is data.
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
    if work is not None:
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

    def add_checked() -> None:
        total = product().astype(np.int64)
        if before is not None:
            total = total + before
        if total.max() >= 2**31 or total.min() < -(2**31):
            run, pixel, output = (int(axis) for axis in np.argwhere((total >= 2**31) | (total < -(2**31)))[0])
            word = mac.accumulator + pixel * mac.outputs + output
            raise MachineError(
                f"{describe(index, mac)}: the sum in accumulator word {word:#x} is {int(total[run, pixel, output])} "
                f"(pixel {pixel}, output {output}, run {run}), which 32 bits do not hold; split the reduction and "
                "requantise the parts, or scale the operands down"
            )
        target[...] = total

    def put() -> None:
        np.copyto(target, product(), casting="unsafe")

    if largest >= 2**31:
        actions.append(add_checked)
    else:
        actions.append(put if before is None else partial(_add, target, before, product))


def _add(target: np.ndarray, before: np.ndarray, product: products.Product) -> None:
    np.add(before, product().astype(np.int32), out=target)


def _requantize(index: int, tile: Requantize, memories: Memories, actions: list[Action]) -> None:
    accumulators = memories[Memory.ACCUMULATOR].read(footprint.accumulators(tile), actions)
    words = np.empty((1, 0), np.uint8)
    if tile.planes:
        words = memories[Memory.PARAMETER].read(footprint.constants(tile), actions)
    codes = post.requantize(tile, accumulators, words)
    target = memories.target(footprint.requantized(tile), max(len(accumulators), len(words)))
    bounds = tile.minimum, tile.maximum

    def requantize() -> None:
        try:
            post.store(target, codes(), bounds)
        except OverflowError as error:
            (run, pixel, channel), value = error.args
            raise MachineError(
                f"{describe(index, tile)}: accumulator word {tile.accumulator + pixel * tile.channels + channel:#x} "
                f"and its offset make {value} (channel {channel}, run {run}), which 32 bits do not hold"
            ) from None

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
    Requantize: _requantize,
    Add: _binary,
    AddFixed: _binary,
    Multiply: _binary,
    Lookup: _lookup,
    Pool: _pool,
}
