"""The requantisation of a matrix operation as the machine runs it: its rule for the machine's sums, its instruction.

The rules are made for exact sums; the machine's are sums of raw codes, which differ from them by a constant of the
channel (what the input's zero point leaves). The rule of a channel takes that constant in.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from accelsim.arithmetic.alternatives import Gemmlowp, PowerOfTwo, Textbook
from accelsim.arithmetic.fixed_point import FixedPoint
from accelsim.arithmetic.reachable import Reachable
from accelsim.arithmetic.requantize import Requantization
from accelsim.arithmetic.thresholds import Thresholds
from accelsim.arithmetic.units import UnitRule
from accelsim.errors import CompileError
from accelsim.hardware.configuration import Arithmetic
from accelsim.isa import Instruction, RequantFixed, RequantGemmlowp, Requantize, RequantTextbook, RequantThresholds
from accelsim.network import Convolution, Linear, Network
from accelsim.network.substitution import reachable_sums

#: What there is an instruction for.
Rule = Requantization | FixedPoint | Thresholds | Gemmlowp | Textbook

_INT32 = np.iinfo(np.int32)


def machine_rule(network: Network, node: Convolution | Linear, rule: UnitRule, offset: np.ndarray) -> Rule:
    """The rule of sums that lack `offset` (int64, a channel). Raises CompileError where no constants hold it."""
    if isinstance(rule, PowerOfTwo):
        rule = rule.fixed_point()
    reach = reachable_sums(network, node, folded=False)
    _check_sums(node, reach)
    match rule:
        case Requantization():
            return _pipeline(node.name, rule, offset, reach)
        case Thresholds():
            if np.any(rule.monotone.low > reach.low) or np.any(rule.monotone.high < reach.high):
                raise CompileError(
                    f"{node.name}: some of its sums leave int32 in the engine's rounding and wrap round, which no "
                    "thresholds do; its scales are out of proportion, or take requant_unit.arithmetic: float32_exact"
                )
            rule = rule.after(offset)
            _check(node.name, rule.first)
            return rule
        case FixedPoint():
            return rule.after(offset)
        case Gemmlowp() | Textbook():
            rule = rule.after(offset)
            _check(node.name, rule.bias)
            return rule
    raise AssertionError(f"no instruction for {rule}")


def _check_sums(node: Convolution | Linear, reach: Reachable) -> None:
    low, high = int(reach.low.min(initial=0)), int(reach.high.max(initial=0))
    if low < _INT32.min or high > _INT32.max:
        raise CompileError(
            f"{node.name}: its sums reach {low} to {high}, which int32 does not hold; PyTorch's wrap round, the "
            "machine's must not: split the layer"
        )


def _pipeline(name: str, rule: Requantization, offset: np.ndarray, reach: Reachable) -> Requantization:
    total = offset
    if rule.offset is not None:
        bias = rule.offset.astype(np.int64)
        if (reach.low + bias).min() < _INT32.min or (reach.high + bias).max() > _INT32.max:
            raise CompileError(
                f"{name}: its sums and its integer bias leave int32 together; PyTorch's wrap round, the machine's must "
                "not: the bias of some output channel is out of proportion to its scales"
            )
        total = bias + offset
    _check(name, total)
    return replace(rule, offset=total.astype(np.int32) if np.any(total) else None)


def _check(name: str, constants: np.ndarray) -> None:
    if constants.size and (constants.min() < _INT32.min or constants.max() > _INT32.max):
        raise CompileError(f"{name}: the constant of an output channel leaves int32; the layer's sums would too")


def planes(rule: Rule, channels: int) -> np.ndarray:
    """The constants of all channels as they stand in the parameter buffer, uint32 (planes, channels)."""
    return rule.planes(channels) if isinstance(rule, Requantization) else rule.planes()


def check_unit(rule: Rule, arithmetic: Arithmetic) -> None:
    """Raises CompileError for a rule in binary32, which a product of two activations has, on a unit without."""
    if isinstance(rule, Requantization) and arithmetic.name != "float32_exact":
        what = "a product of two activations is requantised"
        if rule.binary32:
            what = "a layer's sum becomes a value in binary32"
        raise CompileError(
            f"{what} in float32_exact only, and this machine's requant unit has "
            f"{arithmetic}; set requant_unit.arithmetic: float32_exact"
        )


def instruction(rule: Rule, **tile: Any) -> Instruction:
    """The instruction that applies `rule` to the tile whose fields are given."""
    match rule:
        case Requantization():
            return Requantize(
                steps=rule.steps,
                zero_point=rule.zero_point,
                minimum=rule.minimum,
                maximum=rule.maximum,
                real=int(rule.binary32),
                **tile,
            )
        case FixedPoint():
            return RequantFixed(minimum=rule.minimum, maximum=rule.maximum, **tile)
        case Thresholds():
            return RequantThresholds(minimum=rule.minimum, maximum=rule.minimum + rule.first.shape[1], **tile)
        case Gemmlowp() | Textbook():
            kind = RequantGemmlowp if isinstance(rule, Gemmlowp) else RequantTextbook
            return kind(zero_point=rule.zero_point, minimum=rule.minimum, maximum=rule.maximum, **tile)
