"""Every float function of single elements between a dequantize and a quantize is PyTorch's, in all codes and places."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from equality import quantized

import accelsim
from accelsim.errors import ModelError

FUNCTIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "acosh": torch.acosh,
    "asinh": torch.asinh,
    "atan2 of itself": lambda f: torch.atan2(f, f + 1),
    "clip": lambda f: f.clip(-1, 2),
    "copysign": lambda f: torch.copysign(torch.tensor(1.5), f),
    "erfinv": lambda f: torch.erfinv(f / 64),
    "fmod": lambda f: torch.fmod(f, 0.7),
    "remainder": lambda f: torch.remainder(f, 0.7),
    "heaviside": lambda f: torch.heaviside(f, torch.tensor(0.5)),
    "lerp": lambda f: torch.lerp(f, f * f, 0.3),
    "logaddexp": lambda f: torch.logaddexp(f, -f),
    "logsigmoid": F.logsigmoid,
    "logit": lambda f: torch.logit(f / 64, 0.01),
    "masked_fill": lambda f: f.masked_fill(f > 1, 3.0),
    "nan_to_num": lambda f: torch.nan_to_num(torch.sqrt(f), nan=1.5),
    "sinc": torch.sinc,
    "where": lambda f: torch.where(f > 0, f, 0.1 * f),
    "where of booleans": lambda f: torch.where((f > 0) & ~(f > 2), f.exp(), f),
    "xlogy": lambda f: torch.xlogy(f.abs(), f.abs()),
    "addcmul": lambda f: torch.addcmul(f, f, f, value=0.5),
    "in place": lambda f: f.mul_(0.3).add_(1.0).tanh_(),
    "in place, a double constant": lambda f: f.mul_(torch.tensor([0.3], dtype=torch.double)),
    "halves": lambda f: (f.half() * 0.3).float(),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_of_single_elements_is_pytorchs(name: str) -> None:
    def model(x: torch.Tensor) -> torch.Tensor:
        return torch.quantize_per_tensor(FUNCTIONS[name](x.dequantize()), 0.125, 31, torch.quint8)

    # Every code, twice and in another order: the second half lies elsewhere in the vector loop.
    every = np.concatenate([np.arange(256), np.arange(256)[::-1], np.arange(19)]).astype(np.uint8)[None]
    network = accelsim.extract(model, quantized(every[:, ::-1].copy(), 0.25, 128), engine="fbgemm")
    x = quantized(every, 0.25, 128)
    np.testing.assert_array_equal(network.run(x)[0].quantized, model(x).int_repr().numpy())


@pytest.mark.parametrize(
    "function",
    [lambda f: F.rrelu(f, training=True), lambda f: torch.where(f >= 0, f, f.flip(0)), lambda f: f.cumsum(0)],
)
def test_what_is_no_function_of_one_element_is_refused(function: Any) -> None:
    def model(x: torch.Tensor) -> torch.Tensor:
        return torch.quantize_per_tensor(function(x.dequantize()), 0.125, 31, torch.quint8)

    with pytest.raises(ModelError):
        accelsim.extract(model, quantized(np.arange(12, dtype=np.uint8), 0.25, 7), engine="fbgemm")
