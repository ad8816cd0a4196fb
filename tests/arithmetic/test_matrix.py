"""Requantisation of convolutions and linear layers is each engine's, near-ties and ties included."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from matrix_layers import layer, operands
from witness import ENGINES, KERNEL_SETS, Case, PyTorch, pair, styles

from accelsim.arithmetic.affine import Affine
from accelsim.arithmetic.engines import KernelSet
from accelsim.arithmetic.matrix import arithmetic_of, requantization
from accelsim.arithmetic.onednn import ConvolutionShape, scaling
from accelsim.errors import ModelError

#: (spatial dimensions, input channels, output channels, groups, kernel)
SHAPES = (
    (2, 3, 5, 1, 3),
    (2, 8, 8, 8, 3),
    (2, 16, 24, 1, 1),
    (2, 12, 9, 3, 2),
    (1, 6, 10, 2, 3),
    (3, 4, 6, 1, 2),
    (2, 8, 16, 8, 3),
    (3, 24, 24, 24, 2),
    (1, 16, 8, 2, 2),
    (2, 24, 48, 3, 1),
    (3, 6, 6, 3, 2),
)
#: The same of transposed convolutions, with stride and dilation: all that oneDNN gets right, ...
EQUAL = (
    (2, 4, 4, 1, 3, 1, 1),
    (2, 6, 6, 3, 2, 2, 1),
    (2, 5, 5, 1, 1, 1, 1),
    (2, 8, 8, 2, 2, 2, 1),
    (2, 6, 6, 3, 3, 2, 1),
    (2, 8, 8, 8, 3, 2, 1),
    (2, 8, 8, 8, 3, 1, 2),
    (3, 8, 8, 8, 3, 1, 1),
    (3, 8, 8, 8, 3, 3, 1),
    (3, 8, 8, 8, 3, 2, 1),
    (3, 24, 24, 2, 3, 2, 1),
    (2, 12, 12, 1, 3, 2, 2),
    (1, 24, 24, 3, 2, 1, 2),
    (1, 8, 16, 8, 3, 2, 1),
    (2, 16, 8, 8, 2, 1, 1),
    (1, 12, 12, 3, 4, 2, 1),
)
#: ... and what only the others take.
UNEQUAL = (
    (2, 4, 6, 1, 3, 1, 1),
    (2, 6, 9, 3, 2, 2, 1),
    (2, 8, 5, 1, 1, 1, 1),
    (2, 6, 6, 3, 2, 3, 1),
    (1, 5, 4, 1, 3, 2, 2),
)


def requantized(engine: str, kernels: KernelSet, answer: Any, rule: dict[str, Any]) -> np.ndarray:
    """Our codes from the exact accumulators; channels are axis 1."""
    accumulators = np.moveaxis(answer[1].astype(np.int32), 1, -1)
    return np.moveaxis(requantization(engine, kernels, **rule).apply(accumulators), -1, 1)


def sizes(dims: int) -> list[int]:
    return {1: [70], 2: [9, 7], 3: [6, 5, 6]}[dims]


@pytest.mark.parametrize("kernels", KERNEL_SETS, ids=str)
@pytest.mark.parametrize("engine", ENGINES)
def test_a_convolution_is_pytorchs(pytorch: PyTorch, part: int, engine: str, kernels: KernelSet) -> None:
    rng = np.random.default_rng([6, part])
    cases = []
    for index, style in styles(264):
        dims, inputs, outputs, groups, kernel = SHAPES[index % len(SHAPES)]
        per_channel = bool((index // len(SHAPES)) % 2)
        rule = layer(rng, engine, style, index, per_channel, outputs)
        x, w = operands(rng, style, rule, (2, inputs, *sizes(dims)), (outputs, inputs // groups, *[kernel] * dims))
        keywords: dict[str, Any] = {
            "stride": [1 + index % 2, 1, 2][:dims],
            "padding": [index % 3 and 1, index % 2, 0][:dims],
            "dilation": [1 + (index % 7 == 0), 1, 1][:dims],
        }
        shape = ConvolutionShape(inputs, outputs, groups, (kernel,) * dims, *map(tuple, keywords.values()))
        keywords |= {"groups": groups, "relu": rule["relu"]}
        complete = {**rule, "kind": "convolution", "groups": groups, "shape": shape}

        def check(answer: Any, rule: dict[str, Any] = complete) -> np.ndarray:
            return requantized(engine, kernels, answer, rule)

        cases.append(Case("convolution", arguments(x, w, rule), check, keywords, note=(style, rule, keywords)))
    answers = pytorch.compare("convolution", engine, kernels, cases)
    assert tie_share(cases, answers) > 1 / 3


def tie_share(cases: list[Case], answers: list[Any]) -> float:
    """How many of the outputs lie halfway between two codes, exactly or within two ulps of the scale."""
    ties = total = 0
    for case, (_, accumulators) in zip(cases, answers, strict=True):
        _, (sx, _), _, sw, _, _, bias, (so, _) = case.arguments
        value = (np.moveaxis(accumulators, 1, -1) * (np.float64(sx) * sw) + (0 if bias is None else bias)) / so
        near = np.abs(np.abs(value - np.floor(value)) - 0.5) < 1e-6 * np.maximum(1, np.abs(value))
        ties, total = ties + int(near.sum()), total + near.size
    return ties / total


def arguments(x: np.ndarray, w: np.ndarray, rule: dict[str, Any]) -> tuple[Any, ...]:
    scale, zero = rule["weight_scale"], rule["weight_zero_point"]
    return (x, pair(rule["input"]), w, scale, zero, rule["per_channel"], rule["bias"], pair(rule["output"]))


@pytest.mark.parametrize("kernels", KERNEL_SETS, ids=str)
@pytest.mark.parametrize("engine", ENGINES)
def test_a_transposed_convolution_is_pytorchs(pytorch: PyTorch, part: int, engine: str, kernels: KernelSet) -> None:
    rng = np.random.default_rng([7, part])
    onednn = engine == "onednn" or (engine == "x86" and kernels.matrix == "vnni")
    shapes = EQUAL if onednn else EQUAL + UNEQUAL
    if engine == "qnnpack":
        shapes = tuple(shape for shape in shapes if shape[0] < 3)  # see below: the others are refused
    cases = []
    for index, style in styles(147):
        dims, inputs, outputs, groups, kernel, stride, dilation = shapes[index % len(shapes)]
        rule = layer(rng, engine, style, index, False, outputs)
        rule["relu"] = False
        small = [4, 5, 4] if dims == 3 else sizes(dims)
        x, w = operands(rng, style, rule, (1, inputs, *small), (inputs, outputs // groups, *[kernel] * dims))
        keywords: dict[str, Any] = {
            "stride": [stride] * dims,
            "padding": [index % 2 if kernel > 1 else 0] * dims,
            "dilation": [dilation] * dims,
        }
        shape = ConvolutionShape(
            inputs, outputs, groups, (kernel,) * dims, *map(tuple, keywords.values()), transposed=True
        )
        padded = [1] * dims if stride == 2 and index % 4 == 1 and engine != "onednn" else [0] * dims
        keywords |= {"groups": groups, "transposed": True, "output_padding": padded}
        extra = {"groups": groups, "transposed": True, "output_padding": tuple(padded), "shape": shape}
        complete = {**rule, **extra, "kind": "convolution"}

        def check(answer: Any, rule: dict[str, Any] = complete) -> np.ndarray:
            return requantized(engine, kernels, answer, rule)

        cases.append(Case("convolution", arguments(x, w, rule), check, keywords, note=(style, rule, keywords)))
    pytorch.compare("conv_transpose", engine, kernels, cases)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inputs": 4, "outputs": 6}, "wrong weights"),
        ({"inputs": 12, "outputs": 24, "groups": 2}, "wrong weights"),
        ({"stride": (4, 1)}, "roundings"),
        ({"padding": (3, 0)}, "roundings"),
        ({"kernel": (6, 3)}, "AVX2's kernels, extents up to 5;"),
    ],
)
def test_transposed_convolutions_that_onednn_gets_wrong_are_refused(change: dict[str, Any], message: str) -> None:
    plain: dict[str, Any] = {"inputs": 4, "outputs": 4, "groups": 1, "kernel": (3, 3), "stride": (1, 1)}
    plain |= {"padding": (2, 2), "dilation": (1, 1), "transposed": True}
    avx2 = KernelSet("avx2", "avx2")
    assert scaling(avx2, ConvolutionShape(**plain)) == "joint"
    with pytest.raises(ModelError, match=message):
        scaling(avx2, ConvolutionShape(**{**plain, **change}))
    if "kernel" in change:
        assert scaling(KernelSet("avx512", "vnni"), ConvolutionShape(**{**plain, **change})) == "separate"


def test_a_transposed_convolution_over_three_axes_is_refused_with_qnnpack(pytorch: PyTorch) -> None:
    rng = np.random.default_rng(24)
    rule = {**layer(rng, "qnnpack", "ties", 1, False, 4), "relu": False, "kind": "convolution"}
    x, w = operands(rng, "ties", rule, (1, 4, 5, 5, 5), (4, 4, 3, 3, 3))
    keywords = {"stride": [1] * 3, "padding": [0] * 3, "dilation": [1] * 3, "transposed": True}
    case = Case("convolution", arguments(x, w, rule), lambda _: x, keywords)
    (answer,) = pytorch.ask("qnnpack", KERNEL_SETS[0], [case])
    assert np.mean(requantized("qnnpack", KERNEL_SETS[0], answer, rule) != answer[0]) > 1 / 3
    shape = ConvolutionShape(4, 4, 1, (3, 3, 3), (1, 1, 1), (0, 0, 0), (1, 1, 1), transposed=True)
    with pytest.raises(ModelError, match="unwritten"):
        requantized("qnnpack", KERNEL_SETS[0], answer, {**rule, "transposed": True, "shape": shape})


@pytest.mark.parametrize("kernels", KERNEL_SETS, ids=str)
def test_onednn_itself_multiplies_by_the_wrong_weights_where_we_refuse(pytorch: PyTorch, kernels: KernelSet) -> None:
    rng = np.random.default_rng(22)
    rule = {**layer(rng, "onednn", "ties", 1, False, 6), "relu": False}
    x, w = operands(rng, "ties", rule, (1, 4, 6, 5), (4, 6, 3, 3))
    keywords = {"stride": [1, 1], "padding": [0, 0], "dilation": [1, 1], "transposed": True}
    (answer,) = pytorch.ask("onednn", kernels, [Case("convolution", arguments(x, w, rule), lambda _: x, keywords)])
    ours = requantized("onednn", kernels, answer, {**rule, "kind": "convolution"})
    assert np.mean(np.abs(ours - answer[0].astype(int)) > 1) > 1 / 3


@pytest.mark.parametrize("kernels", KERNEL_SETS, ids=str)
@pytest.mark.parametrize("engine", ENGINES)
def test_a_linear_layer_is_pytorchs(pytorch: PyTorch, part: int, engine: str, kernels: KernelSet) -> None:
    rng = np.random.default_rng([8, part])
    cases = []
    for index, style in styles(280):
        outputs, inputs = 1 + index % 70, 1 + (index * 13) % 90
        rule = layer(rng, engine, style, index, bool(index % 2), outputs)
        x, w = operands(rng, style, rule, (7, inputs), (outputs, inputs))

        def check(answer: Any, rule: dict[str, Any] = rule) -> np.ndarray:
            return requantized(engine, kernels, answer, {**rule, "kind": "linear"})

        keywords = {"relu": rule["relu"]}
        cases.append(Case("linear", arguments(x, w, rule), check, keywords, note=(style, rule)))
    answers = pytorch.compare("linear", engine, kernels, cases)
    assert tie_share(cases, answers) > 1 / 3


def test_an_offset_is_added_to_each_accumulator_before_anything_else() -> None:
    rng = np.random.default_rng(9)
    rule = layer(rng, "fbgemm", "ties", 1, True, 6)
    accumulators = rng.integers(-3000, 3000, (50, 6)).astype(np.int32)
    offset = rng.integers(-500, 500, 6).astype(np.int32)
    for engine in ENGINES:
        kernels = KernelSet("avx2", "avx2")
        plain = requantization(engine, kernels, kind="linear", **rule)
        shifted = requantization(engine, kernels, kind="linear", offset=offset, **rule)
        assert np.array_equal(plain.apply(accumulators + offset), shifted.apply(accumulators))


@pytest.mark.parametrize(
    ("change", "owner"),
    [
        ({}, "onednn"),
        ({"groups": 100}, "onednn"),
        ({"groups": 101}, "fbgemm"),
        ({"weight_zero_point": np.array([0, 1], np.int32)}, "fbgemm"),
        ({"output_padding": (0, 1)}, "fbgemm"),
        ({"transposed": True}, "onednn"),
        ({"transposed": True, "per_channel": True}, "fbgemm"),
        ({"kind": "linear"}, "fbgemm"),
    ],
)
def test_x86_is_onednn_for_symmetric_convolutions_on_hosts_with_vnni(change: dict[str, Any], owner: str) -> None:
    rule = {"kind": "convolution", "weight_zero_point": np.zeros(1, np.int32), **change}
    assert arithmetic_of("x86", KernelSet("avx512", "vnni"), **rule) == owner
    assert arithmetic_of("x86", KernelSet("avx2", "avx2"), **rule) == "fbgemm"
    assert arithmetic_of("onednn", KernelSet("avx2", "avx2"), **rule) == "onednn"


def test_qnnpack_refuses_factors_that_are_no_normal_binary32_numbers() -> None:
    kernels, one = KernelSet("avx2", "avx2"), np.ones(1)
    rule: dict[str, Any] = {"kind": "linear", "weight_scale": one, "weight_zero_point": np.zeros(1, np.int32)}
    rule |= {"per_channel": False, "bias": None, "relu": False, "channels": 1}
    for source, target in ((0.0, 1.0), (2.0**-127, 1.0), (2.0**100, 2.0**-28), (1.0, 2.0**-149)):
        with pytest.raises(ModelError, match="normal binary32 number"):
            requantization(
                "qnnpack", kernels, input=Affine(source, 0, "uint8"), output=Affine(target, 0, "uint8"), **rule
            )
    for source, target in ((2.0**-126, 1.0), (2.0**100, 2.0**-27), (256.0, 1.0)):
        assert requantization(
            "qnnpack", kernels, input=Affine(source, 0, "uint8"), output=Affine(target, 0, "uint8"), **rule
        )


def test_sums_that_can_leave_int32_wrap_round_with_fbgemm() -> None:
    kernels, one = KernelSet("avx2", "avx2"), np.ones(1)
    rule: dict[str, Any] = {"kind": "linear", "weight_scale": one, "weight_zero_point": np.zeros(1, np.int32)}
    rule |= {"per_channel": False, "bias": None, "relu": False, "channels": 1, "output": Affine(1.0, 0, "uint8")}
    below = float(np.nextafter(np.float32(1), np.float32(0)))
    for factor, wraps in ((below, False), (1.0, True), (1.5, True)):
        made = requantization("fbgemm", kernels, input=Affine(factor, 0, "uint8"), **rule)
        assert made.indefinite is wraps


def shape(group: tuple[int, int], groups: int, kernel: tuple[int, ...], **more: Any) -> ConvolutionShape:
    """Stride and dilation 1 and no padding unless named."""
    ones, none = (1,) * len(kernel), (0,) * len(kernel)
    inputs, outputs = (size * groups for size in group)
    return ConvolutionShape(
        inputs, outputs, groups, kernel, **{"stride": ones, "padding": none, "dilation": ones, **more}
    )


#: oneDNN's kernels with AVX-512 without VNNI and with it, as the comparisons above found them on hosts that have them.
WITH_AVX512: list[tuple[ConvolutionShape, str, str]] = [
    (shape((3, 3), 1, (3, 3)), "separate", "separate"),
    (shape((1, 1), 8, (3, 3)), "separate", "separate"),
    (shape((1, 1), 8, (3, 3, 3)), "joint", "separate"),
    (shape((1, 1), 8, (3, 3, 3), dilation=(1, 2, 1)), "joint", "joint"),
    (shape((4, 4), 2, (3, 3, 3), dilation=(1, 2, 1)), "separate", "separate"),
    # Transposed, in steps of one pixel, in wider ones that divide the kernel and in those that do not.
    (shape((3, 3), 2, (3, 3), transposed=True), "separate", "separate"),
    (shape((1, 1), 8, (3, 3, 3), transposed=True), "reference", "reference"),
    (shape((3, 3), 2, (4, 2), stride=(2, 2), transposed=True), "separate", "separate"),
    (shape((3, 3), 2, (2, 3), stride=(2, 2), transposed=True), "reference", "reference"),
    (shape((3, 3), 2, (5, 5), stride=(3, 3), transposed=True), "reference", "reference"),
    (shape((4, 4), 2, (3, 3), stride=(2, 2), transposed=True), "separate", "separate"),
    (shape((3, 3), 1, (3, 3), stride=(2, 2), transposed=True), "separate", "separate"),
    (shape((1, 1), 8, (3, 3), stride=(2, 2), transposed=True), "separate", "separate"),
    (shape((1, 1), 8, (3, 3, 3), stride=(2, 2, 2), transposed=True), "reference", "reference"),
    (shape((1, 1), 8, (2, 2, 2), stride=(2, 2, 2), transposed=True), "separate", "separate"),
    (shape((4, 4), 1, (3, 3), stride=(2, 2), dilation=(2, 2), transposed=True), "reference", "reference"),
]


@pytest.mark.parametrize(("convolution", "avx512", "vnni"), WITH_AVX512)
def test_the_order_of_onednns_scales_with_avx512(convolution: ConvolutionShape, avx512: str, vnni: str) -> None:
    assert scaling(KernelSet("avx512", "avx512"), convolution) == avx512
    assert scaling(KernelSet("avx512", "vnni"), convolution) == vnni


@pytest.mark.parametrize("kernels", KERNEL_SETS, ids=str)
@pytest.mark.parametrize("dilation", [1, 2])
def test_the_order_of_onednns_scales_in_volumes_of_one_channel_is_pytorchs(
    pytorch: PyTorch, part: int, kernels: KernelSet, dilation: int
) -> None:
    rng = np.random.default_rng([40, part])
    cases = []
    keywords = {"stride": [1] * 3, "padding": [0] * 3, "dilation": [1, dilation, 1], "groups": 16}
    convolution = shape((1, 1), 16, (2, 2, 2), dilation=(1, dilation, 1))
    for index in range(40):
        rule = layer(rng, "onednn", ("near ties", "random")[index % 2], index, True, 16)
        x, w = operands(rng, "near ties", rule, (1, 16, 6, 5, 6), (16, 1, 2, 2, 2))
        complete = {**rule, "kind": "convolution", "groups": 16, "shape": convolution}
        check = lambda answer, rule=complete: requantized("onednn", kernels, answer, rule)  # noqa: E731
        cases.append(Case("convolution", arguments(x, w, rule), check, {**keywords, "relu": rule["relu"]}, rule))
    pytorch.compare("convolution", "onednn", kernels, cases)


@pytest.mark.parametrize("group", [(1, 3), (3, 1), (3, 3)])
def test_a_transposed_group_of_one_channel_may_have_any_number_on_the_other_side(group: tuple[int, int]) -> None:
    assert scaling(KernelSet("avx2", "avx2"), shape(group, 4, (3, 3), transposed=True))
    with pytest.raises(ModelError, match="wrong weights"):
        scaling(KernelSet("avx2", "avx2"), shape((group[0] + 1, group[1] + 2), 4, (3, 3), transposed=True))
