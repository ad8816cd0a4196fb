"""What holds of every plan, checked between its making and emission: slots lie inside their memory, none on another or
on a tensor that is there meanwhile, and each tile fits its slot. A plan that breaks it is a fault of the compiler."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from accelsim.arithmetic.vector import STEP_BYTES
from accelsim.compiler.operations import Lowered, sources_of, target_of
from accelsim.errors import InternalError
from accelsim.hardware import Accelerator

from .allocation import TABLE
from .residency import Placement
from .slots import Slots
from .tiled import Tiled, TiledCopy, TiledElementwise, TiledMatrix, TiledPool, TiledVector


class _Use(NamedTuple):
    """Bytes (of the accumulators: words) `start`..`stop` - 1 of a memory, and what lies there."""

    start: int
    stop: int
    what: str


class _Tiles(NamedTuple):
    """Slots of a memory, and the size of the largest tile that lies in one."""

    memory: str
    what: str
    slots: Slots
    needed: int


def verify(lowered: Lowered, accelerator: Accelerator, placement: Placement, tiled: Sequence[Tiled | None]) -> None:
    """Raises InternalError naming the layer, the memory and the two that meet."""
    buffers = accelerator.buffers
    sizes = {
        "activation": buffers.activation.bytes,
        "weight": buffers.weight.bytes,
        "parameter": buffers.parameter.bytes,
        "accumulator": buffers.accumulator.words,
    }
    residents = _residents(lowered, placement)
    for index, item in enumerate(tiled):
        if item is None:
            continue
        layer = lowered.layers[item.operation.layer]
        if isinstance(item, TiledMatrix) and item.interleave > len(item.accumulators):
            raise _fault(layer, "accumulator", f"{item.interleave} sums at once in {len(item.accumulators)} slots")
        fused = isinstance(item, TiledMatrix) and item.fusion is not None
        there = set(residents[index]) | set(residents[index + 1] if fused else ())
        uses: dict[str, list[_Use]] = {memory: [] for memory in sizes}
        for memory, what, slots, needed in _tiles(item):
            if needed > slots.size:
                raise _fault(layer, memory, f"{what} of {needed:,} in a slot of {slots.size:,}")
            uses[memory] += [_Use(at, at + slots.size, what) for at in slots.addresses if slots.size]
        for memory, size in sizes.items():
            kept = there if memory == "activation" else ()
            _check(layer, memory, size, uses[memory], kept)


def _check(layer: str, memory: str, size: int, uses: Iterable[_Use], kept: Iterable[_Use]) -> None:
    """Slots meet neither one another nor what is kept there; of what is kept, some may share a place."""
    end = _Use(0, 0, "")
    marked = sorted([(use, True) for use in uses] + [(use, False) for use in kept])
    latest: dict[bool, _Use] = {True: end, False: end}
    for use, slot in marked:
        if use.stop > size:
            raise _fault(layer, memory, f"{use.what} ends at {use.stop:,} of {size:,}")
        for other in (latest[True], latest[False]) if slot else (latest[True],):
            if use.start < other.stop:
                raise _fault(layer, memory, f"{use.what} from {use.start:,} on lies on {other.what}")
        latest[slot] = max(latest[slot], use, key=lambda item: item.stop)


def _fault(layer: str, memory: str, what: str) -> InternalError:
    return InternalError(f"{layer}: in the {memory} memory {what}; this is a fault of the compiler, please report it")


def _residents(lowered: Lowered, placement: Placement) -> list[list[_Use]]:
    """For each operation the resident tensors that it or one before it wrote, and that it or one after it uses.

    Raises InternalError where two of them lie on one another, and not in the very same place.
    """
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for index, operation in enumerate(lowered.operations):
        for tensor in (target_of(operation), *sources_of(operation)):
            first.setdefault(tensor, index)
            last[tensor] = index
    found: list[list[_Use]] = [[] for _ in lowered.operations]
    for tensor, address in placement.addresses.items():
        size = lowered.tensors[tensor]
        layout = placement.layouts.get(tensor)
        use = _Use(address, address + (size if layout is None else layout.size(size)), f"tensor {tensor}")
        for index in range(first[tensor], last[tensor] + 1):
            found[index].append(use)
    for index, uses in enumerate(found):
        for one, other in itertools.pairwise(sorted(uses)):
            if other.start < one.stop and other[:2] != one[:2]:
                layer = lowered.layers[lowered.operations[index].layer]
                raise _fault(layer, "activation", f"{other.what} lies on {one.what}")
    return found


def _tiles(tiled: Tiled) -> list[_Tiles]:
    match tiled:
        case TiledMatrix():
            return _of_a_matrix(tiled)
        case TiledPool(operation=pool, inputs=inputs, results=results):
            _, _, lines, pixels, channels = pool.target.sizes
            tall = min(lines, tiled.lines) * pixels * min(channels, tiled.channels)
            under = max(
                pool.lines_under(first, min(first + tiled.lines, lines)).length
                for first in range(0, lines, tiled.lines)
            )
            under *= pool.source.sizes[3] * min(channels, tiled.channels)
            return [
                _Tiles("activation", "the input of a pool", inputs, under if inputs.size else 0),
                _Tiles("activation", "results of a pool", results, tall if results.size else 0),
            ]
        case TiledElementwise(slots=slots):
            needed = min(tiled.elements, tiled.operation.size) if slots.size else 0
            tables = TABLE * (tiled.operation.tables is not None)
            return [
                _Tiles("activation", "elements", slots, needed),
                _Tiles("parameter", "a table", tiled.tables, tables),
            ]
        case TiledCopy(slots=slots):
            loops = [count for count, _, _ in tiled.operation.loops]
            inner = math.prod(loops[len(loops) - tiled.inner :]) * max(tiled.split, 1)
            return [_Tiles("activation", "copied elements", slots, inner if slots.size else 0)]

        case TiledVector(operation=vector, tile=tile):
            found = [_Tiles("parameter", "a program", tiled.programs, STEP_BYTES * len(vector.words))]
            for stream, slots in zip(vector.streams, tiled.slots, strict=True):
                needed = tile.bytes(vector, stream) if slots.size else 0
                found.append(_Tiles("activation", f"elements of {stream.tensor}", slots, needed))
            return found


def _of_a_matrix(tiled: TiledMatrix) -> list[_Tiles]:
    """Sizes counted from the tiles themselves, not from what the search thought of them."""
    operation, cut, taps = tiled.operation, tiled.plan.footprint, tiled.shape.taps
    channels = [terms.last - terms.first for terms in tiled.reduction_tiles]
    held = operation.source.sizes[4] // operation.groups if cut.whole_input else max(channels)
    if operation.groups > 1:
        held *= max(block.groups for block in tiled.channel_tiles)
    wide = max(tile.under_pixels.length for tile in tiled.pixel_tiles)
    lines = max(tile.sizes[0] * tile.under_lines.length for tile in tiled.pixel_tiles)
    positions = max(math.prod(tile.sizes) for tile in tiled.pixel_tiles)
    outputs = max(block.outputs for block in tiled.channel_tiles)
    results = positions * (operation.outputs if cut.gather else outputs) * operation.result_bytes
    results *= 1 if tiled.fusion is None else tiled.fusion.tiles
    by_output = tiled.shape.weights_by_output(tiled.plan.unroll_pixels)
    weights = max(
        (outputs if by_output else taps * (terms.last - terms.first)) * (terms.weight_pitch or outputs)
        for terms in tiled.reduction_tiles
    )
    tables = tiled.fusion is not None and tiled.fusion.operation.tables is not None
    streamed, stored = bool(tiled.inputs.size), bool(tiled.results.size)
    return [
        _Tiles("activation", "channels from pixel to pixel", Slots((), cut.pixel_pitch), held * streamed),
        _Tiles("activation", "pixels from line to line", Slots((), cut.line_pitch), wide * cut.pixel_pitch * streamed),
        _Tiles("activation", "an input tile", tiled.inputs, lines * cut.line_pitch * streamed),
        _Tiles("activation", "results", tiled.results, results * stored),
        _Tiles("weight", "weights", tiled.weights, weights),
        _Tiles("parameter", "constants", tiled.constants, 4 * len(operation.constants) * outputs),
        _Tiles("parameter", "a table", tiled.tables, TABLE * tables),
        _Tiles("accumulator", "sums from pixel to pixel", Slots((), cut.accumulator_pitch), outputs),
        _Tiles("accumulator", "sums", tiled.accumulators, positions * cut.accumulator_pitch),
    ]
