"""Makes the tables of `tables.py` from decimal arithmetic.

python -m accelsim.arithmetic.functions.generate > accelsim/arithmetic/functions/tables.py
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal, localcontext

import numpy as np

from . import exact
from .exact import LN2
from .fitting import Function, chebyshev, decimal, interpolated, rounded

#: Entries of 2**(j / 32): half as many would need one more step of polynomial.
EXP_ROWS = 32
#: Entries of the logarithm: with half as many the largest error grows by a tenth of an ulp.
LOG_ROWS = 128
#: The logarithm's larger part is a multiple of this, so that its sum with a multiple of ln 2 is exact.
LOG_GRID = Decimal(2) ** -15
#: Degree of the polynomials of segments.
DEGREE = 4
#: Candidates for the centre of a segment, from which the one whose value is nearest to a binary32 number is taken.
CANDIDATES = 400

_HEADING = '''\
"""Constants of the functions, as words of binary32. Written by `python -m accelsim.arithmetic.functions.generate`."""

from __future__ import annotations

from .steps import Table


def _table(name: str, columns: str, text: str) -> Table:
    rows = (tuple(int(word, 16) for word in line.split()) for line in text.strip().splitlines())
    return Table(name, tuple(columns.split()), tuple(rows))

'''


def word(value: np.float32) -> str:
    """Eight hexadecimal digits."""
    return f"{int(value.view(np.uint32)):08x}"


def fitted(f: Function, centre: Decimal, low: Decimal, high: Decimal, first: list[np.float32]) -> list[np.float32]:
    """Coefficients in `d = x - centre` over [low, high], `first` given, the others through Chebyshev's points."""
    middle, half = (low + high) / 2, (high - low) / 2
    nodes = [middle + half * c - centre for c in chebyshev(DEGREE + 1 - len(first))]
    values = []
    for d in nodes:
        rest = f(centre + d)
        for c in first:
            rest = (rest - decimal(c)) / d
        values.append(rest)
    return [*first, *(rounded(c) for c in interpolated(nodes, values))]


def centre_of(f: Function, low: Decimal, high: Decimal) -> tuple[np.float32, np.float32]:
    """A number near the middle of [low, high] whose value is nearly a binary32 number, and that (Gal, 1986)."""
    x = rounded((low + high) / 2)
    best: tuple[Decimal, np.float32, np.float32] | None = None
    for _ in range(CANDIDATES):
        value = f(decimal(x))
        number = rounded(value)
        far = abs(value - decimal(number)) / abs(value)
        if best is None or far < best[0]:
            best = (far, x, number)
        x = np.nextafter(x, np.float32(np.inf))
    assert best is not None
    return best[1], best[2]


def segments(
    f: Function, slope: Decimal, odd: bool, lowest: int, highest: int, bits: int
) -> Iterator[list[np.float32]]:
    """Rows (centre, c0 .. c4): below 2**lowest one about zero, then 2**bits a binade up to 2**highest."""
    edge = Decimal(2) ** lowest
    zero = np.float32(0)
    first = [zero, rounded(slope)]
    if odd:
        d = edge * Decimal("0.9")
        cube = rounded((f(d) / d - slope) / (d * d))
        yield [zero, *first, zero, cube, zero]
    else:
        yield [zero, *fitted(f, Decimal(0), Decimal(0), edge, first)]
    for binade in range(lowest, highest):
        width = Decimal(2) ** (binade - bits)
        for i in range(1 << bits):
            low = Decimal(2) ** binade + i * width
            centre, value = centre_of(f, low, low + width)
            yield [centre, *fitted(f, decimal(centre), low, low + width, [value])]


def with_unit(rows: Iterator[list[np.float32]]) -> Iterator[list[np.float32]]:
    """Rows with one more column: about zero the whole part of the slope, 1, which is taken off c1; elsewhere 0."""
    slope = 2 / exact.PI.sqrt()
    first = next(rows)
    yield [*first[:2], rounded(slope - 1), *first[3:], np.float32(1)]
    for row in rows:
        yield [*row, np.float32(0)]


def exponentials() -> Iterator[list[np.float32]]:
    """Rows (power, rest): 2**(j / 32) rounded, and what is missing as a part of it."""
    for j in range(EXP_ROWS):
        power = (LN2 * j / EXP_ROWS).exp()
        near = rounded(power)
        yield [near, rounded((power - decimal(near)) / decimal(near))]


def logarithms() -> Iterator[list[np.float32]]:
    """Rows (inverse, carry, high, low) for significands in [1 + i / rows, 1 + (i + 1) / rows).

    The inverse of the middle to 9 bits; -ln of it (of twice it where the significand is halved, carry 1) in two parts.
    """
    for i in range(LOG_ROWS):
        middle = 1 + (Decimal(i) + Decimal("0.5")) / LOG_ROWS
        carry = middle > Decimal(2).sqrt()
        inverse = round(512 / middle) / Decimal(512)
        if i == 0:
            inverse = Decimal(1)
        if i == LOG_ROWS - 1:
            inverse = Decimal("0.5")
        value = -(inverse * (2 if carry else 1)).ln()
        high = round(value / LOG_GRID) * LOG_GRID
        yield [rounded(inverse), np.float32(carry), rounded(high), rounded(value - high)]


def source() -> str:
    """The text of `tables.py`."""
    with localcontext(exact.context()):
        two_over_root_pi = 2 / exact.PI.sqrt()
        columns = "centre c0 c1 c2 c3 c4"
        tables = {
            "EXP": ("power rest", exponentials()),
            "LOG": ("inverse carry high low", logarithms()),
            "TANH": (columns, segments(exact.tanh, Decimal(1), True, -6, 4, 3)),
            "ERF": (f"{columns} unit", with_unit(segments(exact.erf, two_over_root_pi, True, -6, 2, 4))),
            "LOG1P": (columns, segments(exact.log1p, Decimal(1), False, -6, 0, 3)),
        }
        parts = [_HEADING]
        for name, (header, rows) in tables.items():
            lines = "\n".join(" ".join(word(value) for value in row) for row in rows)
            parts.append(f'\n{name} = _table(\n    "{name}",\n    "{header}",\n    """\n{lines}\n""",\n)\n')
    return "".join(parts)


if __name__ == "__main__":
    print(source(), end="")
