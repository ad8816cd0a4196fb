"""Every instruction does to the memories what plain Python does byte by byte, in one run and in several at once."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

import numpy as np
import pytest

from accelsim.arithmetic.requantize import CONSTANTS, Requantization, Step
from accelsim.errors import AssemblyError, MachineError
from accelsim.isa import Add, Block, Halt, Instruction, Mac, Memory, Multiply, Pool, Reduction, Requantize
from accelsim.isa.instructions.vector import Vector
from accelsim.machine.execution import actions_of
from accelsim.machine.memory.storage import Action, Memories, sizes

from . import oracle, small

PLACES = {Memory.DRAM: 8192, Memory.ACTIVATION: 16384, Memory.WEIGHT: 4096, Memory.PARAMETER: 1024}
PLACES[Memory.ACCUMULATOR] = 4096


class Bench:
    """Memories full of random content, and as many machines in plain Python that hold the same as there are runs."""

    def __init__(self, random: Random, runs: int, differing: set[Memory]) -> None:
        program = small.program((Halt(),), {8191: b"x"})
        self.memories = Memories(program, sizes(program, small.accelerator()), runs)
        self.runs = runs
        self.plain = [oracle.Machine({}) for _ in range(runs)]
        generator = np.random.default_rng(random.getrandbits(32))
        for memory, size in PLACES.items():
            low, high, dtype = (-30000, 30000, np.int32) if memory == Memory.ACCUMULATOR else (0, 256, np.uint8)
            content: Any = generator.integers(low, high, (runs if memory in differing else 1, size), dtype)
            self.write(memory, 0, content)

    def write(self, memory: Memory, start: int, content: np.ndarray) -> None:
        self.memories.target(Block(memory, start, (content.shape[1],), (1,)), len(content))[...] = content
        for plain, row in zip(self.plain, np.broadcast_to(content, (self.runs, content.shape[1])), strict=True):
            plain.memories[memory].update(enumerate(row.tolist(), start))

    def run(self, instruction: Instruction) -> None:
        for action in actions_of(0, instruction, self.memories, small.accelerator().requant_unit.arithmetic):
            action()
        for plain in self.plain:
            plain.execute(instruction)

    def check(self) -> None:
        for memory, size in PLACES.items():
            actions: list[Action] = []
            content = self.memories[memory].read(Block(memory, 0, (size,), (1,)), actions)
            for action in actions:
                action()
            for run, plain in enumerate(self.plain):
                expected = [plain.memories[memory][place] for place in range(size)]
                np.testing.assert_array_equal(content[min(run, len(content) - 1)], expected, memory.name)


def constants(random: Random, tile: Any) -> np.ndarray:
    """Random constants of ordinary size, (1, bytes)."""
    planes: list[bytes] = []
    if not isinstance(tile, Requantize):
        columns = [integer_constants(random, tile) for _ in range(tile.channels)]
        every = np.array(columns, np.int64).reshape(tile.channels, tile.planes)
        return np.ascontiguousarray(every.T.astype(np.uint32)).view(np.uint8).reshape(1, -1)
    for name, reads in CONSTANTS:
        if tile.steps & reads:
            if name == "offset":
                planes.append(np.array([random.randint(-2000, 2000) for _ in range(tile.channels)], np.int32).tobytes())
            else:
                values = [random.choice([-1, 1]) * random.uniform(0.05, 1.5) for _ in range(tile.channels)]
                planes.append(np.array(values, np.float32).tobytes())
    return np.frombuffer(b"".join(planes), np.uint8)[None]


def integer_constants(random: Random, tile: Any) -> list[int]:
    """The words of one channel; sums of magnitude 30,000 meet ties, clamps and both signs."""
    bias, shift = random.randint(-40000, 40000), random.randint(3, 12)
    match tile.mnemonic:
        case "requant_fixed":
            bits = random.randint(1, 31)
            offset = random.choice([bias << shift, random.randint(-(2**61), 2**61)])
            shift = random.choice([shift + bits, random.randint(0, 54)])
            return [random.randrange(2**bits), offset & (2**32 - 1), offset >> 32 & (2**32 - 1), min(shift, 54)]
        case "requant_thresholds":
            return [value & (2**32 - 1) for value in sorted(random.randint(-31000, 31000) for _ in range(tile.planes))]
        case "requant_gemmlowp":
            multiplier = random.choice([2**30, random.randrange(2**30, 2**31), random.randrange(2**31)])
            return [bias & (2**32 - 1), multiplier, random.choice([shift, random.randint(-30, 31)]) & (2**32 - 1)]
    significand = random.choice([2**52, random.randrange(2**52, 2**53)])
    shift = random.choice([shift + 53, shift + 53, random.randint(27, 88)])
    return [bias & (2**32 - 1), significand & (2**32 - 1), significand >> 32, shift]


DIFFERING: list[set[Memory]] = [
    set(),
    {Memory.ACTIVATION},
    {Memory.ACTIVATION, Memory.ACCUMULATOR},
    {Memory.WEIGHT, Memory.PARAMETER},
    set(Memory),
]
SEEDS = small.seeds(40, 400)


@pytest.mark.parametrize("seed", SEEDS)
def test_transfers_and_post_instructions_equal_plain_python(seed: int) -> None:
    random = Random(seed)
    bench = Bench(random, *random.choice([(1, set()), *((3, memories) for memories in DIFFERING)]))
    for _ in range(12):
        instruction = small.random_instruction(random)
        if hasattr(instruction, "parameters"):
            bench.write(Memory.PARAMETER, instruction.parameters, constants(random, instruction))
        if isinstance(instruction, Vector):
            bench.write(Memory.PARAMETER, 2048, np.frombuffer(small.programs(), np.uint8)[None])
        bench.run(instruction)
    bench.check()


@pytest.mark.parametrize("seed", SEEDS)
def test_mac_equals_a_loop_over_every_product(seed: int) -> None:
    """Groups, depthwise, strides, dilation, padding, both signs, weight pitches and zero points, accumulation."""
    random = Random(seed)
    bench = Bench(random, *random.choice([(1, set()), *((2, memories) for memories in DIFFERING)]))
    for _ in range(8):
        bench.run(small.random_mac(random, accumulate=random.randint(0, 1)))
    bench.check()


@pytest.mark.parametrize("reduction", [513, 515, 1500, 4000])
@pytest.mark.parametrize("signed", [0, 1])
def test_sums_far_beyond_24_bits_are_exact(reduction: int, signed: int) -> None:
    """All operands at their largest magnitude and one product odd: any rounding would show in the last digit."""
    bench = Bench(Random(0), 1, set())
    code, byte = (128, -128) if signed else (255, 255)
    bench.write(Memory.ACTIVATION, 0, np.full((1, reduction), code, np.uint8))
    bench.write(Memory.ACTIVATION, reduction - 1, np.ones((1, 1), np.uint8))
    bench.write(Memory.WEIGHT, 0, np.full((1, reduction), 128, np.uint8))
    bench.write(Memory.WEIGHT, reduction - 1, np.full((1, 1), 1, np.uint8))
    mac = Mac(activation=0, channels=reduction, outputs=1, weight=0, weight_pitch_k=1, accumulator=0)
    bench.run(replace(mac, signed_activation=signed))
    total = bench.memories[Memory.ACCUMULATOR].read(Block(Memory.ACCUMULATOR, 0, (1,), (1,)), [])
    assert int(total[0, 0]) == (reduction - 1) * byte * -128 + 1
    bench.check()


def test_long_depthwise_sums_are_exact() -> None:
    """600 taps of 255 * 255: past 24 bits, where the sum tap by tap must not be one of binary32."""
    bench = Bench(Random(0), 1, set())
    bench.write(Memory.ACTIVATION, 0, np.full((1, 1200), 255, np.uint8))
    bench.write(Memory.WEIGHT, 0, np.full((1, 1200), 128, np.uint8))
    window = {"channels": 2, "groups": 2, "outputs": 2, "pixel_pitch": 2, "line_pitch": 60, "width": 30, "height": 20}
    taps = {"kernel_height": 20, "kernel_width": 30}
    bench.run(Mac(activation=0, weight=0, weight_pitch_k=2, weight_zero_point=127, accumulator=0, **window, **taps))
    total = bench.memories[Memory.ACCUMULATOR].read(Block(Memory.ACCUMULATOR, 0, (2,), (1,)), [])
    assert total.tolist() == [[600 * 255 * -255] * 2]


@pytest.mark.parametrize("seed", range(40))
def test_a_byte_written_between_two_macs_changes_the_second_one(seed: int) -> None:
    """The same MAC again and again, its operands the same but for a byte here and there that was written since."""
    random = Random(f"again {seed}")
    bench = Bench(random, *random.choice([(1, set()), *((2, memories) for memories in DIFFERING)]))
    macs = [small.random_mac(random, accumulate=random.randint(0, 1)) for _ in range(2)]
    for _ in range(8):
        for mac in macs:
            bench.run(mac)
        memory = random.choice([Memory.ACTIVATION, Memory.WEIGHT])
        touched = [region for region in random.choice(macs).reads() if region.memory == memory]
        for region in touched[:1]:
            byte = np.array([[random.randint(0, 255)] for _ in range(random.choice([1, bench.runs]))], np.uint8)
            bench.write(memory, random.randrange(region.start, region.stop), byte)
    bench.check()


def test_sums_that_no_static_bound_holds_are_looked_at() -> None:
    """4000 products of 255 * 127 at a time: 16 times fit 32 bits, 17 times do not."""
    bench = Bench(Random(0), 1, set())
    bench.write(Memory.ACTIVATION, 0, np.full((1, 4000), 255, np.uint8))
    bench.write(Memory.WEIGHT, 0, np.full((1, 4000), 127, np.uint8))
    mac = Mac(activation=0, channels=4000, outputs=1, weight=0, weight_pitch_k=1, accumulator=3)
    bench.run(mac)
    for _ in range(15):
        bench.run(replace(mac, accumulate=1))
    bench.check()
    with pytest.raises(MachineError, match="accumulator word 0x3 is 2202180000 "):
        bench.run(replace(mac, accumulate=1))


def test_planes_hold_what_the_pipeline_reads() -> None:
    rule = Requantization(
        3,
        0,
        255,
        offset=np.array([1, -2], np.int32),
        bias=np.array([0.5], np.float32),
        bias_factor=np.array([2.0, 3.0], np.float32),
        multiplier=np.array([0.25], np.float32),
        zero_point_first=True,
    )
    one, half, two, three, quarter = 0x3F800000, 0x3F000000, 0x40000000, 0x40400000, 0x3E800000
    assert one == int(np.float32(1).view(np.uint32))
    assert rule.planes().tolist() == [[1, 2**32 - 2], [half, half], [two, three], [quarter, quarter]]
    again = Requantization.from_planes(rule.steps, rule.planes(), zero_point=3, minimum=0, maximum=255)
    assert again.steps == rule.steps == Step.OFFSET | Step.FUSED_BIAS | Step.MULTIPLIER | Step.ZERO_POINT_FIRST
    assert again.planes().tolist() == rule.planes().tolist()
    assert Requantization(0, 0, 255).planes().shape == (0, 1)
    assert Requantization(0, 0, 255, divisor=np.array([2.0], np.float32)).planes(3).tolist() == [[two] * 3]


def overflowing(accumulate: int, value: int) -> tuple[Bench, Mac]:
    """A MAC that adds 2 * 100 = 200 to accumulator 5 + 1."""
    bench = Bench(Random(0), 1, set())
    bench.write(Memory.ACTIVATION, 0, np.array([[2, 2]], np.uint8))
    bench.write(Memory.WEIGHT, 0, np.array([[100]], np.uint8))
    bench.write(Memory.ACCUMULATOR, 5, np.array([[0, value]], np.int32))
    window = {"out_width": 2, "width": 2, "pixel_pitch": 1}
    return bench, Mac(
        activation=0, channels=1, outputs=1, weight=0, weight_pitch_k=1, accumulator=5, accumulate=accumulate, **window
    )


def test_an_accumulator_holds_up_to_32_bits_and_no_more() -> None:
    bench, mac = overflowing(1, 2**31 - 201)
    bench.run(mac)
    bench.check()
    bench, mac = overflowing(1, 2**31 - 200)
    with pytest.raises(
        MachineError, match=r"instruction 0 \(mac .*accumulator=5.*word 0x6 is 2147483648 \(pixel 1, outp"
    ):
        bench.run(mac)
    bench, mac = overflowing(0, 2**31 - 1)
    bench.run(mac)
    bench.check()


def test_an_offset_that_takes_an_accumulator_past_32_bits_is_an_error() -> None:
    bench = Bench(Random(0), 1, set())
    bench.write(Memory.ACCUMULATOR, 0, np.array([[1, -(2**31) + 3]], np.int32))
    tile = Requantize(
        accumulator=0, out=0, channels=2, parameters=0, steps=Step.OFFSET, zero_point=0, minimum=0, maximum=255
    )
    bench.write(Memory.PARAMETER, 0, np.array([[7, -3]], np.int32).view(np.uint8))
    bench.run(tile)
    bench.check()
    bench.write(Memory.PARAMETER, 0, np.array([[7, -4]], np.int32).view(np.uint8))
    with pytest.raises(MachineError, match=r"instruction 0 \(requantize .*word 0x1 and its offset make -2147483649"):
        bench.run(tile)


def test_a_maximum_over_nothing_but_padding_is_an_error() -> None:
    bench = Bench(Random(0), 1, set())
    pool = Pool(
        reduction=Reduction.MAX, activation=0, out=99, channels=1, out_width=3, width=1, left=-1, out_pixel_pitch=1
    )
    with pytest.raises(MachineError, match="output line 0, pixel 0 is all padding"):
        bench.run(pool)


def test_requantisation_without_constants_takes_the_accumulator_as_it_is() -> None:
    bench = Bench(Random(0), 1, set())
    bench.write(Memory.ACCUMULATOR, 0, np.array([[-300, -1, 5, 300]], np.int32))
    bench.run(
        Requantize(
            accumulator=0, out=0, channels=4, parameters=0, steps=Step(0), zero_point=1, minimum=-128, maximum=127
        )
    )
    codes = bench.memories[Memory.ACTIVATION].read(Block(Memory.ACTIVATION, 0, (4,), (1,)), [])
    assert codes.tolist() == [[128, 0, 6, 127]]  # -128, 0, 6, 127 as the bytes of int8
    bench.check()


@pytest.mark.parametrize(
    "instruction",
    [
        Add(
            a=0,
            b=0,
            out=9,
            length=1,
            scale_a=1,
            scale_b=1,
            steps=Step.BIAS,
            multiplier=1,
            zero_point=0,
            minimum=0,
            maximum=9,
        ),
        Multiply(
            a=0,
            b=0,
            out=9,
            length=1,
            zero_a=0,
            zero_b=0,
            steps=Step.DIVISOR,
            multiplier=1,
            zero_point=0,
            minimum=0,
            maximum=9,
        ),
        Pool(reduction=Reduction.SUM, activation=0, out=9, channels=1, steps=Step.OFFSET),
    ],
)
def test_a_step_without_a_constant_is_an_error(instruction: Instruction) -> None:
    import accelsim

    with pytest.raises(
        MachineError, match=rf"instruction 0 \({instruction.mnemonic} .*has no constant for (bias|divisor|offset)"
    ):
        accelsim.simulate(small.program((instruction, Halt()), {0: b"x"}))


@pytest.mark.parametrize("dataflow", ["weight_stationary", "output_stationary", "input_stationary"])
def test_unroll_pixels_that_have_no_columns_are_an_error(dataflow: str) -> None:
    import accelsim

    window = {"out_width": 5, "width": 5, "pixel_pitch": 2, "channels": 2, "outputs": 2, "groups": 2}
    mac = Mac(activation=0, weight=0, weight_pitch_k=2, accumulator=0, unroll_pixels=5, **window)
    machine = small.accelerator(mac_array__dataflow=dataflow)
    with pytest.raises(
        MachineError, match=r"instruction 0 \(mac .*unroll_pixels=5 takes 5 columns for one group, of 4"
    ):
        accelsim.simulate(small.program((mac, Halt()), {0: b"x"}), accelerator=machine)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"unroll_pixels": 0}, "unroll_pixels=0; it must be at least 1"),
        ({"unroll_pixels": 6}, "unroll_pixels=6 of a line of out_width=5"),
        (
            {"unroll_pixels": 2, "dilation_x": 2},
            "takes dilation_x=1 and no stride_x over kernel_width, not dilation_x=2",
        ),
        ({"unroll_pixels": 2, "stride_x": 2}, "not dilation_x=1, stride_x=2, kernel_width=1"),
    ],
)
def test_unroll_pixels_that_no_window_has_are_an_error(fields: dict[str, int], said: str) -> None:
    with pytest.raises(AssemblyError, match=said):
        Mac(activation=0, weight=0, weight_pitch_k=1, accumulator=0, channels=1, outputs=1, out_width=5, **fields)
