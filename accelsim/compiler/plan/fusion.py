"""Pass `fuse`: an element-wise operation that follows a matrix operation works on its tiles while they are on the chip.

The matrix operation's result, which would not stay in the activation buffer, then never reaches DRAM.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from accelsim.compiler.operations import Elementwise, Lowered, Matrix, in_place, sources_of, target_of
from accelsim.hardware import Accelerator
from accelsim.machine.post.timing import vectors

from .matrix import Allocation, Epilogue, MatrixPlan
from .residency import Placement
from .shape import Shape
from .tiling import ABOUT, best


@dataclass(frozen=True)
class Fusion:
    """The element-wise `operation` that works on the tiles of a matrix operation cut by `plan`, in `staging`.

    `position`: which of its sources the tiles are. `tiles`: places of a tile's size that a tile needs.
    """

    operation: Elementwise
    position: int
    staging: tuple[int, int]
    plan: MatrixPlan
    tiles: int


def allocation_of(operation: Matrix, placement: Placement, staging: tuple[int, int], *, cold: bool) -> Allocation:
    """What a matrix operation has where it is not fused."""
    resident = operation.source.tensor in placement.addresses
    _, _, line_pitch, pixel_pitch = operation.source.pitches
    return Allocation(
        staging[1] - staging[0],
        resident,
        operation.target.tensor in placement.addresses,
        (line_pitch, pixel_pitch) if resident else None,
        cold=cold,
        out_pitch=operation.target.pitches[3],
    )


def fuse(lowered: Lowered, placement: Placement, accelerator: Accelerator, effort: int) -> Mapping[int, Fusion]:
    """The fusions by the number of their matrix operation; the element-wise operation is the next one.

    A pair is fused where its plan costs no more than the two operations one after the other.
    """
    users: dict[str, list[int]] = {}
    for index, operation in enumerate(lowered.operations):
        for tensor in {target_of(operation), *sources_of(operation)}:
            users.setdefault(tensor, []).append(index)
    ends = {lowered.forms[name].tensor for name in (*lowered.inputs, *lowered.outputs)}
    found = {}
    for index, (first, then) in enumerate(zip(lowered.operations, lowered.operations[1:], strict=False)):
        if not isinstance(first, Matrix) or not isinstance(then, Elementwise):
            continue
        tensor = first.target.tensor
        if tensor in placement.addresses or tensor in ends or users[tensor] != [index, index + 1]:
            continue
        fusion = _fusion(lowered, placement, accelerator, index, effort)
        if fusion is not None:
            found[index] = fusion
    return found


def _fusion(lowered: Lowered, placement: Placement, accelerator: Accelerator, index: int, effort: int) -> Fusion | None:
    first, then = lowered.operations[index : index + 2]
    assert isinstance(first, Matrix)
    assert isinstance(then, Elementwise)
    first = placement.laid_out(first)
    positions = [number for number, source in enumerate(then.sources) if source == (first.target.tensor, 0)]
    if first.result_bytes > 1 or len(positions) != 1 or first.target.size != lowered.tensors[first.target.tensor]:
        return None
    if then.size != first.target.size or not _dense(first) or _overwrites(lowered, placement, first, then):
        return None
    if not placement.layouts.keys().isdisjoint((then.target[0], *(tensor for tensor, _ in then.sources))):
        return None  # a tile's rows would not lie as its lines do
    if np.any(first.weight_zero_points != first.weight_zero_points[0]):
        return None  # the results of a tile would come in parts
    starts, stops = zip(*placement.staging[index : index + 2], strict=True)
    staging = (max(starts), min(stops))
    addresses = placement.addresses
    epilogue = Epilogue(
        streamed_in=sum(tensor not in addresses for tensor, _ in then.sources) - 1,
        streamed_out=int(then.target[0] not in addresses),
        in_place=in_place(then) and then.target[0] not in addresses,
        operands=len(then.sources),
        by_block=in_place(then),
        dense=not any(tensor in addresses for tensor in (then.target[0], *(tensor for tensor, _ in then.sources))),
    )
    shape = Shape.of(first, accelerator)
    plain = best(shape, accelerator, allocation_of(first, placement, placement.staging[index], cold=not index), effort)
    allocation = replace(allocation_of(first, placement, staging, cold=not index), epilogue=epilogue)
    plan = best(shape, accelerator, allocation, effort)
    if plan is None or parameter_bytes(shape, plan, then) > accelerator.buffers.parameter.bytes:
        return None
    if plain is not None:
        moved = (1 + epilogue.streamed_in + epilogue.streamed_out) * then.size
        worked = vectors(1, then.size, epilogue.operands, accelerator).stream
        apart = plain.cost + max(moved / accelerator.dram_bytes_per_cycle, worked)
        # Of about equal costs the fewer bytes of DRAM, as among plans.
        if plan.cost > (ABOUT if plan.dram <= plain.dram + moved else 1 / ABOUT) * apart:
            return None
    return Fusion(then, positions[0], staging, plan, epilogue.tiles)


def parameter_bytes(shape: Shape, plan: MatrixPlan, then: Elementwise) -> int:
    """Bytes of the constants of all blocks and of the tables, which are used in turn."""
    tables = 0 if then.tables is None else then.tables.size
    return 4 * shape.planes * plan.outputs * shape.output_blocks(plan.outputs, plan.groups) + tables


def _dense(operation: Matrix) -> bool:
    """Whether the results lie one after the other, channels first, then pixels, lines, depths and images."""
    _, depth, lines, pixels, outputs = operation.target.sizes
    steps = (depth * lines * pixels * outputs, lines * pixels * outputs, pixels * outputs, outputs)
    sizes = operation.target.sizes[:4]
    pairs = zip(sizes, operation.target.pitches, steps, strict=True)
    return operation.target.offset == 0 and all(size == 1 or pitch == step for size, pitch, step in pairs)


def _overwrites(lowered: Lowered, placement: Placement, first: Matrix, then: Elementwise) -> bool:
    """Whether the element-wise result was given a place in which the matrix operation's input still lies."""
    addresses = placement.addresses
    source, target = first.source.tensor, then.target[0]
    if source not in addresses or target not in addresses:
        return False
    size = lowered.tensors[source]
    if source in placement.layouts:
        size = placement.layouts[source].size(size)
    start = addresses[target]
    return addresses[source] < start + lowered.tensors[target] and start < addresses[source] + size
