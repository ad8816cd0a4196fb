"""Instructions of a matrix operation, tile by tile as its plan says."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from accelsim.compiler.operations import Matrix, in_place
from accelsim.compiler.plan.fusion import Fusion, parameter_bytes
from accelsim.compiler.plan.matrix import MatrixPlan, interleave_of, result_places
from accelsim.compiler.plan.shape import Shape, blocks
from accelsim.compiler.requantization import instruction
from accelsim.hardware.folds import groups_that_fit, weights_by_output
from accelsim.isa import Mac, Memory, Part

from .elementwise import TABLE, ElementwiseEmitter, Place
from .emitter import Constants, Emitter, Slots
from .transfers import dense_loops, loads, stores


@dataclass(frozen=True)
class _Positions:
    """A tile of output positions: one depth, and ranges of images, lines and pixels."""

    depth: int
    images: tuple[int, int]
    lines: tuple[int, int]
    pixels: tuple[int, int]

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Images, lines, pixels."""
        ranges = (self.images, self.lines, self.pixels)
        return tuple(stop - start for start, stop in ranges)  # type: ignore[return-value]


@dataclass(frozen=True)
class _Block:
    """Output channels `first..first + outputs - 1`: `groups` whole groups from `group` on, or part of that one."""

    group: int
    groups: int
    first: int
    outputs: int


@dataclass(frozen=True)
class _Operand:
    """The window's fields of a MAC instruction that depend on where its input lies."""

    activation: int
    image_pitch: int
    line_pitch: int
    pixel_pitch: int
    top: int
    left: int
    height: int
    width: int


class MatrixEmitter:
    """Emits one matrix operation, with the element-wise operation that works on its tiles where it has one."""

    def __init__(self, emitter: Emitter, operation: Matrix, plan: MatrixPlan, fusion: Fusion | None = None) -> None:
        self.emitter, self.operation, self.plan, self.fusion = emitter, operation, plan, fusion
        self.shape = Shape.of(operation, emitter.accelerator)
        #: What one access reads lies together.
        self.by_output = weights_by_output(
            self.shape.array, plan.unroll_pixels, self.shape.kernel[2], self.shape.stride[2]
        )
        self.constants = operation.constants
        self.blocks = _blocks(operation, plan)
        self.tiles = _tiles(operation, plan)
        self.channels = operation.source.sizes[4] // operation.groups
        self.parts = blocks(self.channels, plan.channels) if plan.groups == 1 else [(0, self.channels)]
        self._make_slots()

    def _make_slots(self) -> None:
        plan, emitter, operation = self.plan, self.emitter, self.operation
        count = plan.images * plan.lines * plan.pixels
        steps = operation.window.kernel[0] * len(self.parts) * len(self.blocks)
        weights = emitter.weight_ring.slots(self._weight_pitch(plan.channels) * plan.outputs, steps)
        self.weights = Constants(emitter, Memory.WEIGHT, weights)
        constants = 4 * len(self.constants) * plan.outputs
        self.epilogue: ElementwiseEmitter | None = None
        if self.fusion is None:
            places = emitter.parameter_ring.slots(constants, len(self.blocks))
        else:
            # Constants and tables are used in turn, so neither may take the other's place.
            size = parameter_bytes(self.shape, plan, self.fusion.operation)
            base = emitter.parameter_ring.slots(size, 1).next()
            edge = base + constants * len(self.blocks)
            places = Slots([base + i * constants for i in range(len(self.blocks))])
            self.epilogue = ElementwiseEmitter(
                emitter, self.fusion.operation, Slots(list(range(edge, base + size, TABLE)) or [base])
            )
        self.parameters = Constants(emitter, Memory.PARAMETER, places)
        gap = self.shape.accumulator_gap(plan.outputs, plan.groups, plan.unroll_pixels, plan.unroll_groups)
        self.accumulators = emitter.accumulator_ring.slots(
            count * (plan.outputs + gap), len(self.tiles) * len(self.blocks)
        )
        start, stop = emitter.staging
        self._out_bytes = 0
        if emitter.resident(operation.target.tensor) is None:
            self._out_bytes = count * (operation.outputs if plan.gather else plan.outputs)
        out = self._out_bytes * (1 if self.fusion is None else self.fusion.tiles)
        source = max((self._input_tile_bytes(tile) for tile in self.tiles), default=0)
        if emitter.resident(operation.source.tensor) is not None:
            source = 0
        self._in_bytes = source
        outs = result_places(stop - start, source, out)
        self.out_slots = Slots([stop - (i + 1) * out for i in range(outs)])
        stop -= outs * out
        self.in_slots = Slots([start + i * source for i in range((stop - start) // source)] if source else [start])

    def _input_tile_bytes(self, tile: _Positions) -> int:
        """Bytes of the largest input tile under `tile`."""
        _, lines, pixels = self._input_tile(tile)
        _, line = self._pitches(self._held, max(pixels[1] - pixels[0], 0))
        return tile.sizes[0] * max(lines[1] - lines[0], 0) * line

    @property
    def _held(self) -> int:
        """Channels of the largest input tile."""
        if not self.plan.whole_input:
            return self.plan.channels
        return self.channels * self.plan.groups if self.operation.groups > 1 else self.channels

    def _pitches(self, held: int, pixels: int) -> tuple[int, int]:
        """Bytes from pixel to pixel and from line to line of an input tile so wide that holds so many channels."""
        return self.shape.pitches(
            held, pixels, min(self.plan.channels, held), self.plan.unroll_pixels, self.plan.unroll_groups
        )

    def _gap(self, block: _Block) -> int:
        """Words between the outputs of two pixels of a block."""
        return self.shape.accumulator_gap(block.outputs, block.groups, self.plan.unroll_pixels, self.plan.unroll_groups)

    def _input_tile(self, tile: _Positions) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
        """Top and left of the window (perhaps in the padding), and the input's lines and pixels under the tile."""
        window, sizes = self.operation.window, self.operation.source.sizes
        corner, ranges = [], []
        for axis, (first, last) in ((1, tile.lines), (2, tile.pixels)):
            start = first * window.stride[axis] - window.before[axis]
            stop = (
                start + (last - first - 1) * window.stride[axis] + (window.kernel[axis] - 1) * window.dilation[axis] + 1
            )
            corner.append(start)
            ranges.append((max(start, 0), min(stop, sizes[axis + 1])))
        return (corner[0], corner[1]), ranges[0], ranges[1]

    def emit(self) -> None:
        """Emit everything."""
        gathered = 0
        for some in self._interleaved_groups():
            accumulators = [self.accumulators.next() for _ in some]
            for tap, part in itertools.product(range(self.operation.window.kernel[0]), range(len(self.parts))):
                for (tile, number), accumulator in zip(some, accumulators, strict=True):
                    self._accumulate(tile, number, tap, part, accumulator)
            for (tile, number), accumulator in zip(some, accumulators, strict=True):
                block = self.blocks[number]
                begins, ends = (block is edge or not self.plan.gather for edge in (self.blocks[0], self.blocks[-1]))
                if begins and (self.plan.gather or self.fusion):
                    gathered = self.out_slots.next()
                if ends and self.fusion:
                    # Behind all that the tile's sums read: loads are in order, and the operands' place may be in use.
                    piece = self._part(tile, block)
                    operands = self._operands(piece, gathered)
                self._requantize(tile, number, accumulator, gathered)
                if ends and self.fusion:
                    self._follow(piece, operands)
                elif ends and self.plan.gather:
                    self._store(tile, 0, self.operation.outputs, gathered)

    def _interleaved_groups(self) -> Iterator[list[tuple[_Positions, int]]]:
        """The pixel tiles, each with the number of a channel tile, in the order of the loops.

        Those of a list go through each reduction tile in turn.
        """
        numbers = range(len(self.blocks))
        if self.plan.pixels_outer:
            loops = [[(tile, number) for number in numbers] for tile in self.tiles]
        else:
            loops = [[(tile, number) for tile in self.tiles] for number in numbers]
        for inner in loops:
            interleave = interleave_of(len(inner), len(self.accumulators)) if self.plan.interleaved else 1
            for first in range(0, len(inner), interleave):
                yield inner[first : first + interleave]

    def _accumulate(self, tile: _Positions, number: int, tap: int, part: int, accumulator: int) -> None:
        """Add to the sums of a tile and a block what a depth tap and a part of the channels contribute."""
        operation, block = self.operation, self.blocks[number]
        window = operation.window
        images, lines, pixels = tile.sizes
        unroll_pixels = min(self.plan.unroll_pixels, pixels)
        first, last = self.parts[part]
        # Loads are in order. One that waits for the only place of the input would hold up the weights behind it.
        weight = self._weights(number, tap, part) if len(self.in_slots) == 1 else None
        operand = self._operand(tile, tap, block, first, last)
        if weight is None:
            weight = self._weights(number, tap, part)
        self.emitter.emit(
            Mac(
                activation=operand.activation,
                image_pitch=operand.image_pitch,
                line_pitch=operand.line_pitch,
                pixel_pitch=operand.pixel_pitch,
                images=images,
                out_height=lines,
                out_width=pixels,
                kernel_height=window.kernel[1],
                kernel_width=window.kernel[2],
                channels=(last - first) * block.groups,
                top=operand.top,
                left=operand.left,
                height=operand.height,
                width=operand.width,
                stride_y=window.stride[1],
                stride_x=window.stride[2],
                dilation_y=window.dilation[1],
                dilation_x=window.dilation[2],
                signed_activation=int(operation.signed),
                pad=operation.pad,
                outputs=block.outputs,
                weight=weight,
                weight_pitch_k=1 if self.by_output else block.outputs,
                weight_pitch_n=self._weight_pitch(last - first) if self.by_output else 1,
                weight_zero_point=int(operation.weight_zero_points[block.first]),
                accumulator=accumulator,
                accumulator_gap=self._gap(block),
                accumulate=int(tap > 0 or part > 0),
                groups=block.groups,
                unroll_groups=self._unroll_groups(block, last - first, unroll_pixels),
                unroll_pixels=unroll_pixels,
            )
        )

    def _unroll_groups(self, block: _Block, channels: int, unroll_pixels: int) -> int:
        """As many groups of a block as the array takes in one fold; a tile of fewer pixels leaves room for more."""
        shape = self.shape
        across = shape.kernel[2] + (unroll_pixels - 1) * shape.stride[2]
        reduction = shape.kernel[1] * across * channels
        return groups_that_fit(shape.array, unroll_pixels, reduction, block.outputs // block.groups, block.groups)

    def _operand(self, tile: _Positions, tap: int, block: _Block, first: int, last: int) -> _Operand:
        """Where the input under the tile lies, loaded first where it is not on the chip."""
        operation, emitter = self.operation, self.emitter
        source, window = operation.source, operation.window
        depth = tile.depth * window.stride[0] - window.before[0] + tap * window.dilation[0]
        (top, left), lines, pixels = self._input_tile(tile)
        if not 0 <= depth < source.sizes[1] or lines[0] >= lines[1] or pixels[0] >= pixels[1]:
            # Nothing but padding; but its addresses meet in banks as others do.
            pixel, line = self._pitches(self._held, source.sizes[3])
            return _Operand(0, 0, line, pixel, 0, 0, 0, 0)
        image_pitch, depth_pitch, line_pitch, pixel_pitch = source.pitches
        start = source.offset + tile.images[0] * image_pitch + depth * depth_pitch
        channel = block.group * self.channels + first
        base = emitter.resident(source.tensor)
        if base is not None:
            return _Operand(
                base + start + channel,
                image_pitch,
                line_pitch,
                pixel_pitch,
                top,
                left,
                source.sizes[2],
                source.sizes[3],
            )
        if not self.plan.whole_input:
            held = (channel, channel + last - first)
        elif operation.groups > 1:
            held = (block.group * self.channels, (block.group + block.groups) * self.channels)
        else:
            held = (0, self.channels)
        sizes = (tile.sizes[0], lines[1] - lines[0], pixels[1] - pixels[0], held[1] - held[0])
        pixel, pitch = self._pitches(sizes[3], sizes[2])
        if sizes[0] * sizes[1] * pitch > self._in_bytes:
            # The last channels of a sum may want larger gaps than there is room for.
            pixel, pitch = self._pitches(self._held, sizes[2])
        address, missing = self.in_slots.get((depth, tile.images, lines, pixels, held))
        if missing:
            dram = emitter.dram[source.tensor] + start + lines[0] * line_pitch + pixels[0] * pixel_pitch + held[0]
            far = (image_pitch, line_pitch, pixel_pitch, 1)
            near = (sizes[1] * pitch, pitch, pixel, 1)
            emitter.emit_all(loads(Memory.ACTIVATION, dram, address, list(zip(sizes, far, near, strict=True)), 1))
        return _Operand(
            address + channel - held[0],
            sizes[1] * pitch,
            pitch,
            pixel,
            top - lines[0],
            left - pixels[0],
            sizes[1],
            sizes[2],
        )

    def _weights(self, number: int, tap: int, part: int) -> int:
        """Where the weights of a block, a depth tap and a part of the channels lie, loaded first if they must be."""
        block, (first, last) = self.blocks[number], self.parts[part]
        tile = self.operation.weights[block.first : block.first + block.outputs, tap, :, :, first:last]
        key = (number, tap, part)
        if self.by_output:
            return self.weights.at(key, tile, self._weight_pitch(last - first))
        return self.weights.at(key, tile.transpose(1, 2, 3, 0))

    def _weight_pitch(self, channels: int) -> int:
        """Bytes from the weights of one output to those of the next, for `channels` of the sum."""
        held = self.plan.channels if self.plan.unroll_pixels > 1 else channels
        return self.shape.weight_pitch(held, self.plan.outputs // self.plan.groups, self.plan.unroll_pixels)

    def _parameters(self, number: int) -> int:
        """Where the constants of a block lie, loaded first if they must be."""
        if not len(self.constants):
            return 0
        block = self.blocks[number]
        return self.parameters.at(number, self.constants[:, block.first : block.first + block.outputs])

    def _requantize(self, tile: _Positions, number: int, accumulator: int, gathered: int) -> None:
        operation, emitter, block = self.operation, self.emitter, self.blocks[number]
        parameters = self._parameters(number)
        target = operation.target
        images, lines, pixels = tile.sizes
        base = emitter.resident(target.tensor)
        if base is not None:
            image_pitch, depth_pitch, line_pitch, pixel_pitch = target.pitches
            out = base + target.offset + tile.depth * depth_pitch + block.first + tile.images[0] * image_pitch
            out += tile.lines[0] * line_pitch + tile.pixels[0] * pixel_pitch
        else:
            pixel_pitch = operation.outputs if self.plan.gather else block.outputs
            line_pitch, image_pitch = pixels * pixel_pitch, lines * pixels * pixel_pitch
            out = gathered if self.plan.gather or self.fusion else self.out_slots.next()
            out += block.first if self.plan.gather else 0
        emitter.emit(
            instruction(
                operation.rule,
                accumulator=accumulator,
                accumulator_gap=self._gap(block),
                out=out,
                image_pitch=image_pitch,
                line_pitch=line_pitch,
                pixel_pitch=pixel_pitch,
                images=images,
                out_height=lines,
                out_width=pixels,
                channels=block.outputs,
                parameters=parameters,
            )
        )
        if base is not None:
            emitter.wrote(target.tensor)
        elif not self.plan.gather and self.fusion is None:
            self._store(tile, block.first, block.outputs, out)

    def _part(self, tile: _Positions, block: _Block) -> Part:
        """Which of the results the fused operation works on at once: those of the tile, of all channels or a block."""
        _, depth, lines, pixels, outputs = self.operation.target.sizes
        first = ((tile.images[0] * depth + tile.depth) * lines + tile.lines[0]) * pixels + tile.pixels[0]
        count = math.prod(tile.sizes)
        if self.plan.gather or block.outputs == outputs:
            return Part(first * outputs, count * outputs)
        return Part(first * outputs + block.first, block.outputs, count, outputs)

    def _operands(self, part: Part, slot: int) -> list[tuple[int, int]]:
        """Where the operands and the results of the fused operation lie for a part, with the bytes from row to row;
        loads those that pass through."""
        assert self.fusion is not None
        emitter, fused = self.emitter, self.fusion.operation
        free = slot + self._out_bytes
        places = []
        for position, (tensor, offset) in enumerate(fused.sources):
            base = emitter.resident(tensor)
            if position == self.fusion.position:
                places.append((slot, part.length))
            elif base is not None:
                places.append((base + offset + part.first, part.pitch))
            else:
                places.append((free, part.length))
                loops = ((part.lines, part.pitch, part.length),)
                with emitter.as_layer(fused.layer):
                    dram = emitter.dram[tensor] + offset + part.first
                    emitter.emit_all(loads(Memory.ACTIVATION, dram, free, loops, part.length))
                free += self._out_bytes
        tensor, offset = fused.target
        base = emitter.resident(tensor)
        if base is not None:
            return [*places, (base + offset + part.first, part.pitch)]
        return [*places, (slot if in_place(fused) else free, part.length)]

    def _follow(self, part: Part, places: list[tuple[int, int]]) -> None:
        """The fused operation on a part of the results that is complete."""
        assert self.fusion is not None
        assert self.epilogue is not None
        emitter = self.emitter
        emitter.passes(self.operation.target.tensor, places[self.fusion.position][0], part)
        with emitter.as_layer(self.fusion.operation.layer):
            if part.lines > 1:
                self.epilogue.emit_part(part, places)
            else:
                row = [Place(address, part.first) for address, _ in places]
                self.epilogue.emit(part.first, part.first + part.length, row)

    def _store(self, tile: _Positions, first: int, outputs: int, address: int) -> None:
        target, emitter = self.operation.target, self.emitter
        image_pitch, depth_pitch, line_pitch, pixel_pitch = target.pitches
        dram = emitter.dram[target.tensor] + target.offset + tile.depth * depth_pitch + first
        dram += tile.images[0] * image_pitch + tile.lines[0] * line_pitch + tile.pixels[0] * pixel_pitch
        loops = dense_loops((*tile.sizes, outputs), (image_pitch, line_pitch, pixel_pitch, 1))
        emitter.emit_all(stores(dram, address, loops, 1))
        emitter.wrote(target.tensor)


def _tiles(operation: Matrix, plan: MatrixPlan) -> list[_Positions]:
    images, depth, lines, pixels, _ = operation.target.sizes
    axes = (blocks(images, plan.images), blocks(lines, plan.lines), blocks(pixels, plan.pixels))
    return [_Positions(at, *ranges) for ranges in itertools.product(*axes) for at in range(depth)]


def _blocks(operation: Matrix, plan: MatrixPlan) -> list[_Block]:
    """Blocks of output channels, none across a change of the weights' zero point: an instruction has but one."""
    per_group = operation.outputs // operation.groups
    zero_points = operation.weight_zero_points
    result = []
    for group in range(0, operation.groups, plan.groups):
        groups = min(plan.groups, operation.groups - group)
        first, outputs = group * per_group, groups * per_group
        if groups > 1 and not np.any(zero_points[first : first + outputs] != zero_points[first]):
            result.append(_Block(group, groups, first, outputs))
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
                result += [_Block(one, 1, one * per_group + a, b - a) for a, b in itertools.pairwise(kept)]
    return result
