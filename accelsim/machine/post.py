"""What the post unit computes besides requantising accumulators (`requantization.py`).

Every rounding is the arithmetic floor's; here operands are gathered and rules built.
"""

from __future__ import annotations

import numpy as np

from accelsim.arithmetic.binary32 import f32
from accelsim.arithmetic.elementwise import FixedAdd, FloatAdd, Operand, Product
from accelsim.arithmetic.requantize import CONSTANTS, Requantization, Step
from accelsim.isa import Add, AddFixed, Multiply, Pool, Reduction
from accelsim.isa.instructions import _Binary

from .footprint import taps

#: The steps that act with no constant.
_FLAGS = Step.ZERO_POINT_FIRST | Step.FUSED_ZERO_POINT | Step.INDEFINITE


def unavailable_steps(steps: Step, *, divisor: bool) -> Step:
    """Those of `steps` that an instruction with one constant has not: it multiplies, or with `divisor` may divide."""
    allowed = _FLAGS | Step.MULTIPLIER | (Step.DIVISOR if divisor else Step(0))
    return steps & ~allowed


def binary(instruction: _Binary, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Codes of an element-wise sum or product of the bytes `a` and `b`."""
    a = a.view(np.int8) if instruction.signed_a else a
    b = b.view(np.int8) if instruction.signed_b else b
    return _binary_rule(instruction).apply(a, b)


def _binary_rule(instruction: _Binary) -> FloatAdd | FixedAdd | Product:
    match instruction:
        case Add():
            return FloatAdd(
                Operand(instruction.subtract_a, f32(instruction.scale_a), f32(instruction.offset_a)),
                Operand(instruction.subtract_b, f32(instruction.scale_b), f32(instruction.offset_b)),
                _rule(instruction, instruction.steps, _immediate(instruction.steps, instruction.multiplier)),
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


def lookup(table: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Entries of `table` (1 or runs, 256) for `indices` (1 or runs, lines, length)."""
    if len(table) == 1:
        return table[0][indices]
    every = np.broadcast_to(indices, (len(table), *indices.shape[1:]))
    return np.stack([entries[part] for entries, part in zip(table, every, strict=True)])


def pool(tile: Pool, activations: np.ndarray) -> np.ndarray:
    """Codes (runs, images, lines, pixels, channels). `activations`: (1 or runs, bytes), the activation memory.

    Raises ValueError with (line, pixel) for the maximum of a window that is all padding.
    """
    codes = activations.view(np.int8) if tile.signed_activation else activations
    shape = (len(codes), tile.images, tile.out_height, tile.out_width, tile.channels)
    count = np.zeros(shape[2:4], np.int32)
    largest = tile.reduction == Reduction.MAX
    result = np.full(shape, np.iinfo(codes.dtype).min, codes.dtype) if largest else np.zeros(shape, np.int32)
    for tap in taps(tile):
        count[tap.down, tap.across] += 1
        part = result[:, :, tap.down, tap.across]
        (np.maximum if largest else np.add)(part, tap.block.view(codes), out=part)
    if not largest:
        result -= tile.subtract * count[:, :, None]
        return _rule(tile, tile.steps, _immediate(tile.steps, tile.factor)).apply(result)
    if not count.all():
        line, pixel = np.argwhere(count == 0)[0]
        raise ValueError(int(line), int(pixel))
    return result


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
