"""Functions of one 8-bit code as tables that PyTorch itself fills in, with the elements for which each table holds.

Every code is sent through the recorded operators at every place of a tensor of the recorded layout. Places that answer
alike for all 256 codes share a table: so the vector body and the scalar tail of a kernel are told apart wherever they
differ, and only there.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch

from accelsim.arithmetic.affine import Affine
from accelsim.arithmetic.engines import PT2E

from .layouts import copy_of

Spans = tuple[tuple[int, int, int], ...]
DTYPES = {"uint8": torch.quint8, "int8": torch.qint8}
STORAGE = {"uint8": torch.uint8, "int8": torch.int8}

#: Vector bodies repeat with a period that divides this; longer dense tensors are tried at this length and their rest.
_PERIOD = 4096


class Number(NamedTuple):
    """Stands among a step's arguments for a tensor of no axes, whose operator wants a tensor and no number."""

    value: float
    dtype: torch.dtype


class Here(NamedTuple):
    """Stands among a step's arguments for a tensor: 0 the source, k the result of step k - 1 of the program."""

    index: int = 0  # type: ignore[assignment]  # the tuple method of that name is not needed


@dataclass(frozen=True)
class Step:
    """One operator call: `operator` such as "aten.relu.default"; the arguments hold `Here` where tensors go.

    `in_place`: the recorded operator is its twin that writes into its first operand, and gives it its dtype.
    """

    operator: str
    args: tuple[Any, ...]
    kwargs: tuple[tuple[str, Any], ...] = ()
    in_place: bool = False

    def __call__(self, tensors: Sequence[torch.Tensor]) -> torch.Tensor:
        """The operator's result, the first of several."""
        namespace, name, overload = self.operator.split(".")
        function = getattr(getattr(getattr(torch.ops, namespace), name + "_" * self.in_place), overload)

        def filled(arg: Any) -> Any:
            if isinstance(arg, Here):
                return tensors[arg.index]
            if isinstance(arg, Number):
                return torch.tensor(arg.value, dtype=arg.dtype)
            return [filled(item) for item in arg] if isinstance(arg, tuple) else arg

        args = list(map(filled, self.args))
        if self.in_place:
            args[0] = copy_of(args[0])  # what is tried is tried once more
        result = function(*args, **{name: filled(value) for name, value in self.kwargs})
        return result if isinstance(result, torch.Tensor) else result[0]

    def shifted(self, indices: Sequence[int]) -> Step:
        """The same step with result `i` of its program found at `indices[i]`."""

        def moved(arg: Any) -> Any:
            if isinstance(arg, Here):
                return Here(indices[arg.index])
            return arg if isinstance(arg, Number) or not isinstance(arg, tuple) else tuple(map(moved, arg))

        kwargs = tuple((name, moved(value)) for name, value in self.kwargs)
        return Step(self.operator, tuple(map(moved, self.args)), kwargs, self.in_place)


Program = tuple[Step, ...]


def joined(first: Program, second: Program) -> tuple[Program, list[int]]:
    """Two programs over the same source as one; where the results of the second are in it."""
    steps, indices = list(first), [0]
    for step in second:
        moved = step.shifted(indices)
        if moved not in steps:
            steps.append(moved)
        indices.append(steps.index(moved) + 1)
    return tuple(steps), indices


@dataclass(frozen=True)
class Layout:
    """Sizes and strides (in elements) of the tensor that goes in, and the axes of the result by memory order."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    order: tuple[int, ...]

    @property
    def count(self) -> int:
        """Number of elements."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def dense(self) -> bool:
        """No gaps and no overlaps, and the result lies in the same order."""
        expected = 1
        for axis in reversed(self.order):
            if self.shape[axis] != 1 and self.stride[axis] != expected:
                return False
            expected *= self.shape[axis]
        return True


@dataclass(frozen=True)
class Tables:
    """`tables` (T, 256) uint8 bit patterns; `spans` (start, stop, table) over the result's elements in memory order."""

    tables: np.ndarray
    spans: Spans


@lru_cache(maxsize=1024)
def probe(steps: Program, source: Affine, layout: Layout, engine: str) -> Tables:
    """The function that `steps` make of a tensor of that affine map and layout.

    `engine` must be the engine in force; with the arguments it names the result, which is kept.
    """
    assert engine in (torch.backends.quantized.engine, PT2E)
    count = layout.count
    if not layout.dense or count <= 2 * _PERIOD:
        return _group(_answers(steps, source, layout), count)
    shortened = _PERIOD + count % _PERIOD
    result = _group(_answers(steps, source, Layout((shortened,), (1,), (0,))), shortened)
    if result.spans[0][1] < _PERIOD:  # pragma: no cover (no such kernel is known)
        return _group(_answers(steps, source, layout), count)
    first, *rest = result.spans
    moved = [(start + count - shortened, stop + count - shortened, table) for start, stop, table in rest]
    return Tables(result.tables, ((first[0], first[1] + count - shortened, first[2]), *moved))


@lru_cache(maxsize=256)
def probe_layout(steps: Program, source: Affine, layout: Layout, engine: str) -> Tables:
    """As `probe`, for operators whose lanes start again in each row: the whole tensor is tried."""
    assert engine in (torch.backends.quantized.engine, PT2E)
    return _group(_answers(steps, source, layout), layout.count)


def probe_body(steps: Program, source: Affine, count: int, engine: str) -> Tables:
    """The one table of the vector body, for `count` elements."""
    body = probe(steps, source, Layout((_PERIOD,), (1,), (0,)), engine)
    return Tables(body.tables[body.spans[0][2]][None], ((0, count, 0),))


def constant(code: int, affine: Affine, shape: Iterable[int], stride: Iterable[int] | None = None) -> torch.Tensor:
    """A quantised tensor that holds the bit pattern `code` everywhere."""
    shape = tuple(shape)
    value = int(np.array(code, np.uint8).view(affine.dtype))
    if stride is None:
        codes = torch.full(shape, value, dtype=STORAGE[affine.dtype])
        return torch._make_per_tensor_quantized_tensor(codes, affine.scale, affine.zero_point)
    stride = tuple(stride)
    extent = 1 + sum((size - 1) * step for size, step in zip(shape, stride, strict=True)) if all(shape) else 0
    flat = torch.full((extent,), value, dtype=STORAGE[affine.dtype])
    return torch._make_per_tensor_quantized_tensor(flat, affine.scale, affine.zero_point).as_strided(shape, stride)


def _answers(steps: Program, source: Affine, layout: Layout) -> Callable[[int], np.ndarray]:
    def answer(code: int) -> np.ndarray:
        tensor = constant(code, source, layout.shape, layout.stride)
        with torch.no_grad():
            results = [tensor]
            for step in steps:
                results.append(step(results))
            tensor = results[-1]
        order = layout.order if tensor.dim() == len(layout.order) else tuple(range(tensor.dim()))
        codes = tensor.int_repr() if tensor.is_quantized else tensor  # torch.export graphs quantise to plain tensors
        return codes.permute(order).reshape(-1).numpy().view(np.uint8)

    return answer


def _group(answer: Callable[[int], np.ndarray], count: int) -> Tables:
    """Places with equal answers share a table; the first place's table comes first."""
    if count <= 2 * _PERIOD:
        answer = cache(answer)
    factors = np.random.default_rng(0).integers(1, 1 << 63, 256, dtype=np.uint64) | np.uint64(1)
    marks = np.zeros(count, np.uint64)
    for code in range(256):
        marks += answer(code).astype(np.uint64) * factors[code]
    unique, first = np.unique(marks, return_index=True)
    appearance = np.argsort(first)
    numbers = np.empty(len(unique), np.int64)
    numbers[appearance] = np.arange(len(unique))
    places = first[appearance]
    tables = np.stack([answer(code)[places] for code in range(256)], axis=1)
    table_of = numbers[np.searchsorted(unique, marks)]
    edges = [0, *(np.flatnonzero(np.diff(table_of)) + 1).tolist(), count]
    spans = tuple((a, b, int(table_of[a])) for a, b in itertools.pairwise(edges) if a < b)
    return Tables(np.ascontiguousarray(tables), spans)
