"""Models as users have them: eager, FX and TorchScript, several inputs and outputs; and what they are refused for."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from equality import ENGINES, assert_equal_to_pytorch, engine_set
from torch import nn
from torch.ao import quantization
from torch.ao.quantization import quantize_fx

import accelsim
from accelsim.errors import InputError, ModelError

TEACHING = accelsim.Accelerator.from_yaml(Path(__file__).parents[2] / "configs" / "teaching_4x4.yaml")


class Branches(nn.Module):
    """Two inputs, two outputs, and a functional ReLU that FX leaves in float."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(2, 4, 3, padding=1)
        self.normalization = nn.BatchNorm2d(4)
        self.activation = nn.Hardswish()
        self.sum, self.side_by_side = nn.quantized.FloatFunctional(), nn.quantized.FloatFunctional()
        self.dense = nn.Linear(8, 3)
        self.quantize, self.quantize_other = quantization.QuantStub(), quantization.QuantStub()
        self.dequantize, self.dequantize_other = quantization.DeQuantStub(), quantization.DeQuantStub()

    def forward(self, image: torch.Tensor, other: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.activation(self.normalization(self.convolution(self.quantize(image))))
        y = self.sum.add(x, self.quantize_other(other))
        z = F.adaptive_avg_pool2d(self.side_by_side.cat([x, y], 1), 1)
        return self.dequantize(self.dense(torch.flatten(z, 1))), self.dequantize_other(F.relu(y))


def example(batch: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, 2, 6, 5, generator=generator), torch.randn(batch, 4, 6, 5, generator=generator)


def converted(engine: str, front_end: str) -> Any:
    torch.manual_seed(1)
    model = Branches().eval()
    # With activations of 7 bits no pair of products passes int16, where onednn's kernels without VNNI saturate.
    config = "fbgemm" if engine == "onednn" else engine
    with warnings.catch_warnings(), engine_set(engine):
        warnings.simplefilter("ignore")
        if front_end == "fx":
            mapping = quantization.get_default_qconfig_mapping(config)
            prepared = quantize_fx.prepare_fx(model, mapping, example())
            prepared(*example())
            return quantize_fx.convert_fx(prepared)
        model.qconfig = quantization.get_default_qconfig(config)
        quantization.fuse_modules(model, [["convolution", "normalization"]], inplace=True)
        quantization.prepare(model, inplace=True)
        model(*example())
        quantization.convert(model, inplace=True)
        return torch.jit.trace(model, example()) if front_end == "script" else model


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("front_end", ["eager", "fx", "script"])
def test_every_front_end_gives_a_network_equal_to_pytorch(front_end: str, engine: str) -> None:
    model = converted(engine, front_end)
    network = assert_equal_to_pytorch(model, example(4), engine, batch=2)
    assert len(network.inputs) == len(network.outputs) == 2
    with engine_set(engine), torch.no_grad():
        theirs = [model(*(part[i : i + 2] for part in example(4))) for i in (0, 2)]
    program = accelsim.compile(network, TEACHING, effort=0)
    result = accelsim.simulate(program, tuple(part.numpy() for part in example(4)))
    for output, *batches in zip(result.outputs, *theirs, strict=True):
        assert np.array_equal(output.dequantize(), torch.cat(batches).numpy())


def test_layers_carry_the_names_of_the_modules_and_the_weights_those_of_the_state_dict() -> None:
    model = converted("fbgemm", "eager")
    network = accelsim.extract(model, example(), engine="fbgemm")
    names = [node.name for node in network.nodes]
    assert {"convolution", "activation", "sum", "side_by_side", "dense"} <= set(names)
    assert network.inputs == ("image", "other")
    assert network.node("convolution").weights.key == "convolution"
    packed = model.dense.weight()
    assert np.array_equal(network.node("dense").weights.codes, packed.int_repr().numpy())
    assert np.array_equal(network.node("dense").weights.scale, packed.q_per_channel_scales().numpy())


def test_extraction_leaves_everything_as_it_was() -> None:
    model = converted("fbgemm", "eager")
    model.train()
    with engine_set("qnnpack"):
        threads = torch.get_num_threads()
        accelsim.extract(model, example(), engine="fbgemm")
        assert torch.backends.quantized.engine == "qnnpack"
        assert torch.get_num_threads() == threads
    assert model.training
    assert torch.is_grad_enabled()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


class Float(nn.Module):
    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x)


def _dynamic() -> nn.Module:
    with engine_set("fbgemm"):
        return quantization.quantize_dynamic(Float(nn.Linear(4, 4)), {nn.Linear})


def _prepared() -> nn.Module:
    model = nn.Sequential(quantization.QuantStub(), nn.Linear(4, 4)).train()
    model.qconfig = quantization.get_default_qat_qconfig("fbgemm")
    return quantization.prepare_qat(model)


def _float_between(x: torch.Tensor) -> torch.Tensor:
    q = torch.quantize_per_tensor(x, 0.125, 3, torch.quint8).dequantize()
    return torch.quantize_per_tensor(torch.cumsum(q, 1), 0.125, 3, torch.quint8)


def _constant(x: torch.Tensor) -> torch.Tensor:
    q = torch.quantize_per_tensor(x, 0.125, 3, torch.quint8)
    return torch.ops.quantized.add(q, torch.quantize_per_tensor(torch.ones(2, 4), 0.5, 1, torch.quint8), 0.5, 3)


def _twice(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.quantize_per_tensor(x, 0.125, 3, torch.quint8), torch.quantize_per_tensor(x, 0.5, 3, torch.quint8)


def _wide(x: torch.Tensor) -> torch.Tensor:
    return torch.quantize_per_tensor(x, 0.125, 3, torch.qint32)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Float(nn.Linear(4, 4)), "computes in float|no quantised"),
        (_dynamic, r"'body'.*linear_dynamic.*static quantisation"),
        (_prepared, "prepared but not converted"),
        (lambda: _float_between, "cumsum computes in float.*; give it a qconfig"),
        (lambda: _constant, "constant tensor"),
        (lambda: _twice, "quantised twice.*; quantise it once"),
        (lambda: _wide, "qint32.*; quantise activations"),
        (lambda: lambda x: x @ x, "raised RuntimeError"),
    ],
)
def test_what_has_no_integers_is_refused_with_a_reason(make: Any, says: str) -> None:
    with pytest.raises(ModelError, match=says):
        accelsim.extract(make(), torch.ones(2, 4), engine="fbgemm")


class Running(nn.Module):
    """What no instruction of the vector unit does."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.cumsum(1)


class Parts(nn.Module):
    """Quantised layers with one in float before, between or after them."""

    def __init__(self, place: str) -> None:
        super().__init__()
        self.place, self.single = place, Running()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.quantize, self.again = quantization.QuantStub(), quantization.QuantStub()
        self.dequantize, self.end = quantization.DeQuantStub(), quantization.DeQuantStub()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(self.quantize(self.single(x) if self.place == "before" else x))
        if self.place == "between":
            x = self.again(self.single(self.dequantize(x)))
        x = self.end(self.second(x))
        return self.single(x) if self.place == "after" else x


def _parts(place: str) -> nn.Module:
    model = Parts(place).eval()
    model.qconfig, model.single.qconfig = quantization.get_default_qconfig("fbgemm"), None
    with engine_set("fbgemm"):
        prepared = quantization.prepare(model)
        prepared(torch.ones(2, 4))
        return quantization.convert(prepared)


def _observed(*, reference: bool = False) -> nn.Module:
    model = quantize_fx.prepare_fx(
        nn.Sequential(nn.Linear(4, 4)).eval(), quantization.get_default_qconfig_mapping("fbgemm"), (torch.ones(2, 4),)
    )
    model(torch.ones(2, 4))
    return quantize_fx.convert_to_reference_fx(model) if reference else model


def _cell(kind: type[nn.Module]) -> Any:
    cell = quantization.quantize_dynamic(nn.Sequential(kind(4, 4)), {kind}, dtype=torch.qint8)[0]

    class Body(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = cell

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            result = self.cell(x)
            return result[0] if isinstance(result, tuple) else result

    return Body()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("make", "says", "not_said"),
    [
        (lambda: _parts("before"), "'single'.*float.*; .*or apply it before the network: leave it out", "keep it"),
        (lambda: _parts("between"), "'single'.*float.*; give it a qconfig.*, or make two models", "before the network"),
        (lambda: _parts("after"), r"'single'.*leave it out of the model and apply it to the outputs' deq", "qconfig"),
        (
            lambda: Float(nn.Linear(4, 4)),
            "in float alone; nothing before it is quantised: quantise the model",
            "dequantize",
        ),
        (lambda: _observed(), "prepared but not converted; pass the result of", "compute with tensors"),
        (lambda: _observed(reference=True), r"'0'.*reference model.*convert_fx\(prepared\)", "qconfig"),
        (lambda: _cell(nn.LSTMCell), "'cell'.*lstm_cell_dynamic: dynamic quantisation takes", "computes in float"),
        (lambda: _cell(nn.GRUCell), "'cell'.*gru_cell_dynamic: dynamic quantisation takes", "computes in float"),
        (lambda: _cell(nn.RNNCell), "'cell'.*rnn_tanh_cell_dynamic: dynamic quantisation takes", "computes in float"),
    ],
    ids=["before", "between", "after", "float", "observers", "reference", "lstm cell", "gru cell", "rnn cell"],
)
def test_a_remedy_is_one_that_is_possible_there(make: Any, says: str, not_said: str) -> None:
    with pytest.raises(ModelError, match=says) as error, engine_set("fbgemm"):
        accelsim.extract(make(), torch.ones(2, 4), engine="fbgemm")
    assert not_said not in str(error.value)


@pytest.mark.filterwarnings("ignore")
def test_frozen_modules_are_extracted_and_verified_and_whose_weights_they_hold_is_said() -> None:
    model = nn.Sequential(quantization.QuantStub(), nn.Conv2d(2, 4, 3), nn.ReLU(), quantization.DeQuantStub()).eval()
    x = torch.randn(2, 2, 6, 5, generator=torch.Generator().manual_seed(3))
    model.qconfig = quantization.get_default_qconfig("qnnpack")
    with engine_set("qnnpack"):
        prepared = quantization.prepare(model)
        prepared(x)
        eager = quantization.convert(prepared)
        traced = torch.jit.trace(eager, x)
        frozen = torch.jit.freeze(traced)
        expected = eager[2](eager[1](eager[0](x))).int_repr().numpy()
    with engine_set("fbgemm"):  # whatever it is afterwards
        for one in (traced, frozen):
            assert np.array_equal(accelsim.extract(one, x, engine="qnnpack").run(x)[0].quantized, expected)
            verification = accelsim.verify(one, x, TEACHING, engine="qnnpack")
            assert (verification.engine, verification.mismatches) == ("qnnpack", 0)
            with pytest.raises(ModelError, match=r"for qnnpack's kernels.*fbgemm's.*extract with engine='qnnpack'"):
                accelsim.extract(one, x)
            stored = io.BytesIO()
            torch.jit.save(one, stored)
            stored.seek(0)
            reloaded = torch.jit.load(stored)
            with pytest.raises(ModelError, match=r"loaded or frozen: do that again after `.*engine = 'qnnpack'`"):
                accelsim.extract(reloaded, x, engine="qnnpack")


def test_engines_that_are_none_of_pytorchs_are_refused_by_name() -> None:
    with pytest.raises(ModelError, match="'onnxruntime': the arithmetic of ONNX files"):
        accelsim.extract(_twice, torch.ones(2, 4), engine="onnxruntime")


def test_unknown_engines_and_lanes_and_inputs_that_are_no_tensors_are_refused() -> None:
    with pytest.raises(ModelError, match=r"'gpu'.*allowed are fbgemm"):
        accelsim.extract(_twice, torch.ones(2, 4), engine="gpu")
    with pytest.raises(ModelError, match=r"'wide'.*allowed are host"):
        accelsim.extract(_twice, torch.ones(2, 4), lanes="wide")
    with pytest.raises(InputError, match="no tensor can be made"):
        accelsim.extract(_twice, "an image")
