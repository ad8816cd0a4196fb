"""Pass `tile`: how a matrix operation is cut so that its tiles fit the memories, by a search over a cost model."""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Iterator
from functools import lru_cache

from accelsim.compiler.operations import Matrix
from accelsim.errors import CompileError
from accelsim.hardware import Accelerator
from accelsim.isa import Mac

from .cost import planned
from .mapping import least_cycles, mappings
from .matrix import Allocation, MatrixPlan
from .shape import Shape

#: Images, and pixels of a line, that a matrix instruction takes.
_IMAGES, _PIXELS = Mac.most("images"), Mac.most("out_width")

#: Plans whose estimates differ by less than this factor are taken for equally fast: the model is no more exact.
ABOUT = 1.02
#: Plans with a higher estimate than this times the least are slower, and how many of the others are kept.
_NEAR, _MOST = 1.6, 16


def choose(name: str, operation: Matrix, accelerator: Accelerator, allocation: Allocation, effort: int) -> MatrixPlan:
    """A plan with little DRAM traffic among the fastest. Raises CompileError."""
    shape = Shape.of(operation, accelerator)
    plan = best(shape, accelerator, allocation, effort)
    if plan is None:
        raise CompileError(f"{name}: {_shortage(shape, accelerator, allocation)}")
    return plan


@lru_cache(maxsize=1024)
def best(shape: Shape, accelerator: Accelerator, allocation: Allocation, effort: int) -> MatrixPlan | None:
    """The plan that `choose` takes, None where nothing fits."""
    plans = list(_plans(shape, accelerator, allocation, effort, ABOUT))
    if not plans:
        return None
    limit = ABOUT * min(plan.cost for plan in plans)
    return min((plan for plan in plans if plan.cost <= limit), key=_price)


def _price(plan: MatrixPlan) -> float:
    """What a plan costs, bytes counted: the bus is the neighbouring layers' too, and bytes cost energy. A per cent of
    the cycles counts as much as two of the bytes."""
    return plan.cost**2 * plan.dram


@lru_cache(maxsize=1024)
def near(shape: Shape, accelerator: Accelerator, allocation: Allocation, effort: int) -> tuple[MatrixPlan, ...]:
    """Other plans than the one that `choose` takes which may be as fast, for all that the estimate knows.

    The best of each size of tiles, then the second of each, and so on.
    """
    plans = list(_plans(shape, accelerator, allocation, effort, _NEAR))
    chosen = best(shape, accelerator, allocation, effort)
    limit = _NEAR * min((plan.cost for plan in plans), default=0)
    sizes: dict[Hashable, list[MatrixPlan]] = {}
    for plan in sorted((plan for plan in plans if plan.cost <= limit), key=_price):
        sizes.setdefault((plan.images, plan.lines, plan.pixels, plan.outputs, plan.groups), []).append(plan)
    ranked = (plan for of_a_rank in itertools.zip_longest(*sizes.values()) for plan in of_a_rank)
    return tuple(itertools.islice((plan for plan in ranked if plan is not None and plan != chosen), _MOST))


def _plans(
    shape: Shape, accelerator: Accelerator, allocation: Allocation, effort: int, margin: float
) -> Iterator[MatrixPlan]:
    """Plans that fit, all among them whose cost is within `margin` of the least: the array alone does not take the
    others' time."""
    buffers = accelerator.buffers
    words = buffers.accumulator.words
    orders = [(False, False), (True, True)]
    if allocation.epilogue is not None and allocation.epilogue.by_block:
        orders.append((True, False))
    limit = math.inf
    for outputs, groups in _output_tiles(shape, accelerator, effort):
        planes = 4 * shape.planes * outputs
        if planes > buffers.parameter.bytes:
            continue
        for channels in _channel_parts(shape, accelerator, groups, effort):
            weights = shape.taps * channels * outputs
            if weights > buffers.weight.bytes:
                continue
            block = outputs, groups, channels
            # Places of parts of the input become free one after the other, while the last block works.
            inputs = (True,) if allocation.source_resident or channels == shape.group_channels else (True, False)
            parts = shape.steps(channels)
            cut = shape.groups == 1 and parts > 1
            for tile in _position_tiles(shape, words // outputs, effort):
                images, lines, pixels = tile
                work = shape.work(images * lines, pixels, channels, outputs, groups, allocation.pitches)
                channel_tiles, tiles = shape.output_blocks(outputs, groups), shape.tiles(images, lines, pixels)
                if channel_tiles * tiles * parts * least_cycles(accelerator, work) > limit:
                    continue  # however it lies on the array
                # With one block of outputs there is one loop.
                loops = orders if channel_tiles > 1 else orders[:1]
                ways = [
                    (pixels_outer, interleaved, whole, gather)
                    for (pixels_outer, gather), whole in itertools.product(loops, inputs)
                    for interleaved in (False, True)
                    # In step, blocks share a part of the input, and tiles one of the weights.
                    if not interleaved or (cut and (not whole if pixels_outer else tiles > 1))
                ]
                for mapping in mappings(accelerator, work):
                    if channel_tiles * tiles * parts * min(mapping.cycles, mapping.again) > limit:
                        continue  # whichever way
                    for pixels_outer, interleaved, whole, gather in ways:
                        plan = planned(
                            shape,
                            accelerator,
                            allocation,
                            tile,
                            block,
                            mapping,
                            pixels_outer,
                            interleaved=interleaved,
                            whole_input=whole,
                            gather=gather,
                            limit=limit,
                        )
                        if plan is not None:
                            limit = min(limit, margin * plan.cost)
                            yield plan


def _output_tiles(shape: Shape, accelerator: Accelerator, effort: int) -> Iterator[tuple[int, int]]:
    """(outputs, groups) of a tile: several whole groups, one, or a part of one."""
    columns = accelerator.mac_array.columns
    if shape.groups > 1:
        grain = max(columns // shape.group_outputs, 1)
        for groups in _halves(shape.groups, grain, effort):
            yield groups * shape.group_outputs, groups
        # Fewer than fill the columns: the next tile moves while this one is worked on, and constants may not fit else.
        grain, turns = min(grain, shape.groups), 0
        parameters = accelerator.buffers.parameter.bytes
        while grain > 1 and (turns < 2 or 4 * shape.planes * grain * shape.group_outputs > parameters):
            grain, turns = -(-grain // 2), turns + 1
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
        # 1, 2, 3, 4, 6, 8, 12, …: what most sizes are multiples of.
        parts = parts + 1 if effort > 1 or parts < 3 else parts * 4 // 3 if parts % 3 == 0 else parts * 3 // 2


def _position_tiles(shape: Shape, limit: int, effort: int) -> Iterator[tuple[int, int, int]]:
    """(images, lines, pixels) of tiles with at most `limit` positions, larger ones first."""
    plane = shape.out_lines * shape.out_pixels
    if limit < 1:
        return
    whole = shape.out_pixels <= min(limit, _PIXELS)
    for images in _cuts(shape.images, min(limit // plane, _IMAGES), effort) if whole and plane <= limit else ():
        yield images, shape.out_lines, shape.out_pixels
    if shape.out_lines > 1 and whole:
        for lines in _cuts(shape.out_lines, min(limit // shape.out_pixels, shape.out_lines - 1), effort):
            yield 1, lines, shape.out_pixels
    if shape.out_pixels > 1:
        for pixels in _cuts(shape.out_pixels, min(limit, shape.out_pixels - 1, _PIXELS), effort):
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


def _shortage(shape: Shape, accelerator: Accelerator, allocation: Allocation) -> str:
    """Which memory is too small for the smallest tile there is, and by how much."""
    buffers = accelerator.buffers
    least = min(outputs for outputs, _ in _output_tiles(shape, accelerator, 2))
    needs = [
        ("parameter", 4 * shape.planes * least, buffers.parameter.bytes),
        ("weight", shape.taps * least, buffers.weight.bytes),
        ("accumulator", buffers.accumulator.bytes_of(least), buffers.accumulator.bytes),
    ]
    box = shape.input_lines(1) * shape.input_pixels(1)
    staging = (0 if allocation.source_resident else box) + (0 if allocation.target_resident else least)
    needs.append(("activation", staging, allocation.staging))
    for memory, needed, there in needs:
        if needed > there:
            return (
                f"its smallest tile takes {needed:,} bytes of the {memory} buffer, which has {there:,} for it: "
                f"{needed - there:,} missing; enlarge buffers.{memory}.bytes"
            )
    return (
        f"no tile fits the buffers together (activation {allocation.staging:,}, weight {buffers.weight.bytes:,}, "
        f"accumulator {buffers.accumulator.bytes:,}, parameter {buffers.parameter.bytes:,} bytes); enlarge them"
    )
