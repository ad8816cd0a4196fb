"""Instructions of vector operations, tile by tile."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from accelsim.arithmetic.vector import Statistic
from accelsim.compiler.operations import Stream, Vector
from accelsim.compiler.plan.shape import blocks
from accelsim.compiler.plan.tiled import TiledVector
from accelsim.errors import CompileError
from accelsim.isa import Memory
from accelsim.isa.instructions.vector import Element, Rows
from accelsim.isa.instructions.vector import Vector as Instruction

from .emitter import Constants, Emitter, Residents
from .transfers import loads, stores

_LENGTH, _TURNS, _PITCH = (Instruction.most(name) for name in ("length", "inner", "a_pitch"))


@dataclass(frozen=True)
class _Operand:
    """A stream's elements under a tile: the address of the first, and bytes along each of the tile's loops."""

    address: int
    strides: tuple[int, ...]


def emit_vector(emitter: Emitter, tiled: TiledVector) -> None:
    """Tile by tile, the outer loops unrolled; an operand that does not change from tile to tile is loaded once."""
    operation, tile = tiled.operation, tiled.tile
    program = 0
    if len(operation.words):
        program = Constants(emitter, Memory.PARAMETER, tiled.programs).at(0, operation.words)
    residents = [Residents(slots) for slots in tiled.slots]
    outer = [range(size) for size in operation.loops[: tile.depth]]
    for place in itertools.product(*outer):
        for first, last in blocks(operation.loops[tile.depth], tile.turns):
            at = (*place, first)
            sizes = (last - first, *operation.loops[tile.depth + 1 :])
            operands = [
                _operand(emitter, stream, resident, at, sizes, write=stream is operation.target)
                for stream, resident in zip(operation.streams, residents, strict=True)
            ]
            for fields in _instructions(operation, sizes, operands):
                emitter.emit(
                    Instruction(
                        program=program,
                        steps=len(operation.words),
                        cycles=operation.cycles,
                        statistic=operation.statistic,
                        **fields,
                    )
                )
            _finish(emitter, operation.target, at, sizes, operands[-1])


def _operand(
    emitter: Emitter, stream: Stream, residents: Residents, at: Sequence[int], sizes: Sequence[int], *, write: bool
) -> _Operand:
    """Where a tile's elements are; loaded first if they must be."""
    start, inner = _under(stream, at)
    base = emitter.resident(stream.tensor)
    if base is not None:
        return _Operand(base + start, inner)
    held = tuple(size if stride else 1 for size, stride in zip(sizes, inner, strict=True))
    near = tuple(stream.width * math.prod(held[axis + 1 :]) if stride else 0 for axis, stride in enumerate(inner))
    if write:
        return _Operand(residents.next(), near)
    address, missing = residents.get((start, held))
    if missing:
        loops = [(size, far, step) for size, far, step in zip(held, inner, near, strict=True) if far]
        dram = emitter.dram[stream.tensor] + start
        emitter.emit_all(loads(Memory.ACTIVATION, dram, address, loops, stream.width))
    return _Operand(address, near)


def _under(stream: Stream, at: Sequence[int]) -> tuple[int, tuple[int, ...]]:
    """The byte of a stream's first element under the tile that begins at so many turns, and its strides there."""
    start = stream.offset + sum(i * stride for i, stride in zip(at, stream.strides, strict=False))
    return start, stream.strides[len(at) - 1 :]


def _finish(emitter: Emitter, target: Stream, at: Sequence[int], sizes: Sequence[int], operand: _Operand) -> None:
    if emitter.resident(target.tensor) is None:
        start, inner = _under(target, at)
        loops = [(n, far, near) for n, far, near in zip(sizes, inner, operand.strides, strict=True) if far]
        dram = emitter.dram[target.tensor] + start
        emitter.emit_all(stores(dram, operand.address, loops, target.width))
    emitter.wrote(target.tensor)


def _instructions(operation: Vector, sizes: Sequence[int], operands: Sequence[_Operand]) -> Iterator[dict[str, Any]]:
    """The fields of instructions that cover the tile: two loops and a row each."""
    row = len(sizes) - 1
    if operation.statistic == Statistic.NONE:
        # The row is the longest loop whose steps an instruction can hold.
        able = [axis for axis in range(len(sizes)) if all(item.strides[axis] <= _PITCH for item in operands)]
        if not able:
            sizes, operands = (*sizes, 1), [_Operand(item.address, (*item.strides, 0)) for item in operands]
        row = max(able, key=lambda axis: (sizes[axis], axis), default=len(sizes) - 1)
    loops = [axis for axis in range(len(sizes)) if axis != row]
    loops.sort(key=lambda axis: sizes[axis])
    unrolled, (outer, inner) = loops[:-2], (-1, -1, *loops)[-2:]
    length = sizes[row]
    if length > _LENGTH and operation.statistic:
        raise CompileError(f"a row of {length:,} elements; an instruction takes {_LENGTH:,} at most")
    counts = [sizes[axis] if axis >= 0 else 1 for axis in (outer, inner)]
    cuts = [list(blocks(counts[0], _TURNS)), list(blocks(counts[1], _TURNS)), list(blocks(length, _LENGTH))]
    for place in itertools.product(*(range(sizes[axis]) for axis in unrolled)):
        for spans in itertools.product(*cuts):
            fields: dict[str, Any] = dict(
                zip(("outer", "inner", "length"), (last - first for first, last in spans), strict=True)
            )
            for name, item, stream in zip(_names(operation), operands, operation.streams, strict=True):
                address = item.address + sum(i * item.strides[axis] for i, axis in zip(place, unrolled, strict=True))
                far, near, along = (item.strides[axis] if axis >= 0 else 0 for axis in (outer, inner, row))
                address += sum(first * step for (first, _), step in zip(spans, (far, near, along), strict=True))
                rows = Rows(address, far, near, along, Element[stream.dtype.upper()])
                suffixes = ("", "_outer", "_inner", "_pitch", "_element")
                fields |= {name + suffix: value for suffix, value in zip(suffixes, rows, strict=True)}
            yield fields


def _names(operation: Vector) -> tuple[str, ...]:
    return (*"abc"[: len(operation.sources)], "out")
