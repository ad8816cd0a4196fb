"""Pass `tile`: how a matrix operation is cut so that its tiles fit the memories, by a search over a cost model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from accelsim.errors import CompileError
from accelsim.hardware import Accelerator
from accelsim.hardware.banks import access_cycles, chunks
from accelsim.isa import INSTRUCTION_BYTES

from .mapping import Mapping, Work, gap, mappings, weight_pitch
from .operations import Matrix

#: Limits of the instructions' fields.
_IMAGES = (1 << 12) - 1

#: Plans whose estimates differ by less than this factor are taken for equally fast: the model is no more exact.
ABOUT = 1.02

#: A layer's first weights that take 1 / _PREFETCH of the weight buffer find no room while the layer before computes.
_PREFETCH = 4


@dataclass(frozen=True)
class MatrixPlan:
    """One way to cut a matrix operation.

    A tile has `images` x `lines` x `pixels` output positions and `outputs` channels, those of `groups` groups; with one
    group it may be part of it, and its sum may be cut into parts of `channels` input channels. The array takes `side`
    groups side by side, and of each `abreast` neighbouring pixels. `spatial_outer`: all
    output channels of a tile of positions before the next positions, else the other way round. `whole_input`: tiles of
    the input hold all channels even where the sum is cut. `gather`: results are stored once all output channels of the
    positions are there. `cost` is the estimate in cycles, `dram` in bytes, `bound` what the time is spent on.
    """

    images: int
    lines: int
    pixels: int
    outputs: int
    groups: int
    channels: int
    abreast: int
    side: int
    spatial_outer: bool
    whole_input: bool
    gather: bool
    cost: float
    dram: int
    bound: str


@dataclass(frozen=True)
class Tail:
    """An element-wise operation that works on the tiles: operands and results that pass through the buffer beside them.

    `in_place`: its results take the place of the tile. `operands`: how many it has, the tile among them.
    """

    streamed_in: int
    streamed_out: int
    in_place: bool
    operands: int

    @property
    def tiles(self) -> int:
        """Places of a tile's size that a tile needs: its own, its other operands' and its results'."""
        return 1 + self.streamed_in + (0 if self.in_place else self.streamed_out)


@dataclass(frozen=True)
class Room:
    """What an operation has: bytes of `staging` in the activation buffer, and which operands need none of it.

    `pitches`: bytes from line to line and from pixel to pixel of a resident source; `out_pitch`: from pixel to pixel of
    a resident target. With a `tail` the results go to it, tile by tile. `cold`: nothing runs before it during which its
    first weights could be loaded.
    """

    staging: int
    source_resident: bool
    target_resident: bool
    pitches: tuple[int, int] | None = None
    cold: bool = False
    tail: Tail | None = None
    out_pitch: int = 0


@dataclass(frozen=True)
class Shape:
    """Sizes of a matrix operation that the tiling needs; equal ones are cut alike."""

    images: int
    out_depth: int
    out_lines: int
    out_pixels: int
    outputs: int
    depth: int
    lines: int
    pixels: int
    channels: int
    groups: int
    kernel: tuple[int, int, int]
    stride: tuple[int, int, int]
    dilation: tuple[int, int, int]
    planes: int
    rows: int
    banks: int
    weight_banks: int
    accumulator_banks: int

    @classmethod
    def of(cls, operation: Matrix, accelerator: Accelerator) -> Shape:
        """The sizes of an operation."""
        window = operation.window
        return cls(
            *operation.target.sizes,
            *operation.source.sizes[1:],
            operation.groups,
            window.kernel,
            window.stride,
            window.dilation,
            len(operation.constants),
            accelerator.mac_array.rows,
            accelerator.buffers.activation.banks,
            accelerator.buffers.weight.banks,
            accelerator.buffers.accumulator.banks,
        )

    @property
    def group_outputs(self) -> int:
        """Output channels of a group."""
        return self.outputs // self.groups

    @property
    def group_channels(self) -> int:
        """Input channels of a group."""
        return self.channels // self.groups

    @property
    def taps(self) -> int:
        """Taps of one depth."""
        return self.kernel[1] * self.kernel[2]

    def output_blocks(self, outputs: int, groups: int) -> int:
        """Blocks of `outputs` output channels: those of `groups` whole groups, or part of one."""
        return -(-self.groups // groups) if groups > 1 else self.groups * -(-self.group_outputs // outputs)

    def input_lines(self, lines: int) -> int:
        """Input lines under `lines` output lines."""
        span = (lines - 1) * self.stride[1] + (self.kernel[1] - 1) * self.dilation[1] + 1
        return min(span, self.lines)

    def spread(self, held: int, channels: int, abreast: int, side: int) -> bool:
        """Whether pixels of `held` channels, one after the other on the chip, make a vector ask a bank for two.

        A vector takes the channels of `side` groups, `channels` each, of as many taps as the array has rows for.
        """
        if abreast == 1 and self.groups == 1:
            return False
        taps = self.kernel[1] * (self.kernel[2] + (abreast - 1) * self.stride[2])
        every = chunks((1, taps), (0, held), side * channels, self.rows, self.banks)
        return any(chunk.cycles > -(-chunk.rows // self.banks) for chunk in every)

    def pixel_pitch(self, held: int, channels: int, side: int, spread: bool) -> int:
        """Bytes from pixel to pixel of a tile of the input on the chip: `spread`, what a vector takes of one pixel
        lies in the banks that follow those of the pixel before."""
        return held + gap(held, side * channels, self.banks) if spread else held

    def line_pitch(self, pixels: int, pixel_pitch: int, abreast: int) -> int:
        """Bytes from line to line of a tile of the input on the chip, `pixels` wide.

        The bytes under one line of taps are neighbours; where the next line's follow them bank after bank, no vector of
        the reduction asks one bank for two.
        """
        row = pixels * pixel_pitch
        if self.kernel[1] == 1 or self.dilation[2] > 1:
            return row
        return row + gap(row, (self.kernel[2] + (abreast - 1) * self.stride[2]) * pixel_pitch, self.banks)

    def weight_pitch(self, channels: int, outputs: int, abreast: int) -> int:
        """Bytes from the weights of one of a group's `outputs` to those of the next; `channels` of the sum."""
        return weight_pitch(self.weight_banks, self.kernel[1:], self.stride[2], channels, outputs, abreast)

    def accumulator_gap(self, outputs: int, groups: int, abreast: int, side: int) -> int:
        """Words to leave free after the `outputs` of a pixel, `groups` of them, so that those that one vector writes
        (pixels abreast, `side` groups each) lie in as many banks as they are."""
        if abreast == 1 or groups <= side:
            return 0
        return gap(outputs, side * (outputs // groups), self.accumulator_banks)

    def input_pixels(self, pixels: int) -> int:
        """Input pixels under `pixels` output pixels."""
        span = (pixels - 1) * self.stride[2] + (self.kernel[2] - 1) * self.dilation[2] + 1
        return min(span, self.pixels)


def choose(name: str, operation: Matrix, accelerator: Accelerator, room: Room, effort: int) -> MatrixPlan:
    """The plan with the least DRAM traffic among the fastest. Raises CompileError."""
    shape = Shape.of(operation, accelerator)
    plan = best(shape, accelerator, room, effort)
    if plan is None:
        raise CompileError(f"{name}: {_shortage(shape, accelerator, room)}")
    return plan


@lru_cache(maxsize=1024)
def best(shape: Shape, accelerator: Accelerator, room: Room, effort: int) -> MatrixPlan | None:
    """The plan that `choose` takes, None where nothing fits."""
    plans = list(_plans(shape, accelerator, room, effort))
    if not plans:
        return None
    # The bus is the neighbouring layers' too, and bytes cost energy: of about equal plans the most frugal one.
    limit = ABOUT * min(plan.cost for plan in plans)
    return min((plan for plan in plans if plan.cost <= limit), key=lambda plan: (plan.dram, plan.cost))


def _plans(shape: Shape, accelerator: Accelerator, room: Room, effort: int) -> Iterator[MatrixPlan]:
    buffers = accelerator.buffers
    words = buffers.accumulator.words
    for outputs, groups in _output_tiles(shape, accelerator, effort):
        planes = 4 * shape.planes * outputs
        if planes > buffers.parameter.bytes:
            continue
        for channels in _channel_parts(shape, accelerator, groups, effort):
            weights = shape.taps * channels * outputs
            if weights > buffers.weight.bytes:
                continue
            block = outputs, groups, channels
            for positions in _position_tiles(shape, words // outputs, effort):
                for mapping in _mappings(shape, accelerator, room, positions, block):
                    for spatial_outer in (False, True):
                        plan = _plan(shape, accelerator, room, positions, block, mapping, spatial_outer)
                        if plan is not None:
                            yield plan


def _mappings(
    shape: Shape,
    accelerator: Accelerator,
    room: Room,
    positions: tuple[int, int, int],
    block: tuple[int, int, int],
) -> tuple[Mapping, ...]:
    (images, lines, pixels), (outputs, groups, channels) = positions, block
    kernel, dilation = shape.kernel[1:], shape.dilation[1:]
    work = Work(images * lines, pixels, kernel, shape.stride[2], dilation, channels, outputs, groups, room.pitches)
    return mappings(accelerator, work)


def _output_tiles(shape: Shape, accelerator: Accelerator, effort: int) -> Iterator[tuple[int, int]]:
    """(outputs, groups) of a tile: several whole groups, one, or a part of one."""
    columns = accelerator.mac_array.columns
    if shape.groups > 1:
        grain = max(columns // shape.group_outputs, 1)
        for groups in _halves(shape.groups, grain, effort):
            yield groups * shape.group_outputs, groups
        # Fewer than fill the columns pay only where the constants of those do not fit: 255 thresholds a channel.
        grain = min(grain, shape.groups)
        while grain > 1 and 4 * shape.planes * grain * shape.group_outputs > accelerator.buffers.parameter.bytes:
            grain = -(-grain // 2)
            yield grain * shape.group_outputs, grain
    for outputs in _halves(shape.group_outputs, columns, effort):
        if shape.groups == 1 or outputs < shape.group_outputs:
            yield outputs, 1
    for outputs in (columns // 2, columns // 4, 1):
        if 0 < outputs < min(columns, shape.group_outputs):
            yield outputs, 1


def _channel_parts(shape: Shape, accelerator: Accelerator, groups: int, effort: int) -> Iterator[int]:
    yield shape.group_channels
    if groups == 1:
        rows = accelerator.mac_array.rows
        sizes = list(_halves(shape.group_channels, rows, effort))[1:]
        yield from sizes
        if min([shape.group_channels, *sizes]) > 1:
            for size in (rows // 2, rows // 4, 1):
                if 0 < size < min([shape.group_channels, *sizes]):
                    yield size


def _halves(total: int, grain: int, effort: int) -> Iterator[int]:
    """`total`, then pieces of about a half, a third, … rounded up to whole grains."""
    seen = set()
    parts = 1
    while True:
        size = min(total, -(-total // (parts * grain)) * grain)
        if size not in seen:
            seen.add(size)
            yield size
        if size <= grain:
            return
        parts = parts + 1 if effort > 1 or parts < 3 else parts * 2


def _position_tiles(shape: Shape, limit: int, effort: int) -> Iterator[tuple[int, int, int]]:
    """(images, lines, pixels) of tiles with at most `limit` positions, larger ones first."""
    plane = shape.out_lines * shape.out_pixels
    if limit < 1:
        return
    for images in _cuts(shape.images, min(limit // plane, _IMAGES), effort) if plane <= limit else ():
        yield images, shape.out_lines, shape.out_pixels
    if shape.out_lines > 1 and shape.out_pixels <= limit:
        for lines in _cuts(shape.out_lines, min(limit // shape.out_pixels, shape.out_lines - 1), effort):
            yield 1, lines, shape.out_pixels
    if shape.out_pixels > 1:
        for pixels in _cuts(shape.out_pixels, min(limit, shape.out_pixels - 1), effort):
            yield 1, 1, pixels


def _cuts(total: int, most: int, effort: int) -> Iterator[int]:
    """Sizes up to `most` that cut `total` into equal pieces, without more that make as many pieces."""
    if most < 1:
        return
    count = -(-total // most)
    step = 0
    while True:
        size = -(-total // count)
        yield size
        if size == 1:
            return
        step += 1
        after = -(-total // (size - 1))
        count = after if effort > 1 or step < 4 else max(after, count * 3 // 2)


def _plan(
    shape: Shape,
    accelerator: Accelerator,
    room: Room,
    positions: tuple[int, int, int],
    block: tuple[int, int, int],
    mapping: Mapping,
    spatial_outer: bool,
) -> MatrixPlan | None:
    """The plan with its cost, or None where it does not fit."""
    images, lines, pixels = positions
    outputs, groups, channels = block
    tail = room.tail
    if tail is not None and not _consecutive(shape, positions):
        return None
    buffers, width, grain = accelerator.buffers, accelerator.dram_bytes_per_cycle, accelerator.dram.grain
    parts = -(-shape.group_channels // channels)
    in_lines, in_pixels = shape.input_lines(lines), shape.input_pixels(pixels)
    taken = groups * shape.group_channels if shape.groups > 1 else shape.channels
    abreast, side = mapping.abreast, mapping.side
    pitches = [
        shape.pixel_pitch(held, channels, side, shape.spread(held, channels, abreast, side))
        for held in (taken, channels)
    ]
    whole, part = (images * in_lines * shape.line_pitch(in_pixels, pitch, abreast) for pitch in pitches)
    out_blocks = shape.output_blocks(outputs, groups)
    tiles = shape.out_depth * -(-shape.images // images) * -(-shape.out_lines // lines) * -(-shape.out_pixels // pixels)
    count = images * lines * pixels
    gather = spatial_outer and not room.target_resident and out_blocks > 1
    if tail is not None and out_blocks > 1 and not gather:
        return None
    out_tile = 0 if room.target_resident else count * (shape.outputs if gather else outputs)
    out_tile *= 1 if tail is None else tail.tiles
    whole_input = True
    in_tile = 0 if room.source_resident else whole
    if in_tile + out_tile > room.staging and parts > 1 and not room.source_resident:
        whole_input, in_tile = False, part
    if in_tile + out_tile > room.staging and gather and tail is None:
        gather, out_tile = False, count * outputs
    if in_tile + out_tile > room.staging:
        return None
    doubled = 2 * (in_tile + out_tile) <= room.staging
    weight_tile = outputs * shape.weight_pitch(channels, outputs // groups, abreast)
    if weight_tile > buffers.weight.bytes:
        return None
    weight_slots = buffers.weight.bytes // weight_tile
    words = count * (outputs + shape.accumulator_gap(outputs, groups, abreast, side))
    accumulators = buffers.accumulator.words // words
    if accumulators < 1:
        return None
    # What is loaded how often; a tile that is still there is not loaded again.
    depth_parts = shape.kernel[0] * parts
    in_slots = _input_slots(room, in_tile, out_tile)
    in_bytes_once = shape.depth * -(-shape.images // images) * images * shape.channels
    in_bytes_once *= -(-shape.out_lines // lines) * in_lines * -(-shape.out_pixels // pixels) * in_pixels
    if room.source_resident:
        in_loads = in_turns = 0
    else:
        boxes = shape.kernel[0] * (1 if whole_input else parts)
        kept = in_slots >= (boxes if spatial_outer else tiles * boxes)
        one_group = shape.groups > 1
        repeats = 1 if kept or one_group else out_blocks
        in_loads = in_bytes_once * repeats * (1 if kept else shape.kernel[0])
        in_turns = tiles * boxes * (out_blocks if one_group else repeats)
    weight_bytes = shape.outputs * shape.group_channels * shape.taps * shape.kernel[0]
    all_kept = weight_slots >= depth_parts * out_blocks if spatial_outer else weight_slots >= depth_parts
    weight_loads = weight_bytes * (1 if all_kept else tiles)
    out_bytes = (
        0
        if room.target_resident
        else shape.images * shape.out_depth * shape.out_lines * shape.out_pixels * shape.outputs
    )
    out_pitch = room.out_pitch if room.target_resident else shape.outputs if gather else outputs
    post = (
        tiles * out_blocks * _requantize_cycles(accelerator, (images * lines, pixels), outputs, shape.planes, out_pitch)
    )
    if tail is not None:
        out_bytes *= tail.streamed_in + tail.streamed_out
        vectors = -(-count * shape.outputs // accelerator.vector_unit.lanes)
        post += tiles * (tail.operands * vectors + accelerator.requant_unit.latency)
    constant_slots = buffers.parameter.bytes // max(4 * shape.planes * outputs, 1)
    constant_loads = 4 * shape.planes * shape.outputs
    if spatial_outer and constant_slots < out_blocks:
        constant_loads *= tiles
    steps = tiles * out_blocks
    weight_turns = out_blocks * depth_parts * (1 if all_kept else tiles)
    constant_turns = steps if spatial_outer and constant_slots < out_blocks else out_blocks
    out_turns = 0 if room.target_resident else tiles if gather else steps
    instructions = steps * (depth_parts + 1) + in_turns + weight_turns + constant_turns + out_turns
    dram = in_loads + weight_loads + out_bytes + constant_loads + instructions * INSTRUCTION_BYTES
    row, pitch = (taken, pitches[0]) if whole_input else (channels, pitches[1])
    efficiency_in = _efficiency(row if row < shape.channels or row < pitch else in_pixels * row, grain)
    stored = outputs if not gather and outputs < shape.outputs else shape.outputs * pixels
    efficiency_out = _efficiency(stored, grain)
    bus = (
        in_loads / efficiency_in
        + out_bytes / efficiency_out
        + weight_loads
        + constant_loads
        + instructions * INSTRUCTION_BYTES
    ) / width
    mac = tiles * out_blocks * depth_parts * mapping.cycles
    times = {"DRAM": bus, "MACs": float(mac), "post unit": float(post)}
    bound = max(times, key=lambda key: times[key])
    busiest = times[bound]
    answer = _answer(accelerator)
    # The first weights are loaded while the layer before computes, if its own leave room for them.
    hidden = 0.0 if room.cold else max(0.0, 1 - _PREFETCH * weight_tile / buffers.weight.bytes)
    first = (in_tile + weight_tile * (1 - hidden)) / width + answer
    # Instructions follow one another without a bubble; the array fills before the first and drains after the last,
    # whose results are then requantised and stored.
    array = accelerator.mac_array
    drain = 2 * array.rows + array.columns
    stores = out_bytes / efficiency_out / width
    cost = busiest + first + drain + post / steps + stores / max(out_turns, 1)
    # A place of a memory is filled when the unit that reads it is done, and read when it is full. So with n places the
    # turns take at least an n-th of what both take one after the other, the answer of DRAM and the array's fill and
    # drain included; instructions too, which the fetcher has so many places for.
    rings = (
        (in_turns, in_slots, in_loads / efficiency_in / width + mac + in_turns * (answer + drain)),
        (weight_turns, weight_slots, weight_loads / width + mac + weight_turns * (answer + drain)),
        (constant_turns, constant_slots, constant_loads / width + post + constant_turns * answer),
        (steps, accumulators, mac + post + steps * drain),
        (out_turns, 2 if doubled else 1, post + stores + out_turns),
        (instructions, accelerator.queues.depth, instructions * (answer + INSTRUCTION_BYTES / width + 1)),
    )
    cost += sum(max(time / places - busiest, 0.0) for turns, places, time in rings if turns > places)
    return MatrixPlan(
        images,
        lines,
        pixels,
        outputs,
        groups,
        channels,
        abreast,
        side,
        spatial_outer,
        whole_input,
        gather,
        cost,
        int(dram),
        bound,
    )


def _answer(accelerator: Accelerator) -> float:
    """Cycles that data take at least, beyond their beats: the way, and of banks the read of an open row."""
    timings = accelerator.dram.timings
    if timings is None:
        return float(accelerator.dram.latency)
    return accelerator.dram.latency + (timings.cl + timings.burst) * accelerator.clock_mhz / timings.mhz


def _consecutive(shape: Shape, positions: tuple[int, int, int]) -> bool:
    """Whether the results of a tile are neighbours in memory: whole lines of one image, or whole images."""
    images, _, pixels = positions
    return pixels == shape.out_pixels and (images == 1 or shape.out_depth == 1)


def _input_slots(room: Room, in_tile: int, out_tile: int) -> int:
    if not in_tile:
        return 0
    return max(1, (room.staging - 2 * out_tile) // in_tile)


def _efficiency(row: int, width: int) -> float:
    """Share of a bus beat that rows of that many bytes use, at a place that is as good as any."""
    return row / (width * (-(-row // width) + (0 if row % width == 0 else 0.5)))


def _requantize_cycles(
    accelerator: Accelerator, lines: tuple[int, int], outputs: int, planes: int, out_pitch: int
) -> int:
    """Cycles of one requantisation of so many lines of pixels that lie `out_pitch` bytes apart."""
    unit, banks = accelerator.requant_unit, accelerator.buffers.activation.banks
    abreast = min(max(unit.lanes // outputs, 1), lines[1])
    access = access_cycles(min(outputs, unit.lanes), 1, banks, abreast, out_pitch)
    positions = lines[0] * -(-lines[1] // abreast) * access
    constants = planes * -(-4 * min(outputs, unit.lanes) // accelerator.buffers.parameter.banks)
    chunks = -(-outputs // unit.lanes)
    return constants + (chunks - 1) * max(positions, constants) + positions + unit.latency


def _shortage(shape: Shape, accelerator: Accelerator, room: Room) -> str:
    """Which memory is too small for the smallest tile there is, and by how much."""
    buffers = accelerator.buffers
    least = min(outputs for outputs, _ in _output_tiles(shape, accelerator, 2))
    needs = [
        ("parameter", 4 * shape.planes * least, buffers.parameter.bytes),
        ("weight", shape.taps * least, buffers.weight.bytes),
        ("accumulator", buffers.accumulator.bytes_of(least), buffers.accumulator.bytes),
    ]
    box = shape.input_lines(1) * shape.input_pixels(1)
    staging = (0 if room.source_resident else box) + (0 if room.target_resident else least)
    needs.append(("activation", staging, room.staging))
    for memory, needed, there in needs:
        if needed > there:
            return (
                f"its smallest tile takes {needed:,} bytes of the {memory} buffer, which has {there:,} for it: "
                f"{needed - there:,} missing; enlarge buffers.{memory}.bytes"
            )
    return (
        f"no tile fits the buffers together (activation {room.staging:,}, weight {buffers.weight.bytes:,}, accumulator "
        f"{buffers.accumulator.bytes:,}, parameter {buffers.parameter.bytes:,} bytes); enlarge them"
    )


def blocks(total: int, size: int) -> list[tuple[int, int]]:
    """0..total cut into pieces of `size`: (start, stop)."""
    return [(start, min(start + size, total)) for start in range(0, total, size)]
