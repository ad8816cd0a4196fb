"""Each operator on a quantised tensor gives PyTorch's codes: every engine, memory format and dtype."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from equality import ENGINES, Model, assert_equal_to_pytorch, codes, engine_set, quantized
from single_operators import (
    ALL,
    MEANS,
    NORMS,
    PRODUCTS,
    RESIZES,
    Q,
    inputs,
    layouts,
    max_of_three_axes,
    softmax,
    softmax_of_channels,
)

import accelsim
from accelsim.errors import ModelError
from accelsim.frontend import extract
from accelsim.network import Add, AveragePool, Bilinear, Gather, GroupNorm, LayerNorm, Lookup, Matmul, Softmax, rounding


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", ALL)
def test_an_operator_is_pytorchs(name: str, engine: str) -> None:
    with engine_set(engine):
        for layout, dtype in layouts(engine):
            assert_equal_to_pytorch(ALL[name], inputs(layout, dtype), engine)


@pytest.mark.parametrize("engine", ["fbgemm", "x86", "onednn"])
def test_a_max_pool_of_three_axes_is_pytorchs(engine: str) -> None:
    for layout, dtype in layouts(engine):
        assert_equal_to_pytorch(max_of_three_axes, inputs(layout, dtype), engine)


def test_what_pytorch_itself_refuses_is_passed_on() -> None:
    with pytest.raises(ModelError, match=r"inputs of shape \(1, 70, 5, 5\).*QNNPACK backend doesn't support"):
        assert_equal_to_pytorch(max_of_three_axes, inputs("contiguous", "uint8"), "qnnpack")


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", MEANS)
def test_a_mean_is_pytorchs_or_refused_where_pytorch_sums_in_float(name: str, engine: str) -> None:
    with engine_set(engine):
        for layout, dtype in layouts(engine):
            x = inputs(layout, dtype)
            qnnpack = engine == "qnnpack" and dtype == "uint8" and name in ("mean", "mean, kept")
            if layout == "contiguous" or qnnpack:
                network = assert_equal_to_pytorch(MEANS[name], x, engine)
                assert any(isinstance(node, AveragePool) and node.kind == "mean" for node in network.nodes)
                continue
            with pytest.raises(ModelError, match="in float, in an order that no integer unit reproduces; use adaptive"):
                assert_equal_to_pytorch(MEANS[name], x, engine)


@pytest.mark.parametrize("model", [softmax, softmax_of_channels])
def test_a_softmax_is_pytorchs_where_qnnpack_computes_it(model: Model) -> None:
    with engine_set("qnnpack"):
        for layout in ("contiguous", "channels_last"):
            network = assert_equal_to_pytorch(model, inputs(layout, "uint8"), "qnnpack")
            assert any(isinstance(node, Softmax) for node in network.nodes)


@pytest.mark.parametrize(
    ("engine", "dtype"), [*((e, "uint8") for e in ("fbgemm", "x86", "onednn")), ("qnnpack", "int8")]
)
def test_a_softmax_through_pytorchs_exponential_is_explained(engine: str, dtype: str) -> None:
    x = inputs("contiguous", dtype)
    with engine_set(engine):
        verification = accelsim.verify(softmax, x, accelsim.Accelerator.from_yaml("edge_16x16"), engine=engine)
        expected = softmax(x).int_repr().numpy()
    assert verification.mismatches == 0, verification
    (output,) = extract(softmax, x, engine=engine).run(x.int_repr().numpy())
    assert np.abs(output.quantized.astype(int) - expected).max() <= 1
    assert np.mean(output.quantized != expected) < 1e-2


def test_a_product_whose_sums_are_rounded_is_refused_with_its_place() -> None:
    with pytest.raises(ModelError, match=r"the model: a product of matrices over 5 .* make one factor a linear"):
        extract(lambda x: Q.matmul(x, x, 1.0, 3), _thirds(), engine="x86")


def _thirds() -> torch.Tensor:
    return quantized(codes(2, (2, 5, 5)), 0.3, 7)


def test_a_group_norm_of_which_pytorch_leaves_images_out_is_refused() -> None:
    x = quantized(codes(2, (3, 2, 1, 1)))
    with pytest.raises(ModelError, match=r"the model: a group norm of 3 images .* normalise fewer images at a time"):
        extract(lambda x: Q.group_norm(x, 2, None, None, 1e-5, 0.5, 3), x, engine="fbgemm")


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_a_resize_that_pytorch_mixes_up_is_refused(mode: str) -> None:
    x = quantized(codes(2, (1, 6, 1, 1)))
    with pytest.raises(ModelError, match=r"the model: .*order.*; (expand|make)"):
        extract(lambda x: F.interpolate(x, size=(2, 3), mode=mode), x, engine="fbgemm")
    # In the other memory format it is right.
    y = quantized(codes(2, (1, 6, 2, 2)), layout="channels_last")[:, :, :1, :1]
    assert_equal_to_pytorch(lambda x: F.interpolate(x, size=(2, 3), mode=mode), y, "fbgemm")


def test_each_operator_is_a_node_of_its_own() -> None:
    x = inputs("channels_last", "uint8")
    for names, kinds in (
        ([name for name in NORMS if name.startswith("layer")], {LayerNorm}),
        ([name for name in NORMS if not name.startswith("layer")], {GroupNorm}),
        ([name for name in RESIZES if name.startswith("bilinear")], {Bilinear}),
        ([name for name in RESIZES if name.startswith("nearest")], {Gather}),
        (list(PRODUCTS), {Matmul}),
    ):
        for name in names:
            network = extract(ALL[name], x, engine="fbgemm")
            assert kinds <= {type(node) for node in network.nodes}, name


def test_a_window_that_pads_other_than_codes_is_refused() -> None:
    def model(x: torch.Tensor) -> torch.Tensor:
        real = F.unfold(torch.exp(x.dequantize()), 3, padding=1)
        return torch.quantize_per_tensor(real, 0.5, 3, torch.quint8)

    with pytest.raises(ModelError, match="im2col pads what is not just dequantised"):
        extract(model, inputs("contiguous", "uint8"), engine="fbgemm")


def test_indices_that_are_computed_are_refused() -> None:
    with pytest.raises(ModelError, match="index_select takes a tensor that depends on the model's inputs"):
        extract(lambda x, i: x.index_select(1, i), (inputs("contiguous", "uint8"), torch.tensor([1])), engine="x86")


def test_a_mean_of_a_slice_is_refused() -> None:
    # Contiguous in its order, but with gaps: ATen takes the path through float.
    x = inputs("contiguous", "uint8").repeat(2, 1, 1, 1)
    with pytest.raises(ModelError, match="in float"):
        extract(lambda x: x[:, :3].mean([2, 3]), x, engine="x86")


def test_a_pool_whose_result_pytorch_takes_for_another_order_is_refused() -> None:
    x = inputs("channels_last", "uint8").flatten(2)
    assert not (F.max_pool1d(x, 3).int_repr() == F.max_pool1d(x.contiguous(), 3).int_repr()).all()
    with pytest.raises(ModelError, match=r"elements in the wrong order.*; call contiguous\(\)"):
        extract(lambda x: F.max_pool1d(x, 3), x, engine="fbgemm")


def test_qnnpacks_dilated_and_padded_max_pool_is_refused() -> None:
    def model(x: object) -> object:
        return F.max_pool2d(x, 2, 1, 1, dilation=2)  # type: ignore[arg-type]

    x = inputs("channels_last", "uint8")
    with pytest.raises(ModelError, match="takes the pixels of the edge for the padding; use one of the two"):
        extract(model, x, engine="qnnpack")
    assert_equal_to_pytorch(model, x, "fbgemm")
    row = inputs("contiguous", "uint8")
    with pytest.raises(ModelError, match="takes the pixels of the edge for the padding; use one of the two"):
        extract(lambda x: F.max_pool1d(x.flatten(2), 3, 1, 1, dilation=2), row, engine="qnnpack")


def test_uniform_lanes_are_one_rule_for_all_elements() -> None:
    x = inputs("channels_last", "uint8")
    for name in ("hardswish", "cat, requantised", "elu"):
        network = extract(ALL[name], x, engine="fbgemm", lanes="uniform")
        assert network.kernels.aten == "uniform"
        assert all(len(node.spans) == 1 for node in network.nodes if isinstance(node, Lookup)), name
    for name, node in (("layer_norm", LayerNorm), ("group_norm", GroupNorm), ("bilinear", Bilinear)):
        uniform, host = (extract(ALL[name], x, engine="fbgemm", lanes=lanes) for lanes in ("uniform", "host"))
        assert [type(part) for part in uniform.nodes] == [type(part) for part in host.nodes] == [node]
        # In whole vectors of channels or features the two agree.
        ours, theirs = (part.run(x.int_repr().numpy())[0].quantized for part in (uniform, host))
        if host.kernels.aten != "default":
            rows = (ours.reshape(-1), theirs.reshape(-1)) if name == "layer_norm" else (ours[0], theirs[0])
            whole = {"layer_norm": 1750 // 32 * 32, "group_norm": 32, "bilinear": 64}[name]
            assert (rows[0][:whole] == rows[1][:whole]).all()
    for name in ("add", "add of different orders"):
        network = extract(ALL[name], x, engine="fbgemm", lanes="uniform")
        (node,) = [node for node in network.nodes if isinstance(node, Add)]
        assert len(rounding.add_spans(network, node)) == 1
    assert extract(MEANS["mean"], x, engine="fbgemm", lanes="uniform").nodes


def test_qnnpacks_clamp_forgets_the_memory_format_and_the_network_says_so() -> None:
    x = inputs("channels_last", "uint8")
    with engine_set("qnnpack"):
        assert not (ALL["relu6"](x).int_repr() == ALL["relu6"](x.contiguous()).int_repr()).all()
    network = assert_equal_to_pytorch(ALL["relu6"], x, "qnnpack")
    assert any("in another order; this is reproduced" in note for note in network.notes)
    assert not assert_equal_to_pytorch(ALL["relu6"], x, "fbgemm").notes
