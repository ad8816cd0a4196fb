"""Instructions of element-wise work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from accelsim.arithmetic.elementwise import FixedAdd, FloatAdd, LargerCode, Product
from accelsim.compiler.operations import Elementwise, Piece, Rule, Run
from accelsim.compiler.plan.layout import Layout
from accelsim.compiler.plan.shape import blocks
from accelsim.compiler.plan.slots import Slots
from accelsim.compiler.plan.tiled import TiledElementwise
from accelsim.isa import Add, AddFixed, Instruction, Lookup, Memory, Multiply, Part
from accelsim.isa.instructions.elementwise import Maximum

from .emitter import Constants, Emitter, Residents
from .transfers import loads, stores


def emit_elementwise(emitter: Emitter, tiled: TiledElementwise) -> None:
    """Tile by tile of the elements."""
    operation, slots = tiled.operation, Residents(tiled.slots)
    work = ElementwiseEmitter(emitter, operation, tiled.tables)
    for first, last in blocks(operation.size, tiled.elements):
        places = []
        for tensor, offset in operation.sources:
            base = emitter.resident(tensor)
            if base is None:
                address = slots.next()
                dram = emitter.dram[tensor] + offset + first
                emitter.emit_all(loads(Memory.ACTIVATION, dram, address, (), last - first))
                places.append(Place(address, first))
            else:
                places.append(Place(base + offset, 0, emitter.placement.layouts.get(tensor)))
        tensor, offset = operation.target
        base = emitter.resident(tensor)
        if base is None:
            places.append(Place(slots.next(), first))
        else:
            places.append(Place(base + offset, 0, emitter.placement.layouts.get(tensor)))
        work.emit(first, last, places)


class Place(NamedTuple):
    """Where elements from number `first` on lie, dense; or those of a whole tensor as its `layout` says."""

    address: int
    first: int
    layout: Layout | None = None

    def at(self, element: int) -> int:
        """The address of an element."""
        return self.address + (element - self.first if self.layout is None else self.layout.place(element))

    def pitch(self, elements: int) -> int:
        """Bytes between rows that start so many elements apart: of a layout, whole lines, or pixels of a line."""
        return elements if self.layout is None or not elements else self.layout.place(elements)


class ElementwiseEmitter:
    """Emits one element-wise operation, part by part of its elements."""

    def __init__(self, emitter: Emitter, operation: Elementwise, tables: Slots) -> None:
        self.emitter, self.operation = emitter, operation
        self._tables = Constants(emitter, Memory.PARAMETER, tables)

    def emit(self, first: int, last: int, places: Sequence[Place]) -> None:
        """Elements first..last - 1, of operands and to a result in `places`; stored if they must be."""
        layouts = [place.layout for place in places if place.layout is not None]
        layout = min(layouts, key=lambda layout: layout.rows_of, default=None)
        for piece in self.operation.pieces:
            for rows in _clipped(piece, first, last):
                for run in [rows] if layout is None else layout.rows(rows):
                    where = [(place.at(run.start), place.pitch(run.pitch)) for place in places]
                    self._work(piece.rule, run.lines, run.length, where)
        self._store(Part(first, last - first), places[-1].at(first))

    def emit_part(self, part: Part, places: Sequence[tuple[int, int]]) -> None:
        """The elements of a part, of an operation of one piece. `places`: where that of each operand lies, and of the
        result, with the bytes from row to row; results that must be stored lie row after row."""
        (piece,) = self.operation.pieces
        lines, length = part.lines, part.length
        if all(pitch == length for _, pitch in places):
            lines, length = 1, part.size
        self._work(piece.rule, lines, length, places)
        self._store(part, places[-1][0])

    def _work(self, rule: Rule, lines: int, length: int, places: Sequence[tuple[int, int]]) -> None:
        """One instruction; `places` of the operands and of the result: address, and bytes from line to line."""
        *operands, (out, out_pitch) = places
        where: dict[str, Any] = {"lines": lines, "length": length, "out": out, "out_pitch": out_pitch}
        if isinstance(rule, int):
            ((source, pitch),) = operands
            self.emitter.emit(Lookup(source=source, source_pitch=pitch, table=self._table(rule), **where))
            return
        for name, (address, pitch), signed in zip("ab", operands, self.operation.signed, strict=True):
            where |= {name: address, f"{name}_pitch": pitch, f"signed_{name}": int(signed)}
        self.emitter.emit(_binary(rule, where))

    def _store(self, part: Part, address: int) -> None:
        emitter, (tensor, offset) = self.emitter, self.operation.target
        if emitter.resident(tensor) is None:
            loops = ((part.lines, part.pitch, part.length),)
            emitter.emit_all(stores(emitter.dram[tensor] + offset + part.first, address, loops, part.length))
        emitter.wrote(tensor)

    def _table(self, number: int) -> int:
        assert self.operation.tables is not None
        return self._tables.at(number, self.operation.tables[number])


def _binary(rule: FloatAdd | FixedAdd | Product | LargerCode, fields: dict[str, Any]) -> Instruction:
    """The instruction whose fields hold the constants of a rule."""
    if isinstance(rule, FixedAdd):
        return AddFixed(
            multiplier_a=rule.multiplier_a,
            zero_a=rule.zero_a,
            multiplier_b=rule.multiplier_b,
            zero_b=rule.zero_b,
            shift=rule.shift,
            zero_point=rule.zero_point,
            minimum=rule.minimum,
            maximum=rule.maximum,
            halves_up=int(rule.halves_up),
            **fields,
        )
    if isinstance(rule, LargerCode):
        return Maximum(smaller=int(rule.smaller), **fields)
    last = rule.requantization
    constant = last.multiplier if last.multiplier is not None else last.divisor
    factor = 1.0 if constant is None else float(constant[0])
    fields |= {"steps": last.steps, "multiplier": factor, "zero_point": last.zero_point}
    fields |= {"minimum": last.minimum, "maximum": last.maximum}
    if isinstance(rule, Product):
        return Multiply(zero_a=rule.zero_a, zero_b=rule.zero_b, **fields)
    return Add(
        subtract_a=rule.a.subtract,
        scale_a=float(rule.a.scale),
        offset_a=float(rule.a.offset),
        subtract_b=rule.b.subtract,
        scale_b=float(rule.b.scale),
        offset_b=float(rule.b.offset),
        fused=int(rule.fused),
        **fields,
    )


def _clipped(piece: Piece, first: int, last: int) -> Iterator[Run]:
    """What a piece has among the elements first..last - 1."""
    for run in piece.runs:
        if run.lines > 1 and first <= run.start and run.start + (run.lines - 1) * run.pitch + run.length <= last:
            yield run
            continue
        for line in range(run.lines):
            start = max(run.start + line * run.pitch, first)
            stop = min(run.start + line * run.pitch + run.length, last)
            if start < stop:
                yield Run(start, stop - start)
