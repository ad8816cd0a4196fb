"""What the post unit computes besides requantising accumulators (`requantization.py`).

Every rounding is the arithmetic floor's; here operands are gathered and rules built.

Each function takes views of the memories once and returns what computes the codes of whatever they hold then.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from accelsim.arithmetic.binary32 import f32
from accelsim.arithmetic.elementwise import FixedAdd, FloatAdd, Operand, Product
from accelsim.arithmetic.requantize import CONSTANTS, Requantization, Step
from accelsim.isa import Add, AddFixed, Multiply, Pool, Reduction
from accelsim.isa.instructions import _Binary
from accelsim.machine.memory.footprint import taps

#: Computes codes, as integers or as whole binary32 numbers.
Codes = Callable[[], np.ndarray]

#: The steps that act with no constant.
_FLAGS = Step.ZERO_POINT_FIRST | Step.FUSED_ZERO_POINT | Step.INDEFINITE


def unavailable_steps(steps: Step, *, divisor: bool) -> Step:
    """Those of `steps` that an instruction with one constant has not: it multiplies, or with `divisor` may divide."""
    allowed = _FLAGS | Step.MULTIPLIER | (Step.DIVISOR if divisor else Step(0))
    return steps & ~allowed


def store(target: np.ndarray, codes: np.ndarray, bounds: tuple[int, int]) -> None:
    """Write codes within `bounds` (in either order) as bytes of `target`, those below 0 in two's complement."""
    low, high = min(bounds), max(bounds)
    if low < -128 or (low < 0 and high > 127):
        codes = codes.astype(np.int16)
    elif low < 0:
        target = target.view(np.int8)
    np.copyto(target, codes.reshape(target.shape), casting="unsafe")


def binary(instruction: _Binary, a: np.ndarray, b: np.ndarray) -> Codes:
    """Codes of an element-wise sum or product of the bytes `a` and `b`."""
    a = a.view(np.int8) if instruction.signed_a else a
    b = b.view(np.int8) if instruction.signed_b else b
    rule = _binary_rule(instruction)
    compute = rule.codes if isinstance(rule, FloatAdd) else rule.apply
    return lambda: compute(a, b)


def _binary_rule(instruction: _Binary) -> FloatAdd | FixedAdd | Product:
    match instruction:
        case Add():
            return FloatAdd(
                Operand(instruction.subtract_a, f32(instruction.scale_a), f32(instruction.offset_a)),
                Operand(instruction.subtract_b, f32(instruction.scale_b), f32(instruction.offset_b)),
                _rule(instruction, instruction.steps, _immediate(instruction.steps, instruction.multiplier)),
                fused=bool(instruction.fused),
            )
        case AddFixed():
            return FixedAdd(
                instruction.multiplier_a,
                instruction.zero_a,
                instruction.multiplier_b,
                instruction.zero_b,
                instruction.shift,
                instruction.zero_point,
                instruction.minimum,
                instruction.maximum,
            )
        case Multiply():
            rule = _rule(instruction, instruction.steps, _immediate(instruction.steps, instruction.multiplier))
            return Product(instruction.zero_a, instruction.zero_b, rule)
    raise AssertionError(f"{instruction.mnemonic} is no element-wise instruction")


def lookup(table: np.ndarray, indices: np.ndarray) -> Codes:
    """Entries of `table` (1 or runs, 256) for `indices` (1 or runs, lines, length)."""
    if len(table) == 1:
        return lambda: table[0][indices]
    every = np.broadcast_to(indices, (len(table), *indices.shape[1:]))
    return lambda: np.stack([entries[part] for entries, part in zip(table, every, strict=True)])


def pool(tile: Pool, activations: np.ndarray) -> Codes:
    """Codes (runs, images, lines, pixels, channels). `activations`: (1 or runs, bytes), the activation memory.

    Raises ValueError with (line, pixel) for the maximum of a window that is all padding.
    """
    codes = activations.view(np.int8) if tile.signed_activation else activations
    shape = (len(codes), tile.images, tile.out_height, tile.out_width, tile.channels)
    count = np.zeros(shape[2:4], np.int32)
    largest = tile.reduction == Reduction.MAX
    parts = []
    for tap in taps(tile):
        count[tap.down, tap.across] += 1
        parts.append((slice(None), slice(None), tap.down, tap.across, tap.block.view(codes)))
    if largest and not count.all():
        line, pixel = np.argwhere(count == 0)[0]
        raise ValueError(int(line), int(pixel))
    rule = _rule(tile, tile.steps, _immediate(tile.steps, tile.factor))
    padding = tile.subtract * count[:, :, None]

    def maximum() -> np.ndarray:
        result = np.full(shape, np.iinfo(codes.dtype).min, codes.dtype)
        for *where, part in parts:
            np.maximum(result[tuple(where)], part, out=result[tuple(where)])
        return result

    def total() -> np.ndarray:
        result = np.zeros(shape, np.int32)
        for *where, part in parts:
            np.add(result[tuple(where)], part, out=result[tuple(where)])
        result -= padding
        return rule.codes(result)

    return maximum if largest else total


def _rule(instruction: Add | Multiply | Pool, steps: Step, planes: np.ndarray) -> Requantization:
    return Requantization.from_planes(
        steps,
        planes,
        zero_point=instruction.zero_point,
        minimum=instruction.minimum,
        maximum=instruction.maximum,
    )


def _immediate(steps: Step, constant: float) -> np.ndarray:
    """The instruction's own constant as the plane of the one step that reads it."""
    count = sum(1 for _, step in CONSTANTS if steps & step)
    return np.full((count, 1), constant, np.float32).view(np.uint32)
