"""The arithmetics that a requantisation unit can have, by the names that a configuration gives them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import ConfigurationError

from .alternatives import Gemmlowp, LayerScales, PowerOfTwo, Textbook
from .certificate import prove
from .fixed_point import MOST_MULTIPLIER_BITS, FixedPoint
from .integer_float import IntegerFloat
from .reachable import Reachable
from .requantize import Requantization
from .thresholds import Thresholds, find_thresholds


class Requantizer(Protocol):
    """Anything that makes codes of accumulators as `Requantization.apply` does."""

    def apply(self, accumulator: NDArray[np.int32], /) -> NDArray[np.int32]:
        """Codes of int32 accumulators; channels are the last axis."""
        ...


#: What a requantisation unit can be made to compute.
UnitRule = Requantization | IntegerFloat | FixedPoint | Thresholds | PowerOfTwo | Gemmlowp | Textbook

#: Each takes the engine's pipeline, the layer's scales, the reachable accumulators and the bits of a multiplier.
_Builder = Callable[[Requantization, LayerScales, Reachable, int], UnitRule]

ARITHMETICS: dict[str, _Builder] = {
    "float32_exact": lambda rule, layer, reach, bits: IntegerFloat.of(rule),
    "fixed_point": lambda rule, layer, reach, bits: prove(rule, reach, bits).constants,
    "thresholds": lambda rule, layer, reach, bits: find_thresholds(rule, reach),
    "power_of_two": lambda rule, layer, reach, bits: PowerOfTwo.of(layer),
    "gemmlowp": lambda rule, layer, reach, bits: Gemmlowp.of(layer),
    "textbook": lambda rule, layer, reach, bits: Textbook.of(layer),
}


def requantizer(
    arithmetic: str,
    rule: Requantization,
    layer: LayerScales,
    reach: Reachable,
    multiplier_bits: int = MOST_MULTIPLIER_BITS,
) -> UnitRule:
    """The requantisation of a layer by a unit of that arithmetic.

    `rule`: the engine's own pipeline, which float32_exact and thresholds equal everywhere and fixed_point where it is
    certified. All three inputs describe the same accumulators (exact sums, or folded ones with their offset). Raises
    ConfigurationError for a name that there is not.
    """
    if arithmetic not in ARITHMETICS:
        raise ConfigurationError(f"no arithmetic is named {arithmetic!r}; there are {', '.join(ARITHMETICS)}")
    return ARITHMETICS[arithmetic](rule, layer, reach, multiplier_bits)
