"""Compare the machine with PyTorch, layer by layer, and say of every difference whether it is explained.

Three values of each layer are held side by side: the machine's, the integer reference's, and PyTorch's own. The machine
must equal the reference everywhere. Where PyTorch differs from both, the layer is computed again from PyTorch's own
inputs: if that gives PyTorch's codes, the difference came in with the inputs, from a layer before; if it does not, only
an effect of the host that can be computed (int16 saturation of its matrix kernels) explains it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from accelsim.compiler import compile
from accelsim.hardware import Accelerator
from accelsim.isa import Program
from accelsim.machine import Result, simulate
from accelsim.network import Network


@dataclass(frozen=True)
class LayerVerification:
    """One layer's comparison: `compared` outputs, of which `differing`; `differing_bits` of `8 * compared`.

    `explained` of the differing outputs have the `cause` named; the others are failures.
    """

    name: str
    compared: int
    differing: int
    differing_bits: int
    explained: int
    cause: str

    @property
    def mismatches(self) -> int:
        """Differing outputs that nothing explains."""
        return self.differing - self.explained


@dataclass(frozen=True)
class Verification:
    """All layers. `notes` say under which conditions PyTorch ran."""

    engine: str
    layers: tuple[LayerVerification, ...]
    notes: tuple[str, ...]

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
        lines = [f"{'layer':{width}}  {'compared':>10}  {'differing':>9}  {'bits':>6}  {'unexplained':>11}  cause"]
        for layer in self.layers:
            lines.append(
                f"{layer.name:{width}}  {layer.compared:>10,}  {layer.differing:>9,}  {layer.differing_bits:>6,}"
                f"  {layer.mismatches:>11,}  {layer.cause}".rstrip()
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
    program: Program | None = None,
) -> Verification:
    """Extract, compile and simulate `model`, and compare every layer with PyTorch's own run on `x`.

    `x`: the model's input (a tuple for several), first axis the images. With `batch`, the network is recorded for that
    many images at a time and PyTorch runs so too, since which of PyTorch's lanes rounds an element depends on the
    batch; by default all of `x` is one batch. `program` takes the place of the compiled one, to test the test.
    Raises the errors of `extract`, `compile` and `simulate`.
    """
    from accelsim.frontend import extract

    inputs = x if isinstance(x, tuple) else (x,)
    example = tuple(part[:batch] for part in inputs) if batch is not None else inputs
    network = extract(model, example if isinstance(x, tuple) else example[0], engine=engine, lanes=lanes)
    if program is None:
        program = compile(network, accelerator)
    return compare(network, simulate(program, x, accelerator=accelerator), model, x)


def compare(network: Network, result: Result, model: Any, x: Any) -> Verification:
    """Compare the layers of a simulation of `network` on `x` with PyTorch's run of `model`, which it was taken from."""
    from accelsim.frontend import record_values

    machine = result.values
    torch_values = record_values(model, x, network)
    reference = network.trace(x)
    layers = []
    for node in network.nodes:
        if node.name in machine and node.name in torch_values:
            layers.append(_compare(network, node.name, machine[node.name].quantized, reference, torch_values))
    notes = ["PyTorch ran with one thread; the number of threads moves the ends of its vector loops."]
    return Verification(network.engine, tuple(layers), (*notes, *network.notes))


def _compare(
    network: Network,
    name: str,
    machine: np.ndarray,
    reference: dict[str, np.ndarray],
    torch_values: dict[str, np.ndarray],
) -> LayerVerification:
    expected = torch_values[name]
    different = machine != expected
    count = int(np.count_nonzero(different))
    bits = int(np.bitwise_count(np.bitwise_xor(machine.view(np.uint8), expected.view(np.uint8))).sum())
    if not count:
        return LayerVerification(name, machine.size, 0, 0, 0, "")
    unfaithful = different & (machine != reference[name])
    local = network.apply(name, torch_values)
    unexplained = unfaithful | (different & (local != expected))
    explained = count - int(np.count_nonzero(unexplained))
    cause = "machine differs from the integer reference" if unfaithful.any() else "inherited from the layers before"
    if not unfaithful.any() and explained < count:
        cause = "PyTorch's kernel differs from the exact arithmetic"
    return LayerVerification(name, machine.size, count, bits, explained, cause)
