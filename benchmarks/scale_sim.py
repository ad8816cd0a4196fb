"""SCALE-Sim's cycles and seconds for layers given as JSON; runs under any interpreter that has `scalesim`.

    PYTHON -m benchmarks.scale_sim < layers.json

Reads {"rows", "columns", "dataflow" (ws, os or is), "activation", "weight", "output" (bytes), "layers": [[name, input
height, input width (padding included), kernel height, kernel width, channels, outputs, stride]]}. Writes a line of JSON
a layer: its name, seconds, compute cycles. SCALE-Sim takes the bandwidth that it needs (so it never stalls) and writes
no traces, which is its fastest mode. Only the standard library is imported besides.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

_CONFIGURATION = """[general]
run_name = speed
[architecture_presets]
ArrayHeight = {rows}
ArrayWidth = {columns}
IfmapSramSzkB = {activation}
FilterSramSzkB = {weight}
OfmapSramSzkB = {output}
IfmapOffset = 0
FilterOffset = 10000000
OfmapOffset = 20000000
Bandwidth = {columns}
Dataflow = {dataflow}
ReadRequestBuffer = 32
WriteRequestBuffer = 32
[layout]
IfmapCustomLayout = False
IfmapSRAMBankBandwidth = {columns}
IfmapSRAMBankNum = 10
IfmapSRAMBankPort = 2
FilterCustomLayout = False
FilterSRAMBankBandwidth = {columns}
FilterSRAMBankNum = 10
FilterSRAMBankPort = 2
[sparsity]
SparsitySupport = false
SparseRep = ellpack_block
OptimizedMapping = false
BlockSize = 8
RandomNumberGeneratorSeed = 40
[run_presets]
InterfaceBandwidth = CALC
UseRamulatorTrace = False
"""

_TOPOLOGY = "Layer name,IFMAP height,IFMAP width,Filter height,Filter width,Channels,Filters,Stride,\n"


def run(machine: dict[str, Any], layer: list[Any], directory: Path) -> dict[str, Any]:
    """One layer: its name, seconds and compute cycles."""
    from scalesim.scale_sim import scalesim

    paths = [directory / name for name in ("scale.cfg", "topology.csv", "layout.csv")]
    sizes = {name: max(1, machine[name] // 1024) for name in ("activation", "weight", "output")}
    paths[0].write_text(_CONFIGURATION.format(**{**machine, **sizes}))
    row = ",".join(str(item) for item in layer) + ",\n"
    paths[1].write_text(_TOPOLOGY + row)
    paths[2].write_text("layout\n" + row)
    with contextlib.redirect_stdout(io.StringIO()):
        start = time.perf_counter()
        simulator = scalesim(
            save_disk_space=True,
            verbose=False,
            config=str(paths[0]),
            topology=str(paths[1]),
            layout=str(paths[2]),
        )
        simulator.run_scale(top_path=str(directory))
        seconds = time.perf_counter() - start
    cycles = simulator.runner.single_layer_sim_object_list[0].get_compute_report_items()[1]
    return {"name": layer[0], "seconds": seconds, "cycles": int(cycles)}


def main() -> None:
    """Run the layers of standard input."""
    machine = json.load(sys.stdin)
    for layer in machine["layers"]:
        with tempfile.TemporaryDirectory() as directory:
            print(json.dumps(run(machine, layer, Path(directory))), flush=True)


if __name__ == "__main__":
    main()
