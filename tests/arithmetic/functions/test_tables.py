"""The committed constants are those that decimal arithmetic gives."""

from __future__ import annotations

from pathlib import Path

import mpmath
import numpy as np
import pytest

import accelsim.arithmetic.functions.tables as tables
from accelsim.arithmetic.functions import generate


@pytest.mark.full
def test_the_committed_tables_are_the_generated_ones() -> None:
    path = Path(tables.__file__)
    assert path.read_text(encoding="utf-8") == generate.source(), (
        f"python -m accelsim.arithmetic.functions.generate > {path.name}"
    )


@pytest.mark.parametrize(("table", "function"), [(tables.TANH, mpmath.tanh), (tables.ERF, mpmath.erf)])
def test_the_value_at_a_centre_is_nearly_exact(table: tables.Table, function: object) -> None:
    """Gal's choice of centres: within a hundredth of an ulp of a binary32 number, but where the function is flat."""
    centre, value = table.values()[:2, 1:]
    centre, value = centre[value < 0.9999], value[value < 0.9999]
    with mpmath.workdps(40):
        for x, y in zip(centre, value, strict=True):
            true = function(mpmath.mpf(float(x)))  # type: ignore[operator]
            assert abs(true - mpmath.mpf(float(y))) < np.spacing(y) / 100


def test_powers_of_two_and_their_rests() -> None:
    power, rest = tables.EXP.values().astype(np.float64)
    with mpmath.workdps(40):
        for j in range(32):
            true = mpmath.mpf(2) ** (mpmath.mpf(j) / 32)
            assert abs(mpmath.mpf(power[j]) * (1 + mpmath.mpf(rest[j])) - true) < true * mpmath.mpf(2) ** -47


def test_bits_of_two_over_pi() -> None:
    """Three words of each exponent are `2 / pi 2**(exponent - 150)` modulo 4."""
    words = np.array(tables.PHASE.words, np.uint64)
    with mpmath.workdps(120):
        for row, exponent in enumerate(range(126, 255)):
            scaled = 2 / mpmath.pi * mpmath.mpf(2) ** (exponent - 150)
            expected = int(mpmath.floor(mpmath.fmod(scaled, 4) * mpmath.mpf(2) ** 94))
            high, middle, low = (int(w) for w in words[row])
            assert high << 64 | middle << 32 | low == expected
