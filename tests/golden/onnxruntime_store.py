"""The stored answers of ONNX Runtime: operators as plain data, their inputs, and the codes that it gave.

`python tests/golden/onnxruntime_store.py` asks the installed ONNX Runtime again and writes `onnxruntime.npz`.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from onnx_specs import Spec, specs

from accelsim.arithmetic.affine import Affine

STORE = Path(__file__).with_name("onnxruntime.npz")
_SEED = 20


def stored() -> Iterator[tuple[Spec, list[np.ndarray], np.ndarray]]:
    """Each operator with its inputs and outputs, codes."""
    with np.load(STORE) as file:
        items, data = json.loads(bytes(file["specs"])), file["data"]
    for item in items:
        arrays = {name: _take(data, place) for name, place in item["arrays"].items()}
        inputs = tuple((tuple(shape), Affine(**grid)) for shape, grid in item["inputs"])
        spec = Spec(item["operator"], inputs, Affine(**item["output"]), item["attributes"], arrays)
        yield spec, [_take(data, place) for place in item["given"]], _take(data, item["expected"])


def quantized() -> tuple[np.ndarray, list[tuple[Affine, np.ndarray]]]:
    """Real numbers, and their codes under several affine maps."""
    with np.load(STORE) as file:
        items, data = json.loads(bytes(file["quantized"])), file["data"]
        return file["real"], [(Affine(**grid), _take(data, place)) for grid, place in items]


def versions() -> dict[str, str]:
    """What made the store."""
    with np.load(STORE) as file:
        return dict(json.loads(bytes(file["versions"])))


def _take(data: np.ndarray, place: list[Any]) -> np.ndarray:
    dtype, shape, start = place
    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    return data[start : start + size].view(dtype).reshape(shape)


class _Data:
    """Arrays one after the other as bytes, each at a multiple of eight."""

    def __init__(self) -> None:
        self.bytes = bytearray()

    def put(self, array: np.ndarray) -> list[Any]:
        self.bytes.extend(bytes(-len(self.bytes) % 8))
        start = len(self.bytes)
        self.bytes.extend(np.ascontiguousarray(array).tobytes())
        return [array.dtype.str, list(array.shape), start]


def _numbers(random: np.random.Generator) -> np.ndarray:
    """Halves of powers of two, their neighbours, numbers of every size, and those that are none."""
    halves = (random.integers(-300, 300, 400) / 2.0 + 0.5) * 2.0 ** random.integers(-6, 3, 400)
    near = np.nextafter(halves.astype(np.float32), np.float32(np.inf))
    wide = random.standard_normal(300) * 10.0 ** random.uniform(-6, 8, 300)
    return np.concatenate([halves, near, wide, [np.inf, -np.inf, np.nan, 0.0, -0.0]]).astype(np.float32)


def main() -> None:
    """Ask ONNX Runtime and write the store."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "frontend" / "onnx_files"))
    import onnx
    import onnx_graphs as graphs
    import onnxruntime

    random, data, items, maps = np.random.default_rng(_SEED), _Data(), [], []
    path = Path(tempfile.mkdtemp()) / "one.onnx"
    for spec in specs(random):
        inputs = spec.random_inputs(random)
        expected = graphs.codes_of(spec, graphs.of_spec(spec).save(path), inputs)
        items.append(
            {
                "operator": spec.operator,
                "inputs": [[shape, asdict(grid)] for shape, grid in spec.inputs],
                "output": asdict(spec.output),
                "attributes": spec.attributes,
                "arrays": {name: data.put(array) for name, array in spec.arrays.items()},
                "given": [data.put(array) for array in inputs],
                "expected": data.put(expected),
            }
        )
    real = _numbers(random)
    for scale, zero, dtype in [(2.0**-4, 128, "uint8"), (2.0**-2, -3, "int8"), (0.1, 0, "uint8"), (0.037, 77, "int8")]:
        grid = Affine(float(np.float32(scale)), zero, dtype)  # type: ignore[arg-type]
        model = graphs.Model()
        model.output(model.quantize(model.input("x", list(real.shape)), grid), graphs.KINDS[dtype])
        maps.append([asdict(grid), data.put(graphs.answers(model.save(path), real)[0])])
    made_by = {"onnxruntime": onnxruntime.__version__, "onnx": onnx.__version__, "numpy": np.__version__}
    text = {"specs": items, "quantized": maps, "versions": made_by}
    parts = {name: np.frombuffer(json.dumps(value).encode(), np.uint8) for name, value in text.items()}
    np.savez_compressed(STORE, data=np.frombuffer(bytes(data.bytes), np.uint8), real=real, **parts)


if __name__ == "__main__":
    main()
