"""A C header: the integers as arrays, and a function a layer that makes codes of accumulators. No floating point."""

from __future__ import annotations

import itertools
import re
from typing import Any

import numpy as np

from .bundle import ACCUMULATOR, Bundle, Tensor

_TYPES = {
    "int8": "int8_t",
    "uint8": "uint8_t",
    "int16": "int16_t",
    "int32": "int32_t",
    "int64": "int64_t",
}
_LINE = 116


def c_header(bundle: Bundle) -> str:
    """The text of the header. Arrays of floats stay in the manifest's company only."""
    names = Identifiers()
    title = bundle.manifest.get("network", bundle.manifest.get("state_dict", ""))
    lines = [
        f"/* The integers of {_comment(str(title))}. {ACCUMULATOR}.",
        "   A right shift of a negative number is arithmetic, as in every C compiler in use. */",
        "#pragma once",
        "#include <stdint.h>",
        "",
    ]
    for value, affine in bundle.manifest.get("values", {}).items():
        lines.append(f"#define {names.of(value)}_ZERO_POINT ({affine['zero_point']})")
    for owner, group in itertools.groupby(bundle.tensors, key=lambda tensor: tensor.owner):
        arrays = {tensor.role: tensor for tensor in group if str(tensor.array.dtype) in _TYPES}
        lines.append("")
        for tensor in arrays.values():
            lines += _array(names.of(owner), tensor)
        if owner in bundle.clamps:
            lines += _function(names.of(owner), *bundle.clamps[owner], arrays.get("thresholds"))
    return "\n".join([*lines, ""])


class Identifiers:
    """Names of nodes as C identifiers, each different from the others."""

    def __init__(self) -> None:
        self._given: dict[str, str] = {}

    def of(self, name: str) -> str:
        """The identifier of `name`, always the same."""
        if name not in self._given:
            plain = re.sub(r"\W", "_", name, flags=re.ASCII)
            plain = plain if plain and not plain[0].isdigit() else f"_{plain}"
            taken = set(self._given.values())
            choices = itertools.chain([plain], (f"{plain}_{n}" for n in itertools.count(2)))
            self._given[name] = next(choice for choice in choices if choice not in taken)
        return self._given[name]


def _comment(text: str) -> str:
    return text.replace("*/", "* /")


def _array(identifier: str, tensor: Tensor) -> list[str]:
    array = tensor.array
    name = f"{identifier}_{tensor.role}" if tensor.role else identifier
    shape = "".join(f"[{size}]" for size in array.shape)
    suffix = "LL" if array.dtype == np.int64 else ""
    numbers = [f"{value}{suffix}" for value in array.reshape(-1).tolist()]
    head = f"/* {_comment(tensor.meaning)} */"
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


def _function(name: str, low: int, high: int, thresholds: Tensor | None) -> list[str]:
    head = [
        f"/* The output code of channel c, {low} to {high}. */",
        f"static inline int {name}_requantize(int32_t acc, int c) {{",
    ]
    if thresholds is not None:
        return [
            *head,
            f"    int q = {low};",
            f"    for (int i = 0; i < {thresholds.array.shape[1]}; i++) q += acc >= {name}_thresholds[c][i];",
            "    return q;",
            "}",
        ]
    return [
        *head,
        f"    int64_t q = ((int64_t)acc * {name}_multiplier[c] + {name}_offset[c]) >> {name}_shift[c];",
        f"    return q < {low} ? {low} : q > {high} ? {high} : (int)q;",
        "}",
    ]
