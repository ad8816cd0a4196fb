"""`verify` finds no difference where there is none, and the least one where there is one: the test of the test."""

from __future__ import annotations

import json
import math
import warnings
from dataclasses import replace
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.ao import quantization

import accelsim
from accelsim.isa import Memory, Program
from accelsim.isa.instructions.base import Instruction
from accelsim.network.rounding import matrix_rounding
from accelsim.network.substitution import certify_layer, layer_accumulators, matrix_nodes
from accelsim.verification import Verification

ENGINES = ("fbgemm", "qnnpack", "x86", "onednn")
TEACHING = accelsim.Accelerator.from_yaml(Path(__file__).parents[2] / "configs" / "teaching_4x4.yaml")


class Small(nn.Module):
    """(N, 1, 8, 8) to (N, 5): convolutions, a table, a sum, pools, linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.quantize, self.dequantize = quantization.QuantStub(), quantization.DeQuantStub()
        self.first, self.curve = nn.Conv2d(1, 6, 3, padding=1), nn.Hardswish()
        self.second, self.sum = nn.Conv2d(6, 6, 3, padding=1), nn.quantized.FloatFunctional()
        self.pool, self.average = nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(2)
        self.dense, self.scores = nn.Linear(24, 12), nn.Linear(12, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.curve(self.first(self.quantize(x)))
        x = self.average(self.pool(self.sum.add_relu(self.second(x), x)))
        return self.dequantize(self.scores(self.dense(torch.flatten(x, 1))))


IMAGES = torch.randn(12, 1, 8, 8, generator=torch.Generator().manual_seed(2))


def small(engine: str) -> nn.Module:
    """Activations of 7 bits, with which no pair of products leaves int16 on any host."""
    torch.manual_seed(3)
    torch.backends.quantized.engine = engine
    model = Small().eval()
    model.qconfig = quantization.QConfig(
        activation=quantization.MinMaxObserver.with_args(reduce_range=True), weight=quantization.default_weight_observer
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantization.prepare(model, inplace=True)
        model(IMAGES)
        return quantization.convert(model, inplace=True)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("batch", [None, 4])
def test_a_model_is_equal_to_pytorch_in_every_bit(engine: str, batch: int | None) -> None:
    model = small(engine)
    verification = accelsim.verify(model, IMAGES, TEACHING, engine=engine, batch=batch, effort=0 if batch else 1)
    assert (verification.engine, verification.differing_bits, verification.mismatches) == (engine, 0, 0)
    layers = {layer.name: layer.compared for layer in verification.layers}
    # Outputs of each layer by hand: all that PyTorch makes is compared, of each image. What it makes on the way to a
    # flat tensor is not counted on.
    assert all(layers.pop(name) == 24 * 12 for name in {*layers} & {"flatten", "clone", "unsafe_view", "view"})
    expected = {
        "first": 384,
        "curve": 384,
        "second": 384,
        "sum": 384,
        "pool": 96,
        "average": 24,
        "dense": 12,
        "scores": 5,
    }
    assert layers == {name: 12 * count for name, count in expected.items()}
    assert "0 differing bits, 0 unexplained" in verification.report()
    assert json.loads(json.dumps(verification.to_dict()))["compared"] == verification.compared


@cache
def compiled() -> tuple[nn.Module, Program]:
    model = small("qnnpack")
    return model, accelsim.compile(accelsim.extract(model, IMAGES[:1], engine="qnnpack"), TEACHING, effort=0)


def verified(program: Program) -> Verification:
    return accelsim.verify(compiled()[0], IMAGES, TEACHING, engine="qnnpack", batch=1, program=program)


def with_byte(program: Program, address: int, value: int) -> Program:
    """The program with one byte of its data image changed."""
    segments = []
    for segment in program.data:
        content, place = bytearray(segment.content), address - segment.address
        if 0 <= place < len(content):
            assert content[place] != value
            content[place] = value
        segments.append(replace(segment, content=bytes(content)))
    assert sum(a != b for a, b in zip(segments, program.data, strict=True)) == 1
    return replace(program, data=tuple(segments))


def byte(program: Program, address: int) -> int:
    """One byte of the data image."""
    [found] = [
        segment.content[address - segment.address]
        for segment in program.data
        if 0 <= address - segment.address < len(segment.content)
    ]
    return found


def of_layer(program: Program, layer: str, mnemonic: str) -> list[tuple[int, Any]]:
    """The instructions of a layer that have that name, with their numbers."""
    mine = [i for i, number in enumerate(program.layer_of) if program.layers[number] == layer]
    return [(i, program.instructions[i]) for i in mine if program.instructions[i].mnemonic == mnemonic]


def assert_found(verification: Verification, layer: str) -> None:
    """Unexplained differences, that layer's the first."""
    assert verification.mismatches > 0
    first = next(item for item in verification.layers if item.differing)
    assert first.name == layer
    assert first.mismatches == first.differing
    assert "machine differs from the integer reference" in first.cause
    assert "machine differs from the integer reference" in verification.report()


def test_the_program_as_it_is_has_no_difference() -> None:
    assert verified(compiled()[1]).differing_bits == 0


@pytest.mark.parametrize("layer", ["first", "second", "dense", "scores"])
def test_one_weight_altered_by_one_is_found(layer: str) -> None:
    model, program = compiled()
    network = accelsim.extract(model, IMAGES[:1], engine="qnnpack")
    expected = network.trace(IMAGES)
    every = [item.dram for _, item in of_layer(program, layer, "load") if item.memory == Memory.WEIGHT]
    loads = list(dict.fromkeys(every))
    mac = next(item for _, item in of_layer(program, layer, "mac"))
    node = network.node(layer)
    codes = expected[node.inputs[0]].astype(np.int32)
    # What the first weight of a channel is multiplied with: the first feature, or the pixel above and to the left.
    pad = network.values[node.inputs[0]].affine.zero_point
    met = codes[:, 0]
    if codes.ndim == 4:
        met = np.pad(met, ((0, 0), (1, 0), (1, 0)), constant_values=pad)[:, :-1, :-1]
    sums, rule = layer_accumulators(network, node, expected), matrix_rounding(network, node, folded=False)
    found = 0
    for channel, step in ((0, 1), (0, -1), (1, 1), (1, -1), (2, 1)):
        block, place = divmod(channel, mac.outputs)
        # In DRAM a tile lies as in the weight buffer, where a weight stationary array reads all outputs of one index.
        address = loads[block] + place * mac.weight_pitch_n
        if byte(program, address) in (0x7F, 0x80):
            continue  # a step further is the other end of int8
        # The first weights of a tile are those of its first channels. The folded zero point stays as it is, so that
        # each sum moves by the raw code; over how many rounding thresholds, perhaps none, the rule says.
        altered = sums.copy()
        altered[..., channel] += step * met
        moved = int(np.count_nonzero(rule.apply(altered) != rule.apply(sums)))
        verification = verified(with_byte(program, address, (byte(program, address) + step) % 256))
        assert next(item for item in verification.layers if item.name == layer).differing == moved
        if moved:
            assert_found(verification, layer)
        found += moved
    assert found > 0


@pytest.mark.parametrize(
    ("layer", "mnemonic", "field", "step"),
    [
        ("first", "requantize", "zero_point", 1),
        ("first", "mac", "pad", 1),
        ("second", "mac", "left", 1),
        ("second", "requantize", "zero_point", -1),
        ("scores", "requantize", "zero_point", 1),
        ("dense", "mac", "activation", 1),
        ("sum", "add_fixed", "zero_point", 1),
    ],
)
def test_one_field_altered_by_one_is_found(layer: str, mnemonic: str, field: str, step: int) -> None:
    program = compiled()[1]
    number, instruction = of_layer(program, layer, mnemonic)[0]
    instructions: list[Instruction] = list(program.instructions)
    instructions[number] = replace(instruction, **{field: getattr(instruction, field) + step})
    assert_found(verified(program.with_instructions(tuple(instructions))), layer)


def test_one_table_entry_altered_by_one_is_found() -> None:
    model, program = compiled()
    network = accelsim.extract(model, IMAGES[:1], engine="qnnpack")
    used = np.bincount(network.trace(IMAGES)["first"].ravel(), minlength=256)
    [(_, load), *_] = [pair for pair in of_layer(program, "curve", "load") if pair[1].length == 256]
    entry, unused = int(used.argmax()), int(used.argmin())
    assert used[unused] == 0
    verification = verified(with_byte(program, load.dram + entry, byte(program, load.dram + entry) ^ 1))
    assert_found(verification, "curve")
    layer = next(item for item in verification.layers if item.name == "curve")
    assert (layer.differing, layer.differing_bits) == (used[entry], used[entry])
    # An entry that no code asks for makes no difference, so that the one above is counted rightly.
    assert verified(with_byte(program, load.dram + unused, byte(program, load.dram + unused) ^ 1)).differing_bits == 0


def on(arithmetic: Any) -> accelsim.Accelerator:
    return TEACHING.replace(**{"requant_unit.arithmetic": arithmetic})


@pytest.mark.parametrize("engine", ENGINES)
def test_thresholds_are_equal_to_pytorch_in_every_bit(engine: str) -> None:
    verification = accelsim.verify(small(engine), IMAGES, on("thresholds"), engine=engine, effort=0)
    assert (verification.differing_bits, verification.mismatches) == (0, 0)
    assert verification.compared > 12 * 1600


@pytest.mark.parametrize("engine", ENGINES)
def test_fixed_point_is_equal_to_pytorch_where_it_is_certified(engine: str) -> None:
    model = small(engine)
    network = accelsim.extract(model, IMAGES, engine=engine)
    certified = {node.name: certify_layer(network, node, 31).certified for node in matrix_nodes(network)}
    wide = accelsim.verify(model, IMAGES, on("fixed_point"), engine=engine, effort=0)
    assert wide.mismatches == 0
    assert sum(int(item.sum()) for item in certified.values()) > 20
    assert [layer.changed for layer in wide.layers if layer.name in certified and certified[layer.name].all()] == [
        0 for item in certified.values() if item.all()
    ]
    assert wide.differing_bits == 0 or any(layer.changed for layer in wide.layers)
    machine = on({"fixed_point": {"multiplier_bits": 6}})
    narrow = accelsim.verify(model, IMAGES, machine, engine=engine, effort=0)
    assert narrow.mismatches == 0
    assert narrow.explained > 50
    assert f"of {sum(map(len, certified.values()))} channels have a certificate" in narrow.report()


@pytest.mark.parametrize("arithmetic", ["textbook", "power_of_two"])
def test_what_an_arithmetic_changes_is_counted_beside_pytorch(arithmetic: str) -> None:
    """The codes of the first layer once more, from PyTorch's input and weights, in fractions."""
    model = small("qnnpack")
    verification = accelsim.verify(model, IMAGES, on(arithmetic), engine="qnnpack", effort=0)
    assert verification.mismatches == 0
    layer = next(item for item in verification.layers if item.name == "first")
    x = model.quantize(IMAGES)
    made = model.first(x)
    weight, bias = model.first.weight(), model.first.bias()
    centred = torch.nn.functional.pad(x.int_repr().double() - x.q_zero_point(), (1, 1, 1, 1))
    sums = torch.nn.functional.conv2d(centred, weight.int_repr().double()).long()
    unit = x.q_scale() * weight.q_scale()
    factor = Fraction(unit / made.q_scale())
    steps = [round(Fraction(float(value) / unit)) for value in bias.detach()]
    if arithmetic == "power_of_two":
        factor = Fraction(2) ** min(range(-30, 30), key=lambda n: abs(math.log2(factor) - n))
    changes = []
    for channel, start in enumerate(steps):
        for total, code in zip(
            sums[:, channel].flatten().tolist(), made.int_repr()[:, channel].flatten().tolist(), strict=True
        ):
            value = (total + start) * factor
            rounded = round(value) if arithmetic == "textbook" else math.floor(value + Fraction(1, 2))
            changes.append(abs(min(max(rounded + made.q_zero_point(), 0), 255) - code))
    assert (layer.compared, layer.changed, layer.worst) == (
        len(changes),
        sum(change > 0 for change in changes),
        max(changes),
    )
    assert layer.differing == layer.explained == layer.changed
    assert (arithmetic == "textbook") or layer.changed > 1000


def test_an_arithmetic_excuses_no_constant_that_is_altered() -> None:
    model = small("qnnpack")
    machine = on("gemmlowp")
    program = accelsim.compile(accelsim.extract(model, IMAGES, engine="qnnpack"), machine, effort=0)
    load = next(item for _, item in of_layer(program, "second", "load") if item.memory == Memory.PARAMETER)
    # The second byte of the first channel's multiplier plane's top word: the factor an eighth larger or smaller.
    tile = of_layer(program, "second", "requant_gemmlowp")[0][1]
    place = load.dram + 4 * tile.channels + 3
    altered = with_byte(program, place, byte(program, place) ^ 0x10)
    verification = accelsim.verify(model, IMAGES, machine, engine="qnnpack", program=altered)
    assert_found_after(verification, "second")


def assert_found_after(verification: Verification, layer: str) -> None:
    """Unexplained differences, that layer's the first of them; those before are explained."""
    first = next(item for item in verification.layers if item.mismatches)
    assert first.name == layer
    assert "machine differs from the integer reference" in first.cause
