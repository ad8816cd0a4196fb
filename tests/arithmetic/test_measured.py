"""How often the forms of the requantisation, and the kernels of convolutions and linear layers, differ.

The figures of `docs/integer_arithmetic.md` ("How much it matters"), each between bounds that a few standard deviations
leave. What is compared are answers of PyTorch's kernels; where a place or a share is foretold, it is counted by hand.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch.ao import quantization
from witness import ENGINES, KERNEL_SETS, Case, PyTorch, codes, question

from accelsim.arithmetic.engines import KernelSet

_, AVX2, AVX512, VNNI = KERNEL_SETS


def linear_layer(rng: np.random.Generator, style: str, rows: int, *, per_channel: bool, bias: bool) -> Case:
    """A layer of 60 channels, 7-bit activations. "near ties": the output's scale is within 2 ulps of 2 * sx * sw, so
    that every odd accumulator lies beside the middle of two codes."""
    channels, terms = 60, 64
    count = channels if per_channel else 1
    sx = float(np.float32(rng.uniform(0.01, 0.1)))
    zero, b = 128 + int(rng.integers(0, 2)), None
    if style == "near ties":
        nudged = np.full(count, rng.uniform(0.005, 0.03), np.float32).view(np.int32) + rng.integers(-2, 3, count)
        sw = nudged.astype(np.int32).view(np.float32).astype(np.float64)
        out = np.float32(2) * np.float32(np.float32(sx) * np.float32(sw[0]))
        for _ in range(int(rng.integers(0, 3))):
            out = np.nextafter(out, np.float32(rng.choice([0.0, np.inf])))
        so, zx = float(out), 46
        x, w = codes(rng, (rows, terms), "uint8", 40, 51), codes(rng, (channels, terms), "int8", -4, 4)
        if bias:
            b = (rng.integers(-40, 40, channels) * sx * sw).astype(np.float32)
    else:
        sw = rng.uniform(0.005, 0.03, count).astype(np.float32).astype(np.float64)
        so, zx = float(np.float32(sx * sw.mean() * rng.uniform(500, 700))), 64
        x, w = codes(rng, (rows, terms), "uint8", 0, 127), codes(rng, (channels, terms), "int8", -64, 64)
        if bias:
            b = rng.normal(0, 20 * so, channels).astype(np.float32)
    return question("linear", x, (sx, zx), w, sw, np.zeros(count, np.int32), per_channel, b, (so, zero))


def real_codes(case: Case, accumulators: np.ndarray, *, integer_bias: bool) -> np.ndarray:
    """The layer in real numbers (binary64), rounded once: `rne((acc * sx * sw + bias) / so) + zo`."""
    _, (sx, _), _, sw, _, _, bias, (so, zo) = case.arguments
    unit = sx * sw
    total = np.zeros(1) if bias is None else bias.astype(np.float64)
    if integer_bias:
        total = np.rint(total / unit) * unit
    return np.clip(np.rint((accumulators * unit + total) / so) + zo, 0, 255)


@pytest.mark.parametrize("per_channel", [False, True], ids=["per tensor", "per channel"])
@pytest.mark.parametrize("style", ["random", "near ties"])
def test_near_ties_tell_the_forms_apart_and_random_scales_do_not(
    pytorch: PyTorch, style: str, per_channel: bool
) -> None:
    rng = np.random.default_rng([50, per_channel])
    questions = [linear_layer(rng, style, 160, per_channel=per_channel, bias=bool(i % 2)) for i in range(40)]
    given = {engine: pytorch.ask(engine, AVX2, questions) for engine in ("fbgemm", "qnnpack", "onednn")}
    made = {engine: np.concatenate([codes.ravel() for codes, _ in given[engine]]) for engine in given}
    real = {
        engine: np.concatenate(
            [
                real_codes(case, sums, integer_bias=engine == "qnnpack").ravel()
                for case, (_, sums) in zip(questions, given[engine], strict=True)
            ]
        )
        for engine in given
    }
    shares = {engine: np.mean(made[engine] != real[engine]) for engine in given}
    if style == "random":
        assert max(shares.values()) < 3e-5, shares
    else:
        assert 0.03 < shares["fbgemm"] < 0.18, shares
        assert 0.03 < shares["qnnpack"] < 0.18, shares
        assert 0.15 < shares["onednn"] < 0.27, shares
    for one, other in itertools.combinations(made, 2):
        # A bias that qnnpack rounds is no matter of order.
        plain = slice(None) if "qnnpack" not in (one, other) else without_bias(questions)
        share = np.mean(made[one][plain] != made[other][plain])
        assert share < 3e-5 if style == "random" else 0.01 < share < 0.3, (one, other, share)


def without_bias(questions: list[Case]) -> np.ndarray:
    """Which of the outputs belong to layers without a bias; all layers have as many."""
    return np.repeat([case.arguments[6] is None for case in questions], 160 * 60)


@pytest.mark.parametrize(("halves", "share"), [(1, 1 / 2), (3, 1 / 8), (4, 1 / 16)])
def test_with_an_odd_zero_point_every_tie_of_onednn_goes_the_other_way(
    pytorch: PyTorch, halves: int, share: float
) -> None:
    # The output's scale is 2 ** halves times the product of the others: one accumulator in so many is a tie.
    rng = np.random.default_rng(51)
    x, w = codes(rng, (600, 24), "uint8", 40, 51), codes(rng, (70, 24), "int8", -4, 4)
    one = np.ones(1)
    for zero in (120, 121):
        layer = question(
            "linear", x, (0.25, 46), w, one, np.zeros(1, np.int32), False, None, (2.0 ** (halves - 2), zero)
        )
        (fbgemm, sums), (onednn, _) = (pytorch.ask(engine, AVX2, [layer])[0] for engine in ("fbgemm", "onednn"))
        value = sums / 2.0**halves
        ties = (value - np.floor(value) == 0.5) & (np.abs(value) < 120)
        assert np.mean(ties) == pytest.approx(share, rel=0.1)
        assert np.array_equal(fbgemm != onednn, ties if zero % 2 else np.zeros_like(ties))


#: Which engine's kernels saturate, under which set.
SATURATING = {"fbgemm": (AVX2, AVX512), "onednn": (AVX2, AVX512), "qnnpack": ()}


def full_range_layers(rng: np.random.Generator, activations: int) -> list[Case]:
    """Ten linear layers of uniform int8 weights and activations from 0 to `activations`, as a layer's codes lie: the
    range of the output is six standard deviations of its sums."""
    cases = []
    for _ in range(10):
        x, w = codes(rng, (60, 48), "uint8", 0, activations), codes(rng, (70, 48), "int8")
        zx = (activations + 1) // 2
        sigma = np.sqrt(48) * (activations / np.sqrt(12)) * 74
        quant = (x, (0.02, zx), w, np.full(1, 0.004), np.zeros(1, np.int32), False, None)
        cases.append(question("linear", *quant, (float(0.02 * 0.004 * 6 * sigma / 255), 128)))
    return cases


@pytest.mark.parametrize("kernels", [AVX2, AVX512, VNNI], ids=str)
@pytest.mark.parametrize("engine", list(SATURATING))
def test_full_8_bit_operands_saturate_without_vnni_and_7_bit_activations_do_not(
    pytorch: PyTorch, engine: str, kernels: KernelSet
) -> None:
    for activations in (127, 255):
        questions = full_range_layers(np.random.default_rng(52), activations)
        given = pytorch.ask(engine, kernels, questions)
        difference = np.concatenate(
            [
                np.abs(made - real_codes(case, sums, integer_bias=False)).ravel()
                for case, (made, sums) in zip(questions, given, strict=True)
            ]
        )
        share, worst = np.mean(difference > 0), difference.max()
        if activations == 255 and kernels in SATURATING[engine]:
            assert 0.5 < share < 0.95, share
            assert 10 < worst < 150, worst
        else:
            assert share < 1e-3, share
            assert worst <= 1, worst


# What PyTorch does unless it is told otherwise


@pytest.mark.parametrize("engine", ENGINES)
def test_default_weights_are_per_channel_but_for_qnnpack_and_activations_of_7_bits_where_sums_saturate(
    engine: str,
) -> None:
    default = quantization.get_default_qconfig(engine)
    assert (default.weight().qscheme == torch.per_channel_symmetric) == (engine != "qnnpack")
    activation = default.activation()
    activation(torch.linspace(0, 1, 1000))
    scale, _ = activation.calculate_qparams()
    bits = 7 if engine in ("fbgemm", "x86") else 8
    assert scale.item() == pytest.approx(1 / (2**bits - 1), rel=0.02)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("engine", ENGINES)
def test_every_engines_convolutions_return_channels_last_tensors(engine: str) -> None:
    before = torch.backends.quantized.engine
    torch.backends.quantized.engine = engine
    try:
        x = torch.quantize_per_tensor(torch.rand(2, 3, 5, 4), 0.01, 0, torch.quint8)
        w = torch.quantize_per_tensor(torch.rand(6, 3, 2, 2), 0.01, 0, torch.qint8)
        packed = torch.ops.quantized.conv2d_prepack(w, None, [1, 1], [0, 0], [1, 1], 1)
        y = torch.ops.quantized.conv2d(x, packed, 0.1, 0)
    finally:
        torch.backends.quantized.engine = before
    assert x.is_contiguous()
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert not y.is_contiguous()


def test_qnnpacks_sigmoid_takes_one_output_grid(pytorch: PyTorch) -> None:
    x = np.arange(256, dtype=np.uint8)[None]
    for out, taken in (((2**-8, 0), True), ((2**-7, 0), False), ((2**-8, 3), False)):
        (answer,) = pytorch.ask("qnnpack", AVX2, [question("unary", x, (0.1, 7), "sigmoid", out)])
        assert isinstance(answer, Exception) != taken
