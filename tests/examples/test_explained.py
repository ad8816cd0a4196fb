"""The worked example ends in PyTorch's own code, for every engine, whichever element it is asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import accelsim
from accelsim.frontend import record_values
from accelsim.report.worked_example import work_through
from examples import digits

LAYERS = ("conv1", "conv2", "conv4", "conv5", "fc1", "fc2")


@pytest.fixture(params=digits.ENGINES)
def quantized(request: pytest.FixtureRequest) -> Any:
    return digits.quantized(request.param)


def exact_sums(model: Any, name: str, x: np.ndarray, zero_point: int) -> torch.Tensor:
    """The sums of a layer by PyTorch's own binary64 kernels, which are exact for these integers."""
    module = getattr(model, name)
    codes = torch.from_numpy(x.astype(np.float64)) - zero_point
    weights = module.weight().int_repr().double()
    if name.startswith("fc"):
        return torch.nn.functional.linear(codes, weights)
    return torch.nn.functional.conv2d(codes, weights, None, module.stride, module.padding)


def test_sums_and_codes_are_pytorchs(quantized: Any) -> None:
    model, example = quantized
    network = accelsim.extract(model, example)
    torch_codes = record_values(model, example, network)
    codes = network.trace(example)
    draw = np.random.default_rng(0)
    for name in LAYERS:
        size = network.values[name].size
        node = network.node(name)
        source = network.values[node.inputs[0]]
        sums = exact_sums(model, name, torch_codes[source.name], source.affine.zero_point).flatten()
        corners = (0, size - 1)
        for element in {*corners, *draw.integers(0, size, 6).tolist()}:
            (worked,) = work_through(network, [name], element, codes, torch_codes)
            assert worked.exact_sum == int(sums[element]), (name, element)
            assert worked.code == worked.torch_code == int(torch_codes[name].flatten()[element]), (name, element)
            fixed = worked.fixed_point
            shifted = (worked.exact_sum * fixed.multiplier + fixed.offset) >> fixed.shift
            assert fixed.code == min(max(shifted, worked.minimum), worked.maximum)
            if not fixed.differing:
                assert fixed.code == worked.code


def test_consecutive_convolutions_hand_a_code_on(quantized: Any) -> None:
    model, example = quantized
    network = accelsim.extract(model, example)
    codes = network.trace(example)
    for element in (0, 77, 500):
        first, second = work_through(network, ["conv1", "conv2"], element, codes)
        assert second.handed_on is not None
        assert second.inputs[second.handed_on] == first.code
        assert second.places[second.handed_on] == first.index
