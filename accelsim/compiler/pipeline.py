"""From network to program: the passes in order.

lower         nodes -> operations on stored tensors (lowering.py)
lay out       which of them get gaps between pixels, if they stay on the chip (layout.py)
place         which tensors stay in the activation buffer (residency.py)
fuse          which element-wise operations work on the tiles of the matrix operation before them (fusion.py)
tile, emit    operations -> instructions, each matrix operation cut as a search over costs says (tiling.py, emit_*.py)
schedule      element-wise work goes up to where its operands are ready (scheduling.py)
synchronize   wait and signal fields (synchronization.py)

What each leaves is kept in the Compilation; `dump.py` writes it down.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from accelsim.errors import AssemblyError, CompileError
from accelsim.hardware import Accelerator
from accelsim.isa import Halt, Instruction, Port, Probe, Program, Region
from accelsim.network import Network
from accelsim.network.substitution import LayerUnit, layer_units

from .cost import MatrixPlan
from .emission import Emitter
from .emit_matrix import MatrixEmitter
from .emit_post import emit_copy, emit_elementwise, emit_pool
from .emit_product import emit_product
from .forms import Form
from .fusion import Fusion, fuse, room_of
from .layout import layouts
from .lowering import lower
from .operations import Copy, Elementwise, Lowered, Matrix, MatrixProduct, Operation, Pool, target_of
from .residency import Placement, place
from .scheduling import schedule
from .synchronization import synchronize
from .tiling import choose


@dataclass(frozen=True)
class Compilation:
    """A program and what every pass left on the way: the operations, where their tensors live, and the instructions
    before they were synchronised.

    `plans`: for each operation its layer's name and, for a matrix, its plan; `fusions`: by the number of their matrix
    operation. `units`: how each layer of sums is requantised, with the certificate where that is in fixed point.
    `order`: the numbers in `emitted` of the program's instructions.
    """

    program: Program
    lowered: Lowered
    placement: Placement
    fusions: Mapping[int, Fusion]
    plans: tuple[tuple[str, MatrixPlan | None], ...]
    units: Mapping[str, LayerUnit]
    emitted: tuple[Instruction, ...]
    order: tuple[int, ...]

    def fused_layer(self, index: int) -> str | None:
        """The layer that works on the tiles of operation `index`."""
        fusion = self.fusions.get(index)
        return None if fusion is None else self.lowered.layers[fusion.operation.layer]


def compile(network: Network, accelerator: Accelerator, *, effort: int = 1) -> Program:
    """The program that computes `network` on `accelerator`, the same one every time.

    `effort` 0, 1 or 2: how many ways to cut a layer are compared. Raises CompileError naming the layer, the memory and
    what is missing where a network cannot run.
    """
    return compile_with_plans(network, accelerator, effort=effort).program


def compile_with_plans(network: Network, accelerator: Accelerator, *, effort: int = 1) -> Compilation:
    """As `compile`, with the decisions beside the program."""
    if effort not in (0, 1, 2):
        raise CompileError(f"effort={effort!r}: allowed are 0, 1 and 2")
    units = layer_units(network, accelerator.requant_unit.arithmetic)
    lowered = lower(network, units)
    placement = place(lowered, accelerator.buffers.activation.bytes, layouts(lowered, accelerator))
    fusions = fuse(lowered, placement, accelerator, effort)
    passing = [target_of(lowered.operations[index]) for index in fusions]
    emitter = Emitter(lowered, accelerator, placement, passing)
    plans: list[tuple[str, MatrixPlan | None]] = []
    for index, operation in enumerate(lowered.operations):
        name = lowered.layers[operation.layer]
        emitter.layer = operation.layer
        fusion = fusions.get(index)
        emitter.staging = placement.staging[index] if fusion is None else fusion.staging
        try:
            plans.append((name, None if index - 1 in fusions else _emit(emitter, name, operation, fusion, effort)))
        except AssemblyError as error:
            raise CompileError(f"{name}: does not fit the instruction set: {error}") from None
        except CompileError as error:
            text = str(error)
            raise CompileError(text if text.startswith(f"{name}: ") else f"{name}: {text}") from None
    emitter.layer = lowered.operations[-1].layer if lowered.operations else 0
    emitter.emit(Halt())
    probes = _probes(emitter, network)
    seen: dict[int, list[Region]] = {}
    for probe in probes:
        seen.setdefault(probe.instruction, []).append(probe.region)
    order = schedule(emitter.instructions, seen)
    program = Program(
        name=network.name,
        accelerator=accelerator,
        instructions=synchronize([emitter.instructions[number] for number in order]),
        layers=lowered.layers or (network.name,),
        layer_of=tuple(emitter.layer_of[number] for number in order),
        data=tuple(emitter.image.segments),
        inputs=tuple(_port(emitter, name, lowered.forms[name]) for name in lowered.inputs),
        outputs=tuple(_port(emitter, name, lowered.forms[name]) for name in lowered.outputs),
        probes=_moved(probes, order),
        code=emitter.image.end,
    )
    return Compilation(
        program, lowered, placement, fusions, tuple(plans), units, tuple(emitter.instructions), tuple(order)
    )


def _emit(emitter: Emitter, name: str, operation: Operation, fusion: Fusion | None, effort: int) -> MatrixPlan | None:
    match operation:
        case Matrix():
            operation = emitter.placement.laid_out(operation)
            room = room_of(operation, emitter.placement, emitter.staging, cold=not emitter.instructions)
            plan = choose(name, operation, emitter.accelerator, room, effort) if fusion is None else fusion.plan
            MatrixEmitter(emitter, operation, plan, fusion).emit()
            return plan
        case MatrixProduct():
            emit_product(emitter, operation)
        case Elementwise():
            emit_elementwise(emitter, operation)
        case Pool():
            emit_pool(emitter, operation)
        case Copy():
            emit_copy(emitter, operation)
    return None


def _port(emitter: Emitter, name: str, form: Form) -> Port:
    memory, base = emitter.home(form.tensor)
    stored, axes = form.stored()
    return Port(name, base + form.offset, form.shape, stored, axes, emitter.lowered.affine[name], memory)


def _probes(emitter: Emitter, network: Network) -> tuple[Probe, ...]:
    """The values that lie somewhere whole and dense, each readable once its last instruction has completed."""
    probes = []
    for node in network.nodes:
        form = emitter.lowered.forms[node.name]
        if not form.is_dense():
            continue
        if form.tensor in emitter.written:
            port = _port(emitter, node.name, form)
            layout = emitter.placement.layouts.get(form.tensor)
            if layout is not None:
                pitches = layout.pitches(form.sizes, form.strides, form.offset)
                if pitches is None:
                    continue
                port = replace(
                    port,
                    address=port.address - form.offset + layout.place(form.offset),
                    pitches=tuple(sorted(pitches, reverse=True)),
                )
            probes.append(Probe(port, emitter.written[form.tensor]))
        if math.prod(form.sizes) < emitter.lowered.tensors[form.tensor]:
            continue  # a tensor that passes is seen as a whole
        for passed in emitter.passed.get(form.tensor, ()):
            port = replace(_port(emitter, node.name, form), address=passed.address)
            probes.append(Probe(port, passed.instruction, passed.part))
    return tuple(probes)


def _moved(probes: Sequence[Probe], order: Sequence[int]) -> tuple[Probe, ...]:
    """The probes in the order of the program."""
    place = {number: position for position, number in enumerate(order)}
    moved = [replace(probe, instruction=place[probe.instruction]) for probe in probes]
    return tuple(sorted(moved, key=lambda probe: probe.instruction))
