"""A recording holds what tensors were when they were made, and what is no function of the inputs is refused."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from equality import codes, engine_set, linear, quantized
from torch import nn

import accelsim
from accelsim.errors import ModelError
from accelsim.frontend.layouts import copy_of, overlap
from accelsim.frontend.versions import checksum

Q = torch.ops.quantized
X = quantized(codes(1, (2, 6)), 0.25, 9)


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (lambda x: Q.add_scalar(x, x.dequantize().max().item()), "aten._local_scalar_dense turns elements"),
        (lambda x: torch.relu(x) if x.dequantize().sum() > 0 else x, "aten._local_scalar_dense turns elements"),
        (lambda x: Q.add_scalar(x, x.dequantize().tolist()[0][0]), "Tensor.tolist turns elements"),
        (lambda x: Q.add_scalar(x, float(x.dequantize().numpy()[0, 0])), "Tensor.numpy turns elements"),
        (lambda x: torch.relu(x) if torch.equal(x, torch.relu(x)) else x, "aten.equal turns elements"),
        (lambda x: x[:, : len(x.dequantize()[0].nonzero())], "aten.nonzero turns elements"),
        (lambda x: x[x.dequantize()[:, 0].argmax()], "aten._local_scalar_dense turns elements"),
        (lambda x: x.index_select(1, x.dequantize()[0].argsort()), "takes a tensor that depends on the model's inputs"),
        (lambda x: torch.quantize_per_tensor(x.dequantize(), x.dequantize().max() / 9, torch.tensor(7), torch.quint8),
         "takes a tensor that depends on the model's inputs"),
        (lambda x: Q.linear(x, Q.linear_prepack(X, None), 1.0, 0), "raised RuntimeError"),
        (lambda x: Q.mul_scalar(x, torch.randint(1, 1 << 30, ()).item() / 9), "called with other arguments"),
        (lambda x: x.index_select(1, torch.randperm(6)), "holds other elements"),
        (lambda x: torch.quantize_per_tensor(x.dequantize() + torch.rand(()), 0.5, 3, torch.quint8), "other elements"),
        (lambda x: Q.dropout(x, 0.1, 128, 0.5, True), "by chance"),
    ],
)  # fmt: skip
def test_what_is_taken_from_data_or_chance_is_refused_by_name(model: Callable[..., Any], says: str) -> None:
    with pytest.raises(ModelError, match=says):
        accelsim.extract(model, X, engine="fbgemm")


class _Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.count: torch.Tensor
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.count.add_(1)
        return torch.quantize_per_tensor(x.dequantize() + self.count, 0.5, 3, torch.quint8)


def test_a_state_is_refused_and_left_as_it_was() -> None:
    model = _Counting()
    with pytest.raises(ModelError, match="holds other elements"):
        accelsim.extract(model, X, engine="fbgemm")
    assert model.count.item() == 0


def test_a_python_counter_is_refused() -> None:
    calls: list[int] = []

    def model(x: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return torch.relu(x) if len(calls) % 2 else Q.relu6(x)

    with pytest.raises(ModelError, match=r"on other numbers"):
        accelsim.extract(model, X, engine="fbgemm")


@pytest.mark.parametrize(
    "model",
    [
        lambda x: x.relu_(),
        lambda x: F.hardtanh(x, -0.5, 0.5, inplace=True),
        lambda x: Q.relu6(x, True),
        lambda x: F.leaky_relu_(x, 0.1),
        lambda x: x.transpose_(0, 1),
    ],
)
def test_the_example_is_not_changed(model: Callable[..., Any]) -> None:
    x = copy_of(X)
    network = accelsim.extract(model, x, engine="fbgemm")
    assert torch.equal(x, X)
    other = quantized(codes(5, (2, 6)), 0.25, 9)
    np.testing.assert_array_equal(network.run(copy_of(other))[0].quantized, model(copy_of(other)).int_repr().numpy())


@pytest.mark.parametrize(
    "changes",
    [lambda f: f.numpy().fill(1), lambda f: f[:1].relu_(), lambda f: f.view(-1)[3:].zero_(), lambda f: f.t().mul_(2)],
)
def test_a_tensor_that_is_written_through_another_is_refused(changes: Callable[..., Any]) -> None:
    def model(x: torch.Tensor) -> torch.Tensor:
        f = x.dequantize()
        changes(f)
        return torch.quantize_per_tensor(f, 0.5, 3, torch.quint8)

    with pytest.raises(ModelError, match=r"not in place|by operators|turns elements"):
        accelsim.extract(model, X, engine="fbgemm")


def test_a_part_that_is_not_written_is_what_it_was() -> None:
    def model(x: torch.Tensor) -> torch.Tensor:
        a, b = x.chunk(2, 1)
        a.relu_()
        return Q.add(a, b, 0.5, 7)

    network = accelsim.extract(model, X, engine="fbgemm")
    other = quantized(codes(5, (2, 6)), 0.25, 9)
    np.testing.assert_array_equal(network.run(copy_of(other))[0].quantized, model(copy_of(other)).int_repr().numpy())


def test_two_inputs_may_be_one_tensor_when_they_are_recorded() -> None:
    network = accelsim.extract(lambda a, b: Q.add(torch.relu(a), b, 0.5, 7), (X, X), engine="fbgemm")
    a, b = quantized(codes(5, (2, 6)), 0.25, 9), quantized(codes(6, (2, 6)), 0.25, 9)
    expected = Q.add(torch.relu(a), b, 0.5, 7).int_repr().numpy()
    np.testing.assert_array_equal(network.run((a, b))[0].quantized, expected)


def test_threads_that_extract_one_model_do_not_disturb_one_another() -> None:
    with engine_set("qnnpack"):
        layer = linear(3, 6, 5)
    with engine_set("fbgemm"):
        other = linear(3, 6, 5)
    expected = {engine: accelsim.extract(m, X, engine=engine) for engine, m in (("qnnpack", layer), ("fbgemm", other))}
    failures: list[BaseException] = []

    def work(engine: str, model: Any) -> None:
        try:
            for _ in range(10):
                network = accelsim.extract(model, X, engine=engine)
                assert [node.name for node in network.nodes] == [node.name for node in expected[engine].nodes]
                np.testing.assert_array_equal(network.run(X)[0].quantized, expected[engine].run(X)[0].quantized)
        except BaseException as error:
            failures.append(error)

    threads = [
        threading.Thread(target=work, args=("qnnpack", layer)),
        threading.Thread(target=work, args=("fbgemm", other)),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_a_model_in_two_threads_keeps_its_layers_names() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.ReLU(), nn.ReLU6()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.second(self.first(x))

    model, stop = Net(), threading.Event()

    def run() -> None:
        while not stop.is_set():
            model(X)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        for _ in range(20):
            assert [node.name for node in accelsim.extract(model, X, engine="fbgemm").nodes] == ["first", "second"]
    finally:
        stop.set()
        thread.join()


def test_random_numbers_go_on_as_if_nothing_had_been_extracted() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    accelsim.extract(lambda x: torch.relu(x), X, engine="fbgemm")
    assert torch.equal(torch.rand(3), expected)


def test_leaving_the_program_in_a_model_is_an_error() -> None:
    def model(x: torch.Tensor) -> torch.Tensor:
        raise SystemExit(0)

    with pytest.raises(ModelError, match="raised SystemExit"):
        accelsim.extract(model, X, engine="fbgemm")


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (lambda t: t[:2], lambda t: t[2:], False),
        (lambda t: t[:3], lambda t: t[2:], True),
        (lambda t: t[:, ::2], lambda t: t[:, 1::2], False),
        (lambda t: t[:, ::2], lambda t: t[:, 1:], True),
        (lambda t: t[:0], lambda t: t, False),
        (lambda t: t.t(), lambda t: t[1, 1], True),
    ],
)
def test_overlap_is_that_of_single_elements(a: Any, b: Any, expected: bool) -> None:
    tensor = torch.zeros(4, 6)
    assert overlap(a(tensor), b(tensor)) == overlap(b(tensor), a(tensor)) == expected


@pytest.mark.parametrize(
    "tensor", [X[:, ::2], X.t(), torch.arange(12.0).reshape(3, 4)[:, 1::2], torch.zeros(2, 1).expand(2, 5)]
)
def test_a_copy_lies_in_memory_as_the_tensor_does(tensor: torch.Tensor) -> None:
    copy = copy_of(tensor)
    assert (copy.shape, copy.stride()) == (tensor.shape, tensor.stride())
    assert torch.equal(copy, tensor)
    assert copy.untyped_storage().data_ptr() != tensor.untyped_storage().data_ptr()


def test_a_checksum_leaves_a_tensor_resizable() -> None:
    tensor = torch.zeros(3)
    assert checksum(tensor) == checksum(torch.zeros(3)) != checksum(torch.tensor([0.0, 0.0, 1e-30]))
    tensor.resize_(100)
