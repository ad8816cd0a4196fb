"""The page of the functions, derived from the lists of steps.

python -m accelsim.arithmetic.functions.documentation > docs/functions.md
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from . import accurate, bounds, i_bert, lookup
from .methods import NAMES, Method, algorithm, evaluate, steps
from .operations import OPERATIONS, Algorithm

_OPENING = """\
# Functions of the vector unit

This page is written by `python -m accelsim.arithmetic.functions.documentation` from the lists of steps in
`accelsim/arithmetic/functions/`. The same lists are executed (`operations.py`, one place), counted for the timing, and
compiled to C for the proof over all inputs (`tests/arithmetic/functions/`).

```python
from accelsim.arithmetic import functions

functions.evaluate("exp", [0.0, 1.0, -200.0], functions.Method("accurate"))  # binary32: 1, 2.7182817, 0
functions.steps("gelu", functions.Method("table", entries=64))  # 6
functions.ulp("exp", functions.Method("accurate"))  # {exp_ulp}
```

A `Method` says which algorithm. Machines compute the accurate ones today:

* `accurate`: range reduction, a table, a polynomial, reconstruction. Composed functions (sigmoid, GELU, SiLU,
  hardswish) do their additions, products and divisions in PyTorch's order.
* `table` with `entries`: one straight line a segment. A power of two from {smallest} to {largest}.
* `i_bert`: the integer polynomials of I-BERT (Kim, Gholami, Yao, Mahoney, Keutzer, ICML 2021).

Results have the same bits on every host. A NaN gives a NaN, always the word 0x7FC00000. Subnormal numbers are numbers
like any other. Where PyTorch multiplies infinity by zero (GELU, SiLU and hardswish of -infinity) the accurate result is
NaN as there.
"""

_UNITS = """\
## Steps and largest errors

Steps of the vector unit an element, bytes of read-only memory, and the largest error of `accurate` over all 2^32
inputs.

{table}

An ulp is that of the true value u: 2^(e - 23) for 2^e <= |u| < 2^(e + 1), 2^-149 below 2^-126. Three remarks:

* *of x/2*: the ulp is that of x/2 where x/2 is larger than the result. These functions are x/2 times a sum that cancels
  below zero, in PyTorch as here; x/2 is what the error is small against.
* *floor*: 1 / (1 + exp(-x)) is 0 where exp(-x) overflows, below x = -88.72, in PyTorch as here. Errors up to the floor
  are not counted in ulp.
* *below*: 6 |x| overflows from there on, in PyTorch as here.

## PyTorch beside it

`functions.explains(name, ours, theirs, x)` says for each element whether a difference is the functions' alone: the true
value, computed in binary64, lies within the bound above of ours and within this one of PyTorch's. These were measured
with PyTorch 2.13 on x86-64 (its kernels for AVX-512, AVX2 and none, with and without oneDNN) and are stated larger,
since other hosts have other vector libraries. hardswish, hardsigmoid, reciprocal and rsqrt have PyTorch's bits; sqrt
has IEEE's, which PyTorch's, MKL's on x86-64, has not for one number in eleven.

{pytorch}
"""

_SUMS = """\
## Sums of rows

The unit adds every 64th number of a row one after the other, then the 64 partial sums in pairs of neighbours
(`accelsim/arithmetic/vector.py`). `functions.explains_sum(ours, theirs, x, partials)` says whether a difference from
another order is the order's alone: the exact sum lies within k u / (1 - k u) sum |x| of both, u = 2^-24, k the
additions that a number goes through in ours and n - 1 in theirs.

## What a new function touches

`exact.py` (the function in decimal arithmetic), `accurate.py` (its steps), `generate.py` (its table, if it has one),
`lookup.py` (what its table of lines holds), `methods.py` (its name) and `bounds.py` (what is true, and both bounds); in
the tests `c_code.py` (its reference) and `test_accuracy.py` (its measured error).
"""

_COARSE = """\
## Largest errors of the coarse methods

Absolute, or relative where marked, measured against binary64 on {points} points of [-16, 16] (of [1/16, 16] for log,
sqrt, rsqrt and reciprocal). What says *accurate* has no such method and takes the accurate algorithm.

{table}

The argument of I-BERT's exp and erf is quantised to S = 2^-{bits}, that of gelu to 2^-{gelu_bits}: the finest powers of
two with which all integers but gelu's last product fit into 32 bits. That of sqrt is quantised to 2^-{sqrt_bits}, so it
saturates from {saturates} on. The paper defines its exponential for x <= 0; above, the shift goes left. `rsqrt` divides
1 by its root, as its layer norm does. Most of the error is the polynomials' own; that of exp is relative to small
results, which the shift truncates. Quantising and dequantising are steps too, so that between binary32 values `i_bert`
is not faster than `accurate`: it is here to see what its arithmetic does to a network.
"""

#: Functions whose coarse error is given relative to the value.
_RELATIVE = ("exp", "exp2", "sqrt", "rsqrt", "reciprocal")
_POSITIVE = ("log", "sqrt", "rsqrt", "reciprocal")
_SHOWN = (16, 64, 256, 1024)
_POINTS = 40001


def _rows(header: tuple[str, ...], rows: Iterator[tuple[object, ...]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def _power(value: float) -> str:
    return f"2^{int(np.log2(value))}"


def _bound(bound: bounds.Bound) -> str:
    parts = [f"{bound.ulps:g}"]
    if bound.half_of_x:
        parts.append("of x/2")
    if bound.floor:
        parts.append(f"floor {_power(bound.floor)}")
    if np.isfinite(bound.largest):
        parts.append(f"below {_power(bound.largest)}")
    return ", ".join(parts)


def _summary() -> Iterator[tuple[object, ...]]:
    table, ibert = Method("table", 64), Method("i_bert")
    for name in NAMES:
        exactly = accurate.algorithms()[name]
        tabled = algorithm(name, table)
        yield (
            name,
            steps(name, Method()),
            exactly.table_bytes() or "",
            _bound(bounds.ACCURATE[name]),
            "accurate" if tabled is exactly else steps(name, table),
            "" if tabled is exactly else f"{tabled.table_bytes() // 64} x entries",
            "accurate" if algorithm(name, ibert) is exactly else steps(name, ibert),
        )


def coarse_error(name: str, method: Method) -> float:
    """Largest error of a method on the points of the page: absolute, of some functions relative (2 digits matter)."""
    if name in _POSITIVE:
        x = np.geomspace(1 / 16, 16, _POINTS).astype(np.float32)
    else:
        x = np.linspace(-16, 16, _POINTS).astype(np.float32)
    true = bounds.true_value(name, x)
    error = np.abs(evaluate(name, x, method) - true)
    return float(np.max(error / true if name in _RELATIVE else error))


def _coarse() -> Iterator[tuple[object, ...]]:
    for name in NAMES:
        exactly = accurate.algorithms()[name]
        methods = [*(Method("table", entries) for entries in _SHOWN), Method("i_bert")]
        if all(algorithm(name, method) is exactly for method in methods):
            continue
        cells = [
            "accurate" if algorithm(name, method) is exactly else f"{coarse_error(name, method):.1e}"
            for method in methods
        ]
        yield (f"{name}, relative" if name in _RELATIVE else name, *cells)


def listing(algorithm: Algorithm) -> str:
    """The steps, one a line: wiring is marked, and constants are the shortest decimals that give their word."""
    lines = []
    for step in algorithm.steps:
        text = f"{step.result} = {step.operation}({', '.join(str(o) for o in step.operands)})"
        wire = "" if OPERATIONS[step.operation].steps else "wiring"
        note = "; ".join(part for part in (wire, step.note) if part)
        lines.append(f"{text:58}  # {note}" if note else text)
    return "\n".join(lines)


def _tables(algorithm: Algorithm) -> str:
    return ", ".join(
        f"{table.name} ({table.rows} rows of {', '.join(table.columns)}: {table.bytes} bytes)"
        for table in algorithm.tables
    )


def _section(title: str, algorithm: Algorithm) -> str:
    tables = f", table {_tables(algorithm)}" if algorithm.tables else ""
    return f"### {title}\n\n{algorithm.count()} steps{tables}.\n\n```\n{listing(algorithm)}\n```"


def _operations() -> Iterator[tuple[object, ...]]:
    for name, operation in OPERATIONS.items():
        yield f"`{name}`", operation.steps or "wiring", operation.text.replace("|", "\\|")


def markdown() -> str:
    """The text of docs/functions.md."""
    header = ("function", "steps", "bytes", "largest error, ulp", "steps, `table`", "bytes", "steps, `i_bert`")
    pytorch = _rows(("function", "ulp"), ((name, _bound(bounds.PYTORCH[name])) for name in NAMES))
    opening = _OPENING.format(smallest=lookup.SMALLEST, largest=lookup.LARGEST, exp_ulp=bounds.ACCURATE["exp"].ulps)
    coarse = _COARSE.format(
        points=_POINTS,
        table=_rows(("function", *(f"table {entries}" for entries in _SHOWN), "i_bert"), _coarse()),
        bits=i_bert.SCALE_BITS,
        gelu_bits=i_bert.GELU_BITS,
        sqrt_bits=i_bert.SQRT_BITS,
        saturates=2 ** (31 - i_bert.SQRT_BITS),
    )
    parts = [
        opening,
        _UNITS.format(table=_rows(header, _summary()), pytorch=pytorch),
        coarse,
        _SUMS,
        f"## Operations\n\n{_rows(('operation', 'steps', 'result'), _operations())}\n",
        "## Accurate\n\nThe tables' words are in `accelsim/arithmetic/functions/tables.py`, made by `generate.py`.",
        *(_section(name, accurate.algorithms()[name]) for name in NAMES),
        "## Tables of 64 entries",
        *(
            _section(name, lookup.algorithm(name, 64))
            for name in NAMES
            if lookup.algorithm(name, 64) is not accurate.algorithms()[name]
        ),
        "## I-BERT",
        *(_section(name, found) for name, found in i_bert.algorithms().items()),
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


if __name__ == "__main__":
    print(markdown(), end="")
