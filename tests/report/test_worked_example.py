"""The worked example: its steps are recomputed here from the network's raw numbers, and stand on the page."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from accelsim.arithmetic.engines import KernelSet
from accelsim.errors import ModelError
from accelsim.network import Linear, Network
from accelsim.report.pages import to_markdown
from accelsim.report.worked_example import LayerExample, binary32_hex, work_through

from .builders import linear_network

X = np.array([[12, 200, 10, 97, 0], [255, 3, 44, 8, 91]], np.uint8)


def worked(network: Network, element: int = 2) -> tuple[LayerExample, ...]:
    return work_through(network, ["fc1", "fc2"], element, network.trace(X))


@pytest.mark.parametrize("engine", ["fbgemm", "qnnpack", "onednn"])
@pytest.mark.parametrize("element", range(8))
def test_the_sum_and_what_the_zero_points_leave_of_it_are_plain_arithmetic(engine: str, element: int) -> None:
    network = linear_network(engine)
    image, feature = divmod(element, 4)
    first, second = worked(network, element)
    weights = [node.weights.codes.tolist() for node in network.nodes if isinstance(node, Linear)]
    terms = list(zip(X[image].tolist(), weights[0][feature], strict=True))
    assert first.inputs == tuple(q for q, _ in terms)
    assert first.weights == tuple(w for _, w in terms)
    assert first.exact_sum == sum((q - 10) * w for q, w in terms)
    assert first.raw_sum - 10 * first.weight_sum == first.exact_sum
    assert first.index == (image, feature)
    # The next layer's element takes the code just computed, unchanged.
    assert second.handed_on is not None
    assert second.inputs[second.handed_on] == first.code
    assert second.weights[second.handed_on] == weights[1][second.channel][feature]
    assert second.exact_sum == sum((q - 3) * w for q, w in zip(second.inputs, weights[1][second.channel], strict=True))


def test_the_roundings_of_fbgemm_are_its_float_operations_in_order() -> None:
    network = linear_network("fbgemm")
    (first, _) = worked(network)
    node = network.node("fc1")
    assert isinstance(node, Linear)
    assert node.weights.bias is not None
    sw, bias = np.float32(node.weights.scale[2]), node.weights.bias[2]
    product = np.float32(0.05) * sw
    expected = [np.float32(first.exact_sum)]
    expected.append(expected[-1] + bias / product)
    expected.append(expected[-1] * (product / np.float32(0.07)))
    codes = [int(np.rint(expected[-1])), int(np.rint(expected[-1])) + 3]
    assert [step.value for step in first.roundings] == [*map(float, expected), *codes]
    assert first.code == max(codes[-1], 3)  # ReLU: the zero point is the least code
    assert first.real == pytest.approx(0.07 * (first.code - 3))


def test_every_binary32_value_on_the_page_reads_back_exactly() -> None:
    for value in (0.1, 1.5, -3.0, 1e-7, 123456.789):
        number = np.float32(value)
        assert np.float32(float.fromhex(binary32_hex(float(number)))) == number
    page = to_markdown(worked(linear_network("fbgemm")))
    pairs = re.findall(r"= (-?[\d.e+-]+) +(-?0x[0-9a-f.]+p[+-]\d+)", page)
    assert len(pairs) == 6  # three float steps in each of two layers
    for decimal, exact in pairs:
        assert np.float32(decimal) == np.float32(float.fromhex(exact))


def test_the_page_holds_every_number_of_the_example() -> None:
    first, second = examples = worked(linear_network("qnnpack"))
    page = to_markdown(examples)
    for example in examples:
        fixed = example.fixed_point
        assert f"M = {fixed.multiplier}, B = {fixed.offset}, S = {fixed.shift}" in page
        assert f"    = {example.exact_sum}" in page
        assert repr(example.m) in page
    assert f"fc1's code {first.code} comes in as term k = {second.handed_on}" in page
    assert "It gives" in page
    assert "equal" in page
    assert "DIFFERENT" not in page


def test_a_code_of_pytorchs_that_differs_is_said_to_differ() -> None:
    network = linear_network()
    codes = network.trace(X)
    other = {name: array ^ 1 for name, array in codes.items()}
    page = to_markdown(work_through(network, ["fc1"], 0, codes, other))
    assert f"is {codes['fc1'][0, 0] ^ 1}: DIFFERENT" in page


def test_long_sums_are_shortened_on_request() -> None:
    page = to_markdown(worked(linear_network()), most_terms=2)
    assert "… (3 more)" in page


@pytest.mark.parametrize(
    ("layers", "element", "said"),
    [(["nope"], 0, "nope"), (["fc1"], 8, "give 0 to 7"), (["fc1"], -1, "give 0 to 7")],
)
def test_what_cannot_be_worked_is_said(layers: list[str], element: int, said: str) -> None:
    network = linear_network()
    with pytest.raises(ModelError, match=said):
        work_through(network, layers, element, network.trace(X))


@pytest.mark.parametrize(("bias", "code"), [(np.inf, 255), (-np.inf, 3), (np.nan, 3)])
def test_a_sum_that_is_no_number_is_worked_through(bias: float, code: int) -> None:
    """oneDNN clamps before it converts; ReLU and the zero point 3 make 3 of what is below it, and of a NaN."""
    network = replace(linear_network("onednn"), kernels=KernelSet("avx2", "avx2"))
    node = network.node("fc1")
    assert isinstance(node, Linear)
    biased = replace(node, weights=replace(node.weights, bias=np.full(4, bias, np.float32)))
    network = replace(network, nodes=(biased, *network.nodes[1:]))
    (first,) = work_through(network, ["fc1"], 2, network.trace(X))
    assert first.code == code


def test_a_value_that_pytorch_keeps_in_float_has_no_code_beside_it() -> None:
    network = linear_network()
    codes = network.trace(X)
    page = to_markdown(work_through(network, ["fc1"], 0, codes, {"fc2": codes["fc2"]}))
    assert f"It gives {codes['fc1'][0, 0]} at [0, 0] of fc1: equal" in page
    assert "it keeps this value in float" in page
