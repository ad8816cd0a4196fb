"""Whether a network that came out of a file holds together: arrays, shapes, ranges and affine maps of every node.

A network that the frontend builds does by construction; a file may be damaged or edited by hand.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import singledispatch

import numpy as np

from accelsim.arithmetic import vector
from accelsim.arithmetic.affine import FLOAT, Affine
from accelsim.arithmetic.binary32 import f32
from accelsim.arithmetic.engines import ONNXRUNTIME, XNNPACK
from accelsim.errors import ModelError

from . import rounding
from .graph import (
    Add,
    AveragePool,
    Bilinear,
    CodeNode,
    Concatenate,
    Convolution,
    Gather,
    GroupNorm,
    LayerNorm,
    Linear,
    Lookup,
    Matmul,
    MaxPool,
    Multiply,
    Network,
    Node,
    Permute,
    Reshape,
    ResidualLayer,
    Slice,
    Softmax,
    Unfold,
    Value,
    Weights,
)
from .vector import IN_BINARY32, Constant, Vector, shape_of

Shape = tuple[int, ...]

#: Nodes whose result has the affine map of what they read.
_KEEP_THE_MAP = (CodeNode, MaxPool, AveragePool, Reshape, Permute, Slice, Concatenate, Unfold, Gather, Bilinear)
_TWO = (Add, Multiply, CodeNode, Matmul, ResidualLayer)


#: Axes of a value: arithmetic adds a few, and numpy has 64.
_MOST_AXES = 24
#: Elements of a value: what the machine's 40-bit DRAM addresses reach.
_MOST_ELEMENTS = 1 << 40
#: What strides, dilations, paddings and divisors come to at most.
_LARGEST = (1 << 31) - 1
#: Rows of a sum or a product that PyTorch has a vector loop for each of.
_MOST_ROWS = 1 << 20


def check(network: Network) -> None:
    """Raises ModelError naming the value or node at fault, what is wrong with it and what would be right."""
    made = {*network.inputs, *(node.name for node in network.nodes)}
    _require(len(set(network.inputs)) == len(network.inputs), "an input is named twice")
    _require(network.outputs, "it has no output")
    unmade = [name for name in network.values if name not in made]
    _require(not unmade, f"value {unmade[:1]}: neither an input nor made by a node")
    for name, value in network.values.items():
        _check_value(name, value)
    for node in network.nodes:
        try:
            _check_node(network, node)
        except ModelError as error:
            raise ModelError(f"node {node.name!r}: {error}") from None


def _require(holds: object, message: str) -> None:
    if not holds:
        raise ModelError(message)


def _check_value(name: str, value: Value) -> None:
    where, rank = f"value {name!r}", len(value.shape)
    _require(value.name == name, f"{where}: is called {value.name!r} itself")
    _require(rank <= _MOST_AXES, f"{where}: {rank} axes; {_MOST_AXES} at most")
    _require(min(value.shape, default=1) > 0, f"{where}: shape {value.shape}; every size must be at least 1")
    _require(
        math.prod(value.shape) <= _MOST_ELEMENTS,
        f"{where}: shape {value.shape} is of more than {_MOST_ELEMENTS:,} elements",
    )
    _require(
        sorted(value.order) == list(range(rank)), f"{where}: order {value.order} does not name each of {rank} axes once"
    )
    _check_affine(where, value.affine)


def _check_affine(where: str, affine: Affine) -> None:
    if affine.is_float:
        _require(affine == FLOAT, f"{where}: numbers in binary32 have scale 1 and zero point 0, not {affine}")
        return
    _check_scales(where, np.array([affine.scale]))
    _require(
        affine.minimum <= affine.zero_point <= affine.maximum,
        f"{where}: zero point {affine.zero_point} is no {affine.dtype} code ({affine.minimum} to {affine.maximum})",
    )


def _check_scales(where: str, scales: np.ndarray) -> None:
    with np.errstate(over="ignore"):
        single = f32(scales)
    good = np.isfinite(single) & (single > 0)
    _require(good.all(), f"{where}: scale {scales[~good][:1]}; scales are finite and above 0, in binary32 too")


def _check_node(network: Network, node: Node) -> None:
    sources, result = [network.values[name] for name in node.inputs], network.values[node.name]
    if isinstance(node, Constant):
        _require(not sources, f"reads {len(sources)} values; a constant reads none")
    elif not isinstance(node, Concatenate | Vector):
        count = 2 if isinstance(node, _TWO) else 1
        _require(len(sources) == count, f"reads {len(sources)} values; a {type(node).__name__} reads {count}")
    if not isinstance(node, (Constant, *IN_BINARY32)):
        sums = isinstance(node, Convolution | Linear) and node.float_output and not node.relu
        for value in (*sources, *([] if sums else [result])):
            _require(
                not value.affine.is_float, f"a {type(node).__name__} is of codes, but {value.name!r} is in binary32"
            )
    free = isinstance(node, AveragePool) and network.engine == ONNXRUNTIME
    if free:
        _require(sources[0].affine.dtype == result.affine.dtype, "a pool does not change the dtype of its codes")
    elif isinstance(node, _KEEP_THE_MAP):
        for source in sources:
            _require(
                source.affine == result.affine,
                f"a {type(node).__name__} keeps the affine map, but {source.name!r} has {source.affine} and the result "
                f"{result.affine}",
            )
    expected = _shape(node, network, [source.shape for source in sources])
    _require(expected == result.shape, f"its value has shape {result.shape}; from its inputs follows {expected}")


def _check_array(name: str, array: np.ndarray, dtype: type, shape: Shape) -> None:
    _require(
        array.dtype == dtype and array.shape == shape,
        f"{name} is {array.dtype} of shape {array.shape}; expected {np.dtype(dtype)} of shape {shape}",
    )


def _check_axis(axis: int, rank: int) -> None:
    _require(0 <= axis < rank, f"axis {axis} of a value of {rank} axes")


def _check_reals(name: str, array: np.ndarray | None, shape: Shape) -> None:
    if array is not None:
        _check_array(name, array, np.float32, shape)
        _require(np.isfinite(array).all(), f"{name} holds numbers that are not finite")


def _check_weights(weights: Weights, shape: Shape, outputs: int) -> None:
    _check_array("weights.codes", weights.codes, np.int8, shape)
    count = (outputs if weights.per_channel else 1,)
    _check_array("weights.scale", weights.scale, np.float64, count)
    _check_array("weights.zero_point", weights.zero_point, np.int32, count)
    _check_scales("weights.scale", weights.scale)
    zeros = weights.zero_point
    _require(zeros.min() >= -128 and zeros.max() <= 127, "weights.zero_point leaves the range of int8")
    if weights.bias is not None:  # infinities and NaN have codes: what the engine makes of them
        _check_array("weights.bias", weights.bias, np.float32, (outputs,))
    if weights.integer_bias is not None:
        _check_array("weights.integer_bias", weights.integer_bias, np.int32, (outputs,))


def _windows(sizes: Shape, kernel: Sequence[int], node: Convolution | MaxPool | AveragePool) -> Shape:
    """Output sizes of windows that slide over `sizes`, padded."""
    rank = len(sizes)
    dilation = node.dilation if not isinstance(node, AveragePool) else (1,) * rank
    for name, field in {"kernel": tuple(kernel), "stride": node.stride, "dilation": dilation}.items():
        _require(len(field) == rank, f"{name} {field} for {rank} axes")
        _require(min(field) > 0, f"{name} {field}: below 1")
        _require(max(field) <= _LARGEST, f"{name} {field}: above {_LARGEST:,}")
    _require(len(node.padding) == rank, f"padding {node.padding} for {rank} axes")
    _require(min(map(min, node.padding)) >= 0, f"padding {node.padding}: below 0")
    _require(max(map(max, node.padding)) <= _LARGEST, f"padding {node.padding}: above {_LARGEST:,}")
    spans = [(size - 1) * step + 1 for size, step in zip(kernel, dilation, strict=True)]
    windows = list(zip(sizes, node.padding, spans, node.stride, strict=True))
    if not isinstance(node, Convolution):
        for size, (before, after), span, step in windows:
            last = (size + before + after - span) // step * step - before
            _require(before < span and last < size, f"padding {node.padding}: a window holds nothing but padding")
    return tuple((size + sum(pad) - span) // step + 1 for size, pad, span, step in windows)


def _image(shapes: list[Shape]) -> tuple[int, int, Shape]:
    """Images, channels and the sizes of the other axes."""
    (shape,) = shapes
    _require(len(shape) >= 3, f"its input has shape {shape}; images have at least three axes")
    return shape[0], shape[1], shape[2:]


@singledispatch
def _shape(node: Node, network: Network, shapes: list[Shape]) -> Shape:
    """The shape of a node's value, once its own fields are checked."""
    raise ModelError(f"no check is known for a {type(node).__name__}")


@_shape.register
def _(node: Convolution, network: Network, shapes: list[Shape]) -> Shape:
    images, channels, sizes = _image(shapes)
    codes = node.weights.codes
    _require(codes.ndim == 2 + len(sizes), f"weights.codes has {codes.ndim} axes; its input has {2 + len(sizes)}")
    _require(
        node.groups > 0 and channels % node.groups == 0 and codes.shape[0] % node.groups == 0,
        f"{channels} input channels and weights {codes.shape} in {node.groups} groups",
    )
    kernel, outputs = codes.shape[2:], rounding.output_channels(node)
    own = (channels, codes.shape[1]) if node.transposed else (codes.shape[0], channels // node.groups)
    _check_weights(node.weights, (*own, *kernel), outputs)
    spatial = _windows(sizes, kernel, node)
    if node.mean:
        _require(network.engine == XNNPACK, f"a mean by a convolution in the engine {network.engine}")
        plain = node.weights.bias is None and not node.relu and not node.transposed and not np.any(node.padding)
        _require(plain and codes.shape[:2] == (channels, 1), "a mean is a depthwise convolution and nothing more")
        _require((codes == 1).all(), "the weights of a mean are ones")
    if node.transposed:
        extra = node.output_padding or (0,) * len(sizes)
        _require(len(extra) == len(sizes), f"output_padding {extra} for {len(sizes)} axes")
        _require(all(0 <= more <= _LARGEST for more in extra), f"output_padding {extra}")
        spatial = tuple(
            (size - 1) * step - sum(pad) + (taps - 1) * rate + 1 + more
            for size, step, pad, taps, rate, more in zip(
                sizes, node.stride, node.padding, kernel, node.dilation, extra, strict=True
            )
        )
    return (images, outputs, *spatial)


@_shape.register
def _(node: Linear, network: Network, shapes: list[Shape]) -> Shape:
    (shape,), codes = shapes, node.weights.codes
    _require(shape and codes.ndim == 2, f"weights.codes has shape {codes.shape}, its input {shape}")
    _check_weights(node.weights, (codes.shape[0], shape[-1]), codes.shape[0])
    return (*shape[:-1], codes.shape[0])


@_shape.register
def _(node: ResidualLayer, network: Network, shapes: list[Shape]) -> Shape:
    _require(node.layer.name == node.name, f"its layer is called {node.layer.name!r}")
    _require(node.layer.inputs == node.inputs[:1], f"its layer reads {node.layer.inputs}, itself {node.inputs}")
    made = _shape(node.layer, network, shapes[:1])
    _require(shapes[1] == made, f"a residual of shape {shapes[1]} for outputs of shape {made}")
    return made


@_shape.register(Add)
@_shape.register(Multiply)
def _(node: Add | Multiply, network: Network, shapes: list[Shape]) -> Shape:
    size = network.values[node.name].size
    if isinstance(node, Add):
        _require(not node.subtract or network.engine == XNNPACK, f"a difference in the engine {network.engine}")
    _require(node.row is None or 0 <= node.row <= size, f"row {node.row}: its value has {size} elements")
    _require(
        not node.row or (size % node.row == 0 and size // node.row <= _MOST_ROWS),
        f"row {node.row}: its value has {size} elements, which are no whole number of rows up to {_MOST_ROWS:,}",
    )
    return _broadcast(shapes)


@_shape.register
def _(node: CodeNode, network: Network, shapes: list[Shape]) -> Shape:
    return _broadcast(shapes)


def _broadcast(shapes: Sequence[Shape]) -> Shape:
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        raise ModelError(f"shapes {' and '.join(map(str, shapes))} do not broadcast") from None


@_shape.register
def _(node: Lookup, network: Network, shapes: list[Shape]) -> Shape:
    count, size = len(node.tables), math.prod(shapes[0])
    _require(count, "has no table")
    _check_array("tables", node.tables, np.uint8, (count, 256))
    edge = 0
    for start, stop, table in node.spans:
        _require(start == edge < stop, f"spans: {start} to {stop} does not go on from {edge}")
        _require(0 <= table < count, f"spans: table {table} of {count} from {start} to {stop}")
        edge = stop
    _require(edge == size, f"spans end at {edge}; its input has {size} elements")
    return shapes[0]


@_shape.register
def _(node: MaxPool, network: Network, shapes: list[Shape]) -> Shape:
    images, channels, sizes = _image(shapes)
    return (images, channels, *_windows(sizes, node.kernel, node))


@_shape.register
def _(node: AveragePool, network: Network, shapes: list[Shape]) -> Shape:
    images, channels, sizes = _image(shapes)
    given = network.values[node.name].shape
    _require(node.divisor is None or 0 < node.divisor <= _LARGEST, f"divisor {node.divisor}")
    match node.kind:
        case "window":
            return (images, channels, *_windows(sizes, node.kernel, node))
        case "mean":
            return (images, channels, *(1 for _ in sizes))
        case "adaptive":
            return (images, channels, *given[2:]) if len(given) == len(shapes[0]) else shapes[0]
    raise ModelError(f"kind {node.kind!r}; there are window, adaptive and mean")


@_shape.register
def _(node: Reshape, network: Network, shapes: list[Shape]) -> Shape:
    given = network.values[node.name].shape
    return given if math.prod(given) == math.prod(shapes[0]) else shapes[0]


@_shape.register
def _(node: Permute, network: Network, shapes: list[Shape]) -> Shape:
    (shape,) = shapes
    _require(sorted(node.axes) == list(range(len(shape))), f"axes {node.axes} of a value of {len(shape)} axes")
    return tuple(shape[axis] for axis in node.axes)


@_shape.register
def _(node: Slice, network: Network, shapes: list[Shape]) -> Shape:
    (shape,) = shapes
    _check_axis(node.axis, len(shape))
    size = shape[node.axis]
    _require(
        0 <= node.start < node.stop <= size and 0 < node.step <= _LARGEST,
        f"{node.start}:{node.stop}:{node.step} of an axis of {size}",
    )
    return (*shape[: node.axis], len(range(node.start, node.stop, node.step)), *shape[node.axis + 1 :])


@_shape.register
def _(node: Concatenate, network: Network, shapes: list[Shape]) -> Shape:
    _require(shapes, "reads nothing")
    first = shapes[0]
    _check_axis(node.axis, len(first))
    others = {(*shape[: node.axis], *shape[node.axis + 1 :]) for shape in shapes}
    _require(len(others) == 1 and len({*map(len, shapes)}) == 1, f"shapes {shapes} along axis {node.axis}")
    return (*first[: node.axis], sum(shape[node.axis] for shape in shapes), *first[node.axis + 1 :])


@_shape.register
def _(node: Unfold, network: Network, shapes: list[Shape]) -> Shape:
    (shape,) = shapes
    _check_axis(node.axis, len(shape))
    size = shape[node.axis]
    _require(
        0 < node.size <= size and 0 < node.step <= _LARGEST,
        f"windows of {node.size}, {node.step} apart, of an axis of {size}",
    )
    return (*shape[: node.axis], (size - node.size) // node.step + 1, *shape[node.axis + 1 :], node.size)


@_shape.register
def _(node: Gather, network: Network, shapes: list[Shape]) -> Shape:
    (shape,) = shapes
    _check_axis(node.axis, len(shape))
    size = shape[node.axis]
    _require(node.indices and min(node.indices) >= 0 and max(node.indices) < size, f"indices leave an axis of {size}")
    return (*shape[: node.axis], len(node.indices), *shape[node.axis + 1 :])


@_shape.register
def _(node: Bilinear, network: Network, shapes: list[Shape]) -> Shape:
    images, channels, sizes = _image(shapes)
    given = network.values[node.name].shape
    _require(len(sizes) == 2 and len(given) == 4, f"a bilinear resize from {shapes[0]} to {given}")
    for size, made, factor in zip(sizes, given[2:], node.factors, strict=True):
        _require(
            factor is None or abs(size * factor - made) <= 1,
            f"factors {node.factors} do not bring {sizes} to {given[2:]}",
        )
    return (images, channels, *given[2:])


@_shape.register
def _(node: Matmul, network: Network, shapes: list[Shape]) -> Shape:
    a, b = shapes
    _require(
        len(a) > 0 and len(b) > 0 and a[-1] == b[-2 if len(b) > 1 else 0], f"shapes {a} and {b} have no matrix product"
    )
    return (*_broadcast([a[:-2], b[:-2]]), *a[:-1][-1:], *(b[-1:] if len(b) > 1 else ()))


@_shape.register
def _(node: Softmax, network: Network, shapes: list[Shape]) -> Shape:
    _check_axis(node.axis, len(shapes[0]))
    return shapes[0]


@_shape.register
def _(node: LayerNorm, network: Network, shapes: list[Shape]) -> Shape:
    (shape,) = shapes
    _require(0 < node.axes <= len(shape), f"{node.axes} axes of a value of {len(shape)}")
    _check_normalisation(node, shape[-node.axes :])
    return shape


@_shape.register
def _(node: GroupNorm, network: Network, shapes: list[Shape]) -> Shape:
    (shape,) = shapes
    _require(len(shape) > 1, f"its input has shape {shape}; channels are the second axis")
    channels = shape[1]
    _require(node.groups > 0 and channels % node.groups == 0, f"{channels} channels in {node.groups} groups")
    _check_normalisation(node, (channels,))
    return shape


def _check_normalisation(node: LayerNorm | GroupNorm, shape: Shape) -> None:
    _check_reals("weight", node.weight, shape)
    _check_reals("bias", node.bias, shape)
    _require(math.isfinite(node.epsilon) and node.epsilon >= 0, f"epsilon {node.epsilon}")


@_shape.register
def _(node: Constant, network: Network, shapes: list[Shape]) -> Shape:
    value = network.values[node.name]
    _check_array("content", node.content, np.dtype(value.affine.dtype).type, value.shape)
    return value.shape


@_shape.register
def _(node: Vector, network: Network, shapes: list[Shape]) -> Shape:
    vector.check(node.program, len(shapes), network.values[node.name].affine.dtype, node.statistic)
    whole = _broadcast(shapes)
    _require(bool(node.axes) == (node.statistic != vector.Statistic.NONE), f"axes {node.axes} of {node.statistic.name}")
    _require(
        list(node.axes) == sorted(set(node.axes)) and all(0 <= axis < len(whole) for axis in node.axes),
        f"axes {node.axes} of a value of {len(whole)} axes",
    )
    return shape_of(shapes, node.axes)
