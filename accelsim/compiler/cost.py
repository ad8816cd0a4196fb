"""What one way to cut a matrix operation costs: the estimate that the search for a tiling goes by."""

from __future__ import annotations

from dataclasses import dataclass

from accelsim.hardware import Accelerator
from accelsim.hardware.banks import access_cycles
from accelsim.isa import INSTRUCTION_BYTES, Lookup

from .mapping import Mapping
from .shape import Shape

#: A layer's first weights that take 1 / _PREFETCH of the weight buffer find no room while the layer before computes.
_PREFETCH = 4

#: Rows that an element-wise instruction takes.
_ROWS = Lookup.most("lines")


@dataclass(frozen=True)
class MatrixPlan:
    """One way to cut a matrix operation.

    A tile has `images` x `lines` x `pixels` output positions and `outputs` channels, those of `groups` groups; with one
    group it may be part of it, and its sum may be cut into parts of `channels` input channels. The array takes `side`
    groups side by side, and of each `abreast` neighbouring pixels. `spatial_outer`: all output channels of a tile of
    positions before the next positions, else the other way round. `whole_input`: tiles of the input hold all channels
    even where the sum is cut. `gather`: results are stored, or go to the operation that works on the tiles, once all
    output channels of the positions are there. `cost` is the estimate in cycles, `dram` in bytes, `bound` what the time
    is spent on.
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

    `in_place`: its results take the place of the tile. `operands`: how many it has, the tile among them. `by_block`: it
    can work on a block of the channels before the others are there. `dense`: it touches nothing resident, so that what
    it works on lies row after row.
    """

    streamed_in: int
    streamed_out: int
    in_place: bool
    operands: int
    by_block: bool
    dense: bool

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


def planned(
    shape: Shape,
    accelerator: Accelerator,
    room: Room,
    positions: tuple[int, int, int],
    block: tuple[int, int, int],
    mapping: Mapping,
    spatial_outer: bool,
    *,
    whole_input: bool = True,
    gather: bool = True,
) -> MatrixPlan | None:
    """The plan with its cost, or None where it does not fit.

    `whole_input` and `gather` say what to do where either way is possible.
    """
    images, lines, pixels = positions
    outputs, groups, channels = block
    tail = room.tail
    if tail is not None and not (_consecutive(shape, positions) and images * lines * pixels <= _ROWS):
        return None
    buffers, width, grain = accelerator.buffers, accelerator.dram_bytes_per_cycle, accelerator.dram.grain
    parts = -(-shape.group_channels // channels)
    in_lines, in_pixels = shape.input_lines(lines), shape.input_pixels(pixels)
    taken = groups * shape.group_channels if shape.groups > 1 else shape.channels
    abreast, side = mapping.abreast, mapping.side
    pitches = [shape.pixel_pitch(held, channels, abreast, side) for held in (taken, channels)]
    whole, part = (images * in_lines * shape.line_pitch(in_pixels, pitch, abreast) for pitch in pitches)
    out_blocks = shape.output_blocks(outputs, groups)
    tiles = shape.tiles(*positions)
    count, steps = images * lines * pixels, tiles * out_blocks
    gather = gather and spatial_outer and not room.target_resident and out_blocks > 1
    if tail is not None and out_blocks > 1 and not gather and not tail.by_block:
        return None
    out_tile = 0 if room.target_resident else count * (shape.outputs if gather else outputs)
    out_tile *= 1 if tail is None else tail.tiles
    in_tile = 0 if room.source_resident else whole if whole_input else part
    if in_tile + out_tile > room.staging and parts > 1 and not room.source_resident:
        whole_input, in_tile = False, part
    if in_tile + out_tile > room.staging and gather and tail is None:
        gather, out_tile = False, count * outputs
    if in_tile + out_tile > room.staging:
        return None
    out_slots = result_places(room.staging, in_tile, out_tile)
    weight_tile = outputs * shape.weight_pitch(channels, outputs // groups, abreast)
    if weight_tile > buffers.weight.bytes:
        return None
    weight_slots = buffers.weight.bytes // weight_tile
    words = count * (outputs + shape.accumulator_gap(outputs, groups, abreast, side))
    accumulators = buffers.accumulator.words // words
    if accumulators < 1:
        return None
    # What is loaded how often; a tile that is still there is not loaded again.
    depth_parts = shape.steps(channels)
    in_slots = (room.staging - out_slots * out_tile) // in_tile if in_tile else 0
    in_bytes_once = shape.depth * -(-shape.images // images) * images * shape.channels
    in_bytes_once *= -(-shape.out_lines // lines) * in_lines * -(-shape.out_pixels // pixels) * in_pixels
    in_loads = in_turns = 0
    in_held = weight_held = 1.0
    in_behind = 0
    if not room.source_resident:
        boxes = shape.kernel[0] * (1 if whole_input else parts)
        kept = in_slots >= (boxes if spatial_outer else tiles * boxes)
        one_group = shape.groups > 1
        repeats = 1 if kept or one_group else out_blocks
        in_loads = in_bytes_once * repeats * (1 if kept else shape.kernel[0])
        in_turns = tiles * boxes * (out_blocks if one_group else repeats)
        if kept and not one_group:
            in_held, in_behind = _held(out_blocks, boxes), in_turns
    weight_bytes = shape.outputs * shape.group_channels * shape.taps * shape.kernel[0]
    all_kept = weight_slots >= depth_parts * out_blocks if spatial_outer else weight_slots >= depth_parts
    weight_loads = weight_bytes * (1 if all_kept else tiles)
    if all_kept and not spatial_outer:
        weight_held = _held(tiles, depth_parts)
    out_bytes = (
        0
        if room.target_resident
        else shape.images * shape.out_depth * shape.out_lines * shape.out_pixels * shape.outputs
    )
    out_pitch = room.out_pitch if room.target_resident else shape.outputs if gather else outputs
    post = steps * _requantize_cycles(accelerator, (images * lines, pixels), outputs, shape.planes, out_pitch)
    if tail is not None:
        out_bytes *= tail.streamed_in + tail.streamed_out
        lanes = accelerator.vector_unit.lanes
        if tail.dense or gather or out_blocks == 1:
            vectors = tiles * -(-count * shape.outputs // lanes)
        else:
            vectors = steps * count * -(-outputs // lanes)
        post += tail.operands * vectors + (tiles if gather else steps) * accelerator.requant_unit.latency
    constant_slots = buffers.parameter.bytes // max(4 * shape.planes * outputs, 1)
    constant_loads = 4 * shape.planes * shape.outputs
    if spatial_outer and constant_slots < out_blocks:
        constant_loads *= tiles
    weight_turns = out_blocks * depth_parts * (1 if all_kept else tiles)
    constant_turns = steps if spatial_outer and constant_slots < out_blocks else out_blocks
    out_turns = 0 if room.target_resident else tiles if gather else steps
    instructions = steps * (depth_parts + 1) + in_turns + weight_turns + constant_turns + out_turns
    if tail is not None:
        instructions += (tiles if gather else steps) * (1 + tail.streamed_in)
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
    # The tiles of a block follow one another, with the same weights.
    first_time = steps if (spatial_outer and out_blocks > 1) or depth_parts > 1 else out_blocks
    mac = depth_parts * (first_time * mapping.cycles + (steps - first_time) * mapping.again)
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
    drain = array.rows + array.latency + 1
    stores = out_bytes / efficiency_out / width
    cost = busiest + first + drain + post / steps + stores / max(out_turns, 1)
    # A place of a memory is filled when the unit that reads it is done, and read when it is full. So with n places the
    # turns take at least an n-th of what both take one after the other, the answer of DRAM and the array's fill and
    # drain included; instructions too, which the fetcher has so many places for. What every block of outputs reads is
    # done when the last one is, and gathered results wait for the last block; while the next tile's input is loaded,
    # this tile's results are stored.
    in_busy = in_loads / efficiency_in / width + in_held * mac + in_turns * (answer + drain)
    in_busy += in_behind * stores / max(out_turns, 1)
    gathered = max(1 - accumulators / out_blocks, 0.0) * mac if gather else 0.0
    rings = (
        (in_turns, in_slots, in_busy),
        (weight_turns, weight_slots, weight_loads / width + weight_held * mac + weight_turns * (answer + drain)),
        (constant_turns, constant_slots, constant_loads / width + post + constant_turns * answer),
        (steps, accumulators, mac + post + steps * drain),
        (out_turns, out_slots, gathered + post + stores + out_turns),
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


def _held(passes: int, parts: int) -> float:
    """How many turns of the array a place waits for that holds one of `parts`, all of which `passes` read in turn."""
    return ((passes - 1) * parts + 1) / passes


def _answer(accelerator: Accelerator) -> float:
    """Cycles that data take at least, beyond their beats: the way, and of banks the read of an open row."""
    timings = accelerator.dram.timings
    if timings is None:
        return float(accelerator.dram.latency)
    return accelerator.dram.latency + (timings.cl + timings.burst) * accelerator.clock_mhz / timings.mhz


def _consecutive(shape: Shape, positions: tuple[int, int, int]) -> bool:
    """Whether the positions of a tile follow one another: (a part of) a line, whole lines of one image, or images."""
    images, lines, pixels = positions
    return (images == lines == 1 or pixels == shape.out_pixels) and (images == 1 or shape.out_depth == 1)


def result_places(staging: int, in_tile: int, out_tile: int) -> int:
    """Places for the results of a tile: two, if that leaves as many for its input, or one."""
    if not out_tile:
        return 1
    if not in_tile:
        return 2 if 2 * out_tile <= staging else 1
    left = [(staging - places * out_tile) // in_tile for places in (1, 2)]
    return 2 if left[1] >= min(left[0], 2) else 1


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
