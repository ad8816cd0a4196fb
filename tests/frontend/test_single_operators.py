"""Each operator on a quantised tensor gives PyTorch's codes: every engine, memory format and dtype."""

from __future__ import annotations

import pytest
from equality import ENGINES, assert_equal_to_pytorch, engine_set
from single_operators import ALL, MEANS, inputs, layouts, max_of_three_axes

from accelsim.errors import ModelError
from accelsim.frontend import extract
from accelsim.network import Add, AveragePool, Lookup, rounding


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


def test_a_mean_of_a_slice_is_refused() -> None:
    # Contiguous in its order, but with gaps: ATen takes the path through float.
    x = inputs("contiguous", "uint8").repeat(2, 1, 1, 1)
    with pytest.raises(ModelError, match="in float"):
        extract(lambda x: x[:, :3].mean([2, 3]), x, engine="x86")


def test_a_pool_whose_result_pytorch_takes_for_another_order_is_refused() -> None:
    import torch.nn.functional as F  # noqa: N812

    x = inputs("channels_last", "uint8").flatten(2)
    assert not (F.max_pool1d(x, 3).int_repr() == F.max_pool1d(x.contiguous(), 3).int_repr()).all()
    with pytest.raises(ModelError, match=r"elements in the wrong order.*; call contiguous\(\)"):
        extract(lambda x: F.max_pool1d(x, 3), x, engine="fbgemm")


def test_qnnpacks_dilated_and_padded_max_pool_is_refused() -> None:
    import torch.nn.functional as F  # noqa: N812

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
