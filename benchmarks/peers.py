"""The layers of a network as SCALE-Sim v3 takes them, its run of them, and its cycles beside the machine's."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import accelsim
from accelsim.machine.result import Result
from accelsim.network.graph import Convolution, Linear, Node

ROOT = Path(__file__).parents[1]
_DATAFLOWS = {"weight_stationary": "ws", "output_stationary": "os", "input_stationary": "is"}


@dataclass(frozen=True)
class Layer:
    """A convolution or a linear layer: sizes of its input with the padding, and of its output."""

    name: str
    height: int
    width: int
    kernel: tuple[int, int]
    channels: int
    outputs: int
    stride: int
    pixels: int

    @property
    def shape(self) -> tuple[object, ...]:
        """All but the name: layers that are equal in it take equally long."""
        return (self.height, self.width, self.kernel, self.channels, self.outputs, self.stride)

    def folds(self, machine: accelsim.Accelerator) -> tuple[int, int]:
        """Folds on the array, and vectors that stream through each."""
        reduction = self.kernel[0] * self.kernel[1] * self.channels
        rows, columns = machine.mac_array.rows, machine.mac_array.columns
        match machine.mac_array.dataflow:
            case "weight_stationary":
                return -(-reduction // rows) * -(-self.outputs // columns), self.pixels
            case "output_stationary":
                return -(-self.pixels // rows) * -(-self.outputs // columns), reduction
        return -(-reduction // rows) * -(-self.pixels // columns), self.outputs


@dataclass(frozen=True)
class Run:
    """SCALE-Sim's cycles of a layer, and the seconds that it took to find them."""

    layer: Layer
    seconds: float
    cycles: int


def layers_of(network: accelsim.Network) -> list[Layer]:
    """The layers that SCALE-Sim can describe: dense, of one group, without dilation, one stride for both axes."""
    return [layer for node in network.nodes for layer in _layer(network, node)]


def _layer(network: accelsim.Network, node: Node) -> Iterator[Layer]:
    out = network.values[node.name].shape
    match node:
        case Linear():
            outputs, inputs = node.weights.codes.shape
            yield Layer(node.name, 1, 1, (1, 1), inputs, outputs, 1, 1)
        case Convolution() if node.groups == 1 and not node.transposed and len(out) == 4:
            outputs, channels, *kernel = node.weights.codes.shape
            if set(node.dilation) == {1} and len(set(node.stride)) == 1:
                stride = node.stride[0]
                sizes = [(pixels - 1) * stride + taps for pixels, taps in zip(out[2:], kernel, strict=True)]
                yield Layer(node.name, *sizes, (kernel[0], kernel[1]), channels, outputs, stride, out[2] * out[3])


def distinct(layers: Iterable[Layer]) -> list[Layer]:
    """The first layer of each shape."""
    return list({layer.shape: layer for layer in reversed(list(layers))}.values())[::-1]


def scale_sim(interpreter: str, machine: accelsim.Accelerator, layers: list[Layer]) -> Iterator[Run]:
    """SCALE-Sim's run of each layer, whole, by an interpreter that can import `scalesim`."""
    buffers = machine.buffers
    given = {
        "rows": machine.mac_array.rows,
        "columns": machine.mac_array.columns,
        "dataflow": _DATAFLOWS[machine.mac_array.dataflow],
        "activation": buffers.activation.bytes,
        "weight": buffers.weight.bytes,
        "output": buffers.accumulator.bytes,
        "layers": [
            [item.name, item.height, item.width, *item.kernel, item.channels, item.outputs, item.stride]
            for item in layers
        ],
    }
    command = [interpreter, "-W", "ignore", str(ROOT / "benchmarks" / "scale_sim.py")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(given))
        process.stdin.close()
        for layer, line in zip(layers, process.stdout, strict=True):
            found = json.loads(line)
            yield Run(layer, found["seconds"], found["cycles"])
    if process.returncode:
        raise RuntimeError(f"{command[0]} ended with status {process.returncode}")


def table(runs: Iterable[Run], result: Result, machine: accelsim.Accelerator) -> Iterator[str]:
    """Line by line, SCALE-Sim's cycles, its closed form, and where the machine's cycles of the same layer went."""
    rows, columns = machine.mac_array.rows, machine.mac_array.columns
    by_name = {layer.name: layer for layer in result.layers}
    heads = (("folds", 7), ("vectors", 8), ("SCALE-Sim", 11), ("form", 10), ("busy", 10), ("fill", 8), ("stalls", 9))
    yield f"{'layer':20}" + "".join(f"{head:>{width}}" for head, width in (*heads, ("cycles", 10), ("s", 7)))
    for run in runs:
        folds, vectors = run.layer.folds(machine)
        form = folds * (vectors + 2 * rows + columns - 2) - 1
        ours = by_name[run.layer.name]
        fill = ours.stalls.get("fill", 0)
        busy = ours.cycles - sum(ours.stalls.values())
        yield (
            f"{run.layer.name:20}{folds:7,}{vectors:8,}{run.cycles:11,}{form:10,}"
            f"{busy:10,}{fill:8,}{ours.cycles - busy - fill:9,}{ours.cycles:10,}{run.seconds:7.1f}"
        )
