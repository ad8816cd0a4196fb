"""Pass `allocate`: every tile gets its slots. Activations lie in what the resident tensors leave; weights, constants
and sums take turns in memories that the operations go round in, one after the other."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from accelsim.arithmetic.vector import STEP_BYTES
from accelsim.compiler.operations import Copy, Elementwise, Lowered, Matrix, Operation, Pool, Vector
from accelsim.compiler.requantization import check_unit
from accelsim.errors import CompileError
from accelsim.hardware import Accelerator

from .fusion import Fusion, parameter_bytes
from .matrix import MatrixPlan, interleave_of
from .residency import Placement
from .shape import Shape, blocks
from .slots import NONE, Ring, Slots, up
from .streams import copy_tile, elementwise_tile, pool_tile, vector_tile
from .tiled import (
    ChannelTile,
    PixelTile,
    ReductionTile,
    Tiled,
    TiledCopy,
    TiledElementwise,
    TiledMatrix,
    TiledPool,
    TiledVector,
)

#: Bytes of a table.
TABLE = 256


def allocate(
    lowered: Lowered,
    accelerator: Accelerator,
    placement: Placement,
    fusions: Mapping[int, Fusion],
    plans: Sequence[tuple[str, MatrixPlan | None]],
) -> tuple[Tiled | None, ...]:
    """For each operation its tiles; None for one that works on the tiles of the operation before it.

    Raises CompileError naming the layer and the buffer where something has no room.
    """
    allocator = _Allocator(accelerator, placement)
    found: list[Tiled | None] = []
    for index, operation in enumerate(lowered.operations):
        if index - 1 in fusions:
            found.append(None)
            continue
        name, plan = plans[index]
        fusion = fusions.get(index)
        staging = placement.staging[index] if fusion is None else fusion.staging
        try:
            found.append(allocator.tiled(operation, staging, plan, fusion))
        except CompileError as error:
            raise CompileError(f"{name}: {error}") from None
    return tuple(found)


class _Allocator:
    """The memories that operations take turns in, as far as the operations so far went round in them."""

    def __init__(self, accelerator: Accelerator, placement: Placement) -> None:
        buffers = accelerator.buffers
        self._accelerator, self._placement = accelerator, placement
        self._weights = Ring("weight", buffers.weight.bytes)
        self._parameters = Ring("parameter", buffers.parameter.bytes)
        self._accumulators = Ring("accumulator", buffers.accumulator.words)

    def tiled(
        self, operation: Operation, staging: tuple[int, int], plan: MatrixPlan | None, fusion: Fusion | None
    ) -> Tiled:
        """The operation's tiles in their slots."""
        match operation:
            case Matrix():
                assert plan is not None
                return self._matrix(self._placement.laid_out(operation), staging, plan, fusion)
            case Pool():
                return self._pool(self._placement.laid_out(operation), staging)
            case Elementwise():
                return self._elementwise(operation, staging)
            case Copy():
                return self._copy(operation, staging)
            case Vector():
                return self._vector(operation, staging)

    def _streamed(self, tensor: str) -> bool:
        return tensor not in self._placement.addresses

    def _matrix(
        self, operation: Matrix, staging: tuple[int, int], plan: MatrixPlan, fusion: Fusion | None
    ) -> TiledMatrix:
        check_unit(operation.rule, self._accelerator.requant_unit.arithmetic)
        shape, cut = Shape.of(operation, self._accelerator), plan.footprint
        tiles, channel_tiles = _pixel_tiles(operation, plan), _channel_tiles(operation, plan)
        reduction_tiles = _reduction_tiles(shape, plan)
        start, stop = staging
        results = up(stop - cut.results * cut.result, cut.results, cut.result)
        accumulators = self._accumulators.slots(cut.accumulator, len(tiles) * len(channel_tiles))
        # The plan may be one of a machine with more of them.
        inner = len(channel_tiles) if plan.pixels_outer else len(tiles)
        interleave = interleave_of(inner, len(accumulators)) if plan.interleaved else 1
        constants, tables = self._constants(shape, plan, fusion, len(channel_tiles))
        return TiledMatrix(
            operation=operation,
            shape=shape,
            plan=plan,
            fusion=fusion,
            pixel_tiles=tiles,
            channel_tiles=channel_tiles,
            reduction_tiles=reduction_tiles,
            interleave=interleave,
            result=cut.result if fusion is None else cut.result // fusion.tiles,
            inputs=up(start, cut.inputs, cut.input),
            results=Slots(results.addresses[::-1], cut.result),
            weights=self._weights.slots(cut.weight, len(reduction_tiles) * len(channel_tiles)),
            constants=constants,
            tables=tables,
            accumulators=accumulators,
        )

    def _constants(self, shape: Shape, plan: MatrixPlan, fusion: Fusion | None, tiles: int) -> tuple[Slots, Slots]:
        """Of the channel tiles, and of the tables of the operation that works on them: these are used in turn, so that
        neither may take the other's place."""
        size = plan.footprint.constant
        if fusion is None:
            return self._parameters.slots(size, tiles), NONE
        whole = parameter_bytes(shape, plan, fusion.operation)
        (start,) = self._parameters.slots(whole, 1).addresses
        edge = start + size * tiles
        tables = (start + whole - edge) // TABLE
        return up(start, tiles, size), up(edge, tables, TABLE) if tables else NONE

    def _pool(self, operation: Pool, staging: tuple[int, int]) -> TiledPool:
        if operation.target.sizes[1] > 1 or operation.source.sizes[1] > 1:
            raise CompileError("the machine pools over two axes, not over three")
        start, stop = staging
        source, target = self._streamed(operation.source.tensor), self._streamed(operation.target.tensor)
        tile = pool_tile(operation, stop - start, source=source, target=target)
        bases = [start + i * (tile.input + tile.result) for i in range(tile.slots)]
        return TiledPool(
            operation=operation,
            lines=tile.lines,
            channels=tile.channels,
            inputs=Slots(tuple(bases), tile.input),
            results=Slots(tuple(base + tile.input for base in bases), tile.result),
        )

    def _elementwise(self, operation: Elementwise, staging: tuple[int, int]) -> TiledElementwise:
        start, stop = staging
        tensors = [tensor for tensor, _ in (*operation.sources, operation.target)]
        layouts = [self._placement.layouts[tensor] for tensor in tensors if tensor in self._placement.layouts]
        streamed = sum(map(self._streamed, tensors))
        elements = elementwise_tile(operation, stop - start, streamed, layouts)
        return TiledElementwise(
            operation=operation,
            elements=elements,
            slots=up(start, (stop - start) // elements, elements) if streamed else NONE,
            tables=self._parameters.slots(TABLE, 0 if operation.tables is None else len(operation.tables)),
        )

    def _copy(self, operation: Copy, staging: tuple[int, int]) -> TiledCopy:
        if not (self._streamed(operation.source[0]) and self._streamed(operation.target[0])):
            return TiledCopy(operation=operation, slots=NONE)
        start, stop = staging
        tile = copy_tile(operation, stop - start)
        return TiledCopy(
            operation=operation, inner=tile.inner, split=tile.split, slots=up(start, 2, (stop - start) // 2)
        )

    def _vector(self, operation: Vector, staging: tuple[int, int]) -> TiledVector:
        start, stop = staging
        streams = operation.streams
        tile, count = vector_tile(operation, stop - start, [s for s in streams if self._streamed(s.tensor)])
        slots = []
        for stream in streams:
            size = tile.bytes(operation, stream) if self._streamed(stream.tensor) else 0
            slots.append(up(start, count, size))
            start += count * size
        return TiledVector(
            operation=operation,
            tile=tile,
            slots=tuple(slots),
            programs=self._parameters.slots(STEP_BYTES * len(operation.words), 1),
        )


def _pixel_tiles(operation: Matrix, plan: MatrixPlan) -> tuple[PixelTile, ...]:
    images, depth, lines, pixels, _ = operation.target.sizes
    window, sizes = operation.window, operation.source.sizes
    axes = (
        blocks(images, plan.images),
        [(tile, window.under(1, tile, sizes[2])) for tile in blocks(lines, plan.lines)],
        [(tile, window.under(2, tile, sizes[3])) for tile in blocks(pixels, plan.pixels)],
    )
    return tuple(
        PixelTile(at, some, tall, wide, under_lines, under_pixels)
        for some, (tall, under_lines), (wide, under_pixels) in itertools.product(*axes)
        for at in range(depth)
    )


def _channel_tiles(operation: Matrix, plan: MatrixPlan) -> tuple[ChannelTile, ...]:
    """Tiles of output channels, none across a change of the weights' zero point: an instruction has but one."""
    per_group = operation.outputs // operation.groups
    zero_points = operation.weight_zero_points
    result = []
    for group in range(0, operation.groups, plan.groups):
        groups = min(plan.groups, operation.groups - group)
        first, outputs = group * per_group, groups * per_group
        if groups > 1 and not np.any(zero_points[first : first + outputs] != zero_points[first]):
            result.append(ChannelTile(group, groups, first, outputs))
            continue
        for one in range(group, group + groups):
            for start, stop in blocks(per_group, min(plan.outputs, per_group)):
                edges = [start, *range(start + 1, stop), stop]
                kept = [
                    edge
                    for edge in edges
                    if edge in (start, stop)
                    or zero_points[one * per_group + edge] != zero_points[one * per_group + edge - 1]
                ]
                result += [ChannelTile(one, 1, one * per_group + a, b - a) for a, b in itertools.pairwise(kept)]
    return tuple(result)


def _reduction_tiles(shape: Shape, plan: MatrixPlan) -> tuple[ReductionTile, ...]:
    """Plane by plane of the window, and of each the channels of a group."""
    layout = shape.weight_layout(plan.channels, plan.outputs, plan.groups, plan.unroll_pixels)
    by_output = shape.weights_by_output(plan.unroll_pixels)
    pitch = layout.pitch_n if by_output else layout.pitch_k
    dense = pitch == (shape.taps * plan.channels if by_output else plan.outputs)

    def of(channels: int) -> int:
        if not dense:
            return pitch
        return shape.taps * channels if by_output else 0

    return tuple(
        ReductionTile(tap, first, last, of(last - first), accumulate=tap > 0 or first > 0)
        for tap in range(shape.kernel[0])
        for first, last in blocks(shape.group_channels, plan.channels)
    )
