"""The fixed-point form of one channel in the worked example, with what is proved of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from accelsim.arithmetic.certificate import prove
from accelsim.arithmetic.reachable import Reachable
from accelsim.arithmetic.requantize import Requantization


@dataclass(frozen=True)
class FixedPoint:
    """`M`, `B`, `S` of one channel; `code` is what they make of the example's accumulator.

    Over the reachable accumulators `low..high` they differ from the engine in `differing` of them, the first of which
    are `examples`; 0 means equal everywhere, which was decided from all thresholds, not from samples.
    """

    multiplier: int
    offset: int
    shift: int
    code: int
    low: int
    high: int
    differing: int
    examples: tuple[int, ...]


def find_fixed_point(rule: Requantization, low: int, high: int, accumulator: int) -> FixedPoint:
    """The fixed-point form of a one-channel pipeline over the accumulators `low..high`."""
    found = prove(rule, Reachable(np.array([low], np.int64), np.array([high], np.int64)))
    constants = found.constants
    examples = [acc for start, stop in found.intervals(0)[:3] for acc in range(start, min(stop, start + 3))]
    return FixedPoint(
        multiplier=int(constants.multiplier[0]),
        offset=int(constants.offset[0]),
        shift=int(constants.shift[0]),
        code=int(constants.apply(np.array([accumulator], np.int32))[0]),
        low=low,
        high=high,
        differing=int(found.differing[0]),
        examples=tuple(examples[:3]),
    )
