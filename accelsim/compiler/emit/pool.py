"""Instructions of pools and copies: on the chip, a copy is a pool over windows of one element."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from accelsim.compiler.operations import Copy, Pool, PoolPart
from accelsim.compiler.plan.shape import blocks
from accelsim.errors import CompileError
from accelsim.isa import Instruction, Memory, Reduction
from accelsim.isa import Pool as PoolInstruction

from .emitter import Emitter, Slots
from .transfers import dense_loops, loads, stores


def emit_pool(emitter: Emitter, operation: Pool) -> None:
    """Tiles of images, lines and channels; each part of the outputs is an instruction in each tile that it meets."""
    source, target = operation.source, operation.target
    images, depth, lines, pixels, channels = target.sizes
    if depth > 1 or source.sizes[1] > 1:
        raise CompileError("the machine pools over two axes, not over three")
    source_base, target_base = emitter.resident(source.tensor), emitter.resident(target.tensor)
    start, stop = emitter.staging
    room = stop - start
    tile_lines, tile_channels, doubled = _pool_tile(operation, room, source_base is None, target_base is None)
    source_bytes = _pool_source_bytes(operation, tile_lines) * tile_channels if source_base is None else 0
    target_bytes = tile_lines * pixels * tile_channels if target_base is None else 0
    step = source_bytes + target_bytes
    bases = [start + i * step for i in range(2 if doubled else 1)]
    source_slots, target_slots = Slots(bases), Slots([base + source_bytes for base in bases])
    for image in range(images):
        for y0, y1 in blocks(lines, tile_lines):
            for c0, c1 in blocks(channels, tile_channels):
                held = c1 - c0
                low, high = _lines_under(operation, y0, y1)
                low, high = max(low, 0), min(high, source.sizes[2])
                image_pitch, _, line_pitch, pixel_pitch = source.pitches
                at = source.offset + image * image_pitch + c0
                if source_base is not None:
                    activation, low, high = source_base + at, 0, source.sizes[2]
                else:
                    activation = source_slots.next()
                    dram = emitter.dram[source.tensor] + at + low * line_pitch
                    sizes = (max(high - low, 0), source.sizes[3], held)
                    if min(sizes):
                        loops = dense_loops(sizes, (line_pitch, pixel_pitch, 1))
                        emitter.emit_all(loads(Memory.ACTIVATION, dram, activation, loops, 1))
                    line_pitch, pixel_pitch = source.sizes[3] * held, held
                out_image, _, out_line, out_pixel = target.pitches
                where = target.offset + image * out_image + y0 * out_line + c0
                if target_base is None:
                    out, out_line, out_pixel = target_slots.next(), pixels * held, held
                else:
                    out = target_base + where
                for part in operation.parts:
                    fields = _part_fields(part, (y0, y1), (c0, c1), low)
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
                            out=out + first_line * out_line + first_pixel * out_pixel + channel,
                            out_line_pitch=out_line,
                            out_pixel_pitch=out_pixel,
                            **window,
                            **_sum_fields(operation, part),
                        )
                    )
                if target_base is None:
                    out_image, _, out_line, out_pixel = target.pitches
                    loops = dense_loops((y1 - y0, pixels, held), (out_line, out_pixel, 1))
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


def _lines_under(operation: Pool, first: int, last: int) -> tuple[int, int]:
    """Input lines, padding included, under output lines first..last - 1."""
    starts, stops = [], []
    for part in operation.parts:
        y0, y1 = max(part.first[0], first), min(part.first[0] + part.count[0], last)
        if y0 < y1:
            start = part.start[0] + (y0 - part.first[0]) * part.stride[0]
            end = part.start[0] + (y1 - 1 - part.first[0]) * part.stride[0]
            starts.append(start)
            stops.append(end + (part.kernel[0] - 1) * part.dilation[0] + 1)
    return min(starts), max(stops)


def _pool_source_bytes(operation: Pool, tile_lines: int) -> int:
    """The most bytes of one channel under a tile of so many output lines."""
    height, width = operation.source.sizes[2:4]
    spans = [_lines_under(operation, a, b) for a, b in blocks(operation.target.sizes[2], tile_lines)]
    return width * max(min(high, height) - max(low, 0) for low, high in spans)


def _pool_tile(operation: Pool, room: int, source: bool, target: bool) -> tuple[int, int, bool]:
    """Output lines and channels of a tile, and whether two of them fit."""
    lines, pixels, channels = operation.target.sizes[2:]
    wanted = max(-(-lines // 4), 1) if source or target else lines
    for doubled in (True, False):
        for held in (channels, *(-(-channels // parts) for parts in (2, 4, 8, 16, 64, 256, channels))):
            for tile in sorted({-(-lines // parts) for parts in range(1, lines + 1)}, reverse=True):
                if tile > wanted:
                    continue
                need = held * (_pool_source_bytes(operation, tile) if source else 0)
                need += held * tile * pixels if target else 0
                if need * (2 if doubled else 1) <= room:
                    return tile, held, doubled
    need = (_pool_source_bytes(operation, 1) if source else 0) + (pixels if target else 0)
    raise CompileError(
        f"one line of one channel takes {need:,} bytes of the activation buffer, which has {room:,} for it: "
        f"{need - room:,} missing; enlarge buffers.activation.bytes"
    )


def emit_copy(emitter: Emitter, operation: Copy) -> None:
    """By DMA where either side lies in DRAM; on the chip as a pool over windows of one element."""
    (source, at), (target, into) = operation.source, operation.target
    source_base, target_base = emitter.resident(source), emitter.resident(target)
    loops = list(operation.loops)
    if source_base is not None and target_base is not None:
        for instruction in _copies(source_base + at, target_base + into, loops):
            emitter.emit(instruction)
    elif source_base is not None:
        swapped = [(count, far, near) for count, near, far in loops]
        emitter.emit_all(stores(emitter.dram[target] + into, source_base + at, swapped, 1))
    elif target_base is not None:
        emitter.emit_all(loads(Memory.ACTIVATION, emitter.dram[source] + at, target_base + into, loops, 1))
    else:
        _copy_through(emitter, emitter.dram[source] + at, emitter.dram[target] + into, loops)
    emitter.wrote(target)


def _copy_through(emitter: Emitter, source: int, target: int, loops: list[tuple[int, int, int]]) -> None:
    """From DRAM to DRAM through a dense tile in the activation buffer."""
    start, stop = emitter.staging
    size = 1
    inner = len(loops)
    while inner and size * loops[inner - 1][0] <= (stop - start) // 2:
        inner -= 1
        size *= loops[inner][0]
    tile = loops[inner:]
    outer = loops[:inner]
    split = 1
    if outer:
        count, far, near = outer.pop()
        split = max((stop - start) // 2 // size, 1)
        tile = [(min(split, count), far, near), *tile]
    slots = Slots([start, start + (stop - start) // 2])
    if not stop - start:
        raise CompileError("the activation buffer has no room left to copy through; enlarge buffers.activation.bytes")

    def move(source: int, target: int, tile: list[tuple[int, int, int]]) -> None:
        address = slots.next()
        sizes = [count for count, _, _ in tile]
        emitter.emit_all(loads(Memory.ACTIVATION, source, address, dense_loops(sizes, [t[1] for t in tile]), 1))
        emitter.emit_all(stores(target, address, dense_loops(sizes, [t[2] for t in tile]), 1))

    def walk(source: int, target: int, outer: list[tuple[int, int, int]]) -> None:
        if outer:
            count, far, near = outer[0]
            for i in range(count):
                walk(source + i * far, target + i * near, outer[1:])
            return
        if inner == 0:
            move(source, target, tile)
            return
        count, far, near = loops[inner - 1]
        for first, last in blocks(count, split):
            move(source + first * far, target + first * near, [(last - first, far, near), *tile[1:]])

    walk(source, target, outer)


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
