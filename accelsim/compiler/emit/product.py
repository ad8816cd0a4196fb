"""Instructions of a product of two activations, whose second operand is loaded into the weight buffer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from accelsim.compiler.operations import MatrixProduct
from accelsim.compiler.plan.shape import blocks
from accelsim.compiler.requantization import instruction
from accelsim.errors import CompileError
from accelsim.isa import Mac, Memory

from .emitter import Constants, Emitter, Slots
from .transfers import dense_loops, loads, stores

#: Rows of a tile: the pixels of one line, for a mac and for a requantisation.
_ROWS = Mac.most("out_width")


@dataclass(frozen=True)
class _Plan:
    """Rows and columns of a tile of the result, and how many tiles of it the activation buffer has room for."""

    rows: int
    columns: int
    tiles: int


def emit_product(emitter: Emitter, operation: MatrixProduct) -> None:
    """For each matrix of the batch, column block after column block, the tiles of rows. Raises CompileError."""
    arithmetic = emitter.accelerator.requant_unit.arithmetic
    if arithmetic.name != "float32_exact":
        raise CompileError(
            f"a product of two activations is requantised in float32_exact only, and this machine's requant unit has "
            f"{arithmetic}; set requant_unit.arithmetic: float32_exact"
        )
    source, weights, target = operation.source, operation.weights, operation.target
    *batch, rows, length = source.shape
    columns = target.shape[-1]
    planes = operation.rule.planes(columns)
    plan = _plan(emitter, operation, len(planes))
    row_starts, column_starts = blocks(rows, plan.rows), blocks(columns, plan.columns)
    count = len(row_starts) * len(column_starts)
    weight_slots = emitter.weight_ring.slots(length * plan.columns, len(column_starts) * int(np.prod(batch)))
    places = emitter.parameter_ring.slots(4 * len(planes) * plan.columns, len(column_starts))
    constants = Constants(emitter, Memory.PARAMETER, places)
    accumulators = emitter.accumulator_ring.slots(plan.rows * plan.columns, count)
    start, _ = emitter.staging
    a_base, target_base = emitter.resident(source.tensor), emitter.resident(target.tensor)
    a_bytes = plan.rows * length if a_base is None else 0
    step = a_bytes + (plan.rows * plan.columns if target_base is None else 0)
    bases = [start + i * step for i in range(plan.tiles)]
    a_slots, out_slots = Slots(bases), Slots([base + a_bytes for base in bases])
    a_pitch, out_pitch = source.strides[-2], target.strides[-2]
    for place in np.ndindex(*batch):
        first_a, first_b, first_out = (
            form.offset + sum(i * stride for i, stride in zip(place, form.strides, strict=False))
            for form in (source, weights, target)
        )
        for n0, n1 in column_starts:
            held = n1 - n0
            weight, missing = weight_slots.get((first_b, n0))
            pitches = _load_weights(emitter, operation, first_b, (n0, n1), weight, missing)
            for m0, m1 in row_starts:
                if a_base is None:
                    activation, missing = a_slots.get((first_a, m0))
                    pixel_pitch = length
                    if missing:
                        dram = emitter.dram[source.tensor] + first_a + m0 * a_pitch
                        loops = dense_loops((m1 - m0, length), (a_pitch, 1))
                        emitter.emit_all(loads(Memory.ACTIVATION, dram, activation, loops, 1))
                else:
                    activation, pixel_pitch = a_base + first_a + m0 * a_pitch, a_pitch
                accumulator = accumulators.next()
                for mac in _macs(operation, activation, pixel_pitch, m1 - m0):
                    emitter.emit(
                        Mac(
                            out_width=m1 - m0,
                            channels=length,
                            outputs=held,
                            weight=weight,
                            weight_pitch_k=pitches[0],
                            weight_pitch_n=pitches[1],
                            weight_zero_point=operation.zero_weights,
                            accumulator=accumulator,
                            **mac,
                        )
                    )
                parameters = constants.at(held, planes[:, :held])
                where = first_out + m0 * out_pitch + n0
                out = out_slots.next() if target_base is None else target_base + where
                emitter.emit(
                    instruction(
                        operation.rule,
                        accumulator=accumulator,
                        out=out,
                        pixel_pitch=held if target_base is None else out_pitch,
                        out_width=m1 - m0,
                        channels=held,
                        parameters=parameters,
                    )
                )
                if target_base is None:
                    loops = dense_loops((m1 - m0, held), (out_pitch, 1))
                    emitter.emit_all(stores(emitter.dram[target.tensor] + where, out, loops, 1))
                emitter.wrote(target.tensor)


def _load_weights(
    emitter: Emitter, operation: MatrixProduct, first: int, columns: tuple[int, int], address: int, missing: bool
) -> tuple[int, int]:
    """Load a block of columns, the way round in which its rows are in DRAM; returns the pitches of k and of n."""
    weights, (start, stop) = operation.weights, columns
    length, held = weights.shape[-2], stop - start
    pitch_k, pitch_n = weights.strides[-2:]
    by_column = pitch_k == 1 and pitch_n != 1
    sizes, pitches = ((held, length), (pitch_n, pitch_k)) if by_column else ((length, held), (pitch_k, pitch_n))
    if missing:
        dram = emitter.dram[weights.tensor] + first + start * pitch_n
        emitter.emit_all(loads(Memory.WEIGHT, dram, address, dense_loops(sizes, pitches), 1))
    return (1, length) if by_column else (held, 1)


def _macs(operation: MatrixProduct, activation: int, pixel_pitch: int, rows: int) -> list[dict[str, Any]]:
    """The fields in which the two passes differ: the second one takes the first operand's zero point out."""
    codes = {"activation": activation, "pixel_pitch": pixel_pitch, "width": rows}
    first: dict[str, Any] = {**codes, "signed_activation": int(operation.signed), "accumulate": 0}
    if not operation.zero_source:
        return [first]
    return [first, {"activation": 0, "height": 0, "width": 0, "pad": -operation.zero_source, "accumulate": 1}]


def _plan(emitter: Emitter, operation: MatrixProduct, planes: int) -> _Plan:
    """The widest block of columns of which two fit the weight buffer, or else one, and as many rows as fit beside it.

    Raises CompileError naming the buffer that has no room for a single row or column.
    """
    buffers = emitter.accelerator.buffers
    (*_, rows, length), columns = operation.source.shape, operation.target.shape[-1]
    words = buffers.accumulator.words
    room = emitter.staging[1] - emitter.staging[0]
    a_streamed, out_streamed = (emitter.resident(form.tensor) is None for form in (operation.source, operation.target))
    most = {
        "weight": buffers.weight.bytes // length,
        "parameter": buffers.parameter.bytes // (4 * planes) if planes else columns,
        "accumulator": words,
    }
    for memory, limit in most.items():
        if not limit:
            raise CompileError(
                f"one column of the second operand takes {max(length, 4 * planes):,} bytes of the {memory} buffer, "
                f"which has {getattr(buffers, memory).bytes:,}; enlarge buffers.{memory}.bytes"
            )
    wide = min(columns, max(most["weight"] // 2, 1), most["parameter"], max(words // 2, 1))
    array = emitter.accelerator.mac_array.columns
    wide = wide // array * array or wide

    def row_bytes(held: int) -> int:
        return (length if a_streamed else 0) + (held if out_streamed else 0)

    if row_bytes(wide) > room:
        wide = max(room - (length if a_streamed else 0), 1)
    if row_bytes(wide) > room:
        raise CompileError(
            f"one row takes {row_bytes(wide):,} bytes of the activation buffer, which has {room:,} for it: "
            f"{row_bytes(wide) - room:,} missing; enlarge buffers.activation.bytes"
        )
    tall = min(rows, max(words // wide // 2, 1), _ROWS)
    for tiles in (2, 1):
        fits = room // (tiles * row_bytes(wide)) if row_bytes(wide) else tall
        if fits:
            return _Plan(min(tall, fits), wide, tiles)
    raise AssertionError("one row fits")
