"""The whole way, on handwritten digits: train, quantise for each engine, extract, compile, simulate, compare, sweep.

    python -m examples.demo

Exit status 1 if one bit of one layer differs from PyTorch's.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

import accelsim
from accelsim.cli.output import progress, write_tables
from accelsim.report.plots import save, utilization_figure
from accelsim.report.sweep_plots import sweep_figure
from accelsim.report.sweep_tables import sweep_table
from accelsim.report.tables import cycle_table, percent, plain_table, run_summary, traffic_table
from accelsim.sweep import Sweep, run_sweep
from accelsim.verification import Verification, compare

# torch is imported by what needs it: the sweep's processes import this module, and they do without.

ROOT = Path(__file__).parents[1]
CONFIGURATION = ROOT / "configs" / "edge_16x16.yaml"
RESULTS = ROOT / "results"
SWEEP = ("mac_array.rows=4,8,16,32", "mac_array.columns=4,8,16,32")


@dataclass(frozen=True)
class Run:
    """One engine: accuracy of PyTorch's quantised network and of the machine, and the comparison of their layers."""

    engine: str
    quantized_accuracy: float
    simulated_accuracy: float
    network: accelsim.Network
    result: accelsim.Result
    verification: Verification


def run_engine(engine: str, images: int | None = None) -> Run:
    """Quantise for `engine`, and run the first `images` of the test set (all by default) on PyTorch and the machine."""
    import torch

    from examples import digits

    x, labels = (part[:images] for part in digits.test_set())
    model, example = digits.quantized(engine)
    with torch.no_grad():
        scores = model(x)
    network = accelsim.extract(model, example, engine=engine)
    accelerator = accelsim.Accelerator.from_yaml(CONFIGURATION)
    result = accelsim.simulate(accelsim.compile(network, accelerator), x)
    return Run(
        engine,
        digits.accuracy(scores, labels),
        digits.accuracy(torch.from_numpy(result.outputs[0].dequantize()), labels),
        network,
        result,
        compare(network, result, model, x),
    )


def float_accuracy() -> float:
    """Accuracy of the network before it is quantised, on the test set. The first call trains it."""
    import torch

    from examples import digits

    images, labels = digits.test_set()
    with torch.no_grad():
        return digits.accuracy(digits.trained()(images), labels)


def accuracy_table(before: float, runs: Iterable[Run]) -> Table:
    """A row an engine: accuracies, and how much of all layers differs."""
    columns = ("engine", "float", "quantised\nPyTorch", "quantised\nsimulated", "outputs compared\nin all layers")
    table = plain_table(
        "Accuracy on images that training has not seen", (*columns, "differing\nbits", "cycles\nan image")
    )
    for run in runs:
        table.add_row(
            run.engine,
            percent(before),
            percent(run.quantized_accuracy),
            percent(run.simulated_accuracy),
            f"{run.verification.compared:,}",
            f"{run.verification.differing_bits:,}",
            f"{run.result.cycles:,}",
            style="red" if run.verification.differing_bits else "",
        )
    return table


def layer_table(runs: list[Run]) -> Table:
    """A row a layer: for each engine how many outputs were compared, and the bits that differ."""
    columns = [f"{run.engine}\n{what}" for run in runs for what in ("outputs", "differing bits")]
    table = plain_table("Every layer beside PyTorch's own", ("layer", *columns))
    found = [{layer.name: layer for layer in run.verification.layers} for run in runs]
    for name in dict.fromkeys(name for layers in found for name in layers):
        cells = []
        for layers in found:
            layer = layers.get(name)
            cells += [f"{layer.compared:,}", f"{layer.differing_bits:,}"] if layer else ["-", "-"]
        table.add_row(name, *cells)
    return table


def sweep_arrays(network: accelsim.Network) -> Sweep:
    """The network on arrays of 16 sizes."""
    accelerator = accelsim.Accelerator.from_yaml(CONFIGURATION)
    with progress("sweep") as on_progress:
        return run_sweep(network, accelerator, SWEEP, store=RESULTS / "digits_sweep.sqlite", on_progress=on_progress)


def main() -> int:
    """Run it all; the exit status."""
    from examples import digits

    with progress("train"):
        before = float_accuracy()
    runs = []
    with progress("engines") as advance:
        for engine in digits.ENGINES:
            advance(len(runs), len(digits.ENGINES))
            runs.append(run_engine(engine))
    write_tables(accuracy_table(before, runs), layer_table(runs))
    shown = next(run for run in runs if run.engine == "x86")  # PyTorch's default
    write_tables(run_summary(shown.result), cycle_table(shown.result), traffic_table(shown.result))
    pictures = save(utilization_figure(shown.result), RESULTS / "digits_utilization.png")
    write_tables(f"utilisation: {_listed(pictures)}", "")
    sweep = sweep_arrays(shown.network)
    pictures = save(sweep_figure(sweep), RESULTS / "digits_sweep.png")
    write_tables(sweep_table(sweep), f"heat map: {_listed(pictures)}", "")
    differing = sum(run.verification.differing_bits for run in runs)
    compared = sum(run.verification.compared for run in runs)
    verdict = "equal to PyTorch in every bit" if not differing else "NOT equal to PyTorch"
    write_tables(f"{compared:,} outputs of four engines compared, {differing:,} differing bits: {verdict}")
    return 1 if differing else 0


def _listed(paths: Iterable[Path]) -> str:
    return ", ".join(os.path.relpath(path) for path in paths)


if __name__ == "__main__":
    # AMX kernels round otherwise (docs/integer_arithmetic.md); oneDNN reads this when torch first asks it for a kernel.
    os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_VNNI")
    sys.exit(main())
