"""The stored answers of ONNX Runtime: operators as plain data, their inputs, and the codes that it gave.

`python tests/golden/onnxruntime_store.py` asks the installed ONNX Runtime again and writes `onnxruntime.npz`.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

import storing
from onnx_specs import specs

from accelsim.arithmetic.affine import Affine

STORE = Path(__file__).with_name("onnxruntime.npz")
_SEED = 20


def main() -> None:
    """Ask ONNX Runtime and write the store."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "frontend" / "onnx_files"))
    import onnx
    import onnx_graphs as graphs
    import onnxruntime

    random, writer, maps = np.random.default_rng(_SEED), storing.Writer(), []
    path = Path(tempfile.mkdtemp()) / "one.onnx"
    for spec in specs(random):
        inputs = spec.random_inputs(random)
        writer.add(spec, inputs, graphs.codes_of(spec, graphs.of_spec(spec).save(path), inputs))
    real = storing.numbers(random)
    for scale, zero, dtype in [(2.0**-4, 128, "uint8"), (2.0**-2, -3, "int8"), (0.1, 0, "uint8"), (0.037, 77, "int8")]:
        grid = Affine(float(np.float32(scale)), zero, dtype)  # type: ignore[arg-type]
        model = graphs.Model()
        model.output(model.quantize(model.input("x", list(real.shape)), grid), graphs.KINDS[dtype])
        maps.append((grid, graphs.answers(model.save(path), real)[0]))
    made_by = {"onnxruntime": onnxruntime.__version__, "onnx": onnx.__version__, "numpy": np.__version__}
    writer.write(STORE, real, maps, made_by)


if __name__ == "__main__":
    main()
