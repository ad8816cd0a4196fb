"""Which algorithm computes a function: the choice that a configuration makes, and what it costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from accelsim.errors import AccelsimError

from ..binary32 import Float32
from . import accurate, i_bert, lookup
from .operations import Algorithm, execute

Kind = Literal["accurate", "table", "i_bert"]

#: In the order of their numbers in programs of the vector unit: a new one goes to the end.
NAMES = (
    "exp",
    "exp2",
    "log",
    "tanh",
    "sigmoid",
    "erf",
    "gelu",
    "gelu_tanh",
    "silu",
    "softplus",
    "hardswish",
    "hardsigmoid",
    "sqrt",
    "rsqrt",
    "reciprocal",
    "sin",
    "cos",
)


@dataclass(frozen=True)
class Method:
    """How functions are computed: `accurate`, a `table` of so many `entries` (a power of two), or `i_bert`."""

    kind: Kind = "accurate"
    entries: int = 0

    def __post_init__(self) -> None:
        if self.kind not in ("accurate", "table", "i_bert"):
            raise AccelsimError(f"functions: no method {self.kind!r}; there are accurate, table and i_bert")
        if self.kind != "table" and self.entries:
            raise AccelsimError(f"functions: {self.kind} has no entries; only table has")
        low, high = lookup.SMALLEST, lookup.LARGEST
        power = self.entries > 0 and not self.entries & (self.entries - 1)
        if self.kind == "table" and not (power and low <= self.entries <= high):
            raise AccelsimError(f"functions: a table of {self.entries} entries; a power of two from {low} to {high}")


def algorithm(name: str, method: Method) -> Algorithm:
    """The steps that compute the function. Raises AccelsimError for a name that is none of `NAMES`."""
    if name not in NAMES:
        raise AccelsimError(f"no function {name!r}; there are {', '.join(NAMES)}")
    if method.kind == "table":
        return lookup.algorithm(name, method.entries)
    if method.kind == "i_bert" and name in i_bert.algorithms():
        return i_bert.algorithms()[name]
    return accurate.algorithms()[name]


def evaluate(name: str, x: ArrayLike, method: Method) -> Float32:
    """The function of each binary32 number of `x`, in its shape; NaN is the word 0x7FC00000 on every host."""
    return execute(algorithm(name, method), np.asarray(x, np.float32))


def steps(name: str, method: Method) -> int:
    """Steps of the vector unit that an element takes; wiring (fields of a word, signs, constant shifts) takes none."""
    return algorithm(name, method).count()
