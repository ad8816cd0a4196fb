"""Whole networks as exporters and quantisers write them: equal to ONNX Runtime, on the machine too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason="reads ONNX files: pip install accelsim[onnx]")
pytest.importorskip("onnxruntime", reason="ONNX Runtime is the witness: pip install onnxruntime")

import onnx_graphs as graphs
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from torch import nn

import accelsim

pytestmark = pytest.mark.witness

_SHAPE = (1, 3, 16, 16)


class _Net(nn.Module):
    """A residual, a depthwise convolution, a swish, a concatenation, pools: what mobile networks have."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, padding=1, stride=2)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.point = nn.Conv2d(16, 16, 1)
        self.last = nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.first(x))
        y = nn.functional.relu6(self.depthwise(x))
        x = x + self.point(y)
        x = nn.functional.max_pool2d(x * torch.sigmoid(x), 2)
        x = torch.cat([x, y[:, :, :4, 4:]], 1)[:, 4:20]
        return self.last(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))


class _Samples(CalibrationDataReader):
    def __init__(self, name: str) -> None:
        self._samples = iter([{name: _sample(seed)} for seed in range(4)])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._samples, None)


def _sample(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(_SHAPE).astype(np.float32)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("exported") / "float.onnx"
    torch.onnx.export(
        _Net().eval(), (torch.zeros(_SHAPE),), str(path), dynamo=False, input_names=["x"], opset_version=17
    )
    return path


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("form", "activations", "per_channel", "in_float"),
    [
        (QuantFormat.QDQ, QuantType.QUInt8, False, ""),
        (QuantFormat.QDQ, QuantType.QUInt8, True, ""),
        (QuantFormat.QDQ, QuantType.QInt8, True, "/depthwise/Conv"),  # what two nodes read stays int8
        (QuantFormat.QOperator, QuantType.QUInt8, True, "/GlobalAveragePool"),  # a Flatten behind it
    ],
)
def test_what_quantize_static_writes_runs_as_in_onnx_runtime(
    exported: Path, tmp_path: Path, form: QuantFormat, activations: QuantType, per_channel: bool, in_float: str
) -> None:
    path = tmp_path / "quantised.onnx"
    quantize_static(
        exported,
        path,
        _Samples("x"),
        quant_format=form,
        per_channel=per_channel,
        activation_type=activations,
        weight_type=QuantType.QInt8,
    )
    network = accelsim.extract(path)
    assert (in_float in network.notes[0]) if in_float else not network.notes
    samples = [_sample(seed) for seed in range(100, 120)]
    expected = np.concatenate([graphs.answers(path, sample)[0] for sample in samples])
    got = np.concatenate([network.run(sample)[0].dequantize() for sample in samples])
    assert len(np.unique(expected)) > 15
    if in_float:
        assert np.mean(got != expected) < 0.02
    else:
        assert np.array_equal(got, expected)
    program = accelsim.compile(network, accelsim.Accelerator.from_yaml("configs/edge_16x16.yaml"))
    for sample in samples[:3]:  # quantised by division on the way in
        assert np.array_equal(accelsim.simulate(program, sample).outputs[0].quantized, network.run(sample)[0].quantized)


def _brevitas_like(seed: int) -> graphs.Model:
    """Weights clipped between QuantizeLinear and DequantizeLinear, an int32 bias, a ReLU before uint8 codes."""
    random = np.random.default_rng(seed)
    model = graphs.Model()
    x = model.both(model.input("x", [1, 4, 8, 8]), graphs.Affine(2.0**-5, 0, "int8"))
    scale = (2.0 ** random.integers(-9, -6, 8)).astype(np.float32)
    weights = random.standard_normal((8, 4, 3, 3)).astype(np.float32) * 0.5
    operands = [model.constant(scale), model.constant(np.zeros(8, np.int8))]
    codes = model.node("QuantizeLinear", model.constant(weights), *operands, axis=0)
    codes = model.node("Clip", codes, model.constant(np.int8(-127)), model.constant(np.int8(127)))
    bias = random.integers(-500, 500, 8).astype(np.int32)
    unit = np.float32(2.0**-5) * scale
    y = model.node(
        "Conv",
        x,
        model.node("DequantizeLinear", codes, *operands, axis=0),
        model.parameter(bias, unit, np.zeros(8, np.int32), axis=0),
        auto_pad="SAME_UPPER",
        strides=[2, 2],
    )
    y = model.both(model.node("Relu", y), graphs.Affine(2.0**-4, 0, "uint8"))
    model.output(y)
    return model


@pytest.mark.parametrize("opset", [13, 17, 20, 21])
def test_quantize_clip_dequantize_of_weights(opset: int, tmp_path: Path) -> None:
    for seed in range(4):
        path = _brevitas_like(seed).save(tmp_path / "qcdq.onnx", opset)
        sample = np.random.default_rng(seed).standard_normal((1, 4, 8, 8)).astype(np.float32)
        network = accelsim.extract(path)
        different = network.run(sample)[0].dequantize() != graphs.answers(path, sample)[0]
        assert not different.any()


def test_a_relu_before_another_zero_point_is_noted_and_is_the_integer_meaning(tmp_path: Path) -> None:
    model = graphs.Model()
    x = model.both(model.input("x", [1, 8, 6, 6]), graphs.Affine(0.043, 100, "uint8"))
    random = np.random.default_rng(0)
    weights = model.parameter(random.integers(-128, 128, (8, 8, 1, 1)).astype(np.int8), 0.0071)
    y = model.node("Clip", model.node("Conv", x, weights), model.constant(np.float32(0)), model.constant(np.float32(6)))
    model.output(model.both(y, graphs.Affine(0.05, 20, "uint8")))
    path = model.save(tmp_path / "relu.onnx")
    network = accelsim.extract(path)
    assert [type(node).__name__ for node in network.nodes] == ["Convolution", "Lookup"]
    assert "in float" in network.notes[0]
    sample = random.standard_normal((1, 8, 6, 6)).astype(np.float32) * 3
    got, (expected,) = network.run(sample)[0].dequantize(), graphs.answers(path, sample)
    assert np.array_equal(got == 0, expected == 0)
    assert np.abs(got - expected).max() <= np.float32(0.0501)
    assert np.mean(got != expected) < 0.01
