"""Operators of constants alone: what exporters compute of shapes, and of weights before they are dequantised."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from accelsim.errors import ModelError

from .container import Call

#: Results are as large as an operand, or of so many elements.
_MOST = 1 << 16

_DTYPES = {1: "float32", 2: "uint8", 3: "int8", 6: "int32", 7: "int64", 9: "bool", 11: "float64"}

Arrays = list[Any]


def fold(call: Call, arrays: Arrays) -> np.ndarray | None:
    """The result of an operator of constants; None for one that is not folded. Raises ModelError where it fails."""
    function = _FOLDED.get(call.operator)
    if function is None or not arrays or arrays[0] is None:
        return None
    try:
        with np.errstate(all="ignore"):
            result = np.asarray(function(call, arrays))
    except (ValueError, IndexError, TypeError, KeyError, OverflowError) as error:
        raise ModelError(f"{call.where}: of its constant operands nothing can be made ({error})") from None
    if result.size > max(_MOST, *(array.size for array in arrays if array is not None)):
        raise ModelError(f"{call.where}: a constant of {result.size} elements; fold it before export")
    return result


def _clip(call: Call, arrays: Arrays) -> np.ndarray:
    array, low, high = (*arrays, None, None)[:3]
    array = array if low is None else np.maximum(array, low)
    return array if high is None else np.minimum(array, high)


def _slice(call: Call, arrays: Arrays) -> np.ndarray:
    array, starts, stops, axes, steps = (*arrays, None, None)[:5]
    axes = range(len(starts)) if axes is None else axes
    index = [slice(None)] * array.ndim
    for place, (start, stop, axis) in enumerate(zip(starts, stops, axes, strict=True)):
        index[int(axis)] = slice(int(start), int(stop), None if steps is None else int(steps[place]))
    return array[tuple(index)]


def _reshape(call: Call, arrays: Arrays) -> np.ndarray:
    array, sizes = arrays
    if not call.attribute("allowzero", 0):
        sizes = [array.shape[axis] if size == 0 else size for axis, size in enumerate(sizes)]
    return array.reshape([int(size) for size in sizes])


def _squeeze(call: Call, arrays: Arrays) -> np.ndarray:
    axes = None if len(arrays) < 2 or arrays[1] is None else tuple(int(axis) for axis in arrays[1])
    return np.squeeze(arrays[0], axes)


def _concat(call: Call, arrays: Arrays) -> np.ndarray:
    if sum(array.size for array in arrays) > max(_MOST, max(array.size for array in arrays)):
        raise ValueError("too many elements")
    return np.concatenate(arrays, int(call.attribute("axis", 0)))


def _same(function: Callable[..., np.ndarray]) -> Callable[[Call, Arrays], np.ndarray]:
    """An element-wise function of operands of one dtype, the larger of which has the result's size."""

    def compute(call: Call, arrays: Arrays) -> np.ndarray:
        shape = np.broadcast_shapes(*(array.shape for array in arrays))
        if np.prod(shape, dtype=np.float64) > max(_MOST, *(array.size for array in arrays)):
            raise ValueError("too many elements")
        return function(*arrays).astype(arrays[0].dtype)

    return compute


def _divide(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Integers are divided towards zero."""
    if a.dtype.kind != "i":
        return a / b
    if not np.all(b):
        raise ValueError("a division by zero")
    return np.sign(a) * np.sign(b) * (np.abs(a) // np.abs(b))


_FOLDED: dict[str, Callable[[Call, Arrays], np.ndarray]] = {
    "Identity": lambda call, arrays: arrays[0],
    "Clip": _clip,
    "Slice": _slice,
    "Reshape": _reshape,
    "Squeeze": _squeeze,
    "Unsqueeze": lambda call, arrays: np.expand_dims(arrays[0], tuple(int(axis) for axis in arrays[1])),
    "Concat": _concat,
    "Gather": lambda call, arrays: (
        np.take(arrays[0], arrays[1], int(call.attribute("axis", 0))) if arrays[1].size <= _MOST else np.zeros(0)
    ),
    "Cast": lambda call, arrays: arrays[0].astype(_DTYPES[int(call.attribute("to"))]),
    "Transpose": lambda call, arrays: np.transpose(arrays[0], call.attribute("perm")),
    "Add": _same(np.add),
    "Sub": _same(np.subtract),
    "Mul": _same(np.multiply),
    "Div": _same(_divide),
}
