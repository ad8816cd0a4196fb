"""Tiles of pools, of element-wise work and of copies, as large as there is room for twice; and the room that an
operation wants of the activation buffer before anything else may stay there."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import NamedTuple, TypeVar

from accelsim.compiler.operations import Copy, Elementwise, Matrix, Operation, Pool, Stream, Vector
from accelsim.errors import CompileError
from accelsim.isa import INSTRUCTION_BYTES, Lookup

from .layout import Layout
from .shape import blocks, most_under

#: Output positions of a tile that keep an array busy while the weights of the next fold come in.
_POSITIONS = 64

#: Elements of a tile of element-wise work or of a copy for which other tensors leave room.
_ELEMENTS = 1024

#: Tiles of element-wise work: about so many, so that loads, work and stores overlap, none smaller than the instructions
#: that it takes (two loads, the work, a store), which come through the same DRAM.
_PIECES, _SMALLEST = 8, 4 * INSTRUCTION_BYTES

#: Tiles of a pool down its lines, for the same reason.
_POOL_TILES = 4

_Tile = TypeVar("_Tile")


def room_wanted(operation: Operation, streamed: Collection[str]) -> int:
    """Bytes for two tiles of a line or so of each operand that is `streamed` through the buffer."""
    match operation:
        case Matrix():
            sizes, (_, _, lines, pixels, outputs) = operation.source.sizes, operation.target.sizes
            tall, wide = min(lines, -(-_POSITIONS // pixels)), pixels if lines > 1 else min(pixels, _POSITIONS)
            under = most_under(operation.window, 1, lines, tall, sizes[2])
            under *= most_under(operation.window, 2, pixels, wide, sizes[3]) * sizes[4]
            inputs, results = under * (operation.source.tensor in streamed), wide * outputs * operation.result_bytes
            return 2 * (inputs + results * (operation.target.tensor in streamed))
        case Pool():
            _, _, _, pixels, channels = operation.target.sizes
            inputs = lines_under(operation, 1) * operation.source.sizes[3] * (operation.source.tensor in streamed)
            return 2 * channels * (inputs + pixels * (operation.target.tensor in streamed))
        case Elementwise():
            operands = [tensor for tensor, _ in (*operation.sources, operation.target)]
            return 2 * min(operation.size, _ELEMENTS) * sum(tensor in streamed for tensor in operands)
        case Copy():
            both = operation.source[0] in streamed and operation.target[0] in streamed
            return min(operation.size, _ELEMENTS) if both else 0
        case Vector():
            row = operation.loops[-1] if operation.statistic else min(operation.loops[-1], _ELEMENTS)
            cut = VectorTile(len(operation.loops) - 1, row)
            return 2 * sum(cut.bytes(operation, s) for s in operation.streams if s.tensor in streamed)


def lines_under(operation: Pool, lines: int) -> int:
    """The most input lines under a tile of so many output lines."""
    return max(operation.lines_under(*tile).length for tile in blocks(operation.target.sizes[2], lines))


def _largest(tiles: Iterable[_Tile], size: Callable[[_Tile], int], room: int) -> tuple[_Tile, int] | None:
    """The first of the tiles, larger ones before smaller ones, of which two have room, or else one; and how many."""
    tiles = list(tiles)
    for count, tile in itertools.product((2, 1), tiles):
        if count * size(tile) <= room:
            return tile, count
    return None


class PoolTile(NamedTuple):
    """Output `lines` of so many `channels`, the bytes of the input under them and of the results that pass through the
    buffer, and how many `slots` there is room for."""

    lines: int
    channels: int
    input: int
    result: int
    slots: int


def pool_tile(operation: Pool, room: int, *, source: bool, target: bool) -> PoolTile:
    """The tile of a pool; `source`, `target`: what is streamed. Raises CompileError where not one line has room."""
    _, _, lines, pixels, channels = operation.target.sizes
    width = operation.source.sizes[3]

    def sizes(tile: tuple[int, int]) -> tuple[int, int]:
        held, tall = tile
        return held * width * lines_under(operation, tall) * source, held * tall * pixels * target

    most = max(-(-lines // _POOL_TILES), 1) if source or target else lines
    heights = sorted({-(-lines // parts) for parts in range(1, lines + 1)}, reverse=True)
    widths = (-(-channels // parts) for parts in (1, 2, 4, 8, 16, 64, 256, channels))
    tiles = itertools.product(widths, [tall for tall in heights if tall <= most])
    found = _largest(tiles, lambda tile: sum(sizes(tile)), room)
    if found is None:
        need = sum(sizes((1, 1)))
        raise CompileError(
            f"one line of one channel takes {need:,} bytes of the activation buffer, which has {room:,} for it: "
            f"{need - room:,} missing; enlarge buffers.activation.bytes"
        )
    tile, count = found
    held, tall = tile
    return PoolTile(tall, held, *sizes(tile), count)


def elementwise_tile(operation: Elementwise, room: int, streamed: int, layouts: Sequence[Layout]) -> int:
    """Elements of a tile; `streamed` operands pass through the buffer, others lie as `layouts` say: in whole lines.

    Raises CompileError where not one element of each has room.
    """
    size = max(-(-operation.size // _PIECES), _SMALLEST)
    if streamed:
        if streamed > room:
            raise CompileError(f"no room for an element of each operand in the activation buffer ({room} bytes)")
        size = min(size, max(room // streamed // 2, 1))
    for layout in layouts:
        if size > layout.line:
            size -= size % layout.line
    return min(size, Lookup.most("length"))


class CopyTile(NamedTuple):
    """The last `inner` loops of a copy are a tile, with `split` turns of the one around them (0: there is none)."""

    inner: int
    split: int


def copy_tile(operation: Copy, room: int) -> CopyTile:
    """The tile of a copy from DRAM to DRAM, half the room. Raises CompileError where there is none."""
    if not room:
        raise CompileError("the activation buffer has no room left to copy through; enlarge buffers.activation.bytes")
    size, inner, loops = 1, 0, operation.loops
    while inner < len(loops) and size * loops[-1 - inner][0] <= room // 2:
        size *= loops[-1 - inner][0]
        inner += 1
    return CopyTile(inner, max(room // 2 // size, 1) if inner < len(loops) else 0)


class VectorTile(NamedTuple):
    """`turns` of loop number `depth` of a vector operation, and all of the loops inside of that."""

    depth: int
    turns: int

    def sizes(self, operation: Vector, stream: Stream) -> tuple[int, ...]:
        """Elements along the tile's loops that a tile holds of a stream: one along a loop that repeats them."""
        loops = (self.turns, *operation.loops[self.depth + 1 :])
        return tuple(n if stride else 1 for n, stride in zip(loops, stream.strides[self.depth :], strict=True))

    def bytes(self, operation: Vector, stream: Stream) -> int:
        """Bytes of a stream's elements under a tile."""
        return stream.width * math.prod(self.sizes(operation, stream))


def vector_tile(operation: Vector, room: int, streamed: Sequence[Stream]) -> tuple[VectorTile, int]:
    """The largest tile of which two have room for what is `streamed`, or else one; and how many. A row of a statistic
    is not cut. Raises CompileError where the smallest one has no room."""
    loops = operation.loops
    whole = VectorTile(0, loops[0])
    if not streamed:
        return whole, 1
    cut = loops[:-1] if operation.statistic else loops
    tiles = [VectorTile(depth, -(-total // parts)) for depth, total in enumerate(cut) for parts in _parts(total)]
    if operation.statistic:
        tiles.append(VectorTile(len(loops) - 1, loops[-1]))

    def size(tile: VectorTile) -> int:
        return sum(tile.bytes(operation, stream) for stream in streamed)

    # Some tiles, so that loads, work and stores overlap, none smaller than the instructions that it takes.
    most = max(size(whole) // _PIECES, 4 * _SMALLEST)
    small = [tile for tile in tiles if size(tile) <= most]
    found = _largest(small, size, room) or _largest(tiles, size, room)
    if found is None:
        least = min(map(size, tiles))
        raise CompileError(
            f"its smallest tile takes {least:,} bytes of the activation buffer, which has {room:,} for it: "
            f"{least - room:,} missing; enlarge buffers.activation.bytes"
        )
    return found


def _parts(total: int) -> list[int]:
    """Into how many pieces a loop is cut: 1, 2, 3, 4, 6, 8, ... and single turns."""
    parts = [1, 2, 3]
    while parts[-1] < total:
        parts.append(parts[-2] * 2)
    return sorted({min(part, total) for part in parts})
