"""How long compiling and simulating ResNet-50 take, beside PyTorch's own runs of the same network and SCALE-Sim's.

    python -m benchmarks.speed [--scale-sim INTERPRETER]

Every time is the best of a few runs in one process; the peak memory is that of a second process, which loads the
network, compiles it and runs it with data, and never sees torch.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import accelsim
from accelsim.machine.simulation import forget

from . import peers

ROOT = Path(__file__).parents[1]


def best(run: Callable[[], Any], times: int = 3) -> float:
    """Seconds of the fastest of `times` runs."""
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def interleave(*runs: Callable[[], Any], times: int = 10) -> list[float]:
    """Seconds of the fastest of some runs of each, in turn, so that what else the machine does meets all alike."""
    seconds: list[list[float]] = [[] for _ in runs]
    for _ in range(times):
        for run, taken in zip(runs, seconds, strict=True):
            taken.append(best(run, 1))
    return [min(taken) for taken in seconds]


def afresh(run: Callable[[], Any]) -> Callable[[], Any]:
    """`run` with nothing kept of the runs before it."""

    def first() -> None:
        forget()
        run()

    return first


def peak_memory() -> int:
    """Bytes that this process has had in memory at most, from Linux; ru_maxrss would count the parent's too."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("/proc/self/status has no VmHWM")


def worker(network: str, configuration: str, codes: str) -> None:
    """Load, compile, simulate with data; print the peak of memory."""
    program = accelsim.compile(accelsim.Network.load(network), accelsim.Accelerator.from_yaml(configuration))
    compiled = peak_memory()
    accelsim.simulate(program)
    timed = peak_memory()
    accelsim.simulate(program, np.load(codes))
    json.dump([compiled, timed, peak_memory(), "torch" in sys.modules], sys.stdout)


def memory(network: accelsim.Network, configuration: Path, x: np.ndarray) -> list[Any]:
    """Peaks after compile, after the run in time and after the run with data, in bytes; whether torch was loaded."""
    with tempfile.TemporaryDirectory() as directory:
        saved, codes = Path(directory) / "network.accelsim", Path(directory) / "input.npy"
        network.save(saved)
        np.save(codes, x)
        command = [sys.executable, "-m", "benchmarks.speed", "--worker", str(saved), str(configuration), str(codes)]
        return json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="resnet50")
    parser.add_argument("--configuration", type=Path, default=ROOT / "configs" / "edge_16x16.yaml")
    parser.add_argument("--engine", default="fbgemm")
    parser.add_argument("--threads", type=int, help="of PyTorch; by default one a core")
    parser.add_argument("--scale-sim", metavar="INTERPRETER", help="one that can import scalesim, to run it beside")
    parser.add_argument(
        "--layers", nargs="+", metavar="NAME", help="for SCALE-Sim; by default one of each shape, which takes long"
    )
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.worker:
        worker(*options.worker)
        return

    import torch

    from examples.quantization import float_network, fuse

    if options.threads:
        torch.set_num_threads(options.threads)
    module = importlib.import_module(f"examples.{options.network}")
    model, x = module.quantized(options.engine)
    plain, _ = float_network(*module.NETWORK)
    fuse(plain)
    start = time.perf_counter()
    network = accelsim.extract(model, x)
    extract = time.perf_counter() - start
    machine = accelsim.Accelerator.from_yaml(options.configuration)
    compiled = {effort: best(lambda e=effort: accelsim.compile(network, machine, effort=e), 2) for effort in (0, 1, 2)}
    program = accelsim.compile(network, machine)
    timing = best(afresh(lambda: accelsim.simulate(program)))
    codes = x.numpy()
    first = best(afresh(lambda: accelsim.simulate(program, codes)))
    with torch.no_grad():
        data, float32, int8, reference = interleave(
            lambda: accelsim.simulate(program, codes), lambda: plain(x), lambda: model(x), lambda: network.run(codes)
        )
    result = accelsim.simulate(program)
    peaks = memory(network, options.configuration.resolve(), codes)

    print(f"{options.network} for {options.engine} on {machine.name}, {torch.get_num_threads()} threads")
    print(f"{len(program.instructions):,} instructions, {result.cycles:,} cycles, utilisation {result.utilization:.1%}")
    print(f"{'extract':34}{extract:9.3f} s")
    for effort, seconds in compiled.items():
        print(f"{f'compile, effort {effort}':34}{seconds:9.3f} s")
    print(f"{'simulate, timing only':34}{timing:9.3f} s   {result.cycles / timing / 1e6:.1f} million cycles a second")
    print(f"{'simulate, time and first image':34}{first:9.3f} s")
    print(f"{'simulate, every further image':34}{data:9.3f} s")
    print(f"{'Network.run':34}{reference:9.3f} s   {reference / int8:.1f} x PyTorch's int8")
    for what, seconds in (("float32", float32), ("int8", int8)):
        ratios = f"first image {first / seconds:6.2f} x, further {data / seconds:6.2f} x"
        print(f"{f'PyTorch, {what}':34}{seconds:9.3f} s   {ratios}")
    for what, size in zip(("compile", "timing only", "with data"), peaks, strict=False):
        print(f"{f'peak memory after {what}':34}{size / 2**20:9.0f} MiB")
    print(f"{'torch loaded there':34}{'yes' if peaks[3] else 'no':>9}")
    if not options.scale_sim:
        print("SCALE-Sim: not run; --scale-sim names an interpreter that can import it (benchmarks/README.md)")
        return
    every = peers.layers_of(network)
    layers = [layer for layer in every if layer.name in options.layers] if options.layers else peers.distinct(every)
    runs = []
    for run in peers.scale_sim(options.scale_sim, machine, layers):
        runs.append(run)
        print(f"SCALE-Sim: {run.layer.name} {run.seconds:.1f} s", file=sys.stderr, flush=True)
    spent = sum(run.seconds for run in runs)
    print()
    print(*peers.table(runs, result, machine), sep="\n")
    print(
        f"SCALE-Sim: {spent:,.0f} s for these {len(runs)} of {len(every)} layers, {spent / timing:,.0f} x the "
        f"{timing:.2f} s of the timing of the whole network"
    )


if __name__ == "__main__":
    main()
