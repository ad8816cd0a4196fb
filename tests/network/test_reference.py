"""The reference executor computes each node's definition: against loops that share no code with it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from graphs import KERNELS, exact_sums, network, weights

from accelsim.arithmetic.affine import Affine
from accelsim.errors import InputError, ModelError
from accelsim.network import (
    AveragePool,
    Concatenate,
    Convolution,
    Linear,
    Lookup,
    MaxPool,
    Network,
    Permute,
    Reshape,
    Slice,
    Value,
)
from accelsim.network.operands import operands
from accelsim.network.reference import accumulators
from accelsim.network.rounding import axis_windows, weight_sums

GRID, OUT = Affine(0.25, 7, "uint8"), Affine(4.0, 9, "uint8")


def _codes(seed: int, shape: tuple[int, ...], dtype: Any = np.uint8) -> np.ndarray:
    return np.random.default_rng(seed).integers(np.iinfo(dtype).min, np.iinfo(dtype).max + 1, shape, dtype)


def _convolution(
    seed: int, inputs: int, outputs: int, kernel: tuple[int, ...], size: tuple[int, ...], **more: Any
) -> tuple[Network, Convolution]:
    rank = len(kernel)
    groups, transposed = more.get("groups", 1), more.get("transposed", False)
    shape = (inputs, outputs // groups, *kernel) if transposed else (outputs, inputs // groups, *kernel)
    w = weights(np.random.default_rng(seed), shape, outputs, zero_points=more.pop("zero_points", False))
    stride, dilation = more.pop("stride", (1,) * rank), more.pop("dilation", (1,) * rank)
    padding = more.pop("padding", ((0, 0),) * rank)
    node = Convolution("y", ("x",), w, stride, padding, dilation, **more)
    extra = node.output_padding or (0,) * rank
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    axes = zip(size, spans, stride, padding, extra, strict=True)
    if transposed:
        out = [(n - 1) * s + span - sum(p) + e for n, span, s, p, e in axes]
    else:
        out = [(n + sum(p) - span) // s + 1 for n, span, s, p, _ in axes]
    return network(node, {"x": ((2, inputs, *size), GRID)}, (2, outputs, *out), OUT), node


CONVOLUTIONS: dict[str, tuple[Any, ...]] = {
    "plain": (3, 4, (3, 2), (5, 6), {}),
    "asymmetric padding, stride": (2, 3, (3, 3), (6, 5), {"padding": ((1, 2), (0, 1)), "stride": (2, 3)}),
    "dilation, weight zero points": (2, 4, (2, 3), (6, 7), {"dilation": (3, 2), "zero_points": True}),
    "groups": (4, 6, (2, 2), (4, 4), {"groups": 2, "zero_points": True}),
    "depthwise": (5, 5, (3, 3), (5, 5), {"groups": 5, "padding": ((1, 1), (1, 1))}),
    "one axis": (3, 2, (3,), (8,), {"stride": (2,), "padding": ((1, 1),)}),
    "three axes": (2, 3, (2, 1, 3), (3, 2, 4), {"padding": ((1, 0), (0, 0), (1, 1))}),
    "transposed": (3, 4, (3, 2), (4, 3), {"transposed": True, "stride": (2, 3), "padding": ((1, 1), (0, 0))}),
    "transposed, groups": (4, 6, (2, 2), (3, 3), {"transposed": True, "groups": 2, "zero_points": True}),
    "transposed, dilation, output padding": (
        *(2, 2, (2, 3), (4, 4)),
        {
            "transposed": True,
            "stride": (3, 2),
            "dilation": (2, 1),
            "padding": ((1, 1), (1, 1)),
            "output_padding": (1, 1),
        },
    ),
    "transposed, much padding": (2, 2, (2, 2), (5, 5), {"transposed": True, "padding": ((2, 2), (2, 1))}),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_sums_of_a_convolution_are_those_of_its_definition(name: str) -> None:
    inputs, outputs, kernel, size, more = CONVOLUTIONS[name]
    net, node = _convolution(1, inputs, outputs, kernel, size, **more)
    x = _codes(2, net.values["x"].shape)
    expected = exact_sums(node, x, GRID.zero_point, net.values["y"].shape)
    assert np.array_equal(np.moveaxis(accumulators(net, node, x), -1, 1), expected)
    # The operands of single outputs add up to the same.
    places = tuple(axis.reshape(-1) for axis in np.indices(expected.shape))
    gathered = operands(node, x, places)
    zeros = node.weights.zero_point[places[1]][:, None, None]
    products = (gathered.codes.astype(int) - GRID.zero_point) * (gathered.weights.astype(int) - zeros)
    assert np.array_equal((products * gathered.inside[..., None]).sum((1, 2)), expected.reshape(-1))


def test_sums_of_a_linear_layer_are_those_of_its_definition() -> None:
    node = Linear("y", ("x",), weights(np.random.default_rng(1), (6, 11), 6, zero_points=True))
    net = network(node, {"x": ((2, 3, 11), GRID)}, (2, 3, 6), OUT)
    x = _codes(2, (2, 3, 11))
    expected = exact_sums(node, x, GRID.zero_point, (2, 3, 6))
    assert np.array_equal(accumulators(net, node, x), expected)
    gathered = operands(node, x, (np.array([1, 0]), np.array([2, 0]), np.array([5, 3])))
    assert np.array_equal(gathered.codes[0, 0], x[1, 2])
    assert np.array_equal(gathered.weights[1, 0], node.weights.codes[3])


@pytest.mark.parametrize("name", ["groups", "transposed, groups", "dilation, weight zero points"])
def test_weight_sums_take_the_zero_point_out(name: str) -> None:
    inputs, outputs, kernel, size, more = CONVOLUTIONS[name]
    net, node = _convolution(1, inputs, outputs, kernel, size, **more)
    x = np.full(net.values["x"].shape, 200, np.uint8)
    shape = net.values["y"].shape
    # Far from the edges every tap meets the same code.
    inner = (0, slice(None), *(size // 2 for size in shape[2:]))
    if not node.transposed:
        sums = exact_sums(node, x, 0, shape) - exact_sums(node, x, GRID.zero_point, shape)
        assert np.array_equal(sums[inner], GRID.zero_point * weight_sums(node))
    per_channel = [
        sum(
            int(code) - int(node.weights.zero_point[channel])
            for code in (
                node.weights.codes[channel].reshape(-1)
                if not node.transposed
                else node.weights.codes[
                    channel // (outputs // node.groups) * (inputs // node.groups) : (
                        channel // (outputs // node.groups) + 1
                    )
                    * (inputs // node.groups),
                    channel % (outputs // node.groups),
                ].reshape(-1)
            )
        )
        for channel in range(outputs)
    ]
    assert weight_sums(node).tolist() == per_channel


def test_a_max_pool_takes_the_largest_code_of_each_window() -> None:
    node = MaxPool("y", ("x",), (2, 3), (2, 1), ((1, 1), (0, 2)), (2, 1))
    net = network(node, {"x": ((1, 2, 6, 5), Affine(0.5, 3, "int8"))}, (1, 2, 3, 5), Affine(0.5, 3, "int8"))
    x = _codes(1, (1, 2, 6, 5), np.int8)
    y = net.run(x)[0].quantized
    for n, c, i, j in np.ndindex(1, 2, 3, 5):
        rows = [r for r in (2 * i - 1, 2 * i + 1) if 0 <= r < 6]
        columns = [q for q in (j, j + 1, j + 2) if q < 5]
        assert y[n, c, i, j] == max(x[n, c, r, q] for r in rows for q in columns)


def test_the_windows_of_an_average_pool() -> None:
    grid = {"x": ((1, 1, 7, 7), GRID)}
    # Windows start at -1, 2 and 5; ceil mode lets the last reach past the padding, where nothing counts.
    node = AveragePool("y", ("x",), "window", (3, 3), (3, 3), ((1, 1), (1, 1)))
    net = network(node, grid, (1, 1, 3, 3), GRID)
    assert axis_windows(net, node)[0] == ((0, 2, 3), (2, 5, 3), (5, 7, 3))
    node = AveragePool("y", ("x",), "window", (3, 4), (3, 4), ((1, 1), (1, 3)), count_include_pad=True, aten=True)
    net = network(node, grid, (1, 1, 3, 3), GRID)
    assert axis_windows(net, node)[1] == ((0, 3, 4), (3, 7, 4), (7, 7, 1))
    node = AveragePool("y", ("x",), "window", (3, 3), (3, 3), ((1, 1), (1, 1)), count_include_pad=False)
    net = network(node, grid, (1, 1, 3, 3), GRID)
    assert [window.count for window in axis_windows(net, node)[0]] == [2, 3, 2]
    node = AveragePool("y", ("x",), "adaptive", (), (), ((0, 0), (0, 0)))
    net = network(node, grid, (1, 1, 3, 2), GRID)
    assert [window[:2] for window in axis_windows(net, node)[0]] == [(0, 3), (2, 5), (4, 7)]
    assert [window[:2] for window in axis_windows(net, node)[1]] == [(0, 4), (3, 7)]


def test_an_average_that_is_no_tie_is_the_rounded_quotient() -> None:
    node = AveragePool("y", ("x",), "window", (3, 3), (2, 2), ((1, 1), (1, 1)), count_include_pad=False)
    net = network(node, {"x": ((2, 3, 5, 5), GRID)}, (2, 3, 3, 3), GRID)
    x = _codes(1, (2, 3, 5, 5))
    y = net.run(x)[0].quantized
    for n, c, i, j in np.ndindex(2, 3, 3, 3):
        rows, columns = slice(max(2 * i - 1, 0), 2 * i + 2), slice(max(2 * j - 1, 0), 2 * j + 2)
        window = x[n, c, rows, columns].astype(int)
        double = 2 * int(window.sum())
        if double % (2 * window.size) != window.size:
            assert y[n, c, i, j] == (double + window.size) // (2 * window.size)


def test_movements_move() -> None:
    x = _codes(1, (2, 3, 4, 5))
    grid = {"x": (x.shape, GRID)}
    assert np.array_equal(network(Reshape("y", ("x",)), grid, (2, 60), GRID).run(x)[0].quantized, x.reshape(2, 60))
    moved = network(Permute("y", ("x",), (0, 2, 3, 1)), grid, (2, 4, 5, 3), GRID).run(x)[0].quantized
    assert moved[1, 2, 3, 0] == x[1, 0, 2, 3]
    cut = network(Slice("y", ("x",), 3, 1, 5, 2), grid, (2, 3, 4, 2), GRID).run(x)[0].quantized
    assert np.array_equal(cut, x[..., [1, 3]])
    double = network(Concatenate("y", ("x", "x"), 1), grid, (2, 6, 4, 5), GRID).run(x)[0].quantized
    assert np.array_equal(double[:, 3:], x)


def test_a_lookup_goes_by_the_place_in_pytorchs_memory() -> None:
    tables = np.stack([np.arange(256), np.arange(256)[::-1]]).astype(np.uint8)
    node = Lookup("y", ("x",), "f", tables, ((0, 4, 0), (4, 12, 1)))
    net = network(node, {"x": ((1, 3, 2, 2), GRID)}, (1, 3, 2, 2), GRID)
    values = dict(net.values) | {"y": Value("y", (1, 3, 2, 2), GRID, (0, 2, 3, 1))}
    net = Network("fbgemm", KERNELS, values, net.nodes, net.inputs, net.outputs)
    x = _codes(1, (1, 3, 2, 2))
    y = net.run(x)[0].quantized
    for n, c, i, j in np.ndindex(1, 3, 2, 2):
        place = (i * 2 + j) * 3 + c  # channels are fastest
        assert y[n, c, i, j] == (x[n, c, i, j] if place < 4 else 255 - x[n, c, i, j])


def test_a_lookup_of_int8_goes_by_bit_patterns() -> None:
    table = np.roll(np.arange(256), 1).astype(np.uint8)[None]  # one less, from pattern to pattern
    node = Lookup("y", ("x",), "f", table, ((0, 256, 0),))
    grid = Affine(0.25, 0, "int8")
    x = np.arange(-128, 128, dtype=np.int8)[None]
    y = network(node, {"x": ((1, 256), grid)}, (1, 256), grid).run(x)[0].quantized
    assert y.dtype == np.int8
    assert y[0, 1:].tolist() == list(range(-128, 127))


def test_several_batches_are_run_one_after_the_other() -> None:
    net, _ = _convolution(1, 2, 3, (2, 2), (4, 4))
    x = _codes(3, (6, 2, 4, 4))
    whole = net.run(x)[0].quantized
    assert np.array_equal(whole, np.concatenate([net.run(x[i : i + 2])[0].quantized for i in (0, 2, 4)]))
    trace = net.trace(x)
    assert np.array_equal(net.apply("y", trace), whole)


def test_inputs_are_checked() -> None:
    net, _ = _convolution(1, 2, 3, (2, 2), (4, 4))
    for x, says in (
        (np.zeros((3, 2, 4, 4), np.uint8), r"'x': shape \(3, 2, 4, 4\); expected \(2, 2, 4, 4\), or a multiple"),
        (np.zeros((2, 2, 4, 4), np.int64), "dtype int64; give real numbers as floats, or codes as uint8"),
        (np.full((2, 2, 4, 4), np.nan), "holds NaN"),
        ((np.zeros((2, 2, 4, 4)), 1.0), "2 inputs given, 1 expected"),
    ):
        with pytest.raises(InputError, match=says):
            net.run(x)


def test_a_graph_must_hang_together() -> None:
    values = {"x": Value("x", (1, 4), GRID, (0, 1)), "y": Value("y", (4,), GRID, (0,))}
    with pytest.raises(ModelError, match="'y' reads 'z', which no node before it produces"):
        Network("fbgemm", KERNELS, values, (Reshape("y", ("z",)),), ("x",), ("y",))
    with pytest.raises(ModelError, match="two nodes are named 'x'"):
        Network("fbgemm", KERNELS, values, (Reshape("x", ("x",)),), ("x",), ("x",))
    with pytest.raises(ModelError, match="value 'w' has no shape"):
        Network("fbgemm", KERNELS, values, (Reshape("w", ("x",)),), ("x",), ("w",))
    net = Network("fbgemm", KERNELS, values, (Reshape("y", ("x",)),), ("x",), ("y",))
    with pytest.raises(ModelError, match="no layer is named 'q'; the layers are y"):
        net.node("q")
