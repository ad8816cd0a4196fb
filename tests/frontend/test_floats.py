"""Work in binary32 between quantised layers and behind them: on a machine, and beside PyTorch explained."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.ao import quantization
from torch.nn import functional as F  # noqa: N812

import accelsim
from accelsim.network import Vector

EDGE = accelsim.Accelerator.from_yaml("edge_16x16")

#: IEEE steps alone, in PyTorch's order: equal in every bit.
EXACT: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "two operands": lambda x: x + F.relu(x) * torch.arange(10.0),
    "other order": lambda x: (2.5 - x) / (x * x + 1.0),
    "clamped": lambda x: torch.clamp(x - x[:, :1], -0.5, 0.75),
    "hardswish": lambda x: F.hardswish(x) - x,
    "where": lambda x: torch.where(x > x.flip(1), x, x.flip(1) * 0.5),
    "larger": lambda x: torch.maximum(x, x.flip(1)) - torch.minimum(x, x[:1]),
    "leaky": lambda x: F.leaky_relu(x, 0.2) + x[:, 1:2],
    "masked": lambda x: (x + 1.0).masked_fill(torch.arange(10) > 6, -3.0) + x.flip(1),
    "largest of a row": lambda x: x - x.amax(1, keepdim=True),
    "batch norm": lambda x: F.batch_norm(x, torch.arange(10.0), torch.ones(10) * 4.0, eps=0.0),
    "beside one another": lambda x: torch.cat([x * x.flip(1), x], 1),
    "expanded": lambda x: (x * x)[:, :1].expand(-1, 7) + 1.0,
}
#: Functions and sums, whose bits are those of the host's libraries.
EXPLAINED: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "softmax": lambda x: F.softmax(x, -1),
    "log softmax": lambda x: F.log_softmax(x, 1),
    "normalize": lambda x: F.normalize(x, dim=1),
    "layer norm": lambda x: F.layer_norm(x, (10,), torch.linspace(0.5, 2, 10), torch.linspace(-1, 1, 10)),
    "group norm": lambda x: F.group_norm(x.reshape(-1, 2, 5), 2, torch.tensor([1.0, 2.0]), torch.tensor([0.5, 0.0])),
    "mean": lambda x: x.mean(1),
    "gelu": lambda x: F.gelu(x) * x,
    "roots": lambda x: torch.sqrt(x.abs() + x.flip(1).abs()) + torch.rsqrt(x.flip(1).abs() + 0.5 + x * x),
    "silu": lambda x: x * torch.sigmoid(x),
    "boxes": lambda x: torch.cat([torch.sigmoid(x[:, :2]), torch.exp(x[:, 2:4]) * 2.0], 1),
    "product": lambda x: x.t() @ x,
    "attention": lambda x: F.scaled_dot_product_attention(*x.reshape(1, 2, 2, -1).chunk(1) * 3),
    "linear": lambda x: F.linear(x, torch.linspace(-1, 1, 30).reshape(3, 10), torch.ones(3)),
}


class Body(nn.Module):
    """A convolution and a linear layer of 10 features, then `tail` in float, then perhaps a layer more."""

    def __init__(self, tail: Callable[[torch.Tensor], torch.Tensor], *, more: bool) -> None:
        super().__init__()
        self.quantize, self.dequantize = quantization.QuantStub(), quantization.DeQuantStub()
        self.convolution, self.relu, self.linear = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Linear(16, 10)
        self.again = quantization.QuantStub() if more else None
        self.last, self.end, self.tail = nn.Linear(10, 5) if more else None, quantization.DeQuantStub(), tail

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(self.relu(self.convolution(self.quantize(x))), 2)
        x = self.tail(self.dequantize(self.linear(torch.flatten(x, 1))))
        return x if self.again is None or self.last is None else self.end(self.last(self.again(x)))


def converted(tail: Callable[[torch.Tensor], torch.Tensor], engine: str, *, more: bool = False) -> Any:
    generator = torch.Generator().manual_seed(1)
    torch.manual_seed(7)
    model = Body(tail, more=more).eval()
    model.qconfig = quantization.get_default_qconfig(engine)
    prepared = quantization.prepare(model)
    prepared(torch.randn(8, 3, 6, 6, generator=generator))
    return quantization.convert(prepared), torch.randn(4, 3, 6, 6, generator=generator)


@pytest.fixture(params=["fbgemm", "qnnpack"])
def engine(request: pytest.FixtureRequest) -> Any:
    before, torch.backends.quantized.engine = torch.backends.quantized.engine, request.param
    yield request.param
    torch.backends.quantized.engine = before


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", EXACT)
def test_ieee_steps_are_pytorchs_in_every_bit(name: str, engine: str) -> None:
    model, x = converted(EXACT[name], engine)
    network = accelsim.extract(model, x)
    assert any(isinstance(node, Vector) for node in network.nodes)
    (output,) = accelsim.simulate(accelsim.compile(network, EDGE, effort=0), x.numpy()).outputs
    assert np.array_equal(output.quantized, model(x).numpy())
    verification = accelsim.verify(model, x, EDGE, effort=0)
    assert all(row.differing == 0 for _, row in verification.rows)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", EXPLAINED)
def test_functions_and_sums_differ_within_bounds(name: str, engine: str) -> None:
    model, x = converted(EXPLAINED[name], engine)
    verification = accelsim.verify(model, x, EDGE, effort=0)
    assert verification.mismatches == 0, verification
    (output,) = accelsim.simulate(accelsim.compile(accelsim.extract(model, x), EDGE, effort=0), x.numpy()).outputs
    np.testing.assert_allclose(output.quantized, model(x).numpy(), rtol=2e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "name", [name for name in (*EXACT, *EXPLAINED) if name not in ("mean", "product", "attention")]
)
def test_a_layer_after_work_in_float_is_pytorchs(name: str) -> None:
    tail = (EXACT | EXPLAINED)[name]
    torch.backends.quantized.engine = "fbgemm"
    model, x = converted(lambda x: torch.cat([tail(x).flatten(1)] * 10, 1)[:, :10], "fbgemm", more=True)
    verification = accelsim.verify(model, x, EDGE, effort=0)
    assert verification.mismatches == 0, verification


@pytest.mark.filterwarnings("ignore")
def test_a_wrong_result_is_not_explained() -> None:
    """A softmax of another temperature is far outside of the bounds."""
    torch.backends.quantized.engine = "fbgemm"
    model, x = converted(lambda x: F.softmax(x, -1), "fbgemm")
    program = accelsim.compile(accelsim.extract(model, x), EDGE, effort=0)
    other, _ = converted(lambda x: F.softmax(x * 1.0001, -1), "fbgemm")
    wrong = accelsim.compile(accelsim.extract(other, x), EDGE, effort=0)
    assert accelsim.verify(model, x, EDGE, program=program).mismatches == 0
    assert accelsim.verify(model, x, EDGE, program=wrong).mismatches > 0
