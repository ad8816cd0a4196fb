"""Programs of the vector unit: every operation on the machine against plain Python, one element after the other."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest

from accelsim.arithmetic import functions, vector
from accelsim.arithmetic.vector import Operation, Register, Statistic, Step
from accelsim.errors import AssemblyError, MachineError
from accelsim.isa import Memory, assemble, disassemble
from accelsim.isa.instructions.vector import Element, Vector

from . import small
from .test_execution import Bench

PROGRAM = 512
_QUANTISATIONS = set(vector.QUANTIZE.values())
_ORDINARY = [item for item in Operation if item not in _QUANTISATIONS]


def random_operand(random: Random, registers: int) -> Register | float:
    if random.random() < 0.3:
        return float(np.float32(random.choice([-3, -1, 0.5, 1.5, 2, 100]) * random.uniform(0.5, 1)))
    return Register(random.choice([0, 1, 2, *range(vector.FIRST, vector.FIRST + registers)]))


def random_program(random: Random, end: Operation | None) -> vector.Program:
    """Of up to nine steps, which keep within ordinary numbers: nothing but a square root or a logarithm of |x|."""
    steps: list[Step] = []

    def add(operation: Operation, *operands: Register | float, function: str = "") -> Register:
        steps.append(Step(operation, operands, function))
        return Register(vector.FIRST + len(steps) - 1)

    for _ in range(random.randint(1, 4)):
        a, b, c = (random_operand(random, len(steps)) for _ in range(3))
        operation = random.choice(_ORDINARY)
        match operation:
            case Operation.FUNCTION:
                name = random.choice(functions.NAMES)
                small_number = add(Operation.MINIMUM, add(Operation.ABSOLUTE, a), 9.0)
                add(operation, small_number, function=name)
            case Operation.SQUARE_ROOT:
                add(operation, add(Operation.ABSOLUTE, a))
            case Operation.DIVIDE:
                add(operation, a, add(Operation.MAXIMUM, b, 0.25))
            case Operation.ABSOLUTE | Operation.ROUND:
                add(operation, a)
            case Operation.DEQUANTIZE | Operation.FMA | Operation.SELECT:
                add(operation, a, b, c)
            case _:
                add(operation, a, b)
        # Whatever came out, what goes on is small, and no infinity or NaN.
        add(Operation.MAXIMUM, add(Operation.MINIMUM, Register(vector.FIRST + len(steps) - 1), 200.0), -200.0)
    if end is not None:
        add(end, Register(vector.FIRST + len(steps) - 1), 1.625, float(random.randint(-9, 9)))
    return tuple(steps)


@pytest.mark.parametrize("seed", small.seeds(40, 600))
def test_random_programs_equal_plain_python(seed: int) -> None:
    random = Random(seed)
    differing = random.choice([set(), {Memory.ACTIVATION}, {Memory.PARAMETER}, set(Memory)])
    bench = Bench(random, random.choice([1, 3]), differing)
    numbers = np.random.default_rng(seed).normal(0, 20, (1, 700)).astype(np.float32)
    bench.write(Memory.ACTIVATION, 4096, numbers.view(np.uint8))
    end = random.choice([None, None, *_QUANTISATIONS])
    program = random_program(random, end)
    while len(program) > vector.MOST_STEPS:
        program = random_program(random, end)
    bench.write(Memory.PARAMETER, PROGRAM, vector.encode(program).view(np.uint8).reshape(1, -1))
    element = Element.FLOAT32 if end is None else random.choice([Element.UINT8, Element.INT8])
    length, inner, outer = random.randint(1, 150), random.randint(1, 2), random.randint(1, 2)
    width, operands = element.bytes, {}
    for name in "abc":
        kind = random.choice([Element.UINT8, Element.INT8, Element.FLOAT32])
        real = kind == Element.FLOAT32
        operands |= {
            name: 4096 + 4 * random.randrange(40) if real else random.randrange(200),
            f"{name}_pitch": random.choice([0, 4, 8]) if real else random.randint(0, 3),
            f"{name}_inner": 4 * random.randint(0, 30) if real else random.randint(0, 200),
            f"{name}_outer": 4 * random.randint(0, 30) if real else random.randint(0, 200),
            f"{name}_element": kind,
        }
    instruction = Vector(
        outer=outer,
        inner=inner,
        length=length,
        program=PROGRAM,
        steps=len(program),
        cycles=vector.cycles(program),
        statistic=random.choice(list(Statistic)) if end is None else Statistic.NONE,
        out=8192 + random.randrange(9),
        out_pitch=width,
        out_inner=width * length,
        out_outer=width * length * inner + random.randint(0, 9),
        out_element=element,
        **operands,
    )
    bench.run(instruction)
    bench.check()


def _one_step(**fields: int) -> Vector:
    plain = {"length": 4, "program": PROGRAM, "steps": 1, "cycles": 1, "a": 0, "a_pitch": 1, "out": 64, "out_pitch": 4}
    elements = {"a_element": Element.UINT8, "out_element": Element.FLOAT32}
    return Vector(**(plain | elements | fields))


@pytest.mark.parametrize(
    ("words", "fields", "wrong"),
    [
        ([77 + 64 | 0 << 8, 0, 0, 0], {}, "step 0: no operation 141"),
        ([40, 0, 0, 0], {}, "step 0: no operation 40"),
        ([1 | 9 << 8 | 255 << 16, 0, 0, 0], {}, "step 0 reads register 9, which nothing has written before it"),
        ([1 | 1 << 8 | 255 << 16, 0, 0, 0], {}, "reads operand 1 of 1"),
        ([1 | 255 << 16, 0, 0, 0], {"cycles": 2}, "its steps take 1 cycles, not cycles=2"),
        ([17 | 255 << 16 | 255 << 24, 0, 0, 0], {}, "makes codes, not float32"),
        ([1 | 255 << 16, 0, 0, 0], {"out_element": Element.UINT8}, "makes binary32 numbers, not uint8"),
        ([1 | 255 << 16, 0, 0x7FC00000, 0], {}, "a constant is NaN"),
    ],
)
def test_a_program_that_is_none_is_refused(words: list[int], fields: dict[str, int], wrong: str) -> None:
    bench = Bench(Random(0), 1, set())
    bench.write(Memory.PARAMETER, PROGRAM, np.array([words], np.uint32).view(np.uint8))
    with pytest.raises(MachineError, match=wrong):
        bench.run(_one_step(**fields))


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"out_element": Element.NONE}, "out_element=none"),
        ({"a_element": Element.NONE}, "a_element=none"),
        ({"c_element": Element.INT8}, "c_element without b_element"),
        ({"statistic": Statistic.SUM, "out_element": Element.INT8}, "a statistic is float32"),
        ({"length": 0}, "length=0"),
    ],
)
def test_fields_that_make_no_instruction_are_refused(fields: dict[str, int], wrong: str) -> None:
    with pytest.raises(AssemblyError, match=wrong):
        _one_step(**fields)


def test_the_text_of_an_instruction_is_read_back() -> None:
    program = small.program(small.in_order([_one_step(statistic=Statistic.MAXIMUM)]), {})
    text = disassemble(program)
    assert "statistic=maximum" in text
    assert "a_element=uint8" in text
    assert assemble(text).words() == program.words()


@pytest.mark.parametrize("length", [1, 2, 63, 64, 65, 127, 128, 1000])
def test_the_order_of_a_sum_is_the_documented_one(length: int) -> None:
    values = np.random.default_rng(length).normal(0, 1, length).astype(np.float32)
    partial = [np.float32(0)] * min(length, 64)
    for i, value in enumerate(values):
        partial[i % 64] = value if i < 64 else partial[i % 64] + value
    while len(partial) > 1:
        pairs = [partial[i] + partial[i + 1] for i in range(0, len(partial) - 1, 2)]
        partial = pairs + ([partial[-1]] if len(partial) % 2 else [])
    made = vector.statistic(values, Statistic.SUM)
    assert made.view(np.uint32) == partial[0].view(np.uint32)
    assert abs(float(made) - float(values.astype(np.float64).sum())) <= 1e-4
