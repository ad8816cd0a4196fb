"""Instructions of a matrix operation, tile by tile."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from accelsim.compiler.operations import TensorWeights, in_place
from accelsim.compiler.plan.tiled import ChannelTile, PixelTile, ReductionTile, TiledMatrix
from accelsim.compiler.requantization import instruction
from accelsim.isa import Mac, Memory, Part

from .elementwise import ElementwiseEmitter, Place
from .emitter import Constants, Emitter, Residents
from .transfers import dense_loops, loads, stores


@dataclass(frozen=True, kw_only=True)
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

    def __init__(self, emitter: Emitter, tiled: TiledMatrix) -> None:
        self._emitter, self._tiled = emitter, tiled
        self._operation, self._plan = tiled.operation, tiled.plan
        self._constants = tiled.operation.constants
        self._by_output = tiled.shape.weights_by_output(tiled.plan.unroll_pixels)
        self._inputs, self._results = Residents(tiled.inputs), Residents(tiled.results)
        self._weights = Constants(emitter, Memory.WEIGHT, tiled.weights)
        self._loaded_weights = Residents(tiled.weights)
        self._parameters = Constants(emitter, Memory.PARAMETER, tiled.constants)
        self._accumulators = Residents(tiled.accumulators)
        self._gathers = tiled.plan.footprint.gather
        self._fusion = tiled.fusion
        self._epilogue: ElementwiseEmitter | None = None
        if tiled.fusion is not None:
            self._epilogue = ElementwiseEmitter(emitter, tiled.fusion.operation, tiled.tables)

    def emit(self) -> None:
        """Emit everything."""
        blocks = self._tiled.channel_tiles
        gathered = 0
        for group in self._tiled.rounds():
            accumulators = [self._accumulators.next() for _ in group]
            for terms in self._tiled.reduction_tiles:
                for (tile, number), accumulator in zip(group, accumulators, strict=True):
                    self._accumulate(tile, number, terms, accumulator)
            for (tile, number), accumulator in zip(group, accumulators, strict=True):
                block = blocks[number]
                begins, ends = (block is edge or not self._gathers for edge in (blocks[0], blocks[-1]))
                if begins and (self._gathers or self._fusion):
                    gathered = self._results.next()
                if ends and self._fusion:
                    # Behind all that the tile's sums read: loads are in order, and the operands' slot may be in use.
                    part = self._part(tile, block)
                    operands = self._operands(part, gathered)
                self._requantize(tile, number, accumulator, gathered)
                if ends and self._fusion:
                    self._follow(part, operands)
                elif ends and self._gathers:
                    self._store(tile, 0, self._operation.outputs, gathered)

    def _accumulate(self, tile: PixelTile, number: int, terms: ReductionTile, accumulator: int) -> None:
        """Add to the sums of a pixel tile and a channel tile what a reduction tile contributes."""
        operation, block = self._operation, self._tiled.channel_tiles[number]
        window = operation.window
        images, lines, pixels = tile.sizes
        unroll_pixels, unroll_groups = self._tiled.unrolling(tile, block, terms)
        # Loads are in order. One that waits for the only slot of the input would hold up the weights behind it.
        weight = self._weight(number, terms) if len(self._tiled.inputs) == 1 else None
        operand = self._operand(tile, block, terms)
        if weight is None:
            weight = self._weight(number, terms)
        mac = Mac(
            **vars(operand),
            images=images,
            out_height=lines,
            out_width=pixels,
            kernel_height=window.kernel[1],
            kernel_width=window.kernel[2],
            channels=(terms.last - terms.first) * block.groups,
            stride_y=window.stride[1],
            stride_x=window.stride[2],
            dilation_y=window.dilation[1],
            dilation_x=window.dilation[2],
            signed_activation=int(operation.signed),
            pad=operation.pad,
            outputs=block.outputs,
            weight=weight,
            weight_pitch_k=1 if self._by_output else terms.weight_pitch or block.outputs,
            weight_pitch_n=terms.weight_pitch if self._by_output else 1,
            weight_zero_point=int(operation.weight_zero_points[block.first]),
            accumulator=accumulator,
            accumulator_gap=self._gap(block),
            accumulate=int(terms.accumulate),
            groups=block.groups,
            unroll_groups=unroll_groups,
            unroll_pixels=unroll_pixels,
        )
        self._emitter.emit(mac)
        if operation.zero_source:
            # Every activation is padding of minus the zero point.
            self._emitter.emit(replace(mac, activation=0, height=0, width=0, pad=-operation.zero_source, accumulate=1))

    def _gap(self, block: ChannelTile) -> int:
        """Words between the outputs of two pixels of a block."""
        return self._plan.footprint.accumulator_pitch - block.outputs

    def _operand(self, tile: PixelTile, block: ChannelTile, terms: ReductionTile) -> _Operand:
        """Where the input under the tile lies, loaded first where it is not on the chip."""
        operation, emitter, cut = self._operation, self._emitter, self._plan.footprint
        source, window = operation.source, operation.window
        depth = tile.depth * window.stride[0] - window.before[0] + terms.tap * window.dilation[0]
        (top, *lines), (left, *pixels) = tile.under_lines, tile.under_pixels
        base = emitter.resident(source.tensor)
        image_pitch, depth_pitch, line_pitch, pixel_pitch = source.pitches
        if not 0 <= depth < source.sizes[1] or lines[0] >= lines[1] or pixels[0] >= pixels[1]:
            # Nothing but padding; but its addresses meet in banks as others do.
            return _Operand(
                activation=0,
                image_pitch=0,
                line_pitch=cut.line_pitch,
                pixel_pitch=cut.pixel_pitch,
                top=0,
                left=0,
                height=0,
                width=0,
            )
        channels = source.sizes[4] // operation.groups
        start = source.offset + tile.images[0] * image_pitch + depth * depth_pitch
        channel = block.group * channels + terms.first
        if base is not None:
            return _Operand(
                activation=base + start + channel,
                image_pitch=image_pitch,
                line_pitch=line_pitch,
                pixel_pitch=pixel_pitch,
                top=top,
                left=left,
                height=source.sizes[2],
                width=source.sizes[3],
            )
        if not cut.whole_input:
            held = (channel, channel + terms.last - terms.first)
        elif operation.groups > 1:
            held = (block.group * channels, (block.group + block.groups) * channels)
        else:
            held = (0, channels)
        sizes = (tile.sizes[0], lines[1] - lines[0], pixels[1] - pixels[0], held[1] - held[0])
        address, missing = self._inputs.get((depth, tile.images, tile.under_lines, tile.under_pixels, held))
        if missing:
            dram = emitter.dram[source.tensor] + start + lines[0] * line_pitch + pixels[0] * pixel_pitch + held[0]
            far = (image_pitch, line_pitch, pixel_pitch, 1)
            near = (sizes[1] * cut.line_pitch, cut.line_pitch, cut.pixel_pitch, 1)
            emitter.emit_all(loads(Memory.ACTIVATION, dram, address, list(zip(sizes, far, near, strict=True)), 1))
        return _Operand(
            activation=address + channel - held[0],
            image_pitch=sizes[1] * cut.line_pitch,
            line_pitch=cut.line_pitch,
            pixel_pitch=cut.pixel_pitch,
            top=top - lines[0],
            left=left - pixels[0],
            height=sizes[1],
            width=sizes[2],
        )

    def _weight(self, number: int, terms: ReductionTile) -> int:
        """Where the weights of a channel tile and a reduction tile lie, loaded first if they must be."""
        block, weights = self._tiled.channel_tiles[number], self._operation.weights
        if isinstance(weights, TensorWeights):
            return self._tensor_weight(weights, block, terms)
        content = weights[block.first : block.first + block.outputs, terms.tap, :, :, terms.first : terms.last]
        key = (number, terms.tap, terms.first)
        if self._by_output:
            return self._weights.at(key, content, terms.weight_pitch)
        return self._weights.at(key, content.transpose(1, 2, 3, 0))

    def _tensor_weight(self, weights: TensorWeights, block: ChannelTile, terms: ReductionTile) -> int:
        """The same of weights that an operation before left in DRAM."""
        address, missing = self._loaded_weights.get((block, terms))
        if missing:
            emitter, length = self._emitter, terms.last - terms.first
            first = weights.offset + terms.first * weights.pitch_k + block.first * weights.pitch_n
            if self._by_output:
                loops = [(block.outputs, weights.pitch_n, terms.weight_pitch), (length, weights.pitch_k, 1)]
            else:
                loops = [
                    (length, weights.pitch_k, terms.weight_pitch or block.outputs),
                    (block.outputs, weights.pitch_n, 1),
                ]
            emitter.emit_all(loads(Memory.WEIGHT, emitter.dram[weights.tensor] + first, address, loops, 1))
        return address

    def _constant(self, number: int) -> int:
        """Where the constants of a channel tile lie, loaded first if they must be."""
        if not len(self._constants):
            return 0
        block = self._tiled.channel_tiles[number]
        return self._parameters.at(number, self._constants[:, block.first : block.first + block.outputs])

    def _requantize(self, tile: PixelTile, number: int, accumulator: int, gathered: int) -> None:
        operation, emitter, block = self._operation, self._emitter, self._tiled.channel_tiles[number]
        parameters = self._constant(number)
        target, width = operation.target, operation.result_bytes
        images, lines, pixels = tile.sizes
        base = emitter.resident(target.tensor)
        if base is not None:
            image_pitch, depth_pitch, line_pitch, pixel_pitch = target.pitches
            out = base + target.offset + tile.depth * depth_pitch + width * block.first + tile.images[0] * image_pitch
            out += tile.lines[0] * line_pitch + tile.pixels[0] * pixel_pitch
        else:
            pixel_pitch = width * (operation.outputs if self._gathers else block.outputs)
            line_pitch, image_pitch = pixels * pixel_pitch, lines * pixels * pixel_pitch
            out = gathered if self._gathers or self._fusion else self._results.next()
            out += width * block.first if self._gathers else 0
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
        elif not self._gathers and self._fusion is None:
            self._store(tile, block.first, block.outputs, out)

    def _part(self, tile: PixelTile, block: ChannelTile) -> Part:
        """Which of the results the fused operation works on at once: those of the tile, of all channels or a block."""
        _, depth, lines, pixels, outputs = self._operation.target.sizes
        first = ((tile.images[0] * depth + tile.depth) * lines + tile.lines[0]) * pixels + tile.pixels[0]
        count = math.prod(tile.sizes)
        if self._gathers or block.outputs == outputs:
            return Part(first * outputs, count * outputs)
        return Part(first * outputs + block.first, block.outputs, count, outputs)

    def _operands(self, part: Part, slot: int) -> list[tuple[int, int]]:
        """Where the operands and the results of the fused operation lie for a part, with the bytes from row to row;
        loads those that pass through."""
        assert self._fusion is not None
        emitter, fused = self._emitter, self._fusion.operation
        free = slot + self._tiled.result
        places = []
        for position, (tensor, offset) in enumerate(fused.sources):
            base = emitter.resident(tensor)
            if position == self._fusion.position:
                places.append((slot, part.length))
            elif base is not None:
                places.append((base + offset + part.first, part.pitch))
            else:
                places.append((free, part.length))
                loops = ((part.lines, part.pitch, part.length),)
                with emitter.as_layer(fused.layer):
                    dram = emitter.dram[tensor] + offset + part.first
                    emitter.emit_all(loads(Memory.ACTIVATION, dram, free, loops, part.length))
                free += self._tiled.result
        tensor, offset = fused.target
        base = emitter.resident(tensor)
        if base is not None:
            return [*places, (base + offset + part.first, part.pitch)]
        return [*places, (slot if in_place(fused) else free, part.length)]

    def _follow(self, part: Part, places: list[tuple[int, int]]) -> None:
        """The fused operation on a part of the results that is complete."""
        assert self._fusion is not None
        assert self._epilogue is not None
        emitter = self._emitter
        emitter.passes(self._operation.target.tensor, places[self._fusion.position][0], part)
        with emitter.as_layer(self._fusion.operation.layer):
            if part.lines > 1:
                self._epilogue.emit_part(part, places)
            else:
                row = [Place(address, part.first) for address, _ in places]
                self._epilogue.emit(part.first, part.first + part.length, row)

    def _store(self, tile: PixelTile, first: int, outputs: int, address: int) -> None:
        target, emitter, width = self._operation.target, self._emitter, self._operation.result_bytes
        image_pitch, depth_pitch, line_pitch, pixel_pitch = target.pitches
        dram = emitter.dram[target.tensor] + target.offset + tile.depth * depth_pitch + width * first
        dram += tile.images[0] * image_pitch + tile.lines[0] * line_pitch + tile.pixels[0] * pixel_pitch
        loops = dense_loops((*tile.sizes, width * outputs), (image_pitch, line_pitch, pixel_pitch, 1))
        emitter.emit_all(stores(dram, address, loops, 1))
        emitter.wrote(target.tensor)
