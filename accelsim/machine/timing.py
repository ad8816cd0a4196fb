"""The run of a program in time: when each instruction starts and ends, and where every unit's cycles go.

Nothing here depends on data: time is a function of the instructions and the configuration.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from random import Random

import simpy

from accelsim.errors import MachineError
from accelsim.hardware import Accelerator
from accelsim.isa import INSTRUCTION_BYTES, Halt, Instruction, Memory, Program, Region, Unit, decode
from accelsim.isa.ports import DRAM_BYTES
from accelsim.isa.units import ON_CHIP, buffer_of
from accelsim.limits import DEFAULT, Limits

from .collector import collector_at_rest
from .semantics import describe
from .units import NAMES, SEMAPHORE_LIMIT, Machine, Span

#: A program is often run again, on other inputs or another configuration.
_decode = lru_cache(maxsize=1 << 15)(decode)


@dataclass(frozen=True)
class Timing:
    """`spans` are in program order. `issued`: when the last vector of a mac or post instruction has entered its unit.
    `opened`: when it had all of its tokens, which its preload need not have waited for. `intervals` are each unit's
    cycles in order of time, (start, end, cause)."""

    cycles: int
    spans: tuple[Span, ...]
    units: Mapping[str, Mapping[str, int]]
    issued: Mapping[int, int]
    opened: Mapping[int, int]
    intervals: Mapping[str, Sequence[tuple[int, int, str]]]


def decoded(words: bytes) -> tuple[Instruction, ...]:
    """The instructions that the words in DRAM encode."""
    return tuple(_decode(words[at : at + INSTRUCTION_BYTES]) for at in range(0, len(words), INSTRUCTION_BYTES))


def check_end(program: Program, instructions: tuple[Instruction, ...]) -> None:
    """Raise MachineError for a program that does not end in its only `halt`."""
    halts = [index for index, instruction in enumerate(instructions) if isinstance(instruction, Halt)]
    if not halts:
        raise MachineError(f"{program.name}: no `halt`; the fetcher would run past the last word: end with `halt`")
    if halts[0] != len(instructions) - 1:
        raise MachineError(
            f"{program.name}: instruction {halts[0]} is `halt`, and the {len(instructions) - 1 - halts[0]} after it "
            "would never run; `halt` must be the last one"
        )


#: The hulls of what an instruction reads and of what it writes.
Touched = tuple[tuple[Region, ...], tuple[Region, ...]]


def check_bounds(
    program: Program, instructions: tuple[Instruction, ...], touched: Sequence[Touched], accelerator: Accelerator
) -> None:
    """Raise MachineError for an instruction that leaves a memory or writes over the code."""
    sizes = {memory: buffer_of(memory, accelerator).words for memory in ON_CHIP} | {Memory.DRAM: DRAM_BYTES}
    code = program.code, program.code + INSTRUCTION_BYTES * len(instructions)
    for index, (reads, writes) in enumerate(touched):
        for region in (*reads, *writes):
            size = sizes[region.memory]
            if region.start < 0 or region.stop > size:
                name, kind = region.memory.label, region.memory.word
                raise MachineError(
                    f"{describe(index, instructions[index])}: touches {kind}s {region.start:#x}..{region.stop - 1:#x} "
                    f"of the {name} memory, which ends at {size - 1:#x}; use lower addresses"
                    + ("" if region.memory == Memory.DRAM else f" or a larger {name} buffer")
                )
        for region in writes:
            if region.memory == Memory.DRAM and region.start < code[1] and code[0] < region.stop:
                raise MachineError(
                    f"{describe(index, instructions[index])}: writes {region.start:#x}..{region.stop - 1:#x} of DRAM "
                    f"over the code at {code[0]:#x}..{code[1] - 1:#x}; store elsewhere"
                )


def run(
    program: Program,
    instructions: tuple[Instruction, ...],
    accelerator: Accelerator,
    shuffle: Random | None = None,
    limits: Limits = DEFAULT,
) -> Timing:
    """Run the machine. `shuffle` starts its processes in random order and visits those of one cycle in random order.

    Raises MachineError for a deadlock, for tokens that nobody took, for a semaphore that overflows, and for more cycles
    than the limit.
    """
    env = simpy.Environment() if shuffle is None else _ShuffledEnvironment(shuffle)
    machine = Machine(env, accelerator, instructions, program.code, limits.cycles)
    processes = list(machine.processes())
    if shuffle is not None:
        shuffle.shuffle(processes)
    for process in processes:
        env.process(process)
    with collector_at_rest():
        env.run()
    _check_end(machine)
    cycles = max(end for _, end in machine.spans.values())
    # The array still drains after the last vector of the last MAC instruction.
    drained = [end for index, (_, end) in machine.spans.items() if instructions[index].unit == Unit.MAC]
    machine.ledgers["mac"].charge("fill", max(drained, default=0))
    for ledger in machine.ledgers.values():
        ledger.charge("finished", cycles)
    return Timing(
        cycles,
        tuple(
            Span(
                index,
                "fetch" if instruction.unit is None else NAMES[instruction.unit],
                program.layers[program.layer_of[index]],
                *machine.spans[index],
            )
            for index, instruction in enumerate(instructions)
        ),
        {name: ledger.totals() for name, ledger in machine.ledgers.items()},
        machine.issued,
        machine.opened,
        {name: ledger.intervals for name, ledger in machine.ledgers.items()},
    )


class _ShuffledEnvironment(simpy.Environment):  # type: ignore[misc]
    """simpy with the events of one time in random order."""

    def __init__(self, random: Random) -> None:
        super().__init__()
        self._eid = iter(random.random, None)


def _check_end(machine: Machine) -> None:
    """Everything must have run, and every token must have been taken."""
    instructions = machine.instructions
    if not machine.halted or len(machine.spans) < len(instructions):
        raise MachineError(_explain_deadlock(machine))
    for (source, target), tokens in machine.semaphores.items():
        names = f"{source.label} -> {target.label}"
        if tokens.highest() > SEMAPHORE_LIMIT:
            raise MachineError(
                f"semaphore {names} came to {tokens.highest()}; its register holds {SEMAPHORE_LIMIT} at most: "
                "let the units wait for one another more often"
            )
        if len(tokens):
            signals = [i for i, item in enumerate(instructions) if item.unit == source and _signals(item, target)]
            raise MachineError(
                f"semaphore {names} still holds {len(tokens)} of {len(signals)} tokens at the end (the last was put by "
                f"{describe(signals[-1], instructions[signals[-1]])}); drop the signal, or wait for it"
            )


def _explain_deadlock(machine: Machine) -> str:
    """Who waits for what, at which instruction."""
    instructions = machine.instructions
    lines = [f"deadlock in cycle {max(ledger.charged_until for ledger in machine.ledgers.values())}: no unit can go on"]
    for unit in Unit:
        name = unit.label
        if name not in machine.waiting:
            lines.append(f"  {name}: idle, its queue is empty")
            continue
        index, source = machine.waiting[name]
        signals = [
            i for i, item in enumerate(instructions) if item.unit == Unit[source.upper()] and _signals(item, unit)
        ]
        done = sum(1 for i in signals if i in machine.spans)
        later = [i for i in signals if i not in machine.spans]
        hint = f"no instruction of {source} that is left puts one"
        if later:
            hint = f"the next that would put one is {describe(later[0], instructions[later[0]])}"
        lines.append(
            f"  {name}: {describe(index, instructions[index])} waits for a token of {source} "
            f"({done} were put before); {hint}"
        )
    if "fetch" in machine.waiting:
        index, what = machine.waiting["fetch"]
        lines.append(f"  fetch: {describe(index, instructions[index])} waits for {what}")
    return "\n".join(lines)


def _signals(instruction: Instruction, unit: Unit) -> bool:
    return unit in instruction.signal.members()
