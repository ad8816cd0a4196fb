"""The machine cycle by cycle: every register looked at in every cycle. What the event-driven timing must come to.

How long an instruction occupies the MAC or the post unit is asked of the functions that state those rules; what is
modelled here is everything that happens between units: words, queues, semaphores, the bus.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from accelsim.hardware import Accelerator
from accelsim.isa import INSTRUCTION_BYTES, Instruction, Load, Mac, Memory, Store, Unit
from accelsim.machine.array.timing import mac_occupancy
from accelsim.machine.instructions import occupancy
from accelsim.machine.occupancy import Occupancy

from . import dram_model, l2_model


@dataclass
class Register:
    """A counter that each token raises in a cycle of its own."""

    seen_from: list[int]

    def visible(self, cycle: int) -> bool:
        return bool(self.seen_from) and min(self.seen_from) <= cycle

    def take(self) -> None:
        self.seen_from.remove(min(self.seen_from))


@dataclass
class Request:
    """What a requester still wants of the bus."""

    beats: int = 0
    asked: int = 0
    index: int = -1
    start: int = 0


@dataclass
class Worker:
    """A unit: when it can look at its queue again, its queue (index, visible from), the room in it."""

    depth: int
    ready: int = 0
    queue: list[tuple[int, int]] = field(default_factory=list)
    room: Register = field(default_factory=lambda: Register([]))
    begun: int = 0
    opening: int | None = None  # an instruction that has started and has yet to wait for the other compute unit
    before: Occupancy = field(default_factory=lambda: Occupancy(0, 0, 0, 0))

    def __post_init__(self) -> None:
        self.room = Register([0] * self.depth)


def beats(dram: int, length: int, loops: list[tuple[int, int]], width: int, banks: int) -> int:
    """Cycles of a transfer, row by row: the words of the bus that its bytes lie in, each as often as banks take it."""
    starts = [dram]
    for count, pitch in loops:
        starts = [start + i * pitch for start in starts for i in range(count)]
    return sum(
        len({(byte // width, byte % width // banks) for byte in range(start, start + length)}) for start in starts
    )


def transfer(item: Load | Store, accelerator: Accelerator) -> tuple[list[tuple[int, int]], int]:
    """The loops of its rows in DRAM, and the banks of its scratchpad."""
    memory = item.memory if isinstance(item, Load) else Memory.ACTIVATION
    loops = [(getattr(item, f"count_{i}"), getattr(item, f"dram_pitch_{i}")) for i in (1, 2, 3)]
    return loops, getattr(accelerator.buffers, memory.name.lower()).banks


Beyond = dram_model.Dram | l2_model.Cache


def beyond_of(accelerator: Accelerator) -> Beyond | None:
    """What is behind the bus and has a clock of its own: the L2, DRAM with banks, or nothing."""
    dram = accelerator.dram
    if accelerator.l2 is not None:
        return l2_model.Cache(accelerator)
    if dram.timings is None:
        return None
    return dram_model.Dram(dram.timings, accelerator.clock_mhz, dram.bytes_per_cycle, dram.burst_beats)


def spans(
    instructions: tuple[Instruction, ...], accelerator: Accelerator, code: int, beyond: Beyond | None = None
) -> dict[int, tuple[int, int]]:
    """Start and end of every instruction, by index. `beyond`: what is behind the bus, new, to be looked at later."""
    depth, dram = accelerator.queues.depth, accelerator.dram
    latency, width = (
        (accelerator.l2.latency, accelerator.l2.bytes_per_cycle)
        if accelerator.l2
        else (dram.latency, dram.bytes_per_cycle)
    )
    tokens: dict[tuple[Unit, Unit], Register] = {(a, b): Register([]) for a in Unit for b in Unit}
    units = {unit: Worker(depth) for unit in Unit}
    words = Worker(depth)  # the buffer of words, between what asks for them and what hands them out
    flying = Register([0] * depth)
    requests: dict[str, Request] = {name: Request() for name in ("fetch", "load", "store")}
    beyond = beyond or beyond_of(accelerator)
    moving: dict[str, list[tuple[int, int]]] = {"fetch": [], "load": [], "store": []}
    result: dict[int, tuple[int, int]] = {}
    next_word = dispatcher_ready = bus_free = 0

    def signal(instruction: Instruction, unit: Unit, end: int) -> None:
        for target in instruction.signal.members():
            tokens[unit, target].seen_from.append(end)

    # What a unit does first needs nothing of another unit: weights in weight stationary, the post unit's constants.
    late = {Unit.POST: Unit.MAC}
    if accelerator.mac_array.dataflow == "weight_stationary":
        late[Unit.MAC] = Unit.POST
    start: dict[int, int] = {}

    def open_unit(cycle: int, unit: Unit, worker: Worker) -> None:
        assert worker.opening is not None
        index, instruction = worker.opening, instructions[worker.opening]
        if unit in late and late[unit] in instruction.wait.members():
            if not tokens[late[unit], unit].visible(cycle):
                return
            tokens[late[unit], unit].take()
        first = start[index]
        before, opened = worker.before.since(first - worker.begun), cycle - first
        if isinstance(instruction, Mac):
            work = mac_occupancy(instruction, accelerator, before, opened)
        else:
            work = occupancy(instruction, accelerator, before, opened)
        worker.begun, worker.before, worker.opening = first, work, None
        worker.ready = first + work.free
        result[index] = (first, first + work.cycles)
        signal(instruction, unit, first + work.cycles)

    for cycle in range(1_000_000):
        if beyond is not None:
            taken, through = beyond.step(cycle)
            for name, seen in taken:
                (words if name == "fetch" else units[Unit[name.upper()]]).ready = seen - 1
            for name, end in through:
                index, began = moving[name].pop(0)
                if name == "fetch":
                    words.queue.append((index, end + latency))
                    continue
                unit = Unit[name.upper()]
                finished = end + (latency if unit == Unit.LOAD else 0)
                result[index] = (began, finished)
                signal(instructions[index], unit, finished)
                if unit == Unit.LOAD:
                    flying.seen_from.append(finished)
        # The bus first: in the cycle of a transfer's last beat its unit may go on.
        waiting = [name for name, item in requests.items() if item.beats and item.asked <= cycle]
        if bus_free <= cycle and waiting:
            name = min(waiting, key=lambda name: (requests[name].asked, list(requests).index(name)))
            request = requests[name]
            granted = min(request.beats, dram.burst_beats)
            request.beats -= granted
            bus_free = request.asked = end = cycle + granted
            if not request.beats and name == "fetch":
                words.queue.append((request.index, end + latency))
                words.ready = end - 1
            elif not request.beats:
                unit = Unit[name.upper()]
                finished = end + (latency if unit == Unit.LOAD else 0)
                units[unit].ready = end - 1
                result[request.index] = (request.start, finished)
                signal(instructions[request.index], unit, finished)
                if unit == Unit.LOAD:
                    flying.seen_from.append(finished)
        # The fetcher asks for the next word.
        if next_word < len(instructions) and cycle >= words.ready and words.room.visible(cycle):
            words.room.take()
            address = code + next_word * INSTRUCTION_BYTES
            if beyond is not None:
                beyond.ask("fetch", address, INSTRUCTION_BYTES, [], width, cycle + 1)
                moving["fetch"].append((next_word, cycle))
            else:
                count = beats(address, INSTRUCTION_BYTES, [], width, width)
                requests["fetch"] = Request(count, cycle + 1, next_word, cycle)
            words.ready = 1 << 60
            next_word += 1
        # The dispatcher hands one out.
        if cycle >= dispatcher_ready and words.queue and words.queue[0][1] <= cycle:
            index = words.queue[0][0]
            unit_of = instructions[index].unit
            if unit_of is None:
                result[index] = (cycle, cycle + 1)
                words.queue.pop(0)
            elif units[unit_of].room.visible(cycle):
                units[unit_of].room.take()
                units[unit_of].queue.append((index, cycle + 1))
                words.queue.pop(0)
                words.room.seen_from.append(cycle + 1)
                dispatcher_ready = cycle + 1
        for unit, worker in units.items():
            if worker.opening is not None:
                open_unit(cycle, unit, worker)
            if cycle < worker.ready or not worker.queue or worker.queue[0][1] > cycle:
                continue
            index = worker.queue[0][0]
            instruction: Any = instructions[index]
            needed = [tokens[source, unit] for source in instruction.wait.members() if late.get(unit) != source]
            needed += [flying] if unit == Unit.LOAD else []
            if not all(register.visible(cycle) for register in needed):
                continue
            for register in needed:
                register.take()
            worker.queue.pop(0)
            worker.room.seen_from.append(cycle + 1)
            if isinstance(instruction, Load | Store):
                loops, banks = transfer(instruction, accelerator)
                if beyond is not None:
                    beyond.ask(unit.name.lower(), instruction.dram, instruction.length, loops, banks, cycle + 1)
                    moving[unit.name.lower()].append((index, cycle))
                else:
                    count = beats(instruction.dram, instruction.length, loops, width, banks)
                    requests[unit.name.lower()] = Request(count, cycle + 1, index, cycle)
                worker.ready = 1 << 60
                continue
            worker.opening, worker.ready, start[index] = index, 1 << 60, cycle
            open_unit(cycle, unit, worker)
        if len(result) == len(instructions):
            return result
    raise AssertionError(f"only {len(result)} of {len(instructions)} instructions have run")
