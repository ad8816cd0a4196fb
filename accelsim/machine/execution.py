"""The data of a run: each instruction acts on the simulated memories, in the order that the timing gives.

An instruction reads its operands when it starts, and its results are there when it ends. Since no two instructions that
overlap in time touch the same place (`hazards`), one after the other in the order of their ends comes to the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby

import numpy as np

from accelsim.errors import MachineError
from accelsim.hardware import Accelerator
from accelsim.hardware.configuration import Arithmetic
from accelsim.isa import Instruction, Program
from accelsim.machine.memory.storage import Action, Memories

from .instructions import semantics_of
from .semantics import Work, describe
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
    """Raise MachineError for an instruction that the configuration has no hardware for: pixels unrolled without the
    columns, a requantisation in another arithmetic than the requant unit's, steps without a constant."""
    for index, instruction in enumerate(instructions):
        wrong = semantics_of(instruction).check(instruction, accelerator)
        if wrong is not None:
            raise MachineError(f"{describe(index, instruction)}: {wrong}")


def actions_of(index: int, instruction: Instruction, memories: Memories, arithmetic: Arithmetic) -> list[Action]:
    """What one instruction does to the memories: read its operands, compute, write its result.

    `arithmetic`: that of the requant unit. To be called in the order of the run, and then done in that order, as often
    as there is data.
    """
    for block in instruction.read_blocks():
        place = memories[block.memory].first_unwritten(block)
        if place is not None:
            raise MachineError(
                f"{describe(index, instruction)}: reads {block.memory.word} {place:#x} of the {block.memory.label} "
                "memory, which was never written; write it first, and let this instruction wait for that"
            )
    work = Work(index, instruction, memories, arithmetic, [])
    semantics_of(instruction).bind(instruction, work)
    return work.actions
