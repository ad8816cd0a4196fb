"""The stored answers of ExecuTorch's runtime on XNNPACK: operators as plain data, their inputs, the codes that it gave.

`python tests/golden/xnnpack_store.py` asks the installed ExecuTorch again and writes `xnnpack.npz`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from xnnpack_specs import Spec, specs

from accelsim.arithmetic.affine import Affine

STORE = Path(__file__).with_name("xnnpack.npz")
_SEED = 21


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


def numbers(random: np.random.Generator) -> np.ndarray:
    """Halves of powers of two, their neighbours, numbers of every size, and those that are none."""
    halves = (random.integers(-300, 300, 400) / 2.0 + 0.5) * 2.0 ** random.integers(-6, 3, 400)
    near = np.nextafter(halves.astype(np.float32), np.float32(np.inf))
    wide = random.standard_normal(300) * 10.0 ** random.uniform(-6, 8, 300)
    return np.concatenate([halves, near, wide, [np.inf, -np.inf, np.nan, 0.0, -0.0]]).astype(np.float32)


def main() -> None:
    """Ask ExecuTorch and write the store."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "frontend" / "int8_activations"))
    import runtime
    from int8_graphs import chunks

    random, data = np.random.default_rng(_SEED), _Data()
    every = list(specs(random))
    given = [spec.random_inputs(random) for spec in every]
    items = [
        {
            "operator": spec.operator,
            "inputs": [[shape, asdict(grid)] for shape, grid in spec.inputs],
            "output": asdict(spec.output),
            "attributes": spec.attributes,
            "arrays": {name: data.put(array) for name, array in spec.arrays.items()},
            "given": [data.put(array) for array in inputs],
            "expected": data.put(expected),
        }
        for some, codes in chunks(zip(every, given, strict=True))
        for spec, inputs, expected in zip(some, codes, runtime.answers(some, codes), strict=True)
    ]
    real = numbers(random)
    grids = [Affine(float(np.float32(s)), z, "int8") for s, z in ((2.0**-4, 0), (0.25, -3), (0.1, 50), (0.037, -77))]
    maps = [[asdict(grid), data.put(codes)] for grid, codes in zip(grids, runtime.quantized(real, grids), strict=True)]
    text = {"specs": items, "quantized": maps, "versions": {name: version(name) for name in ("executorch", "torch")}}
    parts = {name: np.frombuffer(json.dumps(value).encode(), np.uint8) for name, value in text.items()}
    np.savez_compressed(STORE, data=np.frombuffer(bytes(data.bytes), np.uint8), real=real, **parts)


if __name__ == "__main__":
    main()
