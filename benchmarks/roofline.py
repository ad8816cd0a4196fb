"""How far simulated cycles lie from what an array of the size could do at best, and which stall is why.

    python -m benchmarks.roofline --networks resnet8 ds_cnn --sizes 8 16 --worst 5

A layer's bound is the largest of three: the cycles of its folds with ceil effects and no bubbles, the bytes that it
must move through DRAM over the bandwidth, and the elements of the post unit over its lanes.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import math
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache

import accelsim
from accelsim.compiler import Compilation, compile_with_plans
from accelsim.compiler.operations import Elementwise, Lowered, Matrix, Operation, Pool, sources_of, target_of

from .least import least_bytes

NETWORKS = ("resnet50", "mobilenet_v2", "resnet8", "ds_cnn", "autoencoder")
SIZES = (8, 16, 32, 64)
DATAFLOWS = ("weight_stationary", "output_stationary", "input_stationary")


def accelerator(size: int, dataflow: str, per_stage: int | None = None) -> accelsim.Accelerator:
    """A machine of `size` x `size` cells: buffers grow with its area, lanes, banks and bandwidth with its side. A
    register stands after every `per_stage` rows and columns, else so that there are no more stages than 16 each way."""
    area = size * size
    per_stage = per_stage or -(-size // 16)
    stages = {"rows_per_stage": per_stage, "columns_per_stage": per_stage}
    return accelsim.Accelerator.from_dict(
        {
            "name": f"{size}x{size}",
            "mac_array": {"rows": size, "columns": size, "dataflow": dataflow} | stages,
            "buffers": {
                "activation": {"bytes": 512 * area, "banks": size},
                "weight": {"bytes": 256 * area, "banks": size},
                "accumulator": {"bytes": 256 * area, "banks": size},
                "parameter": {"bytes": 1024 * size, "banks": 4 * size},
            },
            "requant_unit": {"lanes": size},
            "vector_unit": {"lanes": size},
            "dram": {"bytes_per_cycle": size},
        }
    )


@dataclass(frozen=True)
class Bound:
    """What a layer takes at least: cycles of folds and of the post unit, bytes of DRAM.

    `compulsory` bytes move once, on any tiling; `least` is the smallest number that a search over tilings and over what
    stays on the chip finds.
    """

    folds: int = 0
    post: float = 0.0
    compulsory: int = 0
    least: int = 0

    def __add__(self, other: Bound) -> Bound:
        return Bound(
            self.folds + other.folds,
            self.post + other.post,
            self.compulsory + other.compulsory,
            self.least + other.least,
        )

    def cycles(self, bytes_per_cycle: int) -> float:
        """The largest of the three."""
        return max(self.folds, self.post, self.compulsory / bytes_per_cycle)

    def why(self, bytes_per_cycle: int) -> str:
        """Which of the three it is."""
        times = {"MACs": self.folds, "post unit": self.post, "DRAM": self.compulsory / bytes_per_cycle}
        return max(times, key=lambda key: times[key])


def bounds(lowered: Lowered, machine: accelsim.Accelerator) -> list[Bound]:
    """The bound of each layer. A copy has none: a better compiler would need no copy."""
    ends = {lowered.forms[name].tensor for name in (*lowered.inputs, *lowered.outputs)}
    passing = {
        tensor for tensor, size in lowered.tensors.items() if tensor in ends or size > machine.buffers.activation.bytes
    }
    result = [Bound()] * len(lowered.layers)
    least = least_bytes(
        lowered, machine.buffers.activation.bytes, lambda operation, read: _streamed(operation, machine, read)
    )
    for operation, moved in zip(lowered.operations, least, strict=True):
        result[operation.layer] += replace(_bound(operation, lowered, passing, machine), least=moved)
    return result


def _constants(operation: Matrix) -> int:
    """Bytes of the weights and of the requantisation's constants."""
    return operation.weights.size + 4 * operation.outputs * len(operation.constants)


def _streamed(operation: Operation, machine: accelsim.Accelerator, read: int) -> int:
    """Bytes of an operation's constants, and of what its best tiling loads again."""
    if not isinstance(operation, Matrix):
        return 0
    return _constants(operation) + _reloads(operation, machine, read)


@cache
def _reloads(operation: Matrix, machine: accelsim.Accelerator, read: int) -> int:
    return least_reloads(operation, machine, read)


def _bound(operation: Operation, lowered: Lowered, passing: set[str], machine: accelsim.Accelerator) -> Bound:
    read = sum(lowered.tensors[name] for name in sources_of(operation) if name in passing)
    written = lowered.tensors[target_of(operation)] if target_of(operation) in passing else 0
    match operation:
        case Matrix():
            lanes = machine.requant_unit.lanes
            written = operation.target.size if written else 0  # a phase of a transposed convolution writes a part
            return Bound(
                fold_cycles(operation, machine),
                operation.target.size / lanes,
                read + written + _constants(operation),
            )
        case Pool():
            elements = max(operation.source.size, operation.target.size)
        case Elementwise():
            elements = operation.size
        case _:
            return Bound()
    return Bound(0, elements / machine.vector_unit.lanes, read + written)


def fold_cycles(operation: Matrix, machine: accelsim.Accelerator) -> int:
    """Cycles of the folds of a whole layer, one vector a cycle, with no cycle between folds.

    Groups are put side by side on the array, and neighbouring pixels unrolled, as many as take the fewest cycles.
    """
    rows, columns = machine.mac_array.rows, machine.mac_array.columns
    *_, pixels, _ = operation.target.sizes
    lines = operation.target.size // operation.outputs // pixels
    outputs = operation.outputs // operation.groups
    _, *taps, across, channels = operation.weights.shape
    dataflow = machine.mac_array.dataflow
    window = operation.window
    groups_in_a_fold = [*range(1, max(columns // outputs, rows // (math.prod(taps) * across * channels), 1) + 1)]
    unroll_pixels = [1]
    if window.dilation[2] == 1 and window.stride[2] <= across:
        unroll_pixels += range(2, min(pixels, columns // outputs) + 1)
    found = []
    for unroll_groups, unrolled in itertools.product(groups_in_a_fold, unroll_pixels):
        n = unroll_groups * outputs
        if unroll_groups > operation.groups or (unrolled > 1 and unrolled * n > columns):
            continue
        k = math.prod(taps) * (across + (unrolled - 1) * window.stride[2]) * channels * unroll_groups
        vectors = lines * -(-pixels // unrolled)
        if dataflow == "weight_stationary":
            cycles = -(-k // rows) * -(-n // columns) * vectors
        elif dataflow == "output_stationary":
            cycles = -(-vectors // rows) * -(-n // columns) * k
        else:
            cycles = -(-vectors // columns) * -(-k // rows) * n * unrolled
        found.append(cycles * -(-operation.groups // unroll_groups))
    return min(found)


def least_reloads(operation: Matrix, machine: accelsim.Accelerator, read: int) -> int:
    """Bytes that the best tiling of one layer loads again: of weights, and of its input if `read` bytes of it pass.

    Tried are all tiles of whole lines (or of a part of one) and of outputs, in both orders of the loops, with the whole
    of every buffer for one tile; lines that two tiles share stay where they are.
    """
    if operation.groups > 1:
        return 0  # groups share nothing: each can be done by itself
    images, depth, lines, pixels, outputs = operation.target.sizes
    _, _, in_lines, in_pixels, channels = operation.source.sizes
    buffers = machine.buffers
    words = buffers.accumulator.bytes // 4
    weights = operation.weights.size
    stride, span = operation.window.stride[1], (operation.window.kernel[1] - 1) * operation.window.dilation[1] + 1
    best = None
    for count in range(lines + 1):
        most = words // (count * pixels) if count else words  # outputs of a tile, that its accumulators fit
        for block in range(1, min(most, outputs) + 1):
            blocks = -(-outputs // block)
            width = pixels if count else min(words // block, pixels)
            tiles = images * depth * -(-lines // max(count, 1)) * -(-pixels // width)
            under = min((max(count, 1) - 1) * stride + span, in_lines) * in_pixels * channels
            # A tile's input is read for every block of outputs, a block's weights for every tile, unless one of the
            # loops can keep what it goes round with, or goes round once.
            inputs = (blocks - 1) * read
            reloads = (tiles - 1) * weights
            positions_outside = (0 if under <= buffers.activation.bytes else inputs) + (
                0 if weights <= buffers.weight.bytes else reloads
            )
            outputs_outside = (0 if read and operation.source.size <= buffers.activation.bytes else inputs) + (
                0 if weights // outputs * block <= buffers.weight.bytes else reloads
            )
            found = min(positions_outside, outputs_outside)
            best = found if best is None else min(best, found)
    return best or 0


@dataclass(frozen=True)
class Point:
    """One network on one machine."""

    result: accelsim.Result
    bounds: list[Bound]
    code: int
    seconds: float

    @property
    def width(self) -> int:
        return self.result.accelerator.dram.bytes_per_cycle

    @property
    def bound(self) -> float:
        return sum(bound.cycles(self.width) for bound in self.bounds)

    @property
    def ratio(self) -> float:
        return self.result.cycles / self.bound

    def dram(self, of: str) -> float:
        """Simulated bytes of DRAM, instructions not counted, over `compulsory` or `least`."""
        traffic = self.result.traffic["dram"]
        return (traffic.read + traffic.written - self.code) / sum(getattr(bound, of) for bound in self.bounds)


def measure(network: accelsim.Network, machine: accelsim.Accelerator, effort: int = 1) -> Point:
    """Compile and simulate in time only."""
    start = time.perf_counter()
    compilation: Compilation = compile_with_plans(network, machine, effort=effort)
    result = accelsim.simulate(compilation.program)
    code = len(compilation.program.words())
    return Point(result, bounds(compilation.lowered, machine), code, time.perf_counter() - start)


def worst_layers(point: Point, count: int) -> Iterator[str]:
    """The layers that lose the most cycles, what bounds them, and the causes that the MAC unit names."""
    pairs = list(zip(point.result.layers, point.bounds, strict=True))
    pairs.sort(key=lambda pair: pair[1].cycles(point.width) - pair[0].cycles)
    for layer, bound in pairs[:count]:
        least = bound.cycles(point.width)
        stalls = Counter(layer.stalls).most_common(3)
        yield (
            f"    {layer.name:28} {layer.cycles:>11,} cycles, bound {least:>11,.0f} ({bound.why(point.width)}), "
            f"{layer.cycles - least:>+10,.0f}: " + ", ".join(f"{cause} {cycles:,}" for cause, cycles in stalls)
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=NETWORKS)
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES)
    parser.add_argument("--dataflows", nargs="+", choices=DATAFLOWS, default=DATAFLOWS)
    parser.add_argument("--worst", type=int, default=3, help="layers to explain where the ratio is over 1.10")
    parser.add_argument("--effort", type=int, default=1)
    parser.add_argument("--per-stage", type=int, help="rows and columns between registers: 1 for one in every cell")
    parser.add_argument("--images", type=int, default=1, help="images at once: a layer's latency is paid once for all")
    options = parser.parse_args(arguments)
    print("cycles over the sum of bounds, bytes of DRAM (without the code) over the compulsory ones and over the least")
    for name in options.networks:
        model, x = importlib.import_module(f"examples.{name}").quantized("fbgemm")
        network = accelsim.extract(model, x.repeat(options.images, *[1] * (x.dim() - 1)))
        for size in options.sizes:
            points = []
            for dataflow in options.dataflows:
                try:
                    points.append(
                        (dataflow, measure(network, accelerator(size, dataflow, options.per_stage), options.effort))
                    )
                except accelsim.AccelsimError as error:
                    print(f"{name} {size}x{size} {dataflow}: {error}")
            if not points:
                continue
            best = min(points, key=lambda item: item[1].result.cycles)
            for dataflow, point in points:
                print(
                    f"{name:13} {size:2}x{size:<2} {dataflow:17} {point.result.cycles:>13,} cycles  "
                    f"ratio {point.ratio:5.2f}  utilisation {point.result.utilization:5.1%}  "
                    f"DRAM {point.dram('compulsory'):5.2f} {point.dram('least'):5.2f}  "
                    f"code {point.code / 1024:6,.0f} KiB  {point.seconds:5.1f} s"
                    f"{'  best' if point is best[1] else ''}",
                    flush=True,
                )
            if best[1].ratio > 1.10:
                print("\n".join(worst_layers(best[1], options.worst)), flush=True)


if __name__ == "__main__":
    main()
