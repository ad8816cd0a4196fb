"""The counts and causes of differing outputs, on layers small enough to count by hand or by another program."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from accelsim.arithmetic.affine import Affine
from accelsim.arithmetic.engines import KernelSet
from accelsim.errors import ConfigurationError
from accelsim.network import Add, Linear, Lookup, Network, Softmax, Value, Weights
from accelsim.report.certification import certify
from accelsim.report.comparison import (
    BIAS,
    FACTOR,
    LANES,
    OPERATOR,
    TIE,
    compare,
    comparison_summary,
    lanes_summary,
)

INPUT = Affine(2.0**-7, 0, "uint8")


def network(engine: str, weights: list[list[int]], sw: float, bias: list[float] | None, output: Affine) -> Network:
    codes = np.array(weights, np.int8)
    rows = len(codes)
    real_bias = None if bias is None else np.array(bias, np.float32)
    layer = Weights(codes, np.full(rows, sw), np.zeros(rows, np.int32), True, real_bias)
    shapes = {"x": (256, codes.shape[1]), "fc": (256, rows), "sum": (256, rows)}
    affines = {"x": INPUT, "fc": output, "sum": output}
    values = {name: Value(name, shape, affines[name], (0, 1)) for name, shape in shapes.items()}
    nodes = (Linear("fc", ("x",), layer), Add("sum", ("fc", "fc")))
    return Network(engine, KernelSet("avx2", "avx2"), values, nodes, ("x",), ("fc", "sum"))


ALL_CODES = np.arange(256, dtype=np.uint8)[:, None]


def test_a_tie_goes_the_other_way_where_an_odd_zero_point_is_added_first() -> None:
    """m = 1/2 and no bias: the 128 odd sums are ties. fbgemm rounds k + 1/2 to even, oneDNN k + 1/2 + 5."""
    net = network("fbgemm", [[1]], 2.0**-7, None, Affine(2.0**-13, 5, "uint8"))
    (result,) = compare(net, ALL_CODES, ["onednn"])
    layer = result.layers[0]
    assert (layer.outputs, layer.differing, layer.worst, layer.causes) == (256, 128, 1, {TIE: 128})


def test_a_bias_of_half_a_step_is_lost_where_it_is_rounded() -> None:
    """m = 1/2, the bias half a step of the sum: fbgemm has acc / 2 + 1/4, which no odd sum leaves as a tie."""
    net = network("fbgemm", [[1]], 2.0**-7, [2.0**-15], Affine(2.0**-13, 0, "uint8"))
    (result,) = compare(net, ALL_CODES, ["textbook"])
    # rne(1/2) = 0, so the textbook has ties at odd sums: of acc = 2k + 1 the even k go down, where fbgemm goes up.
    layer = result.layers[0]
    assert (layer.differing, layer.worst, layer.causes) == (64, 1, {BIAS: 64})


def test_a_power_of_two_in_place_of_a_factor_is_named() -> None:
    net = network("qnnpack", [[3], [-2]], 0.0101, None, Affine(0.0007, 100, "uint8"))
    (result,) = compare(net, ALL_CODES, ["power_of_two"])
    factor = 2.0**-7 * 0.0101 / 0.0007
    nearest = 2.0 ** round(np.log2(factor))
    sums = np.arange(256)[:, None] * np.array([3, -2])
    exact, rough = (np.clip(np.floor(sums * m + 0.5) + 100, 0, 255) for m in (factor, nearest))
    layer = result.layers[0]
    assert layer.differing == np.count_nonzero(exact != rough) > 100
    assert layer.worst == np.abs(exact - rough).max()
    assert layer.causes == {FACTOR: layer.differing}


def test_other_operators_round_as_the_other_engine_s() -> None:
    """a + a in units of 1: fbgemm adds binary32 numbers, qnnpack fixed point; both are exact, so they agree."""
    net = network("fbgemm", [[1]], 2.0**-7, None, Affine(2.0**-13, 0, "uint8"))
    (result,) = compare(net, ALL_CODES, ["qnnpack"])
    assert [layer.layer for layer in result.layers] == ["fc", "sum"]
    assert (result.layers[1].differing, result.layers[1].causes) == (0, {})
    narrow = Affine(2.0**-13, 1, "uint8")
    values = dict(
        net.values,
        sum=Value("sum", (256, 1), Affine(2.0**-11, 1, "uint8"), (0, 1)),
        fc=Value("fc", (256, 1), narrow, (0, 1)),
    )
    uneven = Network(net.engine, net.kernels, values, net.nodes, net.inputs, net.outputs)
    (result,) = compare(uneven, ALL_CODES, ["qnnpack"])
    # (2a) / 4: odd a are ties; to even in fbgemm, away from zero in qnnpack, so every second of them differs.
    fc = uneven.trace(ALL_CODES)["fc"].astype(int) - 1
    ties = fc[fc % 2 == 1]
    assert result.layers[1].causes == {OPERATOR: int(np.count_nonzero(ties // 2 % 2 == 0))}


def test_agreement_and_accuracy_are_shares_of_rows() -> None:
    net = network("fbgemm", [[2], [1]], 2.0**-7, None, Affine(2.0**-12, 0, "uint8"))
    labels = np.where(np.arange(256) % 4 == 0, 0, 1)
    own, other = compare(net, ALL_CODES, ["fbgemm", "textbook"], labels)
    # Column 0 is never the smaller one, and where both are 0 the first counts.
    assert (own.agreement, own.accuracy, own.reference_accuracy) == (1.0, 0.25, 0.25)
    assert "accuracy 25.0 %" in comparison_summary(other)
    with pytest.raises(ConfigurationError, match="256 rows"):
        compare(net, ALL_CODES, ["textbook"], labels[:5])
    with pytest.raises(ConfigurationError, match="no arithmetic is named 'guesswork'"):
        compare(net, ALL_CODES, ["guesswork"])


def test_exact_arithmetics_change_nothing() -> None:
    net = network("onednn", [[3, -7, 90], [17, 100, -3]], 0.0031, [0.13, -0.02], Affine(0.0133, 87, "uint8"))
    x = np.random.default_rng(0).integers(0, 256, (512, 3)).astype(np.uint8)
    for result in compare(net, x, ["fixed_point", "thresholds", "onednn"]):
        assert all(layer.differing == layer.carried == 0 for layer in result.layers)


def test_certification_counts_channels_and_accumulators() -> None:
    """One channel with m = 1/2 has 256 sums, of which every second tie (sums 1, 5, 9, ...) rounds down: 64 differ."""
    net = network("fbgemm", [[1]], 2.0**-7, None, Affine(2.0**-13, 0, "uint8"))
    ((summary, _),) = certify(net, 31).values()
    assert (summary.channels, summary.certified, summary.reachable, summary.worst) == (1, 0, 256, 1)
    assert summary.differing == 64
    assert summary.share == 0.25


def _lanes() -> Network:
    """70 elements: a vector body of 64 and a tail of 6. x + x in steps of 4 is a tie for every odd x."""
    tables = np.arange(256, dtype=np.uint8)[None].repeat(2, 0)
    tables[1, 5] = 9
    whole, order = (1, 70), (0, 1)
    values = {
        "x": Value("x", whole, Affine(1.0, 0, "uint8"), order),
        "sum": Value("sum", whole, Affine(4.0, 5, "uint8"), order),
        "look": Value("look", whole, Affine(1.0, 0, "uint8"), order),
    }
    nodes = (Add("sum", ("x", "x")), Lookup("look", ("sum",), "elu", tables, ((0, 64, 0), (64, 70, 1))))
    return Network("fbgemm", KernelSet("avx2", "avx2"), values, nodes, ("x",), ("look",))


def test_what_one_rule_for_all_lanes_changes_is_counted() -> None:
    net = _lanes()
    table = replace(net.nodes[1], tables=np.arange(256, dtype=np.uint8)[None], spans=((0, 70, 0),))  # type: ignore[type-var]
    uniform = replace(net, kernels=KernelSet("uniform", "avx2"), nodes=(net.nodes[0], table))
    # The body rounds 1/2 to even and adds 5, the tail rounds 5 + 1/2 to even: 5 and 6.
    x = np.ones((1, 70), np.uint8)
    (result,) = compare(net, x, ["uniform"], uniform=uniform)
    layers = [(layer.layer, layer.outputs, layer.differing, layer.worst, layer.causes) for layer in result.layers]
    # On the inputs of the network itself the tail's table reads a 6, which both leave alone.
    assert layers == [("sum", 70, 6, 1, {LANES: 6}), ("look", 70, 0, 0, {})]
    assert lanes_summary(result) == (
        "one rule for all lanes changes 6 of 140 outputs (sum 6), each layer on the same inputs, by at most 1; "
        "12 in the whole run"
    )
    # A zero is no tie; then all sums are 5, which only the tail's table changes.
    (result,) = compare(net, np.zeros((1, 70), np.uint8), ["uniform"], uniform=uniform)
    assert [(layer.differing, layer.worst, layer.carried) for layer in result.layers] == [(0, 0, 0), (6, 4, 6)]


def test_uniform_lanes_need_the_model() -> None:
    with pytest.raises(ConfigurationError, match="uniform needs the model"):
        compare(_lanes(), np.ones((1, 70), np.uint8), ["uniform"])


def test_a_softmax_stays_qnnpacks_beside_other_engines() -> None:
    out = Affine(2.0**-8, 0, "uint8")
    values = {name: Value(name, (2, 9), grid, (0, 1)) for name, grid in (("x", INPUT), ("share", out))}
    net = Network("qnnpack", KernelSet("avx2", "avx2"), values, (Softmax("share", ("x",), 1),), ("x",), ("share",))
    results = compare(net, np.arange(18, dtype=np.uint8).reshape(2, 9), ["fbgemm", "textbook"])
    assert [(result.layers, result.agreement) for result in results] == [((), 1.0), ((), 1.0)]
