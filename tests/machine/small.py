"""A small machine, and random programs for it whose instructions wait for one another so that none hurts another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

import numpy as np
import pytest

import accelsim
from accelsim.arithmetic.affine import Affine
from accelsim.arithmetic.requantize import Step
from accelsim.arithmetic.vector import Statistic
from accelsim.isa import (
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
    Port,
    Program,
    Reduction,
    RequantFixed,
    RequantGemmlowp,
    Requantize,
    RequantTextbook,
    RequantThresholds,
    Segment,
    Store,
    Unit,
    Units,
)
from accelsim.isa.instructions.elementwise import Maximum
from accelsim.isa.instructions.vector import Element, Vector

CODE = 1 << 16


def seeds(some: int, every: int) -> list[Any]:
    """The seeds of a test's cases: `some` of them for `make test`, and those up to `every` for `make test-full`."""
    return [*range(some), *(pytest.param(seed, marks=pytest.mark.full) for seed in range(some, every))]


def accelerator(**changes: Any) -> accelsim.Accelerator:
    """4 x 4 cells, 16 KiB of each memory, 16 bytes a cycle; dotted keys may be given with `__` for the dot."""
    base = accelsim.Accelerator.from_dict(
        {
            "name": "small",
            "mac_array": {"rows": 4, "columns": 4},
            "buffers": {
                "activation": {"bytes": 16384, "banks": 16},
                "weight": {"bytes": 16384, "banks": 16},
                "accumulator": {"bytes": 16384, "banks": 4},
                "parameter": {"bytes": 4096, "banks": 16},
            },
            "dram": {"bytes_per_cycle": 16, "latency": 10},
        }
    )
    return base.replace(**{key.replace("__", "."): value for key, value in changes.items()})


def in_order(instructions: list[Instruction]) -> tuple[Instruction, ...]:
    """The instructions so synchronised that each starts when the one before it, of whatever unit, has ended."""
    result = []
    for index, instruction in enumerate(instructions):
        before = instructions[index - 1].unit if index else None
        after = instructions[index + 1].unit if index + 1 < len(instructions) else None
        waits = Units.NONE if before is None else Units.of(before)
        signals = Units.NONE if after is None else Units.of(after)
        result.append(replace(instruction, wait=waits, signal=signals))
    return (*result, Halt())


def program(
    instructions: tuple[Instruction, ...],
    data: dict[int, bytes],
    outputs: tuple[Port, ...] = (),
    inputs: tuple[Port, ...] = (),
    **parts: Any,
) -> Program:
    return Program(
        "test",
        accelerator(),
        instructions,
        ("layer",),
        (0,) * len(instructions),
        tuple(Segment(address, content) for address, content in data.items()),
        inputs,
        outputs,
        code=CODE,
        **parts,
    )


def flat_port(name: str, address: int, size: int, dtype: str = "uint8", memory: Memory = Memory.DRAM) -> Port:
    return Port(name, address, (1, size), (1, size), (0, 1), Affine(1.0, 0, dtype), memory)


def random_bytes(random: Random, count: int) -> bytes:
    return np.random.default_rng(random.getrandbits(32)).integers(0, 256, count, np.uint8).tobytes()


def random_transfer(random: Random, kind: type[Load] | type[Store]) -> Instruction:
    """A transfer within the first 4 KiB of its memories; its rows do not overlap where it writes."""
    length, counts = random.randint(1, 40), [random.randint(1, 3) for _ in range(3)]
    pitches = [length + random.randint(0, 3)]
    for count in counts[:2]:
        pitches.append(pitches[-1] * count + random.randint(0, 5))
    other = [length + random.randint(0, 30)]
    for count in counts[:2]:
        other.append(other[-1] * count + random.randint(0, 5))
    dram, local = (pitches, other) if kind is Store else (other, pitches)
    fields: dict[str, Any] = {"length": length, "dram": random.randrange(512), "address": random.randrange(512)}
    for axis in range(3):
        fields |= {
            f"count_{axis + 1}": counts[axis],
            f"dram_pitch_{axis + 1}": dram[axis],
            f"pitch_{axis + 1}": local[axis],
        }
    if kind is Load:
        fields["memory"] = random.choice([Memory.ACTIVATION, Memory.WEIGHT, Memory.PARAMETER])
    return kind(**fields)


def random_window(random: Random, channels: int) -> dict[str, Any]:
    """Fields of a window over images of `channels`, with strides, dilation and padding, in the activation buffer."""
    height, width = random.randint(1, 7), random.randint(1, 7)
    kernel, stride, dilation = ([random.randint(1, 3) for _ in range(2)] for _ in range(3))
    before = [random.randint(0, 2) for _ in range(2)]
    out = [
        max(1, (size + 2 * pad - dilated * (taps - 1) - 1) // step + 1)
        for size, taps, step, dilated, pad in zip((height, width), kernel, stride, dilation, before, strict=True)
    ]
    pixel = channels + random.randint(0, 2)
    line = width * pixel + random.randint(0, 3)
    return {
        "activation": random.randrange(64),
        "images": random.randint(1, 2),
        "image_pitch": height * line + random.randint(0, 5),
        "line_pitch": line,
        "pixel_pitch": pixel,
        "height": height,
        "width": width,
        "out_height": out[0],
        "out_width": out[1],
        "kernel_height": kernel[0],
        "kernel_width": kernel[1],
        "stride_y": stride[0],
        "stride_x": stride[1],
        "dilation_y": dilation[0],
        "dilation_x": dilation[1],
        "top": -before[0],
        "left": -before[1],
        "channels": channels,
        "signed_activation": random.randint(0, 1),
    }


def random_mac(random: Random, **fields: Any) -> Mac:
    groups = random.choice([1, 1, 1, 2, 3, 5])
    each_in, each_out = random.choice([1, 1, 2, 3, 8]), random.choice([1, 1, 2, 4, 5])
    outputs = groups * each_out
    window = random_window(random, groups * each_in)
    reduction = each_in * window["kernel_height"] * window["kernel_width"]
    along_k = random.random() < 0.5
    pitch_k = outputs + random.randint(0, 2) if along_k else 1
    pitch_n = 1 if along_k else reduction + random.randint(0, 2)
    unroll_pixels = 1
    if window["dilation_x"] == 1 and window["stride_x"] <= window["kernel_width"]:
        unroll_pixels = random.randint(1, max(1, min(window["out_width"], accelerator().mac_array.columns // each_out)))
    array = accelerator().mac_array
    across = window["kernel_width"] + (unroll_pixels - 1) * window["stride_x"]
    in_rows = array.rows // (window["kernel_height"] * across * each_in)  # what an input stationary array takes
    side_by_side = min(max(min(array.columns // (unroll_pixels * each_out), in_rows), 1), groups)
    chosen = {
        "unroll_pixels": unroll_pixels,
        "unroll_groups": random.choice([1, side_by_side, random.randint(1, side_by_side)]),
        "accumulator_gap": random.choice([0, 0, 2]),
        "pad": random.randint(-128, 127) if window["signed_activation"] else random.randint(0, 255),
        "outputs": outputs,
        "groups": groups,
        "weight": random.randrange(32),
        "weight_pitch_k": pitch_k,
        "weight_pitch_n": pitch_n,
        "weight_zero_point": random.choice([0, 0, -128, 127, 5]),
        "accumulator": random.randrange(16),
    }
    return Mac(**window | chosen | fields)


def _clamp(random: Random) -> dict[str, int]:
    low, high = random.choice([0, 20]), random.choice([255, 200])
    return {"zero_point": random.randint(0, 255), "minimum": low, "maximum": high}


def _last(random: Random) -> Step:
    return random.choice([Step(0), Step.ZERO_POINT_FIRST, Step.FUSED_ZERO_POINT])


def _tile(random: Random, channels: int) -> dict[str, Any]:
    width = random.randint(1, 4)
    return {
        "images": random.randint(1, 2),
        "out_height": random.randint(1, 3),
        "out_width": width,
        "pixel_pitch": channels + 1,
        "line_pitch": width * (channels + 1),
        "image_pitch": 200,
        "out": _out(random),
        "accumulator": 3,
        "accumulator_gap": random.choice([0, 2]),
        "channels": channels,
        "parameters": 256,
    }


def _out(random: Random) -> int:
    """What an instruction of the post unit writes lies above all that it reads in the activation buffer."""
    return 8192 + random.randrange(64)


def random_requantize(random: Random) -> Requantize:
    last = _last(random)
    steps = last | Step.MULTIPLIER
    for step in (Step.OFFSET, Step.SCALE_1, Step.SCALE_2, Step.BIAS, Step.DIVISOR):
        if random.random() < 0.4 and not (step == Step.DIVISOR and last == Step.FUSED_ZERO_POINT):
            steps |= step
    if not steps & Step.BIAS and random.random() < 0.4:
        steps |= Step.FUSED_BIAS
    if random.random() < 0.25:
        return _real(random, steps & ~(Step.MULTIPLIER | Step.DIVISOR | Step.ZERO_POINT_FIRST | Step.FUSED_ZERO_POINT))
    return Requantize(steps=steps, **_tile(random, random.randint(1, 9)), **_clamp(random))


def _real(random: Random, steps: Step) -> Requantize:
    """Sums in real numbers, of four bytes each."""
    tile = _tile(random, random.randint(1, 9))
    pitch = 4 * tile["channels"] + random.randint(0, 2)
    line = tile["out_width"] * pitch
    tile |= {"pixel_pitch": pitch, "line_pitch": line, "image_pitch": tile["out_height"] * line + random.randint(0, 9)}
    return Requantize(steps=steps, real=1, **tile, **_clamp(random))


def random_thresholds(random: Random) -> RequantThresholds:
    minimum = random.choice([0, 20])
    maximum = minimum + random.choice([0, 1, 7, 30])
    return RequantThresholds(minimum=minimum, maximum=maximum, **_tile(random, random.randint(1, 6)))


def random_fixed(random: Random) -> RequantFixed:
    clamp = _clamp(random)
    del clamp["zero_point"]
    return RequantFixed(**_tile(random, random.randint(1, 6)), **clamp)


def random_gemmlowp(random: Random) -> RequantGemmlowp:
    return RequantGemmlowp(**_tile(random, random.randint(1, 6)), **_clamp(random))


def random_textbook(random: Random) -> RequantTextbook:
    return RequantTextbook(**_tile(random, random.randint(1, 6)), **_clamp(random))


def _lines(random: Random) -> dict[str, Any]:
    length = random.randint(1, 40)
    pitch = length + random.randint(0, 2)
    return {"length": length, "lines": random.randint(1, 3), "out": _out(random), "out_pitch": pitch}


def _operands(random: Random) -> dict[str, Any]:
    lines = _lines(random)
    return lines | {
        "a": random.randrange(99),
        "b": random.randrange(99),
        "a_pitch": random.randint(0, 50),
        "b_pitch": lines["length"],
        "signed_a": random.randint(0, 1),
        "signed_b": random.randint(0, 1),
    }


def _zero(random: Random) -> int:
    return random.randint(-128, 255)


def random_add(random: Random) -> Add:
    sides = {
        "subtract_a": _zero(random),
        "scale_a": float(np.float32(0.1)),
        "subtract_b": _zero(random),
        "scale_b": 0.1875,
        "offset_b": 1.5,
        "fused": random.randint(0, 1),
    }
    steps, factor = Step.MULTIPLIER | _last(random), random.choice([0.5, 2.0])
    return Add(**_operands(random), **sides, steps=steps, multiplier=factor, **_clamp(random))


def random_add_fixed(random: Random) -> AddFixed:
    factors = {"multiplier_a": random.randint(1, 1 << 10), "multiplier_b": 512, "shift": random.randint(0, 12)}
    factors["halves_up"] = random.randint(0, 1)
    return AddFixed(**_operands(random), **factors, zero_a=_zero(random), zero_b=_zero(random), **_clamp(random))


def random_multiply(random: Random) -> Multiply:
    zeros = {"zero_a": _zero(random), "zero_b": _zero(random)}
    steps, factor = Step.MULTIPLIER | _last(random), random.choice([2.0**-7, 0.01171875])
    return Multiply(**_operands(random), **zeros, steps=steps, multiplier=factor, **_clamp(random))


def random_maximum(random: Random) -> Maximum:
    return Maximum(**_operands(random), smaller=random.randint(0, 1))


def random_lookup(random: Random) -> Lookup:
    return Lookup(source=7, source_pitch=random.randint(0, 50), table=random.randrange(200), **_lines(random))


def random_pool(random: Random) -> Pool:
    channels = random.randint(1, 6)
    window = random_window(random, channels)
    size = window["out_width"] * channels
    pitches = {"out_pixel_pitch": channels, "out_line_pitch": size, "out_image_pitch": window["out_height"] * size}
    if random.random() < 0.5:
        # The first tap of every window is inside, so that each holds an element; the others may be padding.
        window |= {"top": 0, "left": 0, "stride_y": 1, "stride_x": 1}
        window |= {"height": window["out_height"], "width": window["out_width"]}
        return Pool(reduction=Reduction.MAX, out=_out(random), **window, **pitches)
    last = _last(random)
    step = random.choice([Step.MULTIPLIER, Step.DIVISOR]) if last != Step.FUSED_ZERO_POINT else Step.MULTIPLIER
    factor = 0.25 if step == Step.MULTIPLIER else 4.0
    sums = {"reduction": Reduction.SUM, "subtract": random.randint(0, 255), "steps": step | last, "factor": factor}
    return Pool(out=_out(random), **sums, **window, **pitches, **_clamp(random))


def programs() -> bytes:
    """Programs of the vector unit, 64 bytes each: what `random_vector` takes."""
    from accelsim.arithmetic import vector
    from accelsim.arithmetic.vector import Operation, Register, Writer

    a, b = Register(0), Register(1)
    made = b""
    for end in (None, *vector.QUANTIZE.values()):
        writer = Writer()
        scaled = writer.step(Operation.DEQUANTIZE, a, 3.0, 0.0625)
        total = writer.step(Operation.FMA, scaled, b, 0.3)
        picked = writer.step(Operation.MAXIMUM, total, -2.75)
        if end is not None:
            writer.step(end, picked, 1.5, 7.0)
        made += vector.encode(writer.program).tobytes().ljust(64, b"\0")
    return made


def random_vector(random: Random) -> Vector:
    """Rows of one of the `programs`, which lie in the parameter buffer from 2048 on."""
    number, lengths = random.randrange(5), [random.randint(1, 70), random.randint(1, 2), random.randint(1, 2)]
    length, inner, outer = lengths
    coded, statistic = number > 0, random.choice(list(Statistic)) if not number else Statistic.NONE
    element = random.choice([Element.UINT8, Element.INT8]) if coded else Element.FLOAT32
    width = 1 if coded else 4
    pitch = width + random.choice([0, 0, 1, 3])
    row = pitch * length + random.randint(0, 5)
    spread = {"a_pitch": random.randint(0, 2), "a_inner": random.randint(0, 9), "a_outer": random.randint(0, 9)}
    spread |= {"b_pitch": random.choice([0, 1]), "b_inner": random.randint(0, 9), "b_outer": random.randint(0, 9)}
    return Vector(
        outer=outer,
        inner=inner,
        length=length,
        program=2048 + 64 * number,
        steps=3 + (number > 0),
        cycles=3 if not number else 4 if number < 4 else 11,
        statistic=statistic,
        out=_out(random),
        out_pitch=pitch,
        out_inner=row,
        out_outer=inner * row + random.randint(0, 5),
        out_element=element,
        a=random.randrange(99),
        a_element=random.choice([Element.UINT8, Element.INT8]),
        b=random.randrange(99),
        b_element=random.choice([Element.UINT8, Element.INT8]),
        **spread,
    )


#: Random instructions of the post unit, by class.
POST: dict[type[Instruction], Callable[[Random], Instruction]] = {
    Requantize: random_requantize,
    RequantFixed: random_fixed,
    RequantThresholds: random_thresholds,
    RequantGemmlowp: random_gemmlowp,
    RequantTextbook: random_textbook,
    Add: random_add,
    AddFixed: random_add_fixed,
    Multiply: random_multiply,
    Maximum: random_maximum,
    Lookup: random_lookup,
    Pool: random_pool,
    Vector: random_vector,
}
#: And of all the others; none but the last instruction of a program is `halt`.
RANDOM: dict[type[Instruction], Callable[[Random], Instruction]] = {
    Load: lambda random: random_transfer(random, Load),
    Store: lambda random: random_transfer(random, Store),
    Mac: random_mac,
    Halt: lambda _random: Halt(),
    **POST,
}


def random_post(random: Random) -> Instruction:
    """Any instruction of the post unit, each as often as another."""
    return POST[random.choice(list(POST))](random)


def random_instruction(random: Random) -> Instruction:
    kind = random.choice(["load", "load", "store", "mac", "mac", "post", "post"])
    if kind in ("load", "store"):
        return random_transfer(random, Load if kind == "load" else Store)
    return random_mac(random) if kind == "mac" else random_post(random)


def balanced(random: Random, instructions: list[Instruction]) -> tuple[Instruction, ...]:
    """The instructions with random tokens: each wait is for one that an earlier instruction puts, none is left over."""
    units = [unit for instruction in instructions if (unit := instruction.unit) is not None]
    waits = [Units.NONE] * len(units)
    signals = [Units.NONE] * len(units)
    for index, unit in enumerate(units):
        for other in Unit:
            earlier = [i for i in range(index) if units[i] == other and not signals[i] & Units.of(unit)]
            taken_until = max(
                (i for i in range(index) if units[i] == other and signals[i] & Units.of(unit)), default=-1
            )
            later = [i for i in earlier if i > taken_until]
            if later and random.random() < 0.4:
                signals[random.choice(later)] |= Units.of(unit)
                waits[index] |= Units.of(other)
    result = [
        replace(instruction, wait=wait, signal=signal)
        for instruction, wait, signal in zip(instructions, waits, signals, strict=True)
    ]
    return (*result, Halt())
