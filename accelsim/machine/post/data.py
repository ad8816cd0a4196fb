"""What the instructions of the post unit share: how codes become bytes, and the rule that ends element-wise work.

Every rounding is the arithmetic floor's; here operands are gathered and rules built.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from accelsim.arithmetic.requantize import CONSTANTS, Requantization, Step

#: Computes codes, as integers or as whole binary32 numbers.
Codes = Callable[[], np.ndarray]

#: The steps that act with no constant.
_FLAGS = Step.ZERO_POINT_FIRST | Step.FUSED_ZERO_POINT | Step.INDEFINITE


def check_steps(steps: Step, *, divisor: bool) -> str | None:
    """What an instruction with one constant has none for: it multiplies, or with `divisor` may divide."""
    surplus = steps & ~(_FLAGS | Step.MULTIPLIER | (Step.DIVISOR if divisor else Step(0)))
    if not surplus:
        return None
    return (
        f"has no constant for {str(surplus.name).lower()}; only a requantize takes its constants from the parameter "
        "buffer"
    )


def store(target: np.ndarray, codes: np.ndarray, bounds: tuple[int, int]) -> None:
    """Write codes within `bounds` (in either order) as bytes of `target`, those below 0 in two's complement."""
    low, high = min(bounds), max(bounds)
    if low < -128 or (low < 0 and high > 127):
        codes = codes.astype(np.int16)
    elif low < 0:
        target = target.view(np.int8)
    np.copyto(target, codes.reshape(target.shape), casting="unsafe")


class Requantized(Protocol):
    """The fields of an instruction that ends in a requantisation with one constant of its own."""

    @property
    def steps(self) -> Step: ...
    @property
    def zero_point(self) -> int: ...
    @property
    def minimum(self) -> int: ...
    @property
    def maximum(self) -> int: ...


def rule_of(instruction: Requantized, constant: float) -> Requantization:
    """The instruction's `steps`, with its own constant for the one step that reads one."""
    steps = instruction.steps
    count = sum(1 for _, step in CONSTANTS if steps & step)
    planes = np.full((count, 1), constant, np.float32).view(np.uint32)
    return Requantization.from_planes(
        steps,
        planes,
        zero_point=instruction.zero_point,
        minimum=instruction.minimum,
        maximum=instruction.maximum,
    )
