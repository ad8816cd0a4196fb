"""Whether the compiler's cost model orders layers as the simulated machine does.

    python -m benchmarks.cost_model --networks resnet8 --sizes 16

For every network and machine: Spearman's rank correlation between the estimated cost of the plan that was chosen for a
layer and the layer's simulated cycles, the sum of the ones over the sum of the others, and the layers furthest off.
"""

from __future__ import annotations

import argparse
import importlib
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

import accelsim
from accelsim.compiler import compile_with_plans

from .roofline import DATAFLOWS, NETWORKS, accelerator


def ranks(values: Sequence[float]) -> np.ndarray:
    """Ranks from 1, float64; equal values share the mean of theirs."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[place]


def rank_correlation(a: Sequence[float], b: Sequence[float]) -> float:
    """Spearman's: Pearson's correlation of the ranks."""
    return float(np.corrcoef(ranks(a), ranks(b))[0, 1])


def layers(network: accelsim.Network, machine: accelsim.Accelerator, effort: int) -> list[tuple[str, float, int]]:
    """(name, estimated cycles, simulated cycles) of the layers whose every operation has a plan."""
    compilation = compile_with_plans(network, machine, effort=effort)
    costs: dict[str, list[float | None]] = defaultdict(list)
    for name, plan in compilation.plans:
        costs[name].append(None if plan is None else plan.cost)
    found = []
    for layer in accelsim.simulate(compilation.program).layers:
        estimates = costs[layer.name]
        planned = [cost for cost in estimates if cost is not None]
        if planned and len(planned) == len(estimates):
            found.append((layer.name, sum(planned), layer.cycles))
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=NETWORKS)
    parser.add_argument("--sizes", nargs="+", type=int, default=(8, 16, 32))
    parser.add_argument("--dataflows", nargs="+", choices=DATAFLOWS, default=DATAFLOWS)
    parser.add_argument("--effort", type=int, default=1)
    options = parser.parse_args(arguments)
    both: list[tuple[float, int]] = []
    for name in options.networks:
        model, x = importlib.import_module(f"examples.{name}").quantized("fbgemm")
        network = accelsim.extract(model, x)
        for size in options.sizes:
            for dataflow in options.dataflows:
                try:
                    found = layers(network, accelerator(size, dataflow), options.effort)
                except accelsim.AccelsimError as error:
                    print(f"{name} {size}x{size} {dataflow}: {error}")
                    continue
                costs, cycles = [cost for _, cost, _ in found], [time for _, _, time in found]
                both += zip(costs, cycles, strict=True)
                off = sorted(found, key=lambda item: -abs(np.log(item[1] / item[2])) if item[2] else 0.0)[:2]
                print(
                    f"{name:13} {size:2}x{size:<2} {dataflow:17} {len(found):3} layers  "
                    f"rank correlation {rank_correlation(costs, cycles):6.3f}  sum {sum(costs) / sum(cycles):5.2f}  "
                    f"furthest off: " + ", ".join(f"{layer} {cost / max(time, 1):.2f}" for layer, cost, time in off),
                    flush=True,
                )
    if both:
        costs, cycles = zip(*both, strict=True)
        print(f"all {len(both)} layers: rank correlation {rank_correlation(costs, cycles):.3f}")


if __name__ == "__main__":
    main()
