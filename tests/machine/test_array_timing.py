"""The closed forms of the MAC array, and the operation itself, against the array clocked register by register."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from accelsim.hardware import Accelerator
from accelsim.isa import Mac
from accelsim.machine.array.products import mac_sums
from accelsim.machine.array.timing import DATAFLOWS, mac_occupancy
from accelsim.machine.occupancy import Occupancy
from accelsim.machine.traffic import by_memory, traffic_of

from . import array_model
from .array_loops import Addresses

FULL = 10_000

#: Places of each memory: more than any random instruction reaches.
SIZE = 4096


def random_machine(rng: random.Random, dataflow: str) -> array_model.Machine:
    rows, columns = rng.randint(1, 6), rng.randint(1, 6)
    banks = [rng.choice([1, 2, 3, 4, 8, 16, 16]) for _ in range(3)]
    stages = [rng.choice([1, 1, 2, 3, 7]) for _ in range(2)]
    banks = banks if rng.random() < 0.7 else [SIZE, SIZE, banks[2]]
    return array_model.Machine(rows, columns, dataflow, *banks, *stages)


def accelerator_of(machine: array_model.Machine) -> Accelerator:
    array = {
        "rows": machine.rows,
        "columns": machine.columns,
        "dataflow": machine.dataflow,
        "rows_per_stage": machine.rows_per_stage,
        "columns_per_stage": machine.columns_per_stage,
    }
    buffers = {
        "activation": {"bytes": 65536, "banks": machine.activation_banks},
        "weight": {"bytes": 65536, "banks": machine.weight_banks},
        "accumulator": {"bytes": 65536, "banks": machine.accumulator_banks},
    }
    return Accelerator.from_dict({"name": "random", "mac_array": array, "buffers": buffers})


def random_mac(rng: random.Random, machine: array_model.Machine, accumulator: int, signed: int, zero_point: int) -> Mac:
    groups = rng.choice([1, 1, 1, 2, 3, 5])
    channels, outputs = groups * rng.randint(1, 9 // groups + 1), groups * rng.randint(1, 9 // groups + 1)
    out_width, stride_x, dilation_x = rng.randint(1, 4), rng.randint(1, 3), rng.choice([1, 1, 2])
    unroll_pixels, gap = 1, rng.choice([0, 0, 0, 1, 3])
    if rng.random() < 0.5:  # pixels unrolled: few outputs, a longer line
        outputs = groups * rng.choice([1, 1, 2])
        out_width = rng.randint(2, 7)
        unroll_pixels = rng.randint(1, max(1, min(out_width, machine.columns // (outputs // groups))))
    height, width = rng.randint(1, 4), rng.randint(1, 4)
    pixel = channels + rng.choice([0, 0, 1, 3])
    line = width * pixel + rng.choice([0, 0, 2])
    kernel_height, kernel_width = rng.choice([(1, 1), (1, 1), (3, 3), (1, 2), (2, 1), (3, 1)])
    if unroll_pixels > 1:
        kernel_width, dilation_x = rng.choice([1, 2, 3]), 1
        stride_x = rng.randint(1, kernel_width)
    reduction = kernel_height * kernel_width * channels // groups
    if rng.random() < 0.5:
        pitch_k, pitch_n = outputs + rng.choice([0, 0, 1]), 1
    else:
        pitch_k, pitch_n = 1, reduction + rng.choice([0, 0, 1])
    mac = Mac(
        activation=rng.randint(0, 9),
        image_pitch=height * line,
        line_pitch=line,
        pixel_pitch=pixel,
        images=rng.choice([1, 1, 2]),
        out_height=rng.randint(1, 3),
        out_width=out_width,
        kernel_height=kernel_height,
        kernel_width=kernel_width,
        channels=channels,
        top=-rng.randint(0, 2),
        left=-rng.randint(0, 2),
        height=height,
        width=width,
        stride_y=rng.randint(1, 2),
        stride_x=stride_x,
        dilation_y=rng.choice([1, 1, 2]),
        dilation_x=dilation_x,
        signed_activation=signed,
        pad=rng.randint(-5, 250),
        weight_zero_point=zero_point,
        outputs=outputs,
        weight=rng.randint(0, 9),
        weight_pitch_k=pitch_k,
        weight_pitch_n=pitch_n,
        accumulator=accumulator,
        accumulator_gap=gap,
        accumulate=rng.randint(0, 1),
        groups=groups,
        unroll_pixels=unroll_pixels,
    )
    most = Addresses(mac, machine).most_groups()
    return replace(mac, unroll_groups=rng.choice([1, most, most, rng.randint(1, most)]))


class Memories:
    """Random bytes, and what they mean to an instruction: activation codes, weights less their zero point."""

    def __init__(self, seed: int) -> None:
        data = np.random.default_rng(seed)
        self.activation = data.integers(0, 256, SIZE, dtype=np.uint8)
        self.weight = data.integers(-128, 128, SIZE, dtype=np.int8)
        self.accumulator = data.integers(-(2**20), 2**20, SIZE)

    def decoded(self, mac: Mac) -> tuple[np.ndarray, np.ndarray]:
        codes = self.activation.view(np.int8) if mac.signed_activation else self.activation
        return codes.astype(np.int64), self.weight.astype(np.int64) - mac.weight_zero_point


def operation(mac: Mac, memories: Memories, accumulators: np.ndarray) -> None:
    """What the instruction set says that `mac` does, as a matrix product a group; the machine says so too."""
    activations, weights = memories.decoded(mac)
    channels, outputs = mac.channels // mac.groups, mac.outputs // mac.groups
    image, oy, ox, ky, kx, c = np.ogrid[
        : mac.images, : mac.out_height, : mac.out_width, : mac.kernel_height, : mac.kernel_width, :channels
    ]
    y = mac.top + oy * mac.stride_y + ky * mac.dilation_y
    x = mac.left + ox * mac.stride_x + kx * mac.dilation_x
    inside = (y >= 0) & (y < mac.height) & (x >= 0) & (x < mac.width)
    where = mac.activation + image * mac.image_pitch + y * mac.line_pitch + x * mac.pixel_pitch + c
    result = np.empty((mac.pixels, mac.outputs), np.int64)
    for group in range(mac.groups):
        gathered = np.where(inside, activations[np.where(inside, where + group * channels, 0)], mac.pad)
        left = gathered.reshape(mac.pixels, mac.reduction)
        k, n = np.ogrid[: mac.reduction, group * outputs : (group + 1) * outputs]
        right = weights[mac.weight + k * mac.weight_pitch_k + n * mac.weight_pitch_n]
        result[:, group * outputs : (group + 1) * outputs] = left @ right
    k, n = np.ogrid[: mac.reduction, : mac.outputs]
    stored = memories.weight[mac.weight + k * mac.weight_pitch_k + n * mac.weight_pitch_n]
    assert np.array_equal(mac_sums(mac, memories.activation[None], stored[None])[0], result), mac
    pixel, n = np.ogrid[: mac.pixels, : mac.outputs]
    place = mac.accumulator + pixel * (mac.outputs + mac.accumulator_gap) + n
    accumulators[place] = result + (accumulators[place] if mac.accumulate else 0)


def check_alone(seed: int, dataflow: str) -> None:
    rng = random.Random(f"alone {dataflow} {seed}")
    machine = random_machine(rng, dataflow)
    mac = random_mac(rng, machine, rng.randint(0, 99), rng.randint(0, 1), rng.choice([0, 0, -7, 100]))
    memories = Memories(seed)
    expected, accumulators = memories.accumulator.copy(), memories.accumulator.copy()
    operation(mac, memories, expected)
    seen = array_model.run(machine, [mac], [0], [0], *memories.decoded(mac), accumulators)
    ideal = array_model.run(
        machine.without_conflicts(), [mac], [0], [0], *memories.decoded(mac), np.zeros(SIZE, np.int64)
    )
    what = f"seed {seed}: {machine} {mac}"
    assert np.array_equal(accumulators, expected), what
    work = mac_occupancy(mac, accelerator_of(machine))
    assert (work.cycles, work.issue, work.free) == (seen.end[0], seen.issue[0], seen.free[0]), what
    assert (work.lead, work.busy) == (ideal.first[0], seen.vectors[0]), what
    assert (work.conflict, work.shared) == (seen.issue[0] - ideal.issue[0], 0), what


def check_sequence(seed: int, dataflow: str) -> None:
    rng = random.Random(f"sequence {dataflow} {seed}")
    machine = random_machine(rng, dataflow)
    wide = machine.activation_banks == SIZE
    # Few accumulators, so that instructions add to what the ones still in the array are about to write.
    signed, zero_point = rng.randint(0, 1), rng.choice([0, 0, -7, 100])
    macs = [random_mac(rng, machine, rng.randint(0, 3), signed, zero_point) for _ in range(rng.randint(2, 6))]
    for index in range(1, len(macs)):
        if rng.random() < 0.3:  # the weights of the one before, on other pixels
            macs[index] = replace(
                macs[index - 1],
                activation=rng.randint(0, 9),
                images=rng.choice([1, 1, 2]),
                out_height=rng.randint(1, 3),
                out_width=macs[index - 1].unroll_pixels + rng.randint(0, 3),
                top=-rng.randint(0, 2),
                left=-rng.randint(0, 2),
                accumulator=rng.randint(0, 3),
                accumulate=rng.randint(0, 1),
                same_weights=1,
            )
    arrivals = np.cumsum([rng.choice([0, 0, 0, 1, 5, 20, 100]) for _ in macs]).tolist()
    # Weight stationary: what streams may have to wait for tokens that the preload did without.
    late = [rng.choice([0, 0, 1, 7, 40]) if dataflow == "weight_stationary" else 0 for _ in macs]
    opened = [arrival + more for arrival, more in zip(arrivals, late, strict=True)]
    memories = Memories(seed)
    expected, accumulators = memories.accumulator.copy(), memories.accumulator.copy()
    for mac in macs:
        operation(mac, memories, expected)
    seen = array_model.run(machine, macs, arrivals, opened, *memories.decoded(macs[0]), accumulators)
    what = f"seed {seed}: {machine} {macs} {arrivals} {opened}"
    assert np.array_equal(accumulators, expected), what
    accelerator = accelerator_of(machine)
    start, work, charged = 0, Occupancy(0, 0, 0, 0), 0
    for index, (mac, arrival) in enumerate(zip(macs, arrivals, strict=True)):
        now = max(arrival, start + work.free)
        start, work = now, mac_occupancy(mac, accelerator, work.since(now - start), max(opened[index] - now, 0))
        assert start == seen.start[index], what
        assert start + work.issue == seen.issue[index], what
        assert start + work.free == seen.free[index], what
        assert start + work.cycles == seen.end[index], what
        assert work.busy == seen.vectors[index], what
        if wide and mac.taps == 1:  # no read conflicts (of two taps, one on the padding, the addresses may agree)
            assert start + work.lead == seen.first[index], what
        # The phases are the cycles from where the instruction before ended to where this one does.
        phases = work.phases("wait_post")
        assert min(cycles for _, cycles in phases) >= 0, what
        charged = max(charged, start)
        assert start + work.shared == charged, what
        charged += sum(cycles for _, cycles in phases)
        assert charged == seen.issue[index], what
    assert all(before < after for before, after in pairwise(seen.end[index] for index in range(len(macs)))), what


@pytest.mark.parametrize("dataflow", DATAFLOWS)
class TestAgainstTheClockedArray:
    def test_one_instruction(self, dataflow: str) -> None:
        for seed in range(60):
            check_alone(seed, dataflow)

    def test_instructions_that_overlap(self, dataflow: str) -> None:
        for seed in range(20):
            check_sequence(seed, dataflow)

    @pytest.mark.full
    @pytest.mark.parametrize("part", range(10))
    def test_ten_thousand_instructions(self, dataflow: str, part: int) -> None:
        for seed in range(part * FULL // 10, (part + 1) * FULL // 10):
            check_alone(seed, dataflow)

    @pytest.mark.full
    def test_a_thousand_sequences(self, dataflow: str) -> None:
        for seed in range(1000):
            check_sequence(seed, dataflow)


def chain(
    dataflow: str, pixels: int, channels: int, outputs: int, count: int, stages: tuple[int, int] = (1, 1), same: int = 0
) -> list[Occupancy]:
    """Occupancies of `count` equal instructions on a 16x16 array, each started as soon as the array takes it. `stages`:
    rows and columns between registers. `same`: all but the first take the weights of the one before."""
    accelerator = accelerator_of(array_model.Machine(16, 16, dataflow, 16, 16, 16, *stages))
    pitch = {"weight_pitch_k": 1, "weight_pitch_n": 256} if dataflow == "input_stationary" else {"weight_pitch_k": 256}
    mac = Mac(
        activation=0,
        pixel_pitch=channels,
        out_width=pixels,
        width=pixels,
        channels=channels,
        outputs=outputs,
        weight=0,
        accumulator=0,
        **pitch,
    )
    works = [mac_occupancy(mac, accelerator)]
    mac = replace(mac, same_weights=same)
    while len(works) < count:
        works.append(mac_occupancy(mac, accelerator, works[-1].since(works[-1].free)))
    return works


@pytest.mark.parametrize(
    ("dataflow", "pixels", "channels", "outputs", "cycles"),
    [
        # By hand, from the table of docs/architecture.md: R = C = 16.
        ("weight_stationary", 40, 16, 16, 16 + 1 + 40 + 31),
        ("weight_stationary", 1, 1, 1, 1 + 1 + 1 + 31),
        ("output_stationary", 16, 16, 16, 16 + 16 + 1 + 16 + 31),
        ("output_stationary", 3, 5, 16, 3 + 5 + 1 + 3 + 31),
        ("input_stationary", 16, 16, 16, 16 + 16 + 16 + 32),
        ("input_stationary", 3, 5, 7, 3 + 7 + 3 + 32),
        # Ten chunks of the reduction: each costs what streams, once the first is preloaded.
        ("weight_stationary", 40, 160, 16, 16 + 1 + 10 * 40 + 31),
        ("output_stationary", 16, 160, 16, 16 + 160 + 1 + 16 + 31),
        ("input_stationary", 16, 160, 16, 16 + 10 * 16 + 16 + 32),
    ],
)
def test_one_instruction_alone_by_hand(dataflow: str, pixels: int, channels: int, outputs: int, cycles: int) -> None:
    assert chain(dataflow, pixels, channels, outputs, 1)[0].cycles == cycles


@pytest.mark.parametrize(
    ("dataflow", "pixels", "channels", "outputs", "distance"),
    [
        ("weight_stationary", 64, 16, 16, 64),  # M vectors, no bubble
        ("weight_stationary", 4, 16, 16, 16),  # R rows to preload
        ("output_stationary", 16, 64, 16, 64),  # K vectors
        ("output_stationary", 16, 4, 16, 16),  # R rows to fill and to drain
        ("input_stationary", 16, 16, 64, 64),  # N vectors
        ("input_stationary", 16, 16, 4, 16),  # C columns to preload and to drain
    ],
)
def test_instructions_in_a_row_leave_no_bubble(
    dataflow: str, pixels: int, channels: int, outputs: int, distance: int
) -> None:
    *_, before, last = chain(dataflow, pixels, channels, outputs, 8)
    assert before.free + last.cycles - before.cycles == distance
    assert before.free + last.issue - before.issue == distance


@pytest.mark.parametrize(
    ("stages", "latency"),
    [((1, 1), 31), ((2, 2), 15), ((4, 4), 7), ((4, 1), 19), ((1, 16), 16), ((3, 7), 6 + 3 - 1), ((16, 99), 1)],
)
@pytest.mark.parametrize(
    ("dataflow", "cycles"),
    [("weight_stationary", 16 + 1 + 40), ("output_stationary", 73), ("input_stationary", 72 + 1)],
)
def test_registers_that_are_not_there_take_no_cycle(
    dataflow: str, cycles: int, stages: tuple[int, int], latency: int
) -> None:
    """40 pixels, 16 channels, 16 outputs. Output stationary: folds of 16, 16 and 8 rows. The first enters after
    16 reads, at 17, the others at 33 and 49, the last vector at 64; then 8 tokens, and the port is free at 73. Input
    stationary: folds of 16, 16 and 8 columns enter at 17, 33 and 49, the last vector at 64; 8 pixels leave from 64 on,
    until 72; one cycle more for the transposer."""
    assert chain(dataflow, 40, 16, 16, 1, stages)[0].cycles == cycles + latency


@pytest.mark.parametrize(
    ("pixels", "channels", "outputs", "distance"),
    [
        (4, 16, 16, 4),  # the array holds the weights, so that nothing is preloaded
        (1, 16, 16, 1),
        (4, 17, 16, 16 + 4),  # two folds, of 16 rows and 1: it holds the last one only
        (4, 16, 17, 2 * 16),  # two folds of 16 rows
    ],
)
def test_weights_that_the_array_holds_are_not_read_again(
    pixels: int, channels: int, outputs: int, distance: int
) -> None:
    *_, before, last = chain("weight_stationary", pixels, channels, outputs, 8, same=1)
    assert before.free + last.issue - before.issue == distance
    for dataflow in ("output_stationary", "input_stationary"):
        assert chain(dataflow, pixels, channels, outputs, 8, same=1) == chain(dataflow, pixels, channels, outputs, 8)


def depthwise(channels: int, **fields: int) -> Mac:
    """3x3 over lines of 64 outputs; memories laid out without conflicts on 16 banks."""
    window = {"out_height": 8, "out_width": 64, "height": 10, "width": 66, "kernel_height": 3, "kernel_width": 3}
    places = {"activation": 0, "weight": 0, "weight_pitch_k": 1, "weight_pitch_n": 9, "accumulator": 0}
    pitches = {"line_pitch": 66 * channels, "pixel_pitch": channels}
    sizes = {"channels": channels, "outputs": channels, "groups": channels}
    return Mac(**(window | places | pitches | sizes | fields))


def test_groups_side_by_side_save_folds() -> None:
    """Depthwise 3x3 of 64 channels on 16x16: 9 taps x 16 channels are 9 folds of 16 rows, for 16 groups at once."""
    accelerator = accelerator_of(array_model.Machine(16, 16, "weight_stationary", 16, 16, 16))
    assert mac_occupancy(depthwise(64, unroll_groups=16), accelerator).busy == 4 * 9 * 8 * 64
    assert mac_occupancy(depthwise(64), accelerator).busy == 64 * 8 * 64  # one group a fold


@pytest.mark.parametrize(
    ("channels", "fields", "accesses"),
    [
        # 9 taps, one access each, for the groups in 16 columns.
        (16, {"out_height": 1, "out_width": 8, "unroll_groups": 16}, 9 * 1),
        # 14 pixels unrolled of one group: each of 3 folds is a line of 16 inputs, with 3 taps.
        (1, {"out_height": 1, "out_width": 14, "unroll_pixels": 14}, 3 * 3),
        # 7 pixels of 2 groups: 3 lines of 9 inputs x 2 are 54 rows. Fold 0 ends at input 7 of line 0: taps 0, 1, 2.
        # Fold 1: input 8 (tap 2), inputs 0..6 of line 1. Fold 2: inputs 7, 8 (taps 1, 2), 0..5 of line 2. Fold 3: the
        # last 3 (taps 0, 1, 2).
        (2, {"out_height": 1, "out_width": 7, "unroll_pixels": 7, "unroll_groups": 2}, 3 + (1 + 3) + (2 + 3) + 3),
    ],
)
def test_a_weight_is_read_once_a_fold_for_all_columns(channels: int, fields: dict[str, int], accesses: int) -> None:
    accelerator = accelerator_of(array_model.Machine(16, 16, "weight_stationary", 16, 16, 16))
    mac = depthwise(channels, width=66, **fields)
    moved = by_memory(traffic_of(mac, accelerator), accelerator)
    assert moved["weight"].read == accesses * channels


@pytest.mark.parametrize(
    ("dataflow", "groups", "vectors"),
    [
        # 3 lines x 10 pixels x 2 channels are 60 rows, 4 folds; 8 vectors a line; 8 pairs of groups.
        ("weight_stationary", 2, 8 * 4 * (8 * 8)),
        # 64 rows of 8 pixels in folds of 16; 60 reduction indices each.
        ("output_stationary", 2, 8 * 4 * 60),
        # 30 rows of a group in folds of 16, 16 columns of 8 pixels; 8 weights stream while 16 columns are preloaded.
        ("input_stationary", 1, 16 * 4 * 2 * 8),
    ],
)
def test_unroll_pixels_take_a_quarter_of_one_group_a_fold(dataflow: str, groups: int, vectors: int) -> None:
    """16 channels, 3x3 on 16x16, 8 pixels unrolled, `groups` groups, no access in conflict with itself."""
    accelerator = accelerator_of(array_model.Machine(16, 16, dataflow, 16, 16, 16))
    # 17 or 18 bytes, and words, from pixel to pixel: 16 neighbours lie in 16 banks; so do the next line's 10 pixels.
    pixel = 16 + groups
    pitches = {"pixel_pitch": pixel, "line_pitch": 90 * pixel, "accumulator_gap": groups}
    unroll_pixels = mac_occupancy(depthwise(16, unroll_pixels=8, unroll_groups=groups, **pitches), accelerator)
    assert (unroll_pixels.busy, unroll_pixels.conflict) == (vectors, 0)
    alone = mac_occupancy(depthwise(1, line_pitch=67), accelerator)
    assert alone.conflict == 0
    assert 8 * 64 <= alone.issue <= 8 * 64 + 3 * 16  # a vector a pixel, or 16 accesses for a fold of 16 pixels
    assert 16 * alone.issue >= 3.9 * unroll_pixels.issue
