"""Multipliers M and shifts S of fixed point: M / 2**S inside an interval of slopes, or next to a slope."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .fixed_point import MOST_MULTIPLIER_BITS, MOST_SHIFT
from .reachable import Reachable
from .separation import Slopes


def most_bits(reach: Reachable) -> NDArray[np.int64]:
    """The widest multiplier of each channel with which `acc * M + B` fits 64 bits whatever B is.

    At a threshold the sum stands within M of `code << S`, below 2**62 in magnitude; `count * M` is to stay below 2**62
    too. Only layers of more than 2**31 accumulators have less than `MOST_MULTIPLIER_BITS` bits.
    """
    return np.minimum(62 - np.frexp(reach.count - 1)[1], MOST_MULTIPLIER_BITS).astype(np.int64)


def narrowest(
    slopes: Slopes, most: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The least M from 1 on with an S for which M / 2**S lies inside each interval; that S; and the bits of M.

    Where none of `most` bits, 31 at most, and no S up to `MOST_SHIFT` will do, the bits are 0 and the others mean
    nothing.
    """
    # If M / 2**S lies inside, so does 2M / 2**(S + 1): the smallest S has the smallest M.
    places = np.arange(MOST_SHIFT + 1, dtype=np.int64)
    a, b, c, d = (
        end[:, None]
        for end in (slopes.low_numerator, slopes.low_denominator, slopes.high_numerator, slopes.high_denominator)
    )
    # A numerator is 256 at most in magnitude and a denominator below 2**32: with an M that fits, all stay in int64.
    least = np.maximum((a << places) // b + 1, 1)
    inside = slopes.feasible[:, None] & (least < np.int64(1) << most[:, None]) & (least * d < c << places)
    shift = inside.argmax(axis=1)
    multiplier = least[np.arange(len(least)), shift]
    bits = np.where(inside.any(axis=1), np.frexp(multiplier)[1], 0)
    return multiplier, shift, bits.astype(np.int64)


def next_to(slope: NDArray[np.float64], bits: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """M (2, ...) and S (...): slopes times 2**S, rounded down and rounded up, but from 1 to `2**bits - 1`.

    S is the largest up to `MOST_SHIFT` that leaves the slope times 2**S below `2**bits`, 0 where none does; a slope is
    not 0.
    """
    shift = np.clip(bits - np.frexp(slope)[1], 0, MOST_SHIFT).astype(np.int64)
    exact, most = np.ldexp(slope, shift), np.ldexp(1.0, bits) - 1
    return np.clip([np.floor(exact), np.ceil(exact)], 1, most).astype(np.int64), shift
