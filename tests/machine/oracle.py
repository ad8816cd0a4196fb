"""Instructions executed byte by byte in plain Python, one after the other: what the machine's data must come to."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

from accelsim.arithmetic import functions
from accelsim.arithmetic.requantize import Step
from accelsim.isa import (
    REQUANTIZATIONS,
    Add,
    AddFixed,
    Halt,
    Instruction,
    Load,
    Lookup,
    Mac,
    Memory,
    Multiply,
    Pool,
    Reduction,
    Store,
)
from accelsim.isa.instructions.elementwise import Maximum
from accelsim.isa.instructions.vector import Vector


class Machine:
    """Memories as dictionaries from address (of words, for accumulators) to value; a missing key was never written."""

    def __init__(self, dram: dict[int, int]) -> None:
        self.memories: dict[Memory, dict[int, int]] = {memory: {} for memory in Memory}
        self.memories[Memory.DRAM] = dict(dram)

    def code(self, address: int, signed: int) -> int:
        byte = self.memories[Memory.ACTIVATION][address]
        return byte - 256 if signed and byte > 127 else byte

    def execute(self, instruction: Instruction) -> None:
        target, results = EXECUTORS[type(instruction)](self, instruction)
        self.memories[target].update(results)

    def _load(self, load: Load) -> tuple[Memory, dict[int, int]]:
        return load.memory, {local: self.memories[Memory.DRAM][dram] for dram, local in _rows(load)}

    def _store(self, store: Store) -> tuple[Memory, dict[int, int]]:
        return Memory.DRAM, {dram: self.memories[Memory.ACTIVATION][local] for dram, local in _rows(store)}

    def _binary(self, instruction: Any) -> tuple[Memory, dict[int, int]]:
        results = {}
        for line in range(instruction.lines):
            for i in range(instruction.length):
                a = self.code(instruction.a + line * instruction.a_pitch + i, instruction.signed_a)
                b = self.code(instruction.b + line * instruction.b_pitch + i, instruction.signed_b)
                code = CODES[type(instruction)](instruction, a, b)
                results[instruction.out + line * instruction.out_pitch + i] = code & 255
        return Memory.ACTIVATION, results

    def _lookup(self, lookup: Lookup) -> tuple[Memory, dict[int, int]]:
        results = {}
        for line in range(lookup.lines):
            for i in range(lookup.length):
                index = self.code(lookup.source + line * lookup.source_pitch + i, 0)
                entry = self.memories[Memory.PARAMETER][lookup.table + index]
                results[lookup.out + line * lookup.out_pitch + i] = entry
        return Memory.ACTIVATION, results

    def _element(self, window: Any, image: int, oy: int, ox: int, ky: int, kx: int, c: int) -> int | None:
        """The code that a window meets, None for padding."""
        y = window.top + oy * window.stride_y + ky * window.dilation_y
        x = window.left + ox * window.stride_x + kx * window.dilation_x
        if not (0 <= y < window.height and 0 <= x < window.width):
            return None
        at = window.activation + image * window.image_pitch + y * window.line_pitch + x * window.pixel_pitch + c
        return self.code(at, window.signed_activation)

    def _mac(self, mac: Mac) -> tuple[Memory, dict[int, int]]:
        results = {}
        each_in, each_out = mac.channels // mac.groups, mac.outputs // mac.groups
        for m, (image, oy, ox) in enumerate(np.ndindex(mac.images, mac.out_height, mac.out_width)):
            for n in range(mac.outputs):
                at = mac.accumulator + m * (mac.outputs + mac.accumulator_gap) + n
                total = self.memories[Memory.ACCUMULATOR][at] if mac.accumulate else 0
                for k, (ky, kx, c) in enumerate(np.ndindex(mac.kernel_height, mac.kernel_width, each_in)):
                    code = self._element(mac, image, oy, ox, ky, kx, n // each_out * each_in + c)
                    byte = self.memories[Memory.WEIGHT][mac.weight + k * mac.weight_pitch_k + n * mac.weight_pitch_n]
                    weight = (byte - 256 if byte > 127 else byte) - mac.weight_zero_point
                    total += (mac.pad if code is None else code) * weight
                results[at] = total
        return Memory.ACCUMULATOR, results

    def _pool(self, pool: Pool) -> tuple[Memory, dict[int, int]]:
        results = {}
        for image, oy, ox, c in np.ndindex(pool.images, pool.out_height, pool.out_width, pool.channels):
            taps = np.ndindex(pool.kernel_height, pool.kernel_width)
            met = [self._element(pool, image, oy, ox, ky, kx, c) for ky, kx in taps]
            codes = [code for code in met if code is not None]
            if pool.reduction == Reduction.MAX:
                code = max(codes)
            else:
                value = pipeline(sum(code - pool.subtract for code in codes), pool.steps, [pool.factor])
                code = finish(value, pool)
            at = pool.out + image * pool.out_image_pitch + oy * pool.out_line_pitch + ox * pool.out_pixel_pitch + c
            results[at] = code & 255
        return Memory.ACTIVATION, results

    def _requantize(self, tile: Any) -> tuple[Memory, dict[int, int]]:
        results = {}
        for m, (image, oy, ox) in enumerate(np.ndindex(tile.images, tile.out_height, tile.out_width)):
            for c in range(tile.channels):
                start = tile.parameters + 4 * c
                words = [
                    bytes(self.memories[Memory.PARAMETER][start + 4 * plane * tile.channels + i] for i in range(4))
                    for plane in range(tile.planes)
                ]
                word = tile.accumulator + m * (tile.channels + tile.accumulator_gap) + c
                total = self.memories[Memory.ACCUMULATOR][word]
                code = _integer_code(tile, total, words)
                if code is None:
                    if tile.steps & Step.OFFSET:
                        total += struct.unpack("<i", words.pop(0))[0]
                    constants = [struct.unpack("<f", word)[0] for word in words]
                    at = tile.out + image * tile.image_pitch + oy * tile.line_pitch + ox * tile.pixel_pitch
                    if tile.real:
                        number = float(pipeline(total, tile.steps, constants)[0])
                        results |= {at + 4 * c + i: byte for i, byte in enumerate(struct.pack("<f", number))}
                        continue
                    code = finish(pipeline(total, tile.steps, constants), tile)
                results[tile.out + image * tile.image_pitch + oy * tile.line_pitch + ox * tile.pixel_pitch + c] = (
                    code & 255
                )
        return Memory.ACTIVATION, results

    def _vector(self, vector: Any) -> tuple[Memory, dict[int, int]]:
        results = {}
        memory = self.memories[Memory.ACTIVATION]
        steps = [
            [self.memories[Memory.PARAMETER][vector.program + 16 * step + i] for i in range(16)]
            for step in range(vector.steps)
        ]
        for o, r in np.ndindex(vector.outer, vector.inner):
            row = []
            for i in range(vector.length):
                registers: list[float] = []
                for name in "abc":
                    at = getattr(vector, name) + o * getattr(vector, f"{name}_outer")
                    at += r * getattr(vector, f"{name}_inner") + i * getattr(vector, f"{name}_pitch")
                    element = getattr(vector, f"{name}_element")
                    registers.append(_loaded(memory, at, element) if element else math.nan)
                for step in steps:
                    registers.append(_stepped(step, registers, vector.out_element))
                row.append(registers[-1] if steps else registers[0])
            at = vector.out + o * vector.out_outer + r * vector.out_inner
            if vector.statistic:
                results |= _stored(at, _statistic(row, vector.statistic), 3)
                continue
            for i, value in enumerate(row):
                results |= _stored(at + i * vector.out_pitch, value, vector.out_element)
        return Memory.ACTIVATION, results


def _loaded(memory: dict[int, int], at: int, element: int) -> float:
    if element == 3:
        return float(struct.unpack("<f", bytes(memory[at + i] for i in range(4)))[0])
    byte = memory[at]
    return float(byte - 256 if element == 2 and byte > 127 else byte)


def _stored(at: int, value: float, element: int) -> dict[int, int]:
    if element == 3:
        return {at + i: byte for i, byte in enumerate(struct.pack("<f", value))}
    return {at: int(value) & 255}


def _single(value: float) -> float:
    """A binary64 result as binary32: of one addition, product, quotient or root the second rounding is innocuous."""
    try:
        return float(struct.unpack("<f", struct.pack("<f", value))[0])
    except OverflowError:
        return math.copysign(math.inf, value)


def _statistic(row: list[float], kind: int) -> float:
    def combined(a: float, b: float) -> float:
        return _single(a + b) if kind == 1 else max(a, b) if kind == 2 else min(a, b)

    partial: list[float] = []
    for i, value in enumerate(row):
        if i < 64:
            partial.append(value)
        else:
            partial[i % 64] = combined(partial[i % 64], value)
    while len(partial) > 1:
        pairs = [combined(partial[i], partial[i + 1]) for i in range(0, len(partial) - 1, 2)]
        partial = pairs + partial[len(pairs) * 2 :]
    return partial[0]


def _stepped(step: list[int], registers: list[float], element: int) -> float:
    code = step[0]
    taken = []
    for place in range(3):
        (constant,) = struct.unpack("<f", bytes(step[4 + 4 * place : 8 + 4 * place]))
        register = step[1 + place]
        taken.append(constant if register == 255 else registers[register])
    a, b, c = taken
    low, high = (0, 255) if element == 1 else (-128, 127)
    match code:
        case 0:
            return _single((a - b) * c)
        case 1:
            return _single(a + b)
        case 2:
            return _single(a - b)
        case 3:
            return _single(a * b)
        case 4:
            return float(binary32(Fraction(a) * Fraction(b) + Fraction(c)))
        case 5:
            return _single(a / b)
        case 6:
            return _single(math.sqrt(a))
        case 7:
            return min(a, b)
        case 8:
            return max(a, b)
        case 9:
            return abs(a)
        case 10:
            return float(a < b)
        case 11:
            return b if a != 0 else c
        case 12:
            return float(round(a))
        case 16:
            return float(round(min(max(binary32(Fraction(a) * Fraction(b) + Fraction(c)), low), high)))
        case 17 | 18:
            return float(min(max(round(_single(a * b)) + c, low), high))
        case 19:
            return float(min(max(round(_single(a / b)) + c, low), high))
    name = functions.NAMES[code - 64]
    return float(functions.evaluate(name, np.float32(a), functions.Method("accurate")))


def _integer_code(tile: Any, total: int, words: list[bytes]) -> int | None:
    """The code of a sum by an instruction without binary32, in Python's integers and fractions; None for others."""
    values = [int.from_bytes(word, "little", signed=True) for word in words]
    match tile.mnemonic:
        case "requant_fixed":
            offset = int.from_bytes(words[1] + words[2], "little", signed=True)
            code = (total * values[0] + offset) // 2 ** values[3]
        case "requant_thresholds":
            return int(tile.minimum + sum(total >= threshold for threshold in values))
        case "requant_gemmlowp":
            bias, multiplier, shift = values
            total = min(max((total + bias) * 2 ** max(-shift, 0), -(2**31)), 2**31 - 1)
            high = (total * multiplier + 2**30) // 2**31
            magnitude = (abs(high) * 2 + 2 ** max(shift, 0)) // 2 ** (max(shift, 0) + 1)
            code = (magnitude if high >= 0 else -magnitude) + tile.zero_point
        case "requant_textbook":
            significand = int.from_bytes(words[1] + words[2], "little")
            # Python rounds a fraction's half to even.
            code = round(Fraction((total + values[0]) * significand, 2 ** values[3])) + tile.zero_point
        case _:
            return None
    return int(min(max(code, tile.minimum), tile.maximum))


def _rows(transfer: Any) -> Any:
    for i, j, k, byte in np.ndindex(transfer.count_3, transfer.count_2, transfer.count_1, transfer.length):
        yield (
            transfer.dram + i * transfer.dram_pitch_3 + j * transfer.dram_pitch_2 + k * transfer.dram_pitch_1 + byte,
            transfer.address + i * transfer.pitch_3 + j * transfer.pitch_2 + k * transfer.pitch_1 + byte,
        )


def binary32(value: Fraction) -> Fraction:
    """The nearest number of 24 significant bits, ties to even (no subnormals, no overflow)."""
    if value == 0:
        return value
    exponent = 0
    while abs(value) >= Fraction(2) ** (exponent + 24):
        exponent += 1
    while abs(value) < Fraction(2) ** (exponent + 23):
        exponent -= 1
    return round(value / Fraction(2) ** exponent) * Fraction(2) ** exponent


def pipeline(value: int | Fraction, steps: Step, constants: list[float]) -> tuple[Fraction, Step]:
    """The binary32 steps with their constants, in order, each rounded once. The zero point is left for `finish`."""
    left = [Fraction(constant) for constant in constants]
    x = binary32(Fraction(value))
    for step in (Step.SCALE_1, Step.SCALE_2):
        if steps & step:
            x = binary32(x * left.pop(0))
    if steps & Step.BIAS:
        x = binary32(x + left.pop(0))
    if steps & Step.FUSED_BIAS:
        x = binary32(left.pop(0) * left.pop(0) + x)
    if steps & Step.MULTIPLIER:
        x = x * left.pop(0)
        x = x if steps & Step.FUSED_ZERO_POINT else binary32(x)
    if steps & Step.DIVISOR:
        x = binary32(x / left.pop(0))
    assert not left
    return x, steps


def finish(result: tuple[Fraction, Step], fields: Any) -> int:
    """Round half to even, add the zero point where the steps say, clamp."""
    x, steps = result
    if steps & (Step.ZERO_POINT_FIRST | Step.FUSED_ZERO_POINT):
        code = round(binary32(x + fields.zero_point))
    else:
        code = round(x) + fields.zero_point
    return min(max(code, fields.minimum), fields.maximum)


def _sum(add: Add, a: int, b: int) -> int:
    sides = [
        binary32((code - subtract) * Fraction(scale) + Fraction(offset))
        for code, subtract, scale, offset in (
            (a, add.subtract_a, add.scale_a, add.offset_a),
            (b, add.subtract_b, add.scale_b, add.offset_b),
        )
    ]
    total = sum(sides, Fraction(0))
    if add.fused:
        total = (a - add.subtract_a) * Fraction(add.scale_a) + sides[1]
    constants = [add.multiplier] if add.steps & (Step.MULTIPLIER | Step.DIVISOR) else []
    return finish(pipeline(total, add.steps, constants), add)


def _product(multiply: Multiply, a: int, b: int) -> int:
    product = (a - multiply.zero_a) * (b - multiply.zero_b)
    constants = [multiply.multiplier] if multiply.steps & Step.MULTIPLIER else []
    return finish(pipeline(product, multiply.steps, constants), multiply)


def _fixed_sum(add: AddFixed, a: int, b: int) -> int:
    total = add.multiplier_a * (a - add.zero_a) + add.multiplier_b * (b - add.zero_b)
    magnitude = (abs(total) * 2 + 2**add.shift) // 2 ** (add.shift + 1)
    code = magnitude if total >= 0 else -magnitude
    if add.halves_up:
        code = math.floor(Fraction(total, 2**add.shift) + Fraction(1, 2))
    code += add.zero_point
    return min(max(code, add.minimum), add.maximum)


def _larger(maximum: Maximum, a: int, b: int) -> int:
    return (b if b < a else a) if maximum.smaller else (b if b > a else a)


#: The code of an element-wise result from those of its operands.
CODES: dict[type[Instruction], Callable[[Any, int, int], int]] = {
    Add: _sum,
    AddFixed: _fixed_sum,
    Multiply: _product,
    Maximum: _larger,
}

#: What each instruction leaves where; `halt` leaves nothing.
EXECUTORS: dict[type[Instruction], Callable[[Machine, Any], tuple[Memory, dict[int, int]]]] = {
    Halt: lambda _machine, _halt: (Memory.DRAM, {}),
    Load: Machine._load,
    Store: Machine._store,
    Mac: Machine._mac,
    Lookup: Machine._lookup,
    Pool: Machine._pool,
    Vector: Machine._vector,
    **dict.fromkeys(CODES, Machine._binary),
    **dict.fromkeys(REQUANTIZATIONS.values(), Machine._requantize),
}
