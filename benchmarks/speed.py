"""How long compiling and simulating ResNet-50 take, beside PyTorch's own runs of the same network.

    python -m benchmarks.speed

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

ROOT = Path(__file__).parents[1]


def best(run: Callable[[], Any], times: int = 3) -> float:
    """Seconds of the fastest of `times` runs."""
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


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
    with torch.no_grad():
        model(x), plain(x)  # both allocate on their first run
        float32, int8 = best(lambda: plain(x), 7), best(lambda: model(x), 7)
    start = time.perf_counter()
    network = accelsim.extract(model, x)
    extract = time.perf_counter() - start
    machine = accelsim.Accelerator.from_yaml(options.configuration)
    compiled = {effort: best(lambda e=effort: accelsim.compile(network, machine, effort=e), 2) for effort in (0, 1, 2)}
    program = accelsim.compile(network, machine)
    first = best(lambda: accelsim.simulate(program), 1)
    timing = best(lambda: accelsim.simulate(program))
    codes = x.numpy()
    data = best(lambda: accelsim.simulate(program, codes))
    result = accelsim.simulate(program)
    peaks = memory(network, options.configuration.resolve(), codes)

    print(f"{options.network} for {options.engine} on {machine.name}, {torch.get_num_threads()} threads")
    print(f"{len(program.instructions):,} instructions, {result.cycles:,} cycles, utilisation {result.utilization:.1%}")
    print(f"{'extract':34}{extract:9.3f} s")
    for effort, seconds in compiled.items():
        print(f"{f'compile, effort {effort}':34}{seconds:9.3f} s")
    print(f"{'simulate, timing only, first run':34}{first:9.3f} s")
    print(f"{'simulate, timing only':34}{timing:9.3f} s   {result.cycles / timing / 1e6:.1f} million cycles a second")
    print(f"{'simulate, with data':34}{data:9.3f} s")
    print(f"{'PyTorch, float32':34}{float32:9.3f} s   with data {data / float32:6.2f} x")
    print(f"{'PyTorch, int8':34}{int8:9.3f} s   with data {data / int8:6.2f} x")
    for what, size in zip(("compile", "timing only", "with data"), peaks, strict=False):
        print(f"{f'peak memory after {what}':34}{size / 2**20:9.0f} MiB")
    print(f"{'torch loaded there':34}{'yes' if peaks[3] else 'no':>9}")


if __name__ == "__main__":
    main()
