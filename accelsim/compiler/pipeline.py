"""From network to program: the passes in order.

lower         nodes -> operations on stored tensors (lower/network.py)
lay out       which of them get gaps between pixels, if they stay on the chip (plan/layout.py)
place         which tensors stay in the activation buffer (plan/residency.py)
fuse          which element-wise operations work on the tiles of the matrix operation before them (plan/fusion.py)
tile          how each matrix operation is cut, by a search over costs (plan/tiling.py)
allocate      every tile gets its slots in the buffers (plan/allocation.py); a check of that (plan/verifier.py)
emit          tiles -> instructions (emit/*.py)
schedule      element-wise work goes up to where its operands are ready, constants are loaded ahead (schedule/)
reuse         a mac that takes the weights of the one before is told so
synchronize   wait and signal fields
time          other decisions, tried on the machine's clock where the program is small (tuning/)

What each leaves is kept in the Compilation; `dump.py` writes it down.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace

from accelsim.arithmetic.affine import quantization_of
from accelsim.compiler.emit.elementwise import emit_elementwise
from accelsim.compiler.emit.emitter import Emitter
from accelsim.compiler.emit.matrix import MatrixEmitter
from accelsim.compiler.emit.pool import emit_copy, emit_pool
from accelsim.compiler.emit.vector import emit_vector
from accelsim.compiler.emit.verifier import verify_sums
from accelsim.compiler.forms import Form
from accelsim.compiler.lower.network import lower
from accelsim.compiler.plan.allocation import allocate
from accelsim.compiler.plan.fusion import Fusion, allocation_of, fuse
from accelsim.compiler.plan.layout import layouts
from accelsim.compiler.plan.matrix import MatrixPlan
from accelsim.compiler.plan.residency import Placement, place
from accelsim.compiler.plan.tiled import Tiled, TiledCopy, TiledElementwise, TiledMatrix, TiledPool, TiledVector
from accelsim.compiler.plan.tiling import choose
from accelsim.compiler.plan.verifier import verify
from accelsim.compiler.schedule.reuse import reuse
from accelsim.compiler.schedule.scheduling import schedule
from accelsim.compiler.schedule.synchronization import synchronize
from accelsim.errors import AssemblyError, CompileError
from accelsim.hardware import Accelerator
from accelsim.isa import Halt, Instruction, Port, Probe, Program, Region
from accelsim.limits import DEFAULT, Limits
from accelsim.machine.collector import collector_at_rest
from accelsim.network import Network
from accelsim.network.costs import given_bytes
from accelsim.network.substitution import layer_units

from .operations import Lowered, Matrix, target_of
from .tuning.decisions import Compilation, Decisions
from .tuning.fastest import fastest
from .tuning.search import Build


def compile(network: Network, accelerator: Accelerator, *, effort: int = 1, limits: Limits = DEFAULT) -> Program:
    """The program that computes `network` on `accelerator`, the same one every time.

    `effort` 0, 1 or 2: how many ways to cut a layer are compared. Raises CompileError naming the layer, the memory and
    what is missing where a network cannot run, and for a program of more instructions than the `limits` allow.
    """
    return compile_with_plans(network, accelerator, effort=effort, limits=limits).program


def compile_with_plans(
    network: Network, accelerator: Accelerator, *, effort: int = 1, limits: Limits = DEFAULT
) -> Compilation:
    """As `compile`, with the decisions beside the program."""
    if effort not in (0, 1, 2):
        raise CompileError(f"effort={effort!r}: allowed are 0, 1 and 2")
    return fastest(builder(network, accelerator, effort=effort, limits=limits), accelerator, effort)


def builder(network: Network, accelerator: Accelerator, *, effort: int, limits: Limits = DEFAULT) -> Build:
    """What makes a program of decisions: every pass but the search."""
    units = layer_units(network, accelerator.requant_unit.arithmetic)
    lowered = lower(network, units, limits)
    most = limits.instructions_for(given_bytes(network))

    @collector_at_rest()
    def build(decisions: Decisions, known: set[Hashable]) -> Compilation | None:
        view = decisions.view(accelerator)
        spread = {name: layout for name, layout in layouts(lowered, view).items() if name not in decisions.dense}
        placement = place(lowered, view.buffers.activation.bytes, spread, decisions.streamed)
        fusions = fuse(lowered, placement, view, effort)
        fusions = {index: fusion for index, fusion in fusions.items() if index not in decisions.apart}
        plans = _tiled(lowered, view, placement, fusions, decisions, effort)
        # All that the passes behind go by; what they make of different ones may be equal still.
        fused = tuple((index, fusion.staging) for index, fusion in fusions.items())
        cuts = tuple(None if plan is None else plan.decided() for _, plan in plans)
        if not _new((view.buffers, placement.key, fused, cuts, decisions.gap), known):
            return None
        tiled = allocate(lowered, view, placement, fusions, plans)
        verify(lowered, view, placement, tiled)
        emitter = _emitted(lowered, view, placement, tiled, most)
        probes = _probes(emitter, network)
        order = _order(emitter, probes)
        emitted = tuple(emitter.instructions)
        instructions = tuple([emitted[number] for number in order])
        verify_sums(instructions)
        if not _new((instructions, decisions.gap), known):
            return None
        program = _program(
            network, accelerator, emitter, probes, order, instructions, emitter.image.end + decisions.gap
        )
        return Compilation(
            program=program,
            lowered=lowered,
            placement=placement,
            fusions=fusions,
            plans=plans,
            tiled=tiled,
            units=units,
            emitted=emitted,
            order=tuple(order),
            decisions=decisions,
        )

    return build


def _new(key: Hashable, known: set[Hashable]) -> bool:
    """Whether `key` was not known yet; it is from now on."""
    before = len(known)
    known.add(key)
    return len(known) > before


def _tiled(
    lowered: Lowered,
    accelerator: Accelerator,
    placement: Placement,
    fusions: Mapping[int, Fusion],
    decisions: Decisions,
    effort: int,
) -> tuple[tuple[str, MatrixPlan | None], ...]:
    """For each operation its layer's name and, for a matrix, its plan."""
    plans: list[tuple[str, MatrixPlan | None]] = []
    for index, operation in enumerate(lowered.operations):
        name = lowered.layers[operation.layer]
        plan = None
        if index in fusions:
            plan = fusions[index].plan
        elif isinstance(operation, Matrix):
            operation = placement.laid_out(operation)
            allocation = allocation_of(operation, placement, placement.staging[index], cold=not index)
            plan = decisions.plans.get((index, allocation)) or choose(name, operation, accelerator, allocation, effort)
        plans.append((name, plan))
    return tuple(plans)


def _emitted(
    lowered: Lowered,
    accelerator: Accelerator,
    placement: Placement,
    tiled: Sequence[Tiled | None],
    most_instructions: int,
) -> Emitter:
    """The instructions of every operation."""
    passing = [target_of(item.operation) for item in tiled if isinstance(item, TiledMatrix) and item.fusion is not None]
    emitter = Emitter(lowered, accelerator, placement, passing, most_instructions)
    for item in tiled:
        if item is None:
            continue
        emitter.layer = item.operation.layer
        name = lowered.layers[emitter.layer]
        try:
            _emit(emitter, item)
        except AssemblyError as error:
            raise CompileError(f"{name}: does not fit the instruction set: {error}") from None
        except CompileError as error:
            raise CompileError(f"{name}: {error}") from None
    emitter.layer = lowered.operations[-1].layer if lowered.operations else 0
    emitter.emit(Halt())
    return emitter


def _order(emitter: Emitter, probes: Sequence[Probe]) -> list[int]:
    """The numbers of the instructions in the order of the program."""
    return schedule(emitter.instructions, _seen(probes), emitter.accelerator.queues.depth)


def _seen(probes: Sequence[Probe]) -> dict[int, list[Region]]:
    """By instruction what is looked at when it has completed."""
    seen: dict[int, list[Region]] = {}
    for probe in probes:
        seen.setdefault(probe.instruction, []).append(probe.region)
    return seen


def _program(
    network: Network,
    accelerator: Accelerator,
    emitter: Emitter,
    probes: Sequence[Probe],
    order: Sequence[int],
    instructions: Sequence[Instruction],
    code: int,
) -> Program:
    """The program whose words lie at `code`."""
    lowered, probes = emitter.lowered, _moved(probes, order)
    return Program(
        name=network.name,
        accelerator=accelerator,
        instructions=synchronize(reuse(instructions), _seen(probes)),
        layers=lowered.layers or (network.name,),
        layer_of=tuple(emitter.layer_of[number] for number in order),
        data=tuple(emitter.image.segments),
        inputs=tuple(
            replace(_port(emitter, name, lowered.forms[name]), rounding=quantization_of(network.engine))
            for name in lowered.inputs
        ),
        outputs=tuple(_port(emitter, name, lowered.forms[name]) for name in lowered.outputs),
        probes=probes,
        code=code,
    )


def _emit(emitter: Emitter, tiled: Tiled) -> None:
    match tiled:
        case TiledMatrix():
            MatrixEmitter(emitter, tiled).emit()
        case TiledElementwise():
            emit_elementwise(emitter, tiled)
        case TiledPool():
            emit_pool(emitter, tiled)
        case TiledCopy():
            emit_copy(emitter, tiled)
        case TiledVector():
            emit_vector(emitter, tiled)


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
        if form.size * form.width < emitter.lowered.tensors[form.tensor]:
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
