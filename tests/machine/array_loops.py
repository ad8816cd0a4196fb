"""The loops of one Mac instruction: what the clocked array preloads, what streams past it, and where results go."""

from __future__ import annotations

import itertools
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
    rows_per_stage: int = 1
    columns_per_stage: int = 1

    def without_conflicts(self) -> Machine:
        return replace(self, activation_banks=0, weight_banks=0, accumulator_banks=0)


@dataclass(frozen=True)
class Access:
    """One vector to read: for each address the lanes that take it, and the value that stands there instead of the
    memory's, if any.

    An address without a lane takes its turn and goes nowhere. `rows`: of weights that stay, the row of each lane.
    """

    addresses: tuple[int, ...]
    lanes: tuple[int | list[int] | None, ...]
    instead: tuple[int | None, ...]
    rows: tuple[int | None, ...] | None = None


@dataclass(frozen=True)
class Write:
    """What the accumulator port does with a vector of results when it comes out; masked words only take their turn."""

    addresses: tuple[int, ...]
    masked: tuple[bool, ...]
    accumulate: bool
    end_of: int | None = None


@dataclass
class Vector:
    access: Access | None  # None: nothing to read, the vector comes out of a transposer
    first_of_phase: bool = False
    swap: bool = False
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


@dataclass(frozen=True)
class Spot:
    """Up to `unroll_pixels` neighbouring outputs of a line: the first one, and how many the line has from it on."""

    image: int
    oy: int
    ox: int
    outputs: int


class Addresses:
    """The loops of one Mac instruction, as the address generators walk them."""

    def __init__(self, mac: Mac, machine: Machine) -> None:
        self.mac = mac
        self.machine = machine
        self.channels = mac.channels // mac.groups
        self.outputs = mac.outputs // mac.groups

    def group_sets(self) -> Iterator[range]:
        """As many groups next to one another as the instruction says."""
        mac = self.mac
        for start in range(0, mac.groups, mac.unroll_groups):
            yield range(start, min(start + mac.unroll_groups, mac.groups))

    def most_groups(self) -> int:
        """As many groups next to one another as have room, at least one."""
        mac, fitting = self.mac, self.machine.columns // (self.mac.unroll_pixels * self.outputs)
        if self.machine.dataflow == "input_stationary":
            across = (mac.unroll_pixels - 1) * mac.stride_x + mac.kernel_width
            rows = self.machine.rows // (mac.kernel_height * across * self.channels)
            fitting = rows if mac.unroll_pixels == 1 else min(fitting, rows)
        return min(max(fitting, 1), mac.groups)

    def chunks(self, groups: range) -> Iterator[list[tuple[int, int, int]]]:
        """Up to R reduction indices (ky, x, channel of the instruction) at a time; x counts the taps from that of the
        first unrolled pixel to that of the last one."""
        mac, chunk = self.mac, []
        for ky in range(mac.kernel_height):
            for kx in range((mac.unroll_pixels - 1) * mac.stride_x + mac.kernel_width):
                for channel in range(groups.start * self.channels, groups.stop * self.channels):
                    chunk.append((ky, kx, channel))
                    if len(chunk) == self.machine.rows:
                        yield chunk
                        chunk = []
        if chunk:
            yield chunk

    def spots(self) -> list[Spot]:
        mac = self.mac
        return [
            Spot(image, oy, ox, mac.out_width - ox)
            for image in range(mac.images)
            for oy in range(mac.out_height)
            for ox in range(0, mac.out_width, mac.unroll_pixels)
        ]

    def columns(self, groups: range, size: int) -> Iterator[range]:
        stop = groups.stop * self.outputs
        for start in range(groups.start * self.outputs, stop, size):
            yield range(start, min(start + size, stop))

    def activations(self, spot: Spot, chunk: list[tuple[int, int, int]]) -> Access:
        mac = self.mac
        last = mac.left + (mac.out_width - 1) * mac.stride_x + (mac.kernel_width - 1) * mac.dilation_x
        addresses, instead = [], []
        for ky, kx, channel in chunk:
            y = mac.top + spot.oy * mac.stride_y + ky * mac.dilation_y
            x = mac.left + spot.ox * mac.stride_x + kx * mac.dilation_x
            addresses.append(
                mac.activation + spot.image * mac.image_pitch + y * mac.line_pitch + x * mac.pixel_pitch + channel
            )
            instead.append(None if 0 <= y < mac.height and 0 <= x < mac.width and x <= last else mac.pad)
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

    def weight_row(self, index: tuple[int, int, int], outputs: range) -> Access:
        """One reduction index of every column (unrolled pixel, output). The generator goes from the last pixel that has
        a tap at x down, while the tap goes up by the stride, as often as there may be taps; what meets no pixel or no
        tap takes its turn."""
        mac = self.mac
        if mac.unroll_pixels == 1:
            return self.weights([(index, n) for n in outputs])
        ky, x, channel = index
        pixel = min(x // mac.stride_x, mac.unroll_pixels - 1)
        tap = x - pixel * mac.stride_x
        addresses, lanes = [], []
        for _ in range(min(mac.unroll_pixels, -(-mac.kernel_width // mac.stride_x))):
            for number, output in enumerate(outputs):
                address = self.weight((ky, tap, channel), output)
                if address is not None:
                    addresses.append(address)
                    there = pixel >= 0 and tap < mac.kernel_width
                    lanes.append(pixel * len(outputs) + number if there else None)
            pixel, tap = pixel - 1, tap + mac.stride_x
        return Access(tuple(addresses), tuple(lanes), (None,) * len(lanes))

    def weight_column(self, chunk: list[tuple[int, int, int]], pixel: int, output: int) -> Access:
        """One output of one unrolled pixel, for every index of a chunk. Its taps lie one after the other, so the
        generator goes on from where the last chunk ended, as often as a chunk may hold taps of one pixel; what belongs
        to the next chunk takes its turn."""
        mac = self.mac
        if mac.unroll_pixels == 1:
            return self.weights([(k, output) for k in chunk])
        group = output // self.outputs
        tap_of: dict[int, int] = {}
        for lane, (ky, x, channel) in enumerate(chunk):
            tap = x - pixel * mac.stride_x
            if channel // self.channels == group and 0 <= tap < mac.kernel_width:
                tap_of[(ky * mac.kernel_width + tap) * self.channels + channel % self.channels] = lane
        groups = len({channel // self.channels for _, _, channel in chunk})
        turns = min(len(chunk) // groups, mac.kernel_height * mac.kernel_width * self.channels)
        assert len(tap_of) <= turns
        first = min(tap_of, default=0)
        taps = range(first, first + turns)
        assert set(tap_of) <= set(taps)
        addresses = tuple(mac.weight + k * mac.weight_pitch_k + output * mac.weight_pitch_n for k in taps)
        return Access(addresses, tuple(tap_of.get(k) for k in taps), (None,) * turns)

    def sums(self, spot: Spot, outputs: range, accumulate: bool) -> Write:
        """Where the results of the columns go; the pixels after the line's end are masked."""
        mac = self.mac
        first = (spot.image * mac.out_height + spot.oy) * mac.out_width + spot.ox
        pitch = mac.outputs + mac.accumulator_gap
        addresses, masked = [], []
        for pixel in range(mac.unroll_pixels):
            for output in outputs:
                addresses.append(mac.accumulator + (first + pixel) * pitch + output)
                masked.append(pixel >= spot.outputs)
        return Write(tuple(addresses), tuple(masked), accumulate)


def preload(loops: Addresses, groups: range, outputs: range, chunk: list[tuple[int, int, int]]) -> list[Access]:
    """One index of a group's reduction an access. Every column (unrolled pixel, output) keeps it in the row in which
    its window has it, if that is one of the chunk's.

    The generator counts up from the first index that the last column (last pixel, last group) has in this chunk or
    behind its start, for as long as the first column has it in front of the chunk's end."""
    mac = loops.mac
    place_of = {place: number for number, place in enumerate(itertools.chain(*loops.chunks(groups)))}
    start = place_of[chunk[0]]
    stop = start + len(chunk)
    row_of = {place: row for row, place in enumerate(chunk)}
    accesses = []
    for ky in range(mac.kernel_height):
        for kx in range(mac.kernel_width):
            for c in range(loops.channels):
                k = (ky * mac.kernel_width + kx) * loops.channels + c
                in_first = place_of[ky, kx, groups.start * loops.channels + c]
                last_x = kx + (mac.unroll_pixels - 1) * mac.stride_x
                in_last = place_of[ky, last_x, (groups.stop - 1) * loops.channels + c]
                rows = [
                    row_of.get((ky, kx + pixel * mac.stride_x, n // loops.outputs * loops.channels + c))
                    for pixel in range(mac.unroll_pixels)
                    for n in outputs
                ]
                if in_last < start or in_first >= stop:
                    assert not any(row is not None for row in rows)
                    continue
                accesses.append(
                    Access(
                        tuple(mac.weight + k * mac.weight_pitch_k + n * mac.weight_pitch_n for n in outputs),
                        tuple(list(range(lane, len(rows), len(outputs))) for lane in range(len(outputs))),
                        (None,) * len(outputs),
                        tuple(rows),
                    )
                )
    return accesses


def weight_stationary(loops: Addresses, index: int) -> list[Phase]:
    phases = []
    for groups in loops.group_sets():
        for outputs in loops.columns(groups, loops.machine.columns):
            for number, chunk in enumerate(loops.chunks(groups)):
                add = bool(loops.mac.accumulate) or number > 0
                vectors = [
                    Vector(loops.activations(m, chunk), write=loops.sums(m, outputs, add)) for m in loops.spots()
                ]
                vectors[0].swap = True
                phases.append(Phase(preload(loops, groups, outputs, chunk), vectors))
    if loops.mac.same_weights and len(phases) == 1:
        phases[0].preload = []
        phases[0].vectors[0].swap = False
    last = phases[-1].vectors[-1]
    assert last.write is not None
    last.write = replace(last.write, end_of=index)
    return phases


def output_stationary(loops: Addresses, index: int) -> list[Phase]:
    phases = []
    for groups in loops.group_sets():
        for outputs in loops.columns(groups, loops.machine.columns):
            spots = loops.spots()
            for start in range(0, len(spots), loops.machine.rows):
                rows = spots[start : start + loops.machine.rows]
                fold = []
                for chunk in loops.chunks(groups):
                    preload = [loops.activations(m, chunk) for m in rows]
                    vectors = [Vector(loops.weight_row(k, outputs), column=c) for c, k in enumerate(chunk)]
                    fold.append(Phase(preload, vectors))
                fold[0].vectors[0].clear = True
                fold[-1].vectors[-1].tokens = tuple(loops.sums(m, outputs, bool(loops.mac.accumulate)) for m in rows)
                phases += fold
    last = phases[-1].vectors[-1]
    *tokens, token = last.tokens
    last.tokens = (*tokens, replace(token, end_of=index))
    return phases


def input_stationary(loops: Addresses, index: int) -> list[Phase]:
    phases = []
    for groups in loops.group_sets():
        spots = loops.spots()
        for start in range(0, len(spots), loops.machine.columns):
            held = spots[start : start + loops.machine.columns]
            for number, chunk in enumerate(loops.chunks(groups)):
                add = bool(loops.mac.accumulate) or number > 0
                vectors = []
                for outputs in loops.columns(groups, loops.machine.columns):
                    columns = [(pixel, n) for pixel in range(loops.mac.unroll_pixels) for n in outputs]
                    block = [Vector(loops.weight_column(chunk, *at), slot=s) for s, at in enumerate(columns)]
                    block[0].first_of_block = True
                    block[0].swap = not vectors
                    block[-1].commands = tuple(loops.sums(m, outputs, add) for m in held)
                    vectors += block
                phases.append(Phase([loops.activations(m, chunk) for m in held], vectors))
    last = phases[-1].vectors[-1]
    *commands, command = last.commands
    last.commands = (*commands, replace(command, end_of=index))
    return phases


PHASES = {
    "weight_stationary": weight_stationary,
    "output_stationary": output_stationary,
    "input_stationary": input_stationary,
}
