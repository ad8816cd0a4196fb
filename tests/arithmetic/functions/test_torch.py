"""Beside PyTorch: the same bits where both do IEEE steps, elsewhere differences that are explained."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.nn.functional import gelu, hardsigmoid, hardswish, silu, softplus

from accelsim.arithmetic import functions
from accelsim.arithmetic.functions import bounds
from tests.arithmetic.functions.inputs import edges, inputs

ACCURATE = functions.Method("accurate")

THEIRS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "exp": torch.exp,
    "exp2": torch.exp2,
    "log": torch.log,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "erf": torch.erf,
    "gelu": gelu,
    "gelu_tanh": lambda x: gelu(x, approximate="tanh"),
    "silu": silu,
    "softplus": softplus,
    "sin": torch.sin,
    "cos": torch.cos,
    "hardswish": hardswish,
    "hardsigmoid": hardsigmoid,
    "sqrt": torch.sqrt,
    "rsqrt": torch.rsqrt,
    "reciprocal": torch.reciprocal,
}


def theirs(name: str, x: np.ndarray) -> np.ndarray:
    return THEIRS[name](torch.from_numpy(x.copy())).numpy()


@pytest.mark.parametrize("name", ["hardswish", "hardsigmoid", "reciprocal"])
def test_ieee_steps_have_pytorchs_bits(name: str) -> None:
    x = inputs(200_000, 11)
    ours, expected = functions.evaluate(name, x, ACCURATE), theirs(name, x)
    nan = np.isnan(ours)
    assert np.array_equal(nan, np.isnan(expected))
    assert np.array_equal(ours[~nan].view(np.uint32), expected[~nan].view(np.uint32))


@pytest.mark.parametrize("name", functions.NAMES)
def test_a_difference_from_pytorch_is_explained(name: str) -> None:
    """Not of infinities and beyond the range of the bound, where oneDNN's GELU is infinite or NaN."""
    x = np.concatenate([edges(), inputs(100_000, 13)])
    x = x[np.abs(x) < min(bounds.PYTORCH[name].largest, 3.4e38)]
    ours, expected = functions.evaluate(name, x, ACCURATE), theirs(name, x)
    explained = functions.explains(name, ours, expected, x)
    bad = ~explained
    assert not bad.any(), (x[bad][:5], ours[bad][:5], expected[bad][:5])


@pytest.mark.parametrize("name", functions.NAMES)
def test_a_wrong_result_is_not_explained(name: str) -> None:
    """Some ulps more than stated on either side, and a NaN, are no function's own error."""
    x = np.array([0.7, 1.3, 2.9], np.float32)
    ours = functions.evaluate(name, x, ACCURATE)
    assert functions.explains(name, ours, ours, x).all()
    for result, bound in ((0, bounds.ACCURATE), (1, bounds.PYTORCH)):
        distance = int(2 * bound[name].ulps) + 3
        pair = [ours, ours]
        pair[result] = (ours.view(np.int32) + distance).view(np.float32)
        assert not functions.explains(name, pair[0], pair[1], x).any()
    assert not functions.explains(name, ours, ours * np.float32(np.nan), x).any()
    assert functions.explains(name, ours * np.float32(np.nan), ours * np.float32(np.nan), x).all()


def test_a_coarse_result_is_not_explained() -> None:
    x = np.linspace(-3, 3, 100, dtype=np.float32)
    coarse = functions.evaluate("gelu", x, functions.Method("table", 64))
    assert not functions.explains("gelu", coarse, theirs("gelu", x), x).all()


def test_explanations_have_the_inputs_shape() -> None:
    x = np.full((2, 3), 0.5, np.float32)
    ours = functions.evaluate("exp", x, ACCURATE)
    assert functions.explains("exp", ours, ours, x).shape == (2, 3)
    assert functions.explains("exp", ours[0, 0], ours[0, 0], x[0, 0]).shape == ()
