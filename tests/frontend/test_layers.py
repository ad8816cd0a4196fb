"""Convolutions and linear layers give PyTorch's codes: every engine and geometry, at ties and beside them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from equality import ENGINES, assert_equal_to_pytorch, codes, convolution, engine_set, linear, quantized

from accelsim.errors import ModelError
from accelsim.network import Convolution

#: Inputs, outputs, kernel, and the rest.
CONVOLUTIONS: dict[str, tuple[int, int, tuple[int, ...], dict[str, Any]]] = {
    "plain": (8, 12, (3, 3), {"padding": 1}),
    "strided, fused ReLU": (5, 7, (3, 2), {"stride": 2, "padding": 1, "relu": True}),
    "dilated": (4, 6, (3, 3), {"dilation": 2}),
    "grouped": (8, 16, (3, 3), {"groups": 4, "padding": 1}),
    "depthwise": (8, 8, (3, 3), {"groups": 8, "padding": 1, "relu": True}),
    "1x1 without bias": (16, 9, (1, 1), {"bias": False}),
    "one axis": (6, 10, (3,), {"padding": 1}),
}
VOLUME = (3, 5, (3, 2, 2), {"padding": 1})
TRANSPOSED: dict[str, tuple[int, int, tuple[int, ...], dict[str, Any]]] = {
    "one axis": (4, 4, (3,), {}),
    "two axes": (4, 4, (3, 3), {"stride": 2, "padding": 1}),
    "grouped": (8, 8, (2, 2), {"groups": 2, "stride": 2}),
    "output padding": (4, 4, (3, 3), {"stride": 2, "padding": 1, "output_padding": 1}),
}

#: Half of the accumulators are ties; nearly ties; random. Input and weights have scales of 2**-2 and 2**-5.
SCALES = ((2.0**-2, 9), (float(np.nextafter(np.float32(2.0**-2), np.float32(1))), 200), (0.371, 0))


def _image(channels: int, rank: int) -> torch.Tensor:
    return quantized(codes(1, (2, channels, *[7] * rank)), 0.25, 7)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_a_convolution_is_pytorchs(name: str, engine: str) -> None:
    inputs, outputs, kernel, more = CONVOLUTIONS[name]
    for per_channel in (False, True):
        for scale, zero_point in SCALES:
            with engine_set(engine):
                model = convolution(
                    3, inputs, outputs, kernel, per_channel=per_channel, scale=scale, zero_point=zero_point, **more
                )
            assert_equal_to_pytorch(model, _image(inputs, len(kernel)), engine)


@pytest.mark.parametrize("engine", ["fbgemm", "x86", "onednn"])
def test_a_convolution_over_three_axes_is_pytorchs(engine: str) -> None:
    inputs, outputs, kernel, more = VOLUME
    with engine_set(engine):
        model = convolution(3, inputs, outputs, kernel, per_channel=True, scale=0.25, **more)
        transposed = convolution(3, 4, 4, (2, 2, 2), stride=2, transposed=True, scale=0.25)
    assert_equal_to_pytorch(model, _image(inputs, 3), engine)
    assert_equal_to_pytorch(transposed, _image(4, 3), engine)


def test_qnnpack_does_not_give_back_the_weights_of_three_axes() -> None:
    inputs, outputs, kernel, more = VOLUME
    with engine_set("qnnpack"):
        model = convolution(3, inputs, outputs, kernel, **more)
    with pytest.raises(ModelError, match="QNNPACK only supports Conv2d"):
        assert_equal_to_pytorch(model, _image(inputs, 3), "qnnpack")


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", TRANSPOSED)
def test_a_transposed_convolution_is_pytorchs(name: str, engine: str) -> None:
    inputs, outputs, kernel, more = TRANSPOSED[name]
    if engine == "onednn" and "output_padding" in more:
        return  # which PyTorch refuses to pack
    for scale, zero_point in SCALES:
        with engine_set(engine):
            model = convolution(3, inputs, outputs, kernel, scale=scale, zero_point=zero_point, transposed=True, **more)
        assert_equal_to_pytorch(model, _image(inputs, len(kernel)), engine)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("shape", [(5, 40), (2, 3, 40), (1, 1, 40)], ids=str)
def test_a_linear_layer_is_pytorchs(shape: tuple[int, ...], engine: str) -> None:
    for per_channel in (False, True):
        for scale, zero_point in SCALES:
            with engine_set(engine):
                model = linear(3, 40, 11, per_channel=per_channel, relu=per_channel, scale=scale, zero_point=zero_point)
            assert_equal_to_pytorch(model, quantized(codes(1, shape)), engine)


def test_weights_with_zero_points_keep_them() -> None:
    with engine_set("fbgemm"):
        raw = torch.from_numpy(np.random.default_rng(0).integers(-63, 64, (6, 4, 3, 3), np.int8))
        w = torch._make_per_channel_quantized_tensor(
            raw, torch.full((6,), 2.0**-5, dtype=torch.float64), torch.tensor([0, 3, -5, 1, 7, 0]), 0
        )
        packed = torch.ops.quantized.conv2d_prepack(w, None, [1, 1], [1, 1], [1, 1], 1)
    network = assert_equal_to_pytorch(lambda x: torch.ops.quantized.conv2d(x, packed, 0.5, 3), _image(4, 2), "fbgemm")
    (node,) = network.nodes
    assert isinstance(node, Convolution)
    assert node.weights.zero_point.tolist() == [0, 3, -5, 1, 7, 0]
