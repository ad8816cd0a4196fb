"""What the requant unit computes: a tile's rule is built from its fields and constants; what no hardware would do
silently (a sum that leaves its bits, a constant wider than its register) is an error.

Messages say what is wrong with the constants or the sums; the caller says of which instruction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from accelsim.arithmetic.alternatives import Gemmlowp, Textbook
from accelsim.arithmetic.fixed_point import MOST_MULTIPLIER_BITS, MOST_SHIFT, FixedPoint
from accelsim.arithmetic.requantize import Requantization
from accelsim.arithmetic.thresholds import Thresholds
from accelsim.errors import MachineError
from accelsim.hardware import Accelerator
from accelsim.hardware.configuration import Arithmetic
from accelsim.isa import (
    REQUANTIZATIONS,
    Instruction,
    Memory,
    RequantFixed,
    RequantGemmlowp,
    Requantize,
    RequantTextbook,
    RequantThresholds,
)
from accelsim.isa.instructions.requantization import RequantInstruction
from accelsim.machine.semantics import Semantics, Work, each_place_once

from . import timing
from .data import store

#: Computes codes.
Codes = Callable[[], np.ndarray]

_Rule = Requantization | FixedPoint | Thresholds | Gemmlowp | Textbook


def requantizer(tile: RequantInstruction, accumulators: np.ndarray, words: np.ndarray, arithmetic: Arithmetic) -> Codes:
    """Computes the codes (runs, pixels, channels) of the accumulators of that shape that the view holds by then.

    `words`: a view of the constants' bytes (1 or runs, bytes). The codes are integers or whole binary32 numbers.
    Computing raises MachineError for a sum or a constant that the unit's registers do not hold.
    """
    planes = words.view(np.uint32).reshape(len(words), tile.planes, tile.channels)
    # The constants of a rule in binary32 are views; the other rules put theirs together from words.
    rule_of = _RULES[type(tile)]
    bound = [rule_of(tile, constants) for constants in planes] if isinstance(tile, Requantize) else None
    every = [accumulators]
    if len(planes) > 1:
        every = list(np.broadcast_to(accumulators, (len(planes), *accumulators.shape[1:]))[:, None])

    def compute() -> np.ndarray:
        rules = bound or [rule_of(tile, constants) for constants in planes]
        for run, (rule, part) in enumerate(zip(rules, every, strict=True)):
            _check(tile, rule, part, arithmetic, run)
        codes = [
            rule.codes(part) if isinstance(rule, Requantization) else rule.apply(part)
            for rule, part in zip(rules, every, strict=True)
        ]
        return codes[0] if len(codes) == 1 else np.concatenate(codes)

    return compute


def _float_rule(tile: Requantize, planes: np.ndarray) -> _Rule:
    bounds = {"minimum": tile.minimum, "maximum": tile.maximum}
    rule = Requantization.from_planes(tile.steps, planes, zero_point=tile.zero_point, **bounds)
    return replace(rule, binary32=True) if tile.real else rule


def _fixed_rule(tile: RequantFixed, planes: np.ndarray) -> _Rule:
    return FixedPoint.from_planes(planes, tile.minimum, tile.maximum)


def _threshold_rule(tile: RequantThresholds, planes: np.ndarray) -> _Rule:
    return Thresholds.from_planes(planes, tile.minimum)


def _gemmlowp_rule(tile: RequantGemmlowp, planes: np.ndarray) -> _Rule:
    bounds = {"minimum": tile.minimum, "maximum": tile.maximum}
    return Gemmlowp.from_planes(planes, zero_point=tile.zero_point, **bounds)


def _textbook_rule(tile: RequantTextbook, planes: np.ndarray) -> _Rule:
    bounds = {"minimum": tile.minimum, "maximum": tile.maximum}
    return Textbook.from_planes(planes, zero_point=tile.zero_point, **bounds)


#: The rule of each instruction, of its constants uint32 (planes, channels).
_RULES: Mapping[type[Instruction], Callable[[Any, np.ndarray], _Rule]] = {
    Requantize: _float_rule,
    RequantFixed: _fixed_rule,
    RequantThresholds: _threshold_rule,
    RequantGemmlowp: _gemmlowp_rule,
    RequantTextbook: _textbook_rule,
}


def _check(tile: RequantInstruction, rule: _Rule, accumulators: np.ndarray, arithmetic: Arithmetic, first: int) -> None:
    """Raise for what the unit does not hold. `first`: the number of the first run."""
    match rule:
        case Requantization():
            if rule.offset is not None:
                _check_sums(tile, "and its offset make", 1, rule.offset, accumulators, 32, first)
        case FixedPoint():
            bits = arithmetic.multiplier_bits or MOST_MULTIPLIER_BITS
            _check_constant("multiplier", rule.multiplier, 0, (1 << bits) - 1)
            _check_constant("shift", rule.shift, 0, MOST_SHIFT)
            if arithmetic.name == "power_of_two":
                _check_power(rule.multiplier)
            _check_sums(tile, "times M, and B, make", rule.multiplier, rule.offset, accumulators, 64, first)
        case Thresholds():
            falls = np.argwhere(np.diff(rule.first, axis=1) < 0)
            if len(falls):
                channel, index = map(int, falls[0])
                raise MachineError(
                    f"threshold {index + 1} of channel {channel} is {int(rule.first[channel, index + 1])}, below the "
                    f"one before it ({int(rule.first[channel, index])}); the search wants them in rising order"
                )
        case Gemmlowp():
            _check_constant("multiplier", rule.multiplier, 0, 2**31 - 1)
            _check_constant("shift", rule.shift, *rule.SHIFTS)
        case Textbook():
            _check_constant("significand", rule.significand, 0, 2**53 - 1)
            _check_constant("shift", rule.shift, *rule.SHIFTS)


def _check_constant(name: str, values: np.ndarray, low: int, high: int) -> None:
    outside = np.flatnonzero((values < low) | (values > high))
    if len(outside):
        channel = int(outside[0])
        raise MachineError(f"the {name} of channel {channel} is {int(values[channel])}; the unit takes {low} to {high}")


def _check_power(values: np.ndarray) -> None:
    wrong = np.flatnonzero((values == 0) | (values & (values - 1) != 0))
    if len(wrong):
        channel = int(wrong[0])
        raise MachineError(
            f"the multiplier of channel {channel} is {int(values[channel])}; a unit of power_of_two only shifts and "
            "takes powers of two"
        )


def _check_sums(
    tile: RequantInstruction,
    what: str,
    factor: np.ndarray | int,
    offset: np.ndarray,
    accumulators: np.ndarray,
    bits: int,
    first: int,
) -> None:
    """Raise where accumulator * factor + offset (factor >= 0, a channel each) leaves `bits` bits."""
    # The sums rise with the accumulator; Python's integers hold them all.
    largest, span = int(np.max(factor)), (int(accumulators.min()), int(accumulators.max()))
    within = 1 << (bits - 1)
    if (
        max(span[1], 0) * largest + int(offset.max()) < within
        and min(span[0], 0) * largest + int(offset.min()) >= -within
    ):
        return
    factors = np.broadcast_to(factor, tile.channels).tolist()
    offsets = np.broadcast_to(offset, tile.channels).tolist()
    low, high, limit = int(accumulators.min()), int(accumulators.max()), 1 << (bits - 1)
    for channel, (m, b) in enumerate(zip(factors, offsets, strict=True)):
        if low * m + b >= -limit and high * m + b < limit:
            continue
        for (run, pixel), value in np.ndenumerate(accumulators[..., channel]):
            total = int(value) * m + b
            if not -limit <= total < limit:
                word = tile.accumulator + pixel * tile.accumulator_pitch + channel
                raise MachineError(
                    f"accumulator word {word:#x} {what} {total} (channel {channel}, run {first + run}), which "
                    f"{bits} bits do not hold"
                )


def _bind(tile: RequantInstruction, work: Work) -> None:
    accumulators = work.memories[Memory.ACCUMULATOR].read(tile.sum_block(), work.actions)
    words = np.empty((1, 0), np.uint8)
    if tile.planes:
        words = work.memories[Memory.PARAMETER].read(tile.constant_block(), work.actions)
    codes = requantizer(tile, accumulators, words, work.arithmetic)
    target = work.memories.target(tile.written_blocks()[0], max(len(accumulators), len(words)))
    bounds = tile.minimum, tile.maximum

    def requantize() -> None:
        try:
            made = codes()
            if tile.element_bytes > 1:
                np.copyto(target, np.ascontiguousarray(made, np.float32).view(np.uint8).reshape(target.shape))
            else:
                store(target, made, bounds)
        except MachineError as error:
            raise work.error(error) from None

    work.actions.append(requantize)


def _work(tile: RequantInstruction, accelerator: Accelerator) -> timing.Work:
    lines = tile.images * tile.out_height
    pixels = timing.Pixels(lines, tile.out_width, tile.accumulator_pitch, tile.pixel_pitch, tile.element_bytes)
    return timing.requantization(pixels, tile.channels, tile.planes, accelerator)


def _host_cost(tile: RequantInstruction) -> tuple[int, int]:
    elements = tile.pixels * tile.channels
    return 40 * elements + 16 * tile.planes * tile.channels, (tile.planes + 16) * elements


def _check_arithmetic(tile: RequantInstruction, accelerator: Accelerator) -> str | None:
    arithmetic = accelerator.requant_unit.arithmetic
    able = REQUANTIZATIONS[arithmetic.name]
    if type(tile) is able:
        return None
    return (
        f"this machine's requant unit has the arithmetic {arithmetic}, whose instruction is {able.mnemonic}; compile "
        "the network for this machine"
    )


_REQUANTIZATION = Semantics(
    traffic=each_place_once,
    bind=_bind,
    host_cost=_host_cost,
    occupancy=timing.occupancy_of(_work),
    check=_check_arithmetic,
)
SEMANTICS: Mapping[type[Instruction], Semantics] = dict.fromkeys(_RULES, _REQUANTIZATION)
