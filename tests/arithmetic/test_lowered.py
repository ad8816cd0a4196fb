"""Layers of a torch.export graph are what oneDNN's pointwise kernels make of them, residual sums included."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from matrix_layers import layer, operands
from witness import KERNEL_SETS, STYLES, Case, PyTorch, codes, pair, styles, zero_points

from accelsim.arithmetic.affine import Affine
from accelsim.arithmetic.engines import PT2E, KernelSet
from accelsim.arithmetic.lowered import add_rule, residual_sum
from accelsim.arithmetic.matrix import requantization
from accelsim.arithmetic.onednn import ConvolutionShape
from accelsim.arithmetic.requantize import Requantization

#: Two of ATen's sets share each set of oneDNN's kernels; ATen's have no say here.
MATRIX_SETS = KERNEL_SETS[1:]
#: Input channels, output channels, groups, kernel.
SHAPES = (
    (3, 5, 1, 3),
    (8, 8, 8, 3),
    (16, 24, 1, 1),
    (12, 9, 3, 2),
    (8, 16, 8, 3),
    (24, 48, 3, 1),
    (32, 32, 1, 3),
)
#: A layer alone; with a residual that the kernel scales; both in binary32 and quantised after it.
FORMS = ("plain", "sum", "float", "float sum")


def drawn(rng: np.random.Generator, style: str, index: int, channels: int) -> dict[str, Any]:
    """A layer without weight zero points, per tensor or per channel."""
    rule = layer(rng, "onednn", style, index, bool(index % 2), channels)
    rule["weight_scale"] = np.broadcast_to(rule["weight_scale"], channels).astype(np.float32).astype(np.float64)
    return rule | {"per_channel": True, "weight_zero_point": np.zeros(channels, np.int32)}


def residual_of(rng: np.random.Generator, style: str, rule: dict[str, Any], index: int) -> Affine:
    """The grid of a residual: a step of the sums (or half or two), or one near the output's."""
    unit = rule["input"].scale * rule["weight_scale"][0]
    near = rule["output"].scale * rng.uniform(0.3, 3)
    scale = float(unit * rng.choice([0.5, 1, 2])) if style in ("ties", "near ties") else float(near)
    return Affine(scale, zero_points(rng, "uint8", index + 2), "uint8")


def lowered(
    kernels: KernelSet,
    rule: dict[str, Any],
    convolution: ConvolutionShape | None,
    accumulators: np.ndarray,
    residual: tuple[np.ndarray, Affine] | None,
    *,
    float_output: bool,
    scaled: bool,
) -> np.ndarray:
    """Our codes; `scaled`: the kernel scales the residual itself. Channels are axis 1, as for PyTorch."""
    sums = np.moveaxis(accumulators.astype(np.int32), 1, -1)
    kind = "linear" if convolution is None else "convolution"
    made = requantization(PT2E, kernels, kind=kind, shape=convolution, float_output=float_output, **rule)
    assert isinstance(made, Requantization)
    if residual is None:
        return np.moveaxis(made.apply(sums), -1, 1)
    total = residual_sum(made, residual[1], scaled=scaled)
    return np.moveaxis(total.apply(sums, np.moveaxis(residual[0], 1, -1)), -1, 1)


def case(
    rng: np.random.Generator,
    kernels: KernelSet,
    style: str,
    index: int,
    form: str,
    *,
    linear: bool,
    post_op: str = "sum",
) -> Case:
    if linear:
        channels, inputs = 1 + index % 70, 1 + (index * 13) % 90
        rule = drawn(rng, style, index, channels)
        x, w = operands(rng, style, rule, (7, inputs), (channels, inputs))
        convolution, out_shape, keywords = None, (7, channels), {}
    else:
        inputs, channels, groups, kernel = SHAPES[index % len(SHAPES)]
        rule = drawn(rng, style, index, channels)
        x, w = operands(rng, style, rule, (2, inputs, 9, 7), (channels, inputs // groups, kernel, kernel))
        stride, padding, dilation = (1 + index % 2, 1), (index % 3 and 1, index % 2), (1 + (index % 7 == 0), 1)
        convolution = ConvolutionShape(inputs, channels, groups, (kernel, kernel), stride, padding, dilation)
        keywords = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        sizes = zip((9, 7), stride, padding, dilation, strict=True)
        out_shape = (2, channels, *((size + 2 * p - d * (kernel - 1) - 1) // s + 1 for size, s, p, d in sizes))
    residual, float_output = None, form.startswith("float")
    if form.endswith("sum"):
        grid = residual_of(rng, style, rule, index)
        low = max(0, min(grid.zero_point - 40, 175))
        residual = (codes(rng, out_shape, "uint8", low, low + 80), grid)
        keywords = keywords | {"residual": (residual[0], pair(grid)), "post_op": post_op}
    keywords = keywords | {"relu": rule["relu"], "float_output": float_output}
    scaled = not float_output and post_op == "sum"

    def check(answer: Any) -> np.ndarray:
        return lowered(kernels, rule, convolution, answer[1], residual, float_output=float_output, scaled=scaled)

    arguments = (x, pair(rule["input"]), w, rule["weight_scale"], rule["bias"], pair(rule["output"]))
    return Case("pointwise", arguments, check, keywords, note=(style, form, rule, keywords))


@pytest.mark.parametrize("kernels", MATRIX_SETS, ids=str)
@pytest.mark.parametrize("form", FORMS)
def test_a_pointwise_convolution_is_pytorchs(pytorch: PyTorch, part: int, form: str, kernels: KernelSet) -> None:
    rng = np.random.default_rng([60, part, FORMS.index(form)])
    cases = [case(rng, kernels, style, index, form, linear=False) for index, style in styles(42)]
    answers = pytorch.compare("pointwise convolution", PT2E, kernels, cases)
    assert tie_share(cases, answers) > (1 / 5 if form.endswith("sum") else 1 / 3)


@pytest.mark.parametrize("kernels", MATRIX_SETS, ids=str)
@pytest.mark.parametrize("form", FORMS)
def test_a_pointwise_linear_layer_is_pytorchs(pytorch: PyTorch, part: int, form: str, kernels: KernelSet) -> None:
    rng = np.random.default_rng([61, part, FORMS.index(form)])
    # The post-op "add" takes what is dequantised already.
    operations = [("sum", "add")[index % 2] if form == "sum" else "sum" for index in range(90)]
    if form == "float sum":
        operations = ["add"] * 90
    cases = [
        case(rng, kernels, style, index, form, linear=True, post_op=operations[index]) for index, style in styles(90)
    ]
    answers = pytorch.compare("pointwise linear", PT2E, kernels, cases)
    assert tie_share(cases, answers) > (1 / 5 if form.endswith("sum") else 1 / 3)


def tie_share(cases: list[Case], answers: list[Any]) -> float:
    """How many of the outputs lie halfway between two codes, exactly or within two ulps of the scale."""
    ties = total = 0
    for asked, (_, accumulators) in zip(cases, answers, strict=True):
        _, (sx, _), _, sw, bias, (so, _) = asked.arguments
        real = np.moveaxis(accumulators, 1, -1) * (np.float64(sx) * sw) + (0 if bias is None else bias)
        if "residual" in asked.keywords:
            residual, (scale, zero) = asked.keywords["residual"]
            real = real + (np.moveaxis(residual, 1, -1).astype(float) - zero) * scale
        value = real / so
        near = np.abs(np.abs(value - np.floor(value)) - 0.5) < 1e-6 * np.maximum(1, np.abs(value))
        ties, total = ties + int(near.sum()), total + near.size
    return ties / total


@pytest.mark.parametrize("kernels", KERNEL_SETS, ids=str)
def test_a_sum_between_dequantize_and_quantize_is_pytorchs(pytorch: PyTorch, part: int, kernels: KernelSet) -> None:
    rng = np.random.default_rng([62, part])
    cases = []
    for index in range(200):
        style = STYLES[index % 3]
        scale = float(2.0 ** rng.integers(-6, 3)) if style != "random" else float(rng.uniform(0.001, 0.1))
        double = np.float32(2 * scale) if style == "ties" else np.nextafter(np.float32(2 * scale), np.float32(9))
        out_scale = float(double) if style != "random" else scale * float(rng.uniform(0.5, 3))
        a, b, out = (
            Affine(value, zero_points(rng, "uint8", 3 * index + place), "uint8")
            for place, value in enumerate((scale, scale, out_scale))
        )
        qa, qb = codes(rng, 1 + index % 140, "uint8"), codes(rng, 1 + index % 140, "uint8")
        relu = bool(index % 3 == 0)
        rule = add_rule(a, b, out, relu)
        check = lambda _, rule=rule, qa=qa, qb=qb: rule.apply(qa, qb)  # noqa: E731
        arguments = (qa, qb, pair(a), pair(b), pair(out), relu)
        cases.append(Case("decomposed_add", arguments, check, note=(a, b, out, relu)))
    pytorch.compare("decomposed add", PT2E, kernels, cases)


@pytest.mark.parametrize("kernels", MATRIX_SETS, ids=str)
def test_the_scales_are_not_the_engines(pytorch: PyTorch, kernels: KernelSet) -> None:
    # The engine onednn inverts scales twice; near-ties show it.
    rng, differing = np.random.default_rng(63), 0
    for index in range(40):
        asked = case(rng, kernels, "near ties", index, "plain", linear=True)
        rule = asked.note[2]
        (answer,) = pytorch.ask(PT2E, kernels, [asked])
        other = requantization("onednn", kernels, kind="linear", **rule).apply(answer[1].astype(np.int32))
        differing += int(np.count_nonzero(other != answer[0]))
    assert differing


@pytest.mark.parametrize("kernels", MATRIX_SETS, ids=str)
def test_a_residual_of_groups_that_are_no_whole_blocks_is_pytorchs(
    pytorch: PyTorch, part: int, kernels: KernelSet
) -> None:
    # With AVX2 these go to oneDNN's reference, which rounds the product before the sum: only near-ties show it.
    rng = np.random.default_rng([64, part])
    places = [place for place in range(280) if SHAPES[place % len(SHAPES)] in ((12, 9, 3, 2), (8, 16, 8, 3))]
    cases = [case(rng, kernels, "near ties", place, "sum", linear=False) for place in places]
    pytorch.compare("pointwise convolution", PT2E, kernels, cases)
