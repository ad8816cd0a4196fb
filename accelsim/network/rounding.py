"""Which rounding a node gets in a network: the one place that ties nodes to the engine's arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import NamedTuple, TypeVar

import numpy as np

from accelsim.arithmetic import lanes, onnxruntime, xnnpack
from accelsim.arithmetic.affine import Affine
from accelsim.arithmetic.elementwise import Product, Span, add_rules, multiply_rules
from accelsim.arithmetic.engines import ONNXRUNTIME, PT2E, XNNPACK, KernelSet
from accelsim.arithmetic.lowered import ResidualSum, add_rule, residual_sum
from accelsim.arithmetic.matrix import requantization
from accelsim.arithmetic.onednn import ConvolutionShape
from accelsim.arithmetic.pooling import AverageRule, average_rules
from accelsim.arithmetic.requantize import Requantization
from accelsim.errors import ModelError

from .graph import Add, AveragePool, Convolution, Linear, Multiply, Network, Node, ResidualLayer, Value, Weights

Rule = TypeVar("Rule")


@contextmanager
def located(node: Node) -> Iterator[None]:
    """Inside of a `with` a ModelError is told with the layer's name and kind."""
    place = f"layer {node.name!r} ({type(node).__name__}): "
    try:
        yield
    except ModelError as error:
        if str(error).startswith(place):
            raise
        raise ModelError(f"{place}{error}") from error


def check_roundings(network: Network) -> None:
    """Raises ModelError naming the first layer whose engine's rounding is not known, or that its engine refuses."""
    for node in network.nodes:
        match node:
            case Convolution() | Linear():
                matrix_rounding(network, node, folded=False)
            case ResidualLayer():
                residual_rounding(network, node)
            case Add():
                add_spans(network, node)
            case Multiply():
                product_spans(network, node)


def output_channels(node: Convolution | Linear) -> int:
    """Number of output channels of a layer."""
    shape = node.weights.codes.shape
    return int(shape[1] * node.groups) if isinstance(node, Convolution) and node.transposed else int(shape[0])


def matrix_rounding(network: Network, node: Convolution | Linear, *, folded: bool) -> Requantization:
    """The requantisation of a convolution or a linear layer.

    `folded`: for sums of raw activation codes times (weight - weight zero point), padding with the input's zero point;
    the constant `-zx * sum(qw - zw)` then takes the zero point out. Otherwise for the exact sum of
    (qx - zx) * (qw - zw).
    """
    source, result = network.values[node.inputs[0]].affine, network.values[node.name].affine
    offset = zero_point_offset(source, weight_sums(node)) if folded and source.zero_point else None
    return layer_rounding(node, source, result, network.engine, network.kernels, offset)


def layer_rounding(
    node: Convolution | Linear,
    source: Affine,
    result: Affine,
    engine: str,
    kernels: KernelSet,
    offset: np.ndarray | None = None,
) -> Requantization:
    """The requantisation of a layer of codes of the map `source`; `offset` is added to each channel's sums first."""
    weights = node.weights
    offset = None if offset is None else offset.astype(np.int32)
    with located(node):
        if engine == ONNXRUNTIME:
            return onnxruntime.matrix_rule(
                source=source,
                weight_scale=weights.scale,
                output=result,
                bias=_integer_bias(weights, source),
                relu=node.relu,
                channels=output_channels(node),
                offset=offset,
            )
        if engine == XNNPACK:
            return _xnnpack_layer(node, source, result, offset)
        return requantization(
            engine,
            kernels,
            kind="convolution" if isinstance(node, Convolution) else "linear",
            input=source,
            weight_scale=weights.scale,
            weight_zero_point=weights.zero_point,
            per_channel=weights.per_channel,
            output=result,
            bias=weights.bias,
            relu=node.relu,
            channels=output_channels(node),
            groups=node.groups if isinstance(node, Convolution) else 1,
            output_padding=node.output_padding if isinstance(node, Convolution) else (),
            transposed=isinstance(node, Convolution) and node.transposed,
            shape=convolution_shape(node) if isinstance(node, Convolution) else None,
            offset=offset,
            float_output=node.float_output,
        )


def _xnnpack_layer(
    node: Convolution | Linear, source: Affine, result: Affine, offset: np.ndarray | None
) -> Requantization:
    weights, channels = node.weights, output_channels(node)
    if isinstance(node, Convolution) and node.mean:
        return xnnpack.mean_rule(source, result, int(np.prod(weights.codes.shape[2:])), channels, offset)
    bias = weights.bias
    if bias is not None:
        bias = xnnpack.quantized_bias(bias, source, weights.scale, per_channel=weights.per_channel)
    return xnnpack.matrix_rule(
        source=source,
        weight_scale=weights.scale,
        output=result,
        bias=bias,
        relu=node.relu,
        channels=channels,
        offset=offset,
    )


def _integer_bias(weights: Weights, source: Affine) -> np.ndarray | None:
    """The bias in steps of the sums, as the model holds it or as ONNX Runtime quantises it."""
    if weights.integer_bias is not None or weights.bias is None:
        return weights.integer_bias
    return onnxruntime.quantized_bias(weights.bias, onnxruntime.unit(source, weights.scale))


def residual_rounding(network: Network, node: ResidualLayer) -> ResidualSum:
    """The requantisation of the exact sums of a layer together with a residual's codes.

    It is always that of "pt2e". Only a convolution that quantises its own sum is lowered to a kernel that scales the
    residual too.
    """
    layer = matrix_rounding(replace(network, engine=PT2E), node.layer, folded=False)
    scaled = isinstance(node.layer, Convolution) and not node.layer.float_output
    return residual_sum(layer, network.values[node.inputs[1]].affine, scaled=scaled)


def convolution_shape(node: Convolution) -> ConvolutionShape:
    """What decides about the engine's kernel."""
    outer, inner = node.weights.codes.shape[:2]
    return ConvolutionShape(
        inputs=outer if node.transposed else inner * node.groups,
        outputs=output_channels(node),
        groups=node.groups,
        kernel=node.weights.codes.shape[2:],
        stride=node.stride,
        padding=tuple(max(pair) for pair in node.padding),
        dilation=node.dilation,
        transposed=node.transposed,
    )


def centred_weights(node: Convolution | Linear) -> np.ndarray:
    """Weights less their zero points, int32, the shape of the codes."""
    codes = node.weights.codes.astype(np.int32)
    zero_points = node.weights.zero_point
    if not np.any(zero_points):
        return codes
    axis = 1 if isinstance(node, Convolution) and node.transposed else 0
    if axis == 1:
        per_group = codes.reshape(node.groups, -1, *codes.shape[1:])  # type: ignore[union-attr]
        zeros = np.broadcast_to(zero_points, output_channels(node)).reshape(node.groups, 1, codes.shape[1])  # type: ignore[union-attr]
        return (per_group - zeros[..., *[None] * (codes.ndim - 2)]).reshape(codes.shape)
    return codes - zero_points.reshape(-1, *[1] * (codes.ndim - 1))


def zero_point_offset(source: Affine, sums: np.ndarray) -> np.ndarray:
    """What the input's zero point takes out of each channel's sums of raw codes: `-zx * sum(qw - zw)`, int64.

    `sums`: of the channel's centred weights.
    """
    return -source.zero_point * sums


def weight_sums(node: Convolution | Linear) -> np.ndarray:
    """For each output channel the sum of its centred weights, int64."""
    weights = centred_weights(node).astype(np.int64)
    if isinstance(node, Convolution) and node.transposed:
        grouped = weights.reshape(node.groups, -1, *weights.shape[1:])
        return grouped.sum(axis=(1, *range(3, grouped.ndim))).reshape(-1)
    return weights.reshape(weights.shape[0], -1).sum(axis=1)


def add_spans(network: Network, node: Add) -> tuple[Span, ...]:
    """The rules of a sum, each with its range of elements in PyTorch's memory order of the output."""
    a, b = (network.values[name] for name in node.inputs)
    out = network.values[node.name]
    with located(node):
        if node.subtract and network.engine != XNNPACK:
            raise ModelError(f"a difference of two values is known of the engine {XNNPACK} alone")
        if network.engine == PT2E:
            return (lanes.Span(0, out.size, add_rule(a.affine, b.affine, out.affine, node.relu)),)
        if network.engine == ONNXRUNTIME:
            rule = onnxruntime.add_rule(a.affine, b.affine, out.affine, node.relu, node.form)
            return (lanes.Span(0, out.size, rule),)
        if network.engine == XNNPACK:
            fixed = xnnpack.add_rule(a.affine, b.affine, out.affine, node.relu, subtract=node.subtract)
            return (lanes.Span(0, out.size, fixed),)
        # QNNPACK does not broadcast; ATen takes the operands then.
        engine = "fbgemm" if network.engine == "qnnpack" and a.shape != b.shape else network.engine
        return _in_rows(
            out.size,
            node.row,
            lambda count: add_rules(engine, network.kernels, a.affine, b.affine, out.affine, count, node.relu),
        )


def product_spans(network: Network, node: Multiply) -> tuple[lanes.Span[Product], ...]:
    """The rules of an element-wise product, each with its range of elements in PyTorch's memory order of the output."""
    a, b = (network.values[name].affine for name in node.inputs)
    out = network.values[node.name]
    with located(node):
        if network.engine == ONNXRUNTIME:
            return (lanes.Span(0, out.size, onnxruntime.multiply_rule(a, b, out.affine, node.relu)),)
        if network.engine == XNNPACK:
            return (lanes.Span(0, out.size, xnnpack.multiply_rule(a, b, out.affine)),)
        return _in_rows(
            out.size,
            node.row,
            lambda count: multiply_rules(network.engine, network.kernels, a, b, out.affine, count, node.relu),
        )


def _in_rows(
    size: int, row: int | None, rules: Callable[[int], tuple[lanes.Span[Rule], ...]]
) -> tuple[lanes.Span[Rule], ...]:
    """What `rules` gives for each row of `row` elements; without a vector loop each is rounded as a row of one."""
    if row is None:
        return rules(size)
    if row == 0:
        return (lanes.Span(0, size, rules(1)[0].rule),)
    spans = rules(row)
    return lanes.merged(
        lanes.Span(start + span.start, start + span.stop, span.rule) for start in range(0, size, row) for span in spans
    )


class AxisWindow(NamedTuple):
    """One output position of a pool along one axis: inputs start..stop - 1, which count as `count` in the divisor."""

    start: int
    stop: int
    count: int  # type: ignore[assignment]  # the tuple method of that name is not needed


def axis_windows(network: Network, node: AveragePool) -> tuple[tuple[AxisWindow, ...], ...]:
    """For each spatial axis the windows of an average pool (ATen `AveragePool2d.cpp`, `AdaptivePooling.h`)."""
    sizes = network.values[node.inputs[0]].shape[2:]
    if node.kind == "mean":
        return tuple((AxisWindow(0, size, size),) for size in sizes)
    if node.kind == "adaptive":
        outputs = network.values[node.name].shape[2:]
        return tuple(
            tuple(
                AxisWindow(start, stop, stop - start)
                for start, stop in ((i * size // out, -(-(i + 1) * size // out)) for i in range(out))
            )
            for size, out in zip(sizes, outputs, strict=True)
        )
    axes = []
    outputs = network.values[node.name].shape[2:]
    for size, out, kernel, stride, (before, _) in zip(
        sizes, outputs, node.kernel, node.stride, node.padding, strict=True
    ):
        windows = []
        for i in range(out):
            first = i * stride - before
            # Ceil mode lets a window reach past the padding; that part never counts.
            end = min(first + kernel, size + before)
            start, stop = max(first, 0), min(end, size)
            windows.append(AxisWindow(start, stop, end - first if node.count_include_pad else stop - start))
        axes.append(tuple(windows))
    return tuple(axes)


def pool_rules(
    network: Network, node: AveragePool, kernel: tuple[int, ...], divisor: int | None
) -> tuple[lanes.Span[AverageRule], ...]:
    """The rules of one output pixel of an average pool as spans over its channels.

    `kernel`: the sizes of the pixel's window without padding; `divisor`: what the sum is divided by.
    """
    value = network.values[node.inputs[0]]
    if network.engine == ONNXRUNTIME:
        count = int(np.prod(kernel)) if divisor is None else divisor
        with located(node):
            result = network.values[node.name].affine
            rule = onnxruntime.average_rule(value.affine, result, count, whole=node.kind == "mean")
        return (lanes.Span(0, value.shape[1], rule),)
    sizes = node.kernel if node.kind == "window" else kernel  # QNNPACK divides by the whole kernel
    channels_last = value.lies_as(channels_last_order(len(value.shape)))
    if node.kind == "mean":
        # The one rule for all lanes is that of the sum in integers.
        channels_last = network.kernels.aten != "uniform" and not value.lies_as(tuple(range(len(value.shape))))
    with located(node):
        return average_rules(
            "fbgemm" if network.engine == "qnnpack" and not _is_qnnpacks(network, node) else network.engine,
            network.kernels,
            node.kind,  # type: ignore[arg-type]
            value.affine,
            sizes,
            value.shape[1],
            "channels_last" if channels_last else "contiguous",
            divisor=divisor,
        )


def _is_qnnpacks(network: Network, node: AveragePool) -> bool:
    """Whether QNNPACK computes a pool under the engine qnnpack (`enable_qnnpack_for_ada_avgpool` in ATen)."""
    if node.aten or node.kind != "adaptive":
        return not node.aten
    sizes, outputs = network.values[node.inputs[0]].shape[2:], network.values[node.name].shape[2:]
    return sizes != outputs and all(size % count == 0 for size, count in zip(sizes, outputs, strict=True))


def layout_of(value: Value) -> lanes.Layout:
    """Which kernel ATen takes for images (N, C, H, W): it asks for channels_last of four axes alone."""
    last = len(value.shape) == 4 and value.lies_as(channels_last_order(4))
    return "channels_last" if last else "contiguous"


def channels_last_order(rank: int) -> tuple[int, ...]:
    """The order (N, *spatial, C) of the axes of (N, C, *spatial)."""
    return (0, *range(2, rank), 1)
