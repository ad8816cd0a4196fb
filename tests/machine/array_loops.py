"""The loops of one Mac instruction: what the clocked array preloads, what streams past it, and where results go."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from accelsim.isa import Mac


@dataclass(frozen=True)
class Machine:
    rows: int
    columns: int
    dataflow: str
    activation_banks: int
    weight_banks: int
    accumulator_banks: int

    def without_conflicts(self) -> Machine:
        return replace(self, activation_banks=0, weight_banks=0, accumulator_banks=0)


@dataclass(frozen=True)
class Access:
    """One vector to read: for each lane an address, and the value that stands there instead of the memory's, if any."""

    addresses: tuple[int, ...]
    lanes: tuple[int, ...]
    instead: tuple[int | None, ...]


@dataclass(frozen=True)
class Write:
    """What the accumulator port does with a vector of results when it comes out."""

    addresses: tuple[int, ...]
    accumulate: bool
    end_of: int | None = None


@dataclass
class Vector:
    access: Access | None  # None: nothing to read, the vector comes out of a transposer
    first_of_phase: bool = False
    write: Write | None = None
    # output stationary
    column: int = 0
    clear: bool = False
    tokens: tuple[Write, ...] = ()
    # input stationary
    slot: int = 0
    first_of_block: bool = False
    commands: tuple[Write, ...] = ()


@dataclass
class Phase:
    """What is preloaded, and the vectors that stream past it."""

    preload: list[Access]
    vectors: list[Vector]


class Addresses:
    """The loops of one Mac instruction, as the address generators walk them."""

    def __init__(self, mac: Mac, machine: Machine) -> None:
        self.mac = mac
        self.machine = machine
        self.channels = mac.channels // mac.groups
        self.outputs = mac.outputs // mac.groups

    def group_sets(self) -> Iterator[range]:
        """As many groups next to one another as have room, at least one."""
        lanes, each = self.machine.columns, self.outputs
        if self.machine.dataflow == "input_stationary":
            lanes, each = self.machine.rows, self.channels * self.mac.taps
        step = max(1, lanes // each)
        for start in range(0, self.mac.groups, step):
            yield range(start, min(start + step, self.mac.groups))

    def chunks(self, groups: range) -> Iterator[list[tuple[int, int, int]]]:
        """Up to R reduction indices (ky, kx, channel of the instruction) at a time."""
        mac, chunk = self.mac, []
        for ky in range(mac.kernel_height):
            for kx in range(mac.kernel_width):
                for channel in range(groups.start * self.channels, groups.stop * self.channels):
                    chunk.append((ky, kx, channel))
                    if len(chunk) == self.machine.rows:
                        yield chunk
                        chunk = []
        if chunk:
            yield chunk

    def pixels(self) -> list[int]:
        return list(range(self.mac.images * self.mac.out_height * self.mac.out_width))

    def columns(self, groups: range, size: int) -> Iterator[range]:
        stop = groups.stop * self.outputs
        for start in range(groups.start * self.outputs, stop, size):
            yield range(start, min(start + size, stop))

    def activations(self, pixel: int, chunk: list[tuple[int, int, int]]) -> Access:
        mac = self.mac
        rest, ox = divmod(pixel, mac.out_width)
        image, oy = divmod(rest, mac.out_height)
        addresses, instead = [], []
        for ky, kx, channel in chunk:
            y = mac.top + oy * mac.stride_y + ky * mac.dilation_y
            x = mac.left + ox * mac.stride_x + kx * mac.dilation_x
            addresses.append(
                mac.activation + image * mac.image_pitch + y * mac.line_pitch + x * mac.pixel_pitch + channel
            )
            instead.append(None if 0 <= y < mac.height and 0 <= x < mac.width else mac.pad)
        return Access(tuple(addresses), tuple(range(len(chunk))), tuple(instead))

    def weight(self, index: tuple[int, int, int], output: int) -> int | None:
        """The address, or None where the channel and the output are of different groups: a zero that nobody stores."""
        ky, kx, channel = index
        if channel // self.channels != output // self.outputs:
            return None
        k = (ky * self.mac.kernel_width + kx) * self.channels + channel % self.channels
        return self.mac.weight + k * self.mac.weight_pitch_k + output * self.mac.weight_pitch_n

    def weights(self, pairs: Sequence[tuple[tuple[int, int, int], int]]) -> Access:
        found = [(lane, self.weight(*pair)) for lane, pair in enumerate(pairs)]
        present = [(lane, address) for lane, address in found if address is not None]
        return Access(
            tuple(address for _, address in present), tuple(lane for lane, _ in present), (None,) * len(present)
        )

    def words(self, pixel: int, outputs: range) -> tuple[int, ...]:
        return tuple(self.mac.accumulator + pixel * self.mac.outputs + output for output in outputs)


def weight_stationary(loops: Addresses, index: int) -> list[Phase]:
    phases = []
    for groups in loops.group_sets():
        for outputs in loops.columns(groups, loops.machine.columns):
            for number, chunk in enumerate(loops.chunks(groups)):
                add = bool(loops.mac.accumulate) or number > 0
                preload = [loops.weights([(k, n) for n in outputs]) for k in chunk]
                vectors = [
                    Vector(loops.activations(m, chunk), write=Write(loops.words(m, outputs), add))
                    for m in loops.pixels()
                ]
                phases.append(Phase(preload, vectors))
    last = phases[-1].vectors[-1]
    assert last.write is not None
    last.write = Write(last.write.addresses, last.write.accumulate, index)
    return phases


def output_stationary(loops: Addresses, index: int) -> list[Phase]:
    phases = []
    for groups in loops.group_sets():
        for outputs in loops.columns(groups, loops.machine.columns):
            pixels = loops.pixels()
            for start in range(0, len(pixels), loops.machine.rows):
                rows = pixels[start : start + loops.machine.rows]
                fold = []
                for chunk in loops.chunks(groups):
                    preload = [loops.activations(m, chunk) for m in rows]
                    vectors = [Vector(loops.weights([(k, n) for n in outputs]), column=c) for c, k in enumerate(chunk)]
                    fold.append(Phase(preload, vectors))
                fold[0].vectors[0].clear = True
                fold[-1].vectors[-1].tokens = tuple(
                    Write(loops.words(m, outputs), bool(loops.mac.accumulate)) for m in rows
                )
                phases += fold
    last = phases[-1].vectors[-1]
    *tokens, token = last.tokens
    last.tokens = (*tokens, Write(token.addresses, token.accumulate, index))
    return phases


def input_stationary(loops: Addresses, index: int) -> list[Phase]:
    phases = []
    for groups in loops.group_sets():
        pixels = loops.pixels()
        for start in range(0, len(pixels), loops.machine.columns):
            held = pixels[start : start + loops.machine.columns]
            for number, chunk in enumerate(loops.chunks(groups)):
                add = bool(loops.mac.accumulate) or number > 0
                vectors = []
                for outputs in loops.columns(groups, loops.machine.columns):
                    block = [Vector(loops.weights([(k, n) for k in chunk]), slot=s) for s, n in enumerate(outputs)]
                    block[0].first_of_block = True
                    block[-1].commands = tuple(Write(loops.words(m, outputs), add) for m in held)
                    vectors += block
                phases.append(Phase([loops.activations(m, chunk) for m in held], vectors))
    last = phases[-1].vectors[-1]
    *commands, command = last.commands
    last.commands = (*commands, Write(command.addresses, command.accumulate, index))
    return phases


PHASES = {
    "weight_stationary": weight_stationary,
    "output_stationary": output_stationary,
    "input_stationary": input_stationary,
}
