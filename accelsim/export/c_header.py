"""A C header: the integers as arrays, and a function a layer that makes codes of accumulators. No floating point."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from accelsim.escaping import c_comment

from .bundle import ACCUMULATOR, Bundle, Tensor
from .names import Identifiers

_TYPES = {
    "int8": "int8_t",
    "uint8": "uint8_t",
    "int16": "int16_t",
    "int32": "int32_t",
    "int64": "int64_t",
    "uint16": "uint16_t",
    "uint32": "uint32_t",
    "uint64": "uint64_t",
}
_SUFFIXES = {"int64": "LL", "uint64": "ULL"}
_LINE = 116


def has_place(tensor: Tensor) -> bool:
    """Whether the header holds a tensor: integers, at least one. The others stand in the manifest alone."""
    return str(tensor.array.dtype) in _TYPES and bool(tensor.array.size)


def c_header(bundle: Bundle) -> str:
    """The text of the header, with the tensors that have a place in it."""
    names = Identifiers()
    title = bundle.manifest.get("network", bundle.manifest.get("state_dict", ""))
    lines = [
        f"/* The integers of {c_comment(str(title))}. {ACCUMULATOR}.",
        "   A right shift of a negative number is arithmetic, as in every C compiler in use. */",
        "#pragma once",
        "#include <stdint.h>",
        "",
    ]
    for value, affine in bundle.manifest.get("values", {}).items():
        lines.append(f"#define {names.of(value, 'ZERO_POINT')} ({affine['zero_point']})")
    for owner, group in itertools.groupby(bundle.tensors, key=lambda tensor: tensor.owner):
        arrays = {tensor.role: tensor for tensor in group if has_place(tensor)}
        lines.append("")
        for tensor in arrays.values():
            lines += _array(names.of(owner, tensor.role), tensor)
        if owner in bundle.clamps:
            lines += _function(names, owner, *bundle.clamps[owner], arrays.get("thresholds"))
    return "\n".join([*lines, ""])


def _array(name: str, tensor: Tensor) -> list[str]:
    array = tensor.array
    shape = "".join(f"[{size}]" for size in array.shape)
    suffix = _SUFFIXES.get(str(array.dtype), "")
    least = np.iinfo(array.dtype).min
    # C has no negative constants, and the least number's own is too large to be negated.
    lowest = f"({least + 1}{suffix} - 1)" if array.dtype.itemsize >= 4 and least else str(least)
    numbers = [f"{value}{suffix}" if value != least else lowest for value in array.reshape(-1).tolist()]
    head = f"/* {c_comment(tensor.meaning)} */"
    if not array.ndim:
        return [head, f"static const {_TYPES[str(array.dtype)]} {name} = {numbers[0]};"]
    return [
        head,
        f"static const {_TYPES[str(array.dtype)]} {name}{shape} = {_braced(numbers, array.shape)[0]};",
    ]


def _braced(numbers: list[str], shape: tuple[int, ...]) -> list[str]:
    """An initialiser with a brace for each dimension."""
    groups: list[Any] = numbers
    for size in reversed(shape):
        groups = ["{" + ",".join(groups[i : i + size]) + "}" for i in range(0, len(groups), size)]
    return ["\n".join(_wrapped(groups[0]))] if groups else ["{0}"]


def _wrapped(text: str) -> list[str]:
    lines, start = [], 0
    while len(text) - start > _LINE:
        stop = text.rfind(",", start, start + _LINE) + 1
        lines.append(text[start:stop])
        start = stop
    return [*lines, text[start:]]


def _function(names: Identifiers, owner: str, low: int, high: int, thresholds: Tensor | None) -> list[str]:
    head = [
        f"/* The output code of channel c, {low} to {high}. */",
        f"static inline int {names.of(owner, 'requantize')}(int32_t acc, int c) {{",
    ]
    if thresholds is not None:
        table, count = names.of(owner, "thresholds"), thresholds.array.shape[1]
        return [
            *head,
            f"    int q = {low};",
            f"    for (int i = 0; i < {count}; i++) q += acc >= {table}[c][i];",
            "    return q;",
            "}",
        ]
    multiplier, offset, shift = (names.of(owner, role) for role in ("multiplier", "offset", "shift"))
    return [
        *head,
        f"    int64_t q = ((int64_t)acc * {multiplier}[c] + {offset}[c]) >> {shift}[c];",
        f"    return q < {low} ? {low} : q > {high} ? {high} : (int)q;",
        "}",
    ]
