"""Programs of the vector unit: short lists of binary32 steps that compute each element of a result.

This is the one definition of the steps. The reference executor and the machine run them by `evaluate`, the unit takes
`cycles` for each, the instruction set page lists them.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import ModelError

from . import functions
from .affine import Affine, Quantization, factor_of, rounded_codes
from .binary32 import Float32, f32, fma

#: How functions are computed where nothing else is said.
ACCURATE = functions.Method("accurate")

#: Steps of a program, and operands that it reads beside constants.
MOST_STEPS, MOST_OPERANDS = 16, 3
#: Bytes of a step in memory: operation and three registers, a byte each, then three constants in binary32.
STEP_BYTES = 16
#: The register of the result of step i is `FIRST + i`; those below are the operands.
FIRST = MOST_OPERANDS
#: Stands for the constant of that place.
CONSTANT = 255
#: Partial sums of a statistic: element i of a row is in partial sum i mod `PARTIALS`.
PARTIALS = 64


class Operation(enum.IntEnum):
    """What a step does with a, b and c."""

    DEQUANTIZE = 0
    ADD = 1
    SUBTRACT = 2
    MULTIPLY = 3
    FMA = 4
    DIVIDE = 5
    SQUARE_ROOT = 6
    MINIMUM = 7
    MAXIMUM = 8
    ABSOLUTE = 9
    LESS = 10
    SELECT = 11
    ROUND = 12
    QUANTIZE_FUSED = 16
    QUANTIZE_SEPARATE = 17
    QUANTIZE_CONVERTED = 18
    QUANTIZE_DIVISION = 19
    FUNCTION = 64


#: How many operands the operations have that do not have two; a quantisation has three.
_OPERANDS = {
    Operation.DEQUANTIZE: 3,
    Operation.FMA: 3,
    Operation.SELECT: 3,
    Operation.SQUARE_ROOT: 1,
    Operation.ABSOLUTE: 1,
    Operation.ROUND: 1,
    Operation.FUNCTION: 1,
}
#: Cycles of a lane, where they are not one: a divider and a square root of 4 bits of the significand a cycle, 24 bits
#: and the guard bits, not pipelined.
_ITERATIVE = 8
_CYCLES = {Operation.DIVIDE: _ITERATIVE, Operation.SQUARE_ROOT: _ITERATIVE, Operation.QUANTIZE_DIVISION: _ITERATIVE}

#: How a quantisation with each of the roundings ends a program.
QUANTIZE: Mapping[Quantization, Operation] = {
    "fused": Operation.QUANTIZE_FUSED,
    "separate": Operation.QUANTIZE_SEPARATE,
    "converted": Operation.QUANTIZE_CONVERTED,
    "division": Operation.QUANTIZE_DIVISION,
}
#: And of each operation that ends one, the rounding.
ROUNDINGS: Mapping[Operation, Quantization] = {operation: rounding for rounding, operation in QUANTIZE.items()}


def operand_count(operation: Operation) -> int:
    """How many operands an operation has."""
    return 3 if operation in ROUNDINGS else _OPERANDS.get(operation, 2)


class Statistic(enum.IntEnum):
    """What an instruction makes of the results along a row; NONE: they are the result."""

    NONE = 0
    SUM = 1
    MAXIMUM = 2
    MINIMUM = 3


class Register(NamedTuple):
    """An operand of the program (number 0 to 2), or the result of a step (`FIRST` and up)."""

    number: int


#: What a step reads: a register, or a number.
Operand = Register | float


@dataclass(frozen=True)
class Step:
    """One step; `function`: which, of the operation FUNCTION."""

    operation: Operation
    operands: tuple[Operand, ...]
    function: str = ""

    def __post_init__(self) -> None:
        count = operand_count(self.operation)
        if len(self.operands) != count:
            raise ModelError(f"step {self.operation.name.lower()} takes {count} operands")
        if (self.operation == Operation.FUNCTION) != (self.function in functions.NAMES):
            raise ModelError(f"step {self.operation.name.lower()}: no function {self.function!r}")

    @property
    def name(self) -> str:
        """The operation, or the function."""
        return self.function or self.operation.name.lower()

    def cycles(self, method: functions.Method) -> int:
        """Cycles of a lane."""
        return functions.steps(self.function, method) if self.function else _CYCLES.get(self.operation, 1)


Program = tuple[Step, ...]


class Writer:
    """Writes a program step by step."""

    def __init__(self) -> None:
        self.steps: list[Step] = []

    def step(self, operation: Operation, *operands: Operand) -> Register:
        """One step more; its result."""
        return self._append(Step(operation, operands))

    def function(self, name: str, operand: Operand) -> Register:
        """A function of one number."""
        return self._append(Step(Operation.FUNCTION, (operand,), name))

    def dequantized(self, operand: Register, affine: Affine) -> Register:
        """The number that codes of an affine map stand for."""
        if affine.is_float:
            return operand
        return self.step(Operation.DEQUANTIZE, operand, float(affine.zero_point), float(f32(affine.scale)))

    def quantized(self, operand: Operand, affine: Affine, rounding: Quantization) -> None:
        """The codes of a number; the last step of a program."""
        if affine.is_float:
            return
        factor = float(factor_of(affine.scale, rounding))
        self.step(QUANTIZE[rounding], operand, factor, float(affine.zero_point))

    def _append(self, step: Step) -> Register:
        self.steps.append(step)
        return Register(FIRST + len(self.steps) - 1)

    @property
    def program(self) -> Program:
        """The steps so far."""
        return tuple(self.steps)


def cycles(program: Sequence[Step], method: functions.Method = ACCURATE) -> int:
    """Cycles that a lane takes for an element."""
    return sum(step.cycles(method) for step in program)


# In memory


def encode(program: Program) -> NDArray[np.uint32]:
    """The steps as words, uint32 (steps, 4): operation and registers, and the constants of a, b and c."""
    words = np.zeros((len(program), 4), np.uint32)
    for row, step in zip(words, program, strict=True):
        operation = int(step.operation)
        if step.function:
            operation += functions.NAMES.index(step.function)
        row[0] = operation
        for place, operand in enumerate(step.operands):
            number = operand.number if isinstance(operand, Register) else CONSTANT
            row[0] |= np.uint32(number << 8 * (place + 1))
            if not isinstance(operand, Register):
                row[place + 1] = np.float32(operand).view(np.uint32)
    return words


def decode(words: NDArray[np.uint32]) -> Program:
    """The program of such words. Raises ModelError naming the step that is none."""
    if words.ndim != 2 or words.shape[1:] != (4,) or words.dtype != np.uint32 or len(words) > MOST_STEPS:
        raise ModelError(f"a program has up to {MOST_STEPS} steps of four 32-bit words; here {words.shape}")
    return _decoded(words.tobytes())


@lru_cache(maxsize=4096)
def _decoded(raw: bytes) -> Program:
    """The same few programs are asked for by every instruction, in every run."""
    words = np.frombuffer(raw, np.uint32).reshape(-1, 4)
    steps = []
    for number, (first, *constants) in enumerate(words.tolist()):
        code = first & 255
        known = Operation.FUNCTION if code >= Operation.FUNCTION else code
        index = code - Operation.FUNCTION
        if known not in Operation._value2member_map_ or index >= len(functions.NAMES):
            raise ModelError(f"step {number}: no operation {code}")
        operation = Operation(known)
        operands: list[Operand] = []
        for place in range(operand_count(operation)):
            register = first >> 8 * (place + 1) & 255
            if register == CONSTANT:
                operands.append(float(np.uint32(constants[place]).view(np.float32)))
            elif register < FIRST + number:
                operands.append(Register(register))
            else:
                raise ModelError(f"step {number} reads register {register}, which nothing has written before it")
        function = functions.NAMES[index] if operation == Operation.FUNCTION else ""
        if operation in ROUNDINGS and number != len(words) - 1:
            raise ModelError(f"step {number}: a quantisation is the last step")
        steps.append(Step(operation, tuple(operands), function))
    return tuple(steps)


def quantization(program: Program) -> Quantization | None:
    """How a program ends that makes codes; None for one that makes binary32 numbers."""
    return ROUNDINGS.get(program[-1].operation) if program else None


def text(program: Program) -> str:
    """The program in words: `dequantize(a, 128, 0.5); exp(s0)`."""

    def name(operand: Operand) -> str:
        if isinstance(operand, Register):
            return "abc"[operand.number] if operand.number < FIRST else f"s{operand.number - FIRST}"
        return f"{operand:.9g}"

    return "; ".join(f"{step.name}({', '.join(map(name, step.operands))})" for step in program)


# Semantics


def _less(a: Float32, b: Float32) -> Float32:
    return f32(np.less(a, b))


def _select(a: Float32, b: Float32, c: Float32) -> Float32:
    return np.where(a != 0, b, c)


def _dequantize(a: Float32, b: Float32, c: Float32) -> Float32:
    return np.asarray((a - b) * c)


_RULES: dict[Operation, Callable[..., Any]] = {
    Operation.DEQUANTIZE: _dequantize,
    Operation.ADD: np.add,
    Operation.SUBTRACT: np.subtract,
    Operation.MULTIPLY: np.multiply,
    Operation.FMA: fma,
    Operation.DIVIDE: np.divide,
    Operation.SQUARE_ROOT: np.sqrt,
    Operation.MINIMUM: np.minimum,
    Operation.MAXIMUM: np.maximum,
    Operation.ABSOLUTE: np.abs,
    Operation.LESS: _less,
    Operation.SELECT: _select,
    Operation.ROUND: np.rint,
}


def apply(step: Step, taken: Sequence[Any], method: functions.Method = ACCURATE) -> NDArray[np.float32]:
    """What a step makes of binary32 numbers; not one that quantises. Shapes broadcast."""
    if step.function:
        return functions.evaluate(step.function, taken[0], method)
    return np.asarray(_RULES[step.operation](*taken))


def evaluate(
    program: Program,
    operands: Sequence[NDArray[Any]],
    dtype: str = "float32",
    method: functions.Method = ACCURATE,
) -> NDArray[Any]:
    """The results of a program, of the operands' shape as numpy broadcasts it: float32, or codes of `dtype`.

    `operands`: float32, or codes (uint8, int8), which stand for themselves as numbers.
    """
    registers: dict[int, Any] = {number: f32(operand) for number, operand in enumerate(operands)}
    shape = np.broadcast_shapes(*(np.shape(operand) for operand in operands))
    result = registers[0]
    with np.errstate(all="ignore"):
        for number, step in enumerate(program):
            taken = [
                registers[item.number] if isinstance(item, Register) else np.float32(item) for item in step.operands
            ]
            if step.operation in ROUNDINGS:
                codes = Affine(1.0, 0, dtype)  # type: ignore[arg-type]
                x, factor, zero_point = taken
                rounding = ROUNDINGS[step.operation]
                result = rounded_codes(f32(x), factor, zero_point, codes.minimum, codes.maximum, rounding)
                return np.broadcast_to(result.astype(dtype), shape)
            result = apply(step, taken, method)
            registers[FIRST + number] = result
    return np.broadcast_to(np.asarray(result, np.float32), shape)


def statistic(values: NDArray[np.float32], kind: Statistic) -> NDArray[np.float32]:
    """A statistic along the last axis, float32 of the other axes.

    The order of a sum: element i is added to partial sum i mod 64, one after the other; then neighbours are added
    pairwise, (0, 1), (2, 3), ..., the last of an odd number passes, until one is left. It does not depend on the lanes
    of a machine, so neither do the bits.
    """
    combine = {Statistic.SUM: np.add, Statistic.MAXIMUM: np.maximum, Statistic.MINIMUM: np.minimum}[kind]
    partial = np.array(values[..., :PARTIALS], np.float32)
    with np.errstate(all="ignore"):
        for start in range(PARTIALS, values.shape[-1], PARTIALS):
            part = values[..., start : start + PARTIALS]
            width = part.shape[-1]
            partial[..., :width] = combine(partial[..., :width], part)
        while partial.shape[-1] > 1:
            paired = combine(partial[..., : partial.shape[-1] // 2 * 2 : 2], partial[..., 1::2])
            odd = partial[..., -1:] if partial.shape[-1] % 2 else partial[..., :0]
            partial = np.concatenate([paired, odd], axis=-1)
    return np.asarray(partial[..., 0], np.float32)


def check(program: Program, operands: int, dtype: str, kind: Statistic) -> None:
    """Raises ModelError for a program that reads more than `operands`, or makes other elements than `dtype`."""
    if not 1 <= operands <= MOST_OPERANDS:
        raise ModelError(f"{operands} operands; a program reads 1 to {MOST_OPERANDS}")
    read = {item.number for step in program for item in step.operands if isinstance(item, Register)}
    if any(operands <= number < FIRST for number in read):
        raise ModelError(f"reads operand {max(n for n in read if n < FIRST)} of {operands}")
    if (quantization(program) is None) != (dtype == "float32"):
        raise ModelError(f"makes {'binary32 numbers' if dtype != 'float32' else 'codes'}, not {dtype}")
    if kind != Statistic.NONE and dtype != "float32":
        raise ModelError("a statistic is a binary32 number")
    constants = [item for step in program for item in step.operands if not isinstance(item, Register)]
    if any(math.isnan(item) for item in constants):
        raise ModelError("a constant is NaN")
