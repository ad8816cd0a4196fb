"""The vector unit's instruction: it reads its program from the parameter buffer and runs it on rows of elements."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from accelsim.arithmetic import vector
from accelsim.arithmetic.vector import Statistic
from accelsim.errors import ModelError
from accelsim.hardware import Accelerator
from accelsim.isa import Instruction, Memory
from accelsim.isa.instructions.vector import Rows, Vector
from accelsim.machine.semantics import Semantics, Work, each_place_once

from . import timing


def _bind(instruction: Vector, work: Work) -> None:
    activation = work.memories[Memory.ACTIVATION]
    blocks = instruction.read_blocks()
    sources = [activation.read(block, work.actions) for block in blocks[: len(instruction.operands)]]
    words = np.empty((1, 0), np.uint8)
    if instruction.steps:
        words = work.memories[Memory.PARAMETER].read(instruction.program_block(), work.actions)
    runs = max(map(len, [*sources, words]))
    target = work.memories.target(instruction.written_blocks()[0], runs)

    def compute() -> None:
        elements = [_elements(source, rows) for source, rows in zip(sources, instruction.operands, strict=True)]
        if len(words) == 1:
            made = _results(instruction, words[0], elements, work)
        else:
            made = np.concatenate(
                [
                    _results(instruction, row, [part[min(run, len(part) - 1)][None] for part in elements], work)
                    for run, row in enumerate(words)
                ]
            )
        np.copyto(target, np.ascontiguousarray(made)[..., None].view(np.uint8))

    work.actions.append(compute)


def _elements(places: np.ndarray, rows: Rows) -> np.ndarray:
    """(runs, outer, inner, length) elements of the bytes (runs, outer, inner, length, bytes)."""
    return np.ascontiguousarray(places).view(rows.element.dtype)[..., 0]


def _results(instruction: Vector, raw: np.ndarray, elements: list[np.ndarray], work: Work) -> np.ndarray:
    """(runs, outer, inner, length), or of a statistic one element a row."""
    try:
        program = vector.decode(np.ascontiguousarray(raw).view("<u4").astype(np.uint32).reshape(-1, 4))
        vector.check(program, len(elements), instruction.out_element.dtype, instruction.statistic)
    except ModelError as error:
        raise work.error(f"its program: {error}") from None
    cycles = vector.cycles(program)
    if cycles != instruction.cycles:
        raise work.error(f"its steps take {cycles} cycles, not cycles={instruction.cycles}")
    made = vector.evaluate(program, elements, instruction.out_element.dtype)
    if instruction.statistic == Statistic.NONE:
        return made
    return vector.statistic(made, instruction.statistic)[..., None]


def _work(instruction: Vector, accelerator: Accelerator) -> timing.Work:
    operands = tuple(timing.Stream(rows.element.bytes, rows.pitch) for rows in instruction.operands)
    statistic = instruction.statistic != Statistic.NONE
    # What is written of a row is one element.
    result = timing.Stream(instruction.out_element.bytes, 0 if statistic else instruction.out_pitch)
    rows = timing.ProgramRows(
        rows=instruction.outer * instruction.inner,
        length=instruction.length,
        operands=operands,
        result=result,
        steps=instruction.steps,
        cycles=instruction.cycles,
        statistic=statistic,
    )
    return timing.program(rows, accelerator)


def _host_cost(instruction: Vector) -> tuple[int, int]:
    each = 4 * (instruction.steps + 8)
    return each * instruction.elements, (16 + 4 * instruction.cycles) * instruction.elements


SEMANTICS: Mapping[type[Instruction], Semantics] = {
    Vector: Semantics(
        traffic=each_place_once,
        bind=_bind,
        host_cost=_host_cost,
        occupancy=timing.occupancy_of(_work),
        in_place=True,
    )
}
