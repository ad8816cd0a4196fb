"""How stored answers of another engine lie in a file: operators as plain data, their inputs, the codes that it gave."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from accelsim.arithmetic.affine import Affine


def stored(path: Path, make: Callable[..., Any]) -> Iterator[tuple[Any, list[np.ndarray], np.ndarray]]:
    """Each operator, as `make` makes it of its fields, with its inputs and outputs, codes."""
    with np.load(path) as file:
        items, data = json.loads(bytes(file["specs"])), file["data"]
    for item in items:
        arrays = {name: _take(data, place) for name, place in item["arrays"].items()}
        inputs = tuple((tuple(shape), Affine(**grid)) for shape, grid in item["inputs"])
        spec = make(item["operator"], inputs, Affine(**item["output"]), item["attributes"], arrays)
        yield spec, [_take(data, place) for place in item["given"]], _take(data, item["expected"])


def quantized(path: Path) -> tuple[np.ndarray, list[tuple[Affine, np.ndarray]]]:
    """Real numbers, and their codes under several affine maps."""
    with np.load(path) as file:
        items, data = json.loads(bytes(file["quantized"])), file["data"]
        return file["real"], [(Affine(**grid), _take(data, place)) for grid, place in items]


def versions(path: Path) -> dict[str, str]:
    """What made the file."""
    with np.load(path) as file:
        return dict(json.loads(bytes(file["versions"])))


def _take(data: np.ndarray, place: list[Any]) -> np.ndarray:
    dtype, shape, start = place
    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    return data[start : start + size].view(dtype).reshape(shape)


def numbers(random: np.random.Generator) -> np.ndarray:
    """Halves of powers of two, their neighbours, numbers of every size, and those that are none."""
    halves = (random.integers(-300, 300, 400) / 2.0 + 0.5) * 2.0 ** random.integers(-6, 3, 400)
    near = np.nextafter(halves.astype(np.float32), np.float32(np.inf))
    wide = random.standard_normal(300) * 10.0 ** random.uniform(-6, 8, 300)
    return np.concatenate([halves, near, wide, [np.inf, -np.inf, np.nan, 0.0, -0.0]]).astype(np.float32)


class Writer:
    """Collects answers, and writes them as `stored`, `quantized` and `versions` read them."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._items: list[dict[str, Any]] = []

    def add(self, spec: Any, inputs: list[np.ndarray], expected: np.ndarray) -> None:
        """An operator with its inputs and outputs."""
        self._items.append(
            {
                "operator": spec.operator,
                "inputs": [[shape, asdict(grid)] for shape, grid in spec.inputs],
                "output": asdict(spec.output),
                "attributes": spec.attributes,
                "arrays": {name: self._put(array) for name, array in spec.arrays.items()},
                "given": [self._put(array) for array in inputs],
                "expected": self._put(expected),
            }
        )

    def write(
        self, path: Path, real: np.ndarray, codes: list[tuple[Affine, np.ndarray]], made_by: dict[str, str]
    ) -> None:
        """The file. `codes`: of the real numbers, under each map."""
        maps = [[asdict(grid), self._put(part)] for grid, part in codes]
        text = {"specs": self._items, "quantized": maps, "versions": made_by}
        parts = {name: np.frombuffer(json.dumps(value).encode(), np.uint8) for name, value in text.items()}
        np.savez_compressed(path, data=np.frombuffer(bytes(self._bytes), np.uint8), real=real, **parts)

    def _put(self, array: np.ndarray) -> list[Any]:
        """The bytes of an array, at a multiple of eight."""
        self._bytes.extend(bytes(-len(self._bytes) % 8))
        start = len(self._bytes)
        self._bytes.extend(np.ascontiguousarray(array).tobytes())
        return [array.dtype.str, list(array.shape), start]
