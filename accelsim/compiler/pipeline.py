"""From network to program: the passes in order.

lower         nodes -> operations on stored tensors (lowering.py)
place         which tensors stay in the activation buffer (residency.py)
tile, emit    operations -> instructions, each matrix operation cut as a search over costs says (tiling.py, emit_*.py)
synchronize   wait and signal fields (synchronization.py)
"""

from __future__ import annotations

from dataclasses import dataclass

from accelsim.errors import AssemblyError, CompileError
from accelsim.hardware import Accelerator
from accelsim.isa import Halt, Port, Probe, Program
from accelsim.network import Network

from .emission import Emitter
from .emit_matrix import MatrixEmitter
from .emit_post import emit_copy, emit_elementwise, emit_pool
from .forms import Form
from .lowering import lower
from .operations import Copy, Elementwise, Lowered, Matrix, Operation, Pool
from .residency import Placement, place
from .synchronization import synchronize
from .tiling import MatrixPlan, Room, choose


@dataclass(frozen=True)
class Compilation:
    """A program and what was decided on the way: for each operation its layer's name and, for a matrix, its plan."""

    program: Program
    lowered: Lowered
    placement: Placement
    plans: tuple[tuple[str, MatrixPlan | None], ...]


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
    arithmetic = accelerator.requant_unit.arithmetic
    if arithmetic.name != "float32_exact":
        raise CompileError(
            f"requant_unit.arithmetic: {arithmetic.name}: the machine runs float32_exact only; `accelsim certify` and "
            f"`accelsim compare` tell what the others do to a network"
        )
    lowered = lower(network)
    placement = place(lowered, accelerator.buffers.activation.bytes)
    emitter = Emitter(lowered, accelerator, placement)
    plans: list[tuple[str, MatrixPlan | None]] = []
    for index, operation in enumerate(lowered.operations):
        name = lowered.layers[operation.layer]
        emitter.layer = operation.layer
        emitter.staging = placement.staging[index]
        try:
            plans.append((name, _emit(emitter, name, operation, effort)))
        except AssemblyError as error:
            raise CompileError(f"{name}: does not fit the instruction set: {error}") from None
        except CompileError as error:
            text = str(error)
            raise CompileError(text if text.startswith(f"{name}: ") else f"{name}: {text}") from None
    emitter.layer = lowered.operations[-1].layer if lowered.operations else 0
    emitter.emit(Halt())
    program = Program(
        name=network.name,
        accelerator=accelerator,
        instructions=synchronize(emitter.instructions),
        layers=lowered.layers or (network.name,),
        layer_of=tuple(emitter.layer_of),
        data=tuple(emitter.image.segments),
        inputs=tuple(_port(emitter, name, lowered.forms[name]) for name in lowered.inputs),
        outputs=tuple(_port(emitter, name, lowered.forms[name]) for name in lowered.outputs),
        probes=_probes(emitter, network),
        code=emitter.image.end,
    )
    return Compilation(program, lowered, placement, tuple(plans))


def _emit(emitter: Emitter, name: str, operation: Operation, effort: int) -> MatrixPlan | None:
    match operation:
        case Matrix():
            start, stop = emitter.staging
            room = Room(
                stop - start,
                emitter.resident(operation.source.tensor) is not None,
                emitter.resident(operation.target.tensor) is not None,
                not emitter.instructions,
            )
            plan = choose(name, operation, emitter.accelerator, room, effort)
            MatrixEmitter(emitter, operation, plan).emit()
            return plan
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
        if form.tensor in emitter.written and form.is_dense():
            probes.append(Probe(_port(emitter, node.name, form), emitter.written[form.tensor]))
    return tuple(sorted(probes, key=lambda probe: probe.instruction))
