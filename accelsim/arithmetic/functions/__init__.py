"""Functions of the vector unit: each one algorithm of steps that hardware can build, in binary32 and integers.

`NAMES` lists them; `evaluate` computes one by a `Method`, with the same bits on every host; `steps` says how many steps
of the vector unit an element takes, `ulp` how far the result can be from the true value. `explains` says of two results
whether both are as near to the true value as their makers promise. `explains_sum` does so of sums of rows.
docs/functions.md prints the algorithms.
"""

from __future__ import annotations

from .bounds import explains, ulp
from .methods import NAMES, Method, algorithm, evaluate, steps
from .sums import explains_sum

__all__ = [
    "NAMES",
    "Method",
    "algorithm",
    "evaluate",
    "explains",
    "explains_sum",
    "steps",
    "ulp",
]
