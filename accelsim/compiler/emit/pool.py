"""Instructions of pools and copies: on the chip, a copy is a pool over windows of one element."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from accelsim.compiler.operations import Pool, PoolPart
from accelsim.compiler.plan.shape import blocks
from accelsim.compiler.plan.tiled import TiledCopy, TiledPool
from accelsim.isa import Instruction, Memory, Reduction
from accelsim.isa import Pool as PoolInstruction

from .emitter import Emitter, Residents
from .transfers import dense_loops, loads, stores

#: (count, source pitch, target pitch)
_Loop = tuple[int, int, int]


def emit_pool(emitter: Emitter, tiled: TiledPool) -> None:
    """Tiles of images, lines and channels; each part of the outputs is an instruction in each tile that it meets."""
    _, _, lines, _, channels = tiled.operation.target.sizes
    inputs, results = Residents(tiled.inputs), Residents(tiled.results)
    for image in range(tiled.operation.target.sizes[0]):
        for tall in blocks(lines, tiled.lines):
            for wide in blocks(channels, tiled.channels):
                _pool_tile(emitter, tiled.operation, image, tall, wide, (inputs.next(), results.next()))


def _pool_tile(
    emitter: Emitter,
    operation: Pool,
    image: int,
    lines: tuple[int, int],
    channels: tuple[int, int],
    slots: tuple[int, int],
) -> None:
    """Lines and channels of an image; `slots` of the input and of the results, where these pass through the buffer."""
    source, target = operation.source, operation.target
    held, (_, low, high) = channels[1] - channels[0], operation.lines_under(*lines)
    image_pitch, _, line_pitch, pixel_pitch = source.pitches
    at = source.offset + image * image_pitch + channels[0]
    base = emitter.resident(source.tensor)
    if base is not None:
        activation, low, high = base + at, 0, source.sizes[2]
    else:
        activation = slots[0]
        sizes = (max(high - low, 0), source.sizes[3], held)
        if min(sizes):
            loops = dense_loops(sizes, (line_pitch, pixel_pitch, 1))
            dram = emitter.dram[source.tensor] + at + low * line_pitch
            emitter.emit_all(loads(Memory.ACTIVATION, dram, activation, loops, 1))
        line_pitch, pixel_pitch = source.sizes[3] * held, held
    image_pitch, _, out_line, out_pixel = target.pitches
    where = target.offset + image * image_pitch + lines[0] * out_line + channels[0]
    base = emitter.resident(target.tensor)
    pitches, out = (out_line, out_pixel), slots[1] if base is None else base + where
    if base is None:
        pitches = target.sizes[3] * held, held
    for part in operation.parts:
        fields = _part_fields(part, lines, channels, low)
        if fields is None:
            continue
        channel, first_line, first_pixel, window = fields
        emitter.emit(
            PoolInstruction(
                activation=activation + channel,
                line_pitch=line_pitch,
                pixel_pitch=pixel_pitch,
                height=high - low,
                width=source.sizes[3],
                signed_activation=int(operation.signed),
                reduction=operation.reduction,
                out=out + first_line * pitches[0] + first_pixel * pitches[1] + channel,
                out_line_pitch=pitches[0],
                out_pixel_pitch=pitches[1],
                **window,
                **_sum_fields(operation, part),
            )
        )
    if base is None:
        loops = dense_loops((lines[1] - lines[0], target.sizes[3], held), (out_line, out_pixel, 1))
        emitter.emit_all(stores(emitter.dram[target.tensor] + where, out, loops, 1))
    emitter.wrote(target.tensor)


def _part_fields(
    part: PoolPart, lines: tuple[int, int], channels: tuple[int, int], low: int
) -> tuple[int, int, int, dict[str, Any]] | None:
    """Channel, line and pixel of a part's first output in a tile and the window's fields; None if it has none there."""
    y0, y1 = max(part.first[0], lines[0]), min(part.first[0] + part.count[0], lines[1])
    c0, c1 = max(part.channels[0], channels[0]), min(part.channels[1], channels[1])
    if y0 >= y1 or c0 >= c1:
        return None
    window = {
        "out_height": y1 - y0,
        "out_width": part.count[1],
        "kernel_height": part.kernel[0],
        "kernel_width": part.kernel[1],
        "channels": c1 - c0,
        "top": part.start[0] + (y0 - part.first[0]) * part.stride[0] - low,
        "left": part.start[1],
        "stride_y": part.stride[0],
        "stride_x": part.stride[1],
        "dilation_y": part.dilation[0],
        "dilation_x": part.dilation[1],
    }
    return c0 - channels[0], y0 - lines[0], part.first[1], window


def _sum_fields(operation: Pool, part: PoolPart) -> dict[str, Any]:
    rule = part.rule
    if operation.reduction == Reduction.MAX or rule is None:
        return {}
    factor = rule.multiplier if rule.multiplier is not None else rule.divisor
    assert factor is not None
    return {
        "subtract": part.subtract,
        "steps": rule.steps,
        "factor": float(factor[0]),
        "zero_point": rule.zero_point,
        "minimum": rule.minimum,
        "maximum": rule.maximum,
    }


def emit_copy(emitter: Emitter, tiled: TiledCopy) -> None:
    """By DMA where either side lies in DRAM; on the chip as a pool over windows of one element."""
    (source, at), (target, into) = tiled.operation.source, tiled.operation.target
    source_base, target_base = emitter.resident(source), emitter.resident(target)
    loops = list(tiled.operation.loops)
    if source_base is not None and target_base is not None:
        for instruction in _copies(source_base + at, target_base + into, loops):
            emitter.emit(instruction)
    elif source_base is not None:
        swapped = [(count, far, near) for count, near, far in loops]
        emitter.emit_all(stores(emitter.dram[target] + into, source_base + at, swapped, 1))
    elif target_base is not None:
        emitter.emit_all(loads(Memory.ACTIVATION, emitter.dram[source] + at, target_base + into, loops, 1))
    else:
        slots = Residents(tiled.slots)
        for near, far, tile in _copy_tiles(tiled):
            address = slots.next()
            sizes, nears, fars = zip(*tile, strict=True) if tile else ((), (), ())
            fetched = dense_loops(sizes, nears)
            emitter.emit_all(loads(Memory.ACTIVATION, emitter.dram[source] + at + near, address, fetched, 1))
            emitter.emit_all(stores(emitter.dram[target] + into + far, address, dense_loops(sizes, fars), 1))
    emitter.wrote(target)


def _copy_tiles(tiled: TiledCopy) -> Iterator[tuple[int, int, list[_Loop]]]:
    """For each tile its first byte in the source and in the target, and its loops (count, source and target pitch)."""
    loops = list(tiled.operation.loops)
    outer, tile = loops[: len(loops) - tiled.inner], loops[len(loops) - tiled.inner :]
    turns: list[tuple[int, int, list[_Loop]]] = [(0, 0, tile)]
    if outer:
        count, near, far = outer.pop()
        turns = [
            (first * near, first * far, [(last - first, near, far), *tile])
            for first, last in blocks(count, tiled.split)
        ]
    for indices in np.ndindex(*(count for count, _, _ in outer)):
        start = sum(i * near for i, (_, near, _) in zip(indices, outer, strict=True))
        into = sum(i * far for i, (_, _, far) in zip(indices, outer, strict=True))
        for near, far, part in turns:
            yield start + near, into + far, part


def _copies(source: int, target: int, loops: Sequence[tuple[int, int, int]]) -> Iterator[Instruction]:
    """A copy within the activation buffer: the pool's three loops and its channels, more loops unrolled."""
    loops = [loop for loop in loops if loop[0] > 1]
    channels = 1
    if loops and loops[-1][1:] == (1, 1) and loops[-1][0] < 1 << 16:
        channels = loops[-1][0]
        loops = loops[:-1]
    # (count, source pitch, target pitch) limits of pixels, lines and images, from the inside out.
    limits = ((1 << 16, 1 << 16, 1 << 16), (1 << 16, 1 << 24, 1 << 20), (1 << 12, 1 << 32, 1 << 24))
    taken: list[tuple[int, int, int]] = []
    rest = list(loops)
    for limit in limits:
        fits = rest and all(value < most for value, most in zip(rest[-1], limit, strict=True))
        taken.append(rest.pop() if fits else (1, 0, 0))
    if rest:
        count, near, far = rest[0]
        for i in range(count):
            yield from _copies(source + i * near, target + i * far, [*rest[1:], *reversed(taken), (channels, 1, 1)])
        return
    (width, pixel, out_pixel), (height, line, out_line), (images, image, out_image) = taken
    yield PoolInstruction(
        activation=source,
        image_pitch=image,
        line_pitch=line,
        pixel_pitch=pixel,
        images=images,
        out_height=height,
        out_width=width,
        channels=channels,
        height=height,
        width=width,
        reduction=Reduction.MAX,
        out=target,
        out_image_pitch=out_image,
        out_line_pitch=out_line,
        out_pixel_pitch=out_pixel,
    )
