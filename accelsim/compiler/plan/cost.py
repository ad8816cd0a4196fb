"""What one way to cut a matrix operation costs: the estimate that the search for a tiling goes by."""

from __future__ import annotations

import math
from typing import NamedTuple

from accelsim.hardware import Accelerator
from accelsim.isa import INSTRUCTION_BYTES
from accelsim.machine.dram.bus import mean_cycles
from accelsim.machine.post.timing import requantization_cycles, vectors

from .footprint import Counted, footprint
from .mapping import Mapping
from .matrix import Allocation, Footprint, MatrixPlan, Tiling
from .shape import Shape

#: A layer's first weights that take 1 / _PREFETCH of the weight buffer find no room while the layer before computes.
_PREFETCH = 4


class _Moves(NamedTuple):
    """Bytes that are moved, and how often a buffer slot is refilled for it.

    `in_held`, `weight_held`: tiles of the array that a refill waits for. `in_behind`: refills of the input that are
    loaded while results are stored.
    """

    in_bytes: int
    in_refills: int
    in_held: float
    in_behind: int
    weight_bytes: int
    weight_refills: int
    weight_held: float
    constant_bytes: int
    constant_refills: int
    out_bytes: int
    out_refills: int
    instructions: int


def planned(
    shape: Shape,
    accelerator: Accelerator,
    allocation: Allocation,
    positions: tuple[int, int, int],
    block: tuple[int, int, int],
    mapping: Mapping,
    pixels_outer: bool,
    *,
    interleaved: bool = False,
    whole_input: bool = True,
    gather: bool = True,
    limit: float = math.inf,
) -> MatrixPlan | None:
    """The plan with its cost, or None where it does not fit or the array alone takes more cycles than `limit`.

    `whole_input` and `gather` say what to do where either way is possible.
    """
    (images, lines, pixels), (outputs, groups, channels) = positions, block
    tiles, channel_tiles = shape.tiles(images, lines, pixels), shape.output_blocks(outputs, groups)
    steps, depth_parts = tiles * channel_tiles, shape.steps(channels)
    pixels_outer = pixels_outer and channel_tiles > 1

    def array(rounds: int) -> int:
        # The tiles of a block that follow one another have the same weights, and the passes over a tile.
        first_time = steps if pixels_outer else channel_tiles * rounds
        again = steps * shape.passes - first_time
        return depth_parts * (first_time * mapping.cycles + again * mapping.again)

    if array(1 if interleaved or depth_parts == 1 else tiles) > limit:
        return None
    sizes = Tiling(
        images=images,
        lines=lines,
        pixels=pixels,
        outputs=outputs,
        groups=groups,
        channels=channels,
        unroll_pixels=mapping.unroll_pixels,
        unroll_groups=mapping.unroll_groups,
        pixels_outer=pixels_outer,
        interleaved=interleaved,
    )
    tiling = Counted(
        **vars(sizes),
        parts=-(-shape.group_channels // channels),
        depth_parts=depth_parts,
        channel_tiles=channel_tiles,
        tiles=tiles,
        positions=images * lines * pixels,
        steps=steps,
        in_lines=shape.input_lines(lines),
        in_pixels=shape.input_pixels(pixels),
    )
    cut = footprint(shape, accelerator, allocation, tiling, whole_input=whole_input, gather=gather)
    if cut is None:
        return None
    mac = array(1 if depth_parts == 1 else tiling.rounds(cut))
    moves = _moves(shape, allocation, tiling, cut)
    code = moves.instructions * INSTRUCTION_BYTES
    dram = moves.in_bytes + moves.weight_bytes + moves.out_bytes + moves.constant_bytes + code
    post = _post_cycles(shape, accelerator, allocation, tiling, cut)
    cost, bound = _cost(shape, accelerator, allocation, tiling, cut, moves, mac, post)
    return MatrixPlan(
        **vars(sizes),
        footprint=cut,
        cost=cost,
        dram=int(dram),
        bound=bound,
    )


def _moves(shape: Shape, allocation: Allocation, tiling: Counted, cut: Footprint) -> _Moves:
    """What is loaded and stored how often; a tile that is still there is not loaded again."""
    epilogue, tiles, channel_tiles, steps, depth_parts = (
        allocation.epilogue,
        tiling.tiles,
        tiling.channel_tiles,
        tiling.steps,
        tiling.depth_parts,
    )
    in_bytes = in_refills = in_behind = 0
    in_held = weight_held = 1.0
    if not allocation.source_resident:
        parts = 1 if cut.whole_input else tiling.parts
        boxes = shape.kernel[0] * parts
        # Tiles that lie behind one another share planes of the input, where there is room for those of one and, in
        # step, for what the others add.
        planes = shape.kernel[0] * shape.out_depth
        span = (shape.kernel[0] - 1) * shape.dilation[0] + (1 if tiling.pixels_outer else cut.interleave)
        if cut.inputs >= span * parts:
            planes = min(planes, shape.depth)
        refills = tiles // shape.out_depth * planes * parts
        kept = cut.inputs >= (boxes if tiling.pixels_outer else refills)
        one_group = shape.groups > 1
        passes = tiling.rounds(cut) if tiling.pixels_outer else channel_tiles
        repeats = 1 if kept or one_group else passes
        in_bytes = planes * -(-shape.images // tiling.images) * tiling.images * shape.channels * repeats
        in_bytes *= (
            -(-shape.out_lines // tiling.lines)
            * tiling.in_lines
            * -(-shape.out_pixels // tiling.pixels)
            * tiling.in_pixels
        )
        in_refills = refills * (channel_tiles if one_group else repeats)
        if kept and not one_group:
            in_held, in_behind = _held(passes, boxes), in_refills
    all_kept = cut.weights >= (depth_parts * channel_tiles if tiling.pixels_outer else depth_parts)
    passes = tiles if tiling.pixels_outer else tiling.rounds(cut)
    weight_times = 1 if all_kept else passes
    if all_kept and not tiling.pixels_outer:
        weight_held = _held(passes, depth_parts)
    constants_again = tiling.pixels_outer and cut.constants < channel_tiles
    out_bytes = out_refills = 0
    if not allocation.target_resident:
        out_bytes = shape.images * shape.out_depth * shape.out_lines * shape.out_pixels * shape.outputs
        out_bytes *= shape.result_bytes
        out_refills = tiles if cut.gather else steps
    weight_refills = channel_tiles * depth_parts * weight_times
    constant_refills = steps if constants_again else channel_tiles
    instructions = (
        steps * (depth_parts * shape.passes + 1) + in_refills + weight_refills + constant_refills + out_refills
    )
    if epilogue is not None:
        out_bytes *= epilogue.streamed_in + epilogue.streamed_out
        instructions += (tiles if cut.gather else steps) * (1 + epilogue.streamed_in)
    return _Moves(
        in_bytes=in_bytes,
        in_refills=in_refills,
        in_held=in_held,
        in_behind=in_behind,
        weight_bytes=shape.outputs * shape.group_channels * shape.taps * shape.kernel[0] * weight_times,
        weight_refills=weight_refills,
        weight_held=weight_held,
        constant_bytes=4 * shape.planes * shape.outputs * (tiles if constants_again else 1),
        constant_refills=constant_refills,
        out_bytes=out_bytes,
        out_refills=out_refills,
        instructions=instructions,
    )


def _post_cycles(
    shape: Shape, accelerator: Accelerator, allocation: Allocation, tiling: Counted, cut: Footprint
) -> int:
    """Cycles of the post unit: requantisations, and the element-wise work that follows them."""
    epilogue, steps = allocation.epilogue, tiling.steps
    out_pitch = shape.result_bytes * (shape.outputs if cut.gather else tiling.outputs)
    if allocation.target_resident:
        out_pitch = allocation.out_pitch
    post = steps * requantization_cycles(
        accelerator,
        lines=tiling.images * tiling.lines,
        pixels=tiling.pixels,
        channels=tiling.outputs,
        planes=shape.planes,
        accumulator_pitch=cut.accumulator_pitch,
        pixel_pitch=out_pitch,
        element_bytes=shape.result_bytes,
    )
    if epilogue is not None:
        if epilogue.dense or cut.gather or tiling.channel_tiles == 1:
            refills, rows, length = tiling.tiles, 1, tiling.positions * shape.outputs
        else:
            refills, rows, length = steps, tiling.positions, tiling.outputs
        post += refills * vectors(rows, length, epilogue.operands, accelerator).stream
        post += (tiling.tiles if cut.gather else steps) * accelerator.requant_unit.latency
    return post


def _cost(
    shape: Shape,
    accelerator: Accelerator,
    allocation: Allocation,
    tiling: Counted,
    cut: Footprint,
    moves: _Moves,
    mac: int,
    post: int,
) -> tuple[float, str]:
    """Cycles, and what most of them are spent on."""
    bus, steps, buffers = _bus(shape, accelerator, tiling, cut, moves), tiling.steps, accelerator.buffers
    times = {"DRAM": sum(bus), "MACs": float(mac), "post unit": float(post)}
    bound = max(times, key=lambda key: times[key])
    busiest = times[bound]
    answer = _answer(accelerator)
    # The first weights are loaded while the layer before computes, if its own leave room for them.
    hidden = 0.0 if allocation.cold else max(0.0, 1 - _PREFETCH * cut.weight / buffers.weight.bytes)
    width = accelerator.dram_bytes_per_cycle
    first_weights = cut.weight * (1 - hidden) / min(width, buffers.weight.banks)
    first = cut.input / min(width, buffers.activation.banks) + first_weights + answer
    # Instructions follow one another without a bubble; the array fills before the first and drains after the last,
    # whose results are then requantised and stored.
    array = accelerator.mac_array
    drain = array.rows + array.latency + 1
    out_refills = max(moves.out_refills, 1)
    cost = busiest + first + drain + post / steps + bus.stores / out_refills
    if tiling.interleaved:
        # The sums of the last round are all there as soon as their last parts have been added, one after the other.
        ends = max(post, bus.stores, (post + bus.stores) / cut.results if moves.out_refills else 0.0)
        cost += max(mac + (ends - mac / tiling.depth_parts) / tiling.rounds(cut) - busiest, 0.0)
    # A slot of a memory is filled when the unit that reads it is done, and read when it is full. So with n slots the
    # turns take at least an n-th of what both take one after the other, the answer of DRAM and the array's fill and
    # drain included; instructions too, which the fetcher has so many slots for. What every block of outputs reads is
    # done when the last one is, and gathered results wait for the last block; while the next tile's input is loaded,
    # this tile's results are stored.
    in_busy = bus.loads + moves.in_held * mac + moves.in_refills * (answer + drain)
    in_busy += moves.in_behind * bus.stores / out_refills
    gathered = max(1 - cut.accumulators / tiling.channel_tiles, 0.0) * mac if cut.gather else 0.0
    recurrences = (
        (moves.in_refills, cut.inputs, in_busy),
        (
            moves.weight_refills,
            cut.weights,
            bus.weights + moves.weight_held * mac + moves.weight_refills * (answer + drain),
        ),
        (
            moves.constant_refills,
            cut.constants,
            bus.constants + post + moves.constant_refills * answer,
        ),
        (steps, cut.accumulators, cut.interleave * mac + post + steps * drain),
        (moves.out_refills, cut.results, gathered + post + bus.stores + moves.out_refills),
        (
            moves.instructions,
            accelerator.queues.depth,
            moves.instructions * (answer + INSTRUCTION_BYTES / width + 1),
        ),
    )
    return cost + sum(
        max(time / slots - busiest, 0.0) for refills, slots, time in recurrences if refills > slots
    ), bound


class _Bus(NamedTuple):
    """Cycles of the bus for the inputs that a plan loads, the results that it stores, its weights, constants and
    instructions."""

    loads: float
    stores: float
    weights: float
    constants: float
    code: float


def _bus(shape: Shape, accelerator: Accelerator, tiling: Counted, cut: Footprint, moves: _Moves) -> _Bus:
    """What the moves take of it. Before a scratchpad of fewer banks it is as wide as that."""
    buffers, dram, width = accelerator.buffers, accelerator.dram, accelerator.dram_bytes_per_cycle

    def cycles(moved: int, row: int, pitch: int, banks: int) -> float:
        """Of rows that begin `pitch` apart: what is no whole beat, or burst, wastes a part of the bus."""
        grain = dram.grain(banks)
        return moved / row * mean_cycles(row, pitch, grain) * grain / min(width, banks) if moved else 0.0

    if cut.held < shape.channels or cut.held < cut.pixel_pitch:
        read = cut.held, shape.channels
    else:
        read = tiling.in_pixels * cut.held, shape.pixels * shape.channels
    if not cut.gather and tiling.outputs < shape.outputs:
        written = tiling.outputs, shape.outputs
    else:
        written = shape.outputs * tiling.pixels, shape.outputs * shape.out_pixels
    each = shape.result_bytes
    # Weights and constants of a tile begin with a whole beat; outputs that lie apart in the scratchpad are rows apart.
    held = tiling.channels * shape.taps
    weights = tiling.outputs * held, 0
    if shape.by_output is not None:  # rows of a tensor
        weights = (tiling.channels, shape.group_channels) if shape.by_output else (tiling.outputs, shape.outputs)
    elif dram.timings is None and cut.weight > tiling.outputs * held:
        weights = held, held
    return _Bus(
        cycles(moves.in_bytes, *read, buffers.activation.banks),
        cycles(moves.out_bytes, written[0] * each, written[1] * each, buffers.activation.banks),
        cycles(moves.weight_bytes, *weights, buffers.weight.banks),
        cycles(moves.constant_bytes, 4 * shape.planes * tiling.outputs, 0, buffers.parameter.banks),
        moves.instructions * INSTRUCTION_BYTES / width,
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
