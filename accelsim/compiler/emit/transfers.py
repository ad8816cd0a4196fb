"""Rows of bytes between DRAM and a scratchpad as load and store instructions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from accelsim.isa import Load, Memory, Store

#: (count, DRAM pitch, scratchpad pitch)
Loop = tuple[int, int, int]

_LENGTH, _COUNT = Load.most("length"), Load.most("count_1")


def loads(memory: Memory, dram: int, address: int, loops: Sequence[Loop], length: int) -> Iterator[Load]:
    """`length` bytes, repeated by `loops` (outermost first), from DRAM into a scratchpad."""
    for fields in _transfers(dram, address, loops, length):
        yield Load(memory=memory, **fields)


def stores(dram: int, address: int, loops: Sequence[Loop], length: int) -> Iterator[Store]:
    """`length` bytes, repeated by `loops` (outermost first), from the activation buffer into DRAM."""
    for fields in _transfers(dram, address, loops, length):
        yield Store(**fields)


def dense_loops(sizes: Sequence[int], pitches: Sequence[int]) -> list[Loop]:
    """Loops over axes of `sizes` with those DRAM pitches into a dense tile; the last axis is one of single bytes."""
    return [
        (size, pitch, math.prod(sizes[axis + 1 :]))
        for axis, (size, pitch) in enumerate(zip(sizes, pitches, strict=True))
    ]


def _transfers(dram: int, address: int, loops: Sequence[Loop], length: int) -> Iterator[dict[str, Any]]:
    merged, length = _merged(loops, length)
    if length > _LENGTH:
        merged.append((length // _LENGTH, _LENGTH, _LENGTH))
        rest = length % _LENGTH
        if rest:
            done = length - rest
            yield from _transfers(dram + done, address + done, merged[:-1], rest)
        length = _LENGTH
    if len(merged) > 3 or any(count > _COUNT for count, _, _ in merged):
        # The outermost loop is unrolled, or cut where it counts too far.
        count, far, near = merged[0]
        step = _COUNT if count > _COUNT and len(merged) <= 3 else 1
        for done in range(0, count, step):
            head = [(min(step, count - done), far, near)] if step > 1 else []
            yield from _transfers(dram + done * far, address + done * near, [*head, *merged[1:]], length)
        return
    fields: dict[str, Any] = {"dram": dram, "address": address, "length": length}
    for number, (count, far, near) in enumerate(reversed(merged), 1):
        fields |= {f"count_{number}": count, f"dram_pitch_{number}": far, f"pitch_{number}": near}
    yield fields


def _merged(loops: Sequence[Loop], length: int) -> tuple[list[Loop], int]:
    """Loops that walk on where the row ends are part of the row; neighbours that one loop can stand for are one."""
    merged: list[Loop] = []
    for count, far, near in reversed(loops):
        if count == 1:
            continue
        if not merged and far == near == length:
            length *= count
        elif merged and (far, near) == (merged[-1][0] * merged[-1][1], merged[-1][0] * merged[-1][2]):
            merged[-1] = (merged[-1][0] * count, merged[-1][1], merged[-1][2])
        else:
            merged.append((count, far, near))
    return merged[::-1], length
