"""Compare the machine with PyTorch, layer by layer, and say of every difference whether it is explained.

Three values of each layer are held side by side: the machine's, the integer reference's, and PyTorch's own. The machine
must equal the reference everywhere; on a machine whose requant unit has another arithmetic than the engine's, the
reference has that arithmetic too. Where PyTorch differs from both, the layer is computed again from PyTorch's own
inputs, and a difference is explained in these cases only: the machine's arithmetic gives PyTorch's code then (the
difference came in with the inputs, from a layer before); the engine's does and the machine's does not, in a channel
that has no certificate (the machine's arithmetic has changed it); the rule of the lanes of this host does (the network
stands for another kernel set); or the sum with the int16 saturation of this host's matrix kernels does, pair of
products by pair. Of a torch.export graph's averages, which it sums in float, those halfway between two codes are
explained too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from accelsim.arithmetic.engines import PT2E
from accelsim.arithmetic.saturation import may_saturate
from accelsim.compiler import compile_with_plans
from accelsim.errors import ModelError
from accelsim.hardware import Accelerator
from accelsim.hardware.configuration import Arithmetic
from accelsim.isa import Program
from accelsim.machine import Result, simulate
from accelsim.network import AveragePool, Convolution, Linear, Network, Node, rounding
from accelsim.network.saturated import owner_of, saturated
from accelsim.network.substitution import LayerUnit, layer_codes, layer_units, trace_on


@dataclass(frozen=True)
class LayerVerification:
    """One layer's comparison: `compared` outputs, of which `differing`; `differing_bits` of `8 * compared`.

    `explained` of the differing outputs have the `cause` named; the others are failures. `changed`: outputs that the
    arithmetic of the machine's requant unit makes other than the engine's, from PyTorch's inputs of the layer; `worst`:
    by how much at most.
    """

    name: str
    compared: int
    differing: int
    differing_bits: int
    explained: int
    cause: str
    changed: int = 0
    worst: int = 0

    @property
    def mismatches(self) -> int:
        """Differing outputs that nothing explains."""
        return self.differing - self.explained


@dataclass(frozen=True)
class Verification:
    """All layers. `notes` say under which conditions PyTorch ran, and what the machine's arithmetic changes.

    `arithmetic`: that of the machine's requant unit.
    """

    engine: str
    layers: tuple[LayerVerification, ...]
    notes: tuple[str, ...]
    arithmetic: str = "float32_exact"

    @property
    def compared(self) -> int:
        """Outputs compared, of all layers."""
        return sum(layer.compared for layer in self.layers)

    @property
    def mismatches(self) -> int:
        """Outputs that differ for no known reason."""
        return sum(layer.mismatches for layer in self.layers)

    @property
    def explained(self) -> int:
        """Outputs that differ for a reason that was computed."""
        return sum(layer.explained for layer in self.layers)

    @property
    def differing_bits(self) -> int:
        """Bits that differ, explained or not."""
        return sum(layer.differing_bits for layer in self.layers)

    def report(self) -> str:
        """The comparison as a table of text."""
        width = max([5, *(len(layer.name) for layer in self.layers)])
        altered = any(layer.changed for layer in self.layers)
        head = f"{'changed':>9}  {'worst':>5}  " if altered else ""
        lines = [
            f"{'layer':{width}}  {'compared':>10}  {'differing':>9}  {'bits':>6}  {'unexplained':>11}  {head}cause"
        ]
        for layer in self.layers:
            changed = f"{layer.changed:>9,}  {layer.worst:>5}  " if altered else ""
            lines.append(
                f"{layer.name:{width}}  {layer.compared:>10,}  {layer.differing:>9,}  {layer.differing_bits:>6,}"
                f"  {layer.mismatches:>11,}  {changed}{layer.cause}".rstrip()
            )
        lines.append(
            f"{self.engine}: {self.compared:,} outputs compared, {self.differing_bits:,} differing bits, "
            f"{self.mismatches:,} unexplained and {self.explained:,} explained differences"
        )
        return "\n".join([*lines, *self.notes])

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "engine": self.engine,
            "arithmetic": self.arithmetic,
            "compared": self.compared,
            "differing_bits": self.differing_bits,
            "mismatches": self.mismatches,
            "explained": self.explained,
            "layers": [{**asdict(layer), "mismatches": layer.mismatches} for layer in self.layers],
            "notes": list(self.notes),
        }


def verify(
    model: Any,
    x: Any,
    accelerator: Accelerator,
    *,
    batch: int | None = None,
    engine: str | None = None,
    lanes: str = "host",
    effort: int = 1,
    program: Program | None = None,
) -> Verification:
    """Extract, compile and simulate `model`, and compare every layer with PyTorch's own run on `x`.

    `x`: the model's input (a tuple for several), first axis the images. With `batch`, the network is recorded for that
    many images at a time and PyTorch runs so too, since which of PyTorch's lanes rounds an element depends on the
    batch; by default all of `x` is one batch. `effort`: the compiler's. `program` takes the place of the compiled one,
    to test the test. Raises the errors of `extract`, `compile` and `simulate`.
    """
    from accelsim.frontend import extract

    inputs = x if isinstance(x, tuple) else (x,)
    example = tuple(part[:batch] for part in inputs) if batch is not None else inputs
    network = extract(model, example if isinstance(x, tuple) else example[0], engine=engine, lanes=lanes)
    units = None
    if program is None:
        compilation = compile_with_plans(network, accelerator, effort=effort)
        program, units = compilation.program, compilation.units
    return compare(network, simulate(program, x, accelerator=accelerator), model, x, units)


def compare(
    network: Network, result: Result, model: Any, x: Any, units: Mapping[str, LayerUnit] | None = None
) -> Verification:
    """Compare the layers of a simulation of `network` on `x` with PyTorch's run of `model`, which it was taken from.

    `units`: those of the compilation, which spares their being found (in fixed point: proved) once more.
    """
    from accelsim.frontend import record_eager_values, record_values

    arithmetic = result.accelerator.requant_unit.arithmetic
    if arithmetic.is_exact:
        units = {}
    elif units is None:
        units = layer_units(network, arithmetic)
    machine, reference = result.values, trace_on(network, arithmetic, x, units)
    torch_values = record_values(model, x, network)
    judge = _Judge(network, _of_this_host(network, model, x), reference, torch_values, units, arithmetic.name)
    layers = [
        judge.layer(node, machine[node.name].quantized)
        for node in network.nodes
        if node.name in machine and node.name in torch_values
    ]
    notes = ["PyTorch ran with one thread; the number of threads moves the ends of its vector loops."]
    if not arithmetic.is_exact:
        notes.append(_changes(layers, units, arithmetic))
    if network.engine == PT2E:
        notes.append(_beside_eager(network, torch_values, record_eager_values(model, x, network)))
    return Verification(network.engine, tuple(layers), (*notes, *network.notes), str(arithmetic))


def _changes(layers: list[LayerVerification], units: Mapping[str, LayerUnit], arithmetic: Arithmetic) -> str:
    """What the machine's arithmetic does to the layers, each from PyTorch's inputs, in one line."""
    mine = [layer for layer in layers if layer.name in units]
    changed, outputs = sum(layer.changed for layer in mine), sum(layer.compared for layer in mine)
    line = f"{arithmetic} gives {changed:,} of the {outputs:,} outputs of convolutions and linear layers another code"
    line += f", by at most {max(layer.worst for layer in mine)}" if changed else ""
    found = [unit.certificate.certified for unit in units.values() if unit.certificate is not None]
    if not found:
        return line
    certified, channels = sum(int(item.sum()) for item in found), sum(map(len, found))
    return f"{line}; {certified:,} of {channels:,} channels have a certificate, which lets none of theirs change"


def _beside_eager(network: Network, lowered: dict[str, np.ndarray], eager: dict[str, np.ndarray]) -> str:
    """How far the run of a torch.export graph is from the kernels that it is lowered to, in one line."""
    names = [node.name for node in network.nodes if node.name in lowered]
    change = np.concatenate([np.abs(lowered[name].astype(np.int32) - eager[name]).reshape(-1) for name in names])
    differing, largest = int(np.count_nonzero(change)), int(change.max(initial=0))
    return (
        f"PyTorch's side are the kernels that the graph is lowered to. The graph itself, whose layers sum in float, "
        f"gives {differing:,} of these {change.size:,} outputs ({differing / max(change.size, 1):.2%}) another code, "
        f"by at most {largest}"
    )


def _of_this_host(network: Network, model: Any, x: Any) -> Network:
    """The network with the roundings of the kernels that PyTorch has just run."""
    from accelsim.frontend import extract, host_kernels

    if network.kernels == host_kernels(network.engine):
        return network
    batches = zip(x if isinstance(x, tuple) else (x,), network.inputs, strict=True)
    example = tuple(part[: network.values[name].shape[0]] for part, name in batches)
    try:
        return extract(model, example, engine=network.engine)
    except ModelError:  # what has no integer rule in this host's lanes explains nothing
        return network


class _Judge:
    """Says of one layer after the other what explains its differences."""

    def __init__(
        self,
        network: Network,
        host: Network,
        reference: dict[str, np.ndarray],
        torch_values: dict[str, np.ndarray],
        units: Mapping[str, LayerUnit],
        arithmetic: str,
    ) -> None:
        self._network, self._host, self._reference = network, host, reference
        self._units, self._arithmetic = units, arithmetic
        self._torch = {name: torch_values.get(name, reference[name]) for name in network.inputs}
        for node in host.nodes:
            # Where PyTorch makes no tensor of its own the value follows from those before.
            made = torch_values.get(node.name)
            self._torch[node.name] = host.apply(node.name, self._torch) if made is None else made

    def layer(self, node: Node, machine: np.ndarray) -> LayerVerification:
        """The comparison of one layer, whose outputs on the machine are `machine`."""
        name = node.name
        expected = self._torch[name]
        different = machine != expected
        count = int(np.count_nonzero(different))
        unit = self._units.get(name)
        if not count and unit is None:
            return LayerVerification(name, machine.size, 0, 0, 0, "")
        exact = here = self._network.apply(name, self._torch)
        if isinstance(node, Convolution | Linear) and unit is not None:
            here = layer_codes(self._network, node, unit.rule, self._torch).reshape(exact.shape)
        change = np.abs(here.astype(np.int32) - exact)
        changed = int(np.count_nonzero(change)), int(change.max(initial=0))
        if not count:
            return LayerVerification(name, machine.size, 0, 0, 0, "", *changed)
        bits = int(np.bitwise_count(np.bitwise_xor(machine.view(np.uint8), expected.view(np.uint8))).sum())
        unfaithful = different & (machine != self._reference[name])
        open_ = different & ~unfaithful
        causes = []
        if unfaithful.any():
            causes.append(f"{np.count_nonzero(unfaithful):,} where the machine differs from the integer reference")
        inherited = open_ & (here == expected)
        if inherited.any():
            causes.append(f"{np.count_nonzero(inherited):,} inherited from the layers before")
        open_ &= ~inherited
        altered = open_ & (exact == expected) & self._may_change(node)
        if altered.any():
            causes.append(f"{np.count_nonzero(altered):,} changed by the machine's {self._arithmetic}")
        open_ &= ~altered
        if self._host is not self._network:
            of_lanes = open_ & (self._host.apply(name, self._torch) == expected)
            if of_lanes.any():
                kernels = self._host.kernels.aten
                causes.append(f"{np.count_nonzero(of_lanes):,} rounded otherwise in PyTorch's {kernels} lanes")
            open_ &= ~of_lanes
        if isinstance(node, Convolution | Linear) and open_.any():
            saturated, pairs = self._saturated(node, open_)
            if pairs:
                causes.append(
                    f"{np.count_nonzero(saturated):,} by the int16 saturation of {pairs:,} pairs of products in "
                    f"{owner_of(self._network, node)}'s kernels on this host"
                )
            open_ &= ~saturated
        if isinstance(node, AveragePool) and self._network.engine == PT2E and open_.any():
            halves = open_ & self._halfway(node)
            if halves.any():
                causes.append(f"{np.count_nonzero(halves):,} halfway between two codes, where the graph sums in float")
            open_ &= ~halves
        if open_.any():
            causes.append(f"{np.count_nonzero(open_):,} where PyTorch's kernel differs from the exact arithmetic")
        explained = count - int(np.count_nonzero(unfaithful | open_))
        return LayerVerification(name, machine.size, count, bits, explained, "; ".join(causes), *changed)

    def _may_change(self, node: Node) -> np.ndarray:
        """Which outputs of a layer another arithmetic may change, for all that is proved; for broadcasting."""
        unit = self._units.get(node.name)
        if unit is None or unit.certificate is None:
            return np.array(unit is not None)
        free = ~unit.certificate.certified
        axes = len(self._network.values[node.name].shape)
        return free if isinstance(node, Linear) else free.reshape(-1, *(1,) * (axes - 2))

    def _halfway(self, node: AveragePool) -> np.ndarray:
        """Which averages lie halfway between two codes: of the mirrored codes they are rounded to the other one."""
        (name,) = node.inputs
        # ~q is max - q of uint8 and -1 - q of int8: an odd number less the code, so that halves change their even side.
        mirrored = ~self._network.apply(node.name, {name: ~self._torch[name]})
        return mirrored != self._network.apply(node.name, self._torch)

    def _saturated(self, node: Convolution | Linear, where: np.ndarray) -> tuple[np.ndarray, int]:
        """Which of the outputs `where` are PyTorch's codes once pairs of products saturate, and how many pairs do.

        One order of pairing must explain them; the one that explains most counts.
        """
        from accelsim.frontend import host_kernels

        explained, pairs = np.zeros_like(where), 0
        owner = owner_of(self._network, node)
        depthwise = isinstance(node, Convolution) and node.groups == rounding.output_channels(node) > 1
        if not may_saturate(owner, host_kernels(owner).matrix, depthwise=depthwise):
            return explained, pairs
        places = np.nonzero(where)
        expected = self._torch[node.name][places]
        for code, count in saturated(self._network, node, self._torch[node.inputs[0]], places):
            right = (code == expected) & (count > 0)
            if np.count_nonzero(right) > np.count_nonzero(explained):
                explained = np.zeros_like(where)
                explained[places] = right
                pairs = int(count[right].sum())
        return explained, pairs
