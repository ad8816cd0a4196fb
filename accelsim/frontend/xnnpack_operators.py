"""What stands between dequantize and quantize in a graph for XNNPACK: operators of 8 bits, and functions in float."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from accelsim.arithmetic import xnnpack as rules
from accelsim.arithmetic.binary32 import Float32, f32
from accelsim.errors import ModelError
from accelsim.network import Add, Concatenate, Convolution, Linear, MaxPool, Multiply, Node, Weights

from .builder import Builder, Move, Real, Unrounded
from .calls import DEQUANTIZE, Call
from .chains import Constant, dequantized
from .exported import clamp_ends
from .exported_layers import LAYERS, TRANSPOSED, check_axis, keeps_rows, operands, weights_of
from .operators.pooling import max_pool_windows

#: The ends of no clamp, and of a ReLU.
NO_CLAMP = (-math.inf, math.inf)
RELU = (0.0, math.inf)


@dataclass(frozen=True, kw_only=True)
class Pending(Unrounded):
    """A result in float of an operator that runs in 8 bits once it is quantised.

    `make`: the node, given its name and whether a ReLU is fused; `name`: a proposal; `shape`: before movements.
    `clamp`: what a fused activation keeps the result to. `floats`: the tensors of the calls that it stands for.
    """

    make: Callable[[str, bool], Node]
    name: str
    shape: tuple[int, ...]
    operator: str
    floats: tuple[torch.Tensor, ...]
    clamp: tuple[float, float] = NO_CLAMP


@dataclass(frozen=True, kw_only=True)
class Function(Unrounded):
    """A function in float of the codes of the value `source`: its `values`, (256,) by the code's byte.

    `clamp`: the ends, if it is nothing but a clamp. `error`: by what share XNNPACK's numbers may differ from the
    `values`, which are then real ones in binary64. `last`: the call that made it.
    """

    source: str
    values: np.ndarray
    last: Call
    clamp: tuple[float, float] | None = None
    error: float = 0


# Layers


def _layer(builder: Builder, call: Call) -> bool:
    source, weight, bias = operands(call)
    real, constant, where = builder.reference(source), builder.reference(weight), builder.where(call)
    if not isinstance(constant, Constant) or not _is_dequantized(builder, source, real, call):
        return False
    assert isinstance(real, Real)
    if bias is not None and (builder.reference(bias) is not None):
        return False
    if np.any(constant.zero_point):
        raise ModelError(f"{where}: {call.operator}: XNNPACK takes no weight zero points; quantise them symmetrically")
    convolution = call.operator == "aten.convolution"
    transposed = convolution and bool(call.args[6])
    check_axis(builder, call, constant, int(transposed))
    if convolution and (source.dim() not in (3, 4) or constant.moves):
        raise ModelError(f"{where}: of XNNPACK's convolutions those over one or two axes are supported; replace it")
    if transposed and (source.dim() != 4 or (constant.per_channel and call.args[8] > 1)):
        raise ModelError(
            f"{where}: of XNNPACK's transposed convolutions those over two axes are supported, in groups with one "
            "scale for all weights; replace it"
        )
    if not convolution and [made_by.operator for made_by, _ in constant.moves] not in TRANSPOSED:
        raise ModelError(f"{where}: {call.operator} with a parameter that is no transposed weight")
    weights = weights_of(builder, constant, bias)

    def make(name: str, relu: bool) -> Node:
        if not convolution:
            return Linear(name, (real.name,), weights, relu)
        _, _, _, stride, padding, dilation, _, extra, groups = call.args
        return Convolution(
            name,
            (real.name,),
            weights,
            tuple(stride),
            tuple((int(pad), int(pad)) for pad in padding),
            tuple(dilation),
            int(groups),
            relu,
            transposed,
            tuple(extra) if transposed else (),
        )

    name = weights.key or ("convolution" if convolution else "linear")
    _pend(builder, call, make, name)
    return True


def _is_dequantized(builder: Builder, tensor: torch.Tensor, reference: object, call: Call) -> bool:
    """Whether a dequantize made a tensor: XNNPACK's 8-bit kernels read codes. Rows of a linear layer may be viewed."""
    if not isinstance(reference, Real) or not dequantized(reference):
        return False
    maker = builder.flow.maker(tensor)
    while call.operator in LAYERS and maker is not None and keeps_rows(maker, tuple(maker.tensors[0].shape)):
        maker = builder.flow.maker(maker.tensors[0])
    return maker is not None and maker.operator.startswith(DEQUANTIZE)


def _pend(builder: Builder, call: Call, make: Callable[[str, bool], Node], name: str) -> None:
    result = call.results[0]
    pending = Pending(make=make, name=name, shape=tuple(result.shape), operator=call.operator, floats=(result,))
    builder.assign(result, pending)


# Operators of two values


def _sum(builder: Builder, call: Call) -> bool:
    subtract = call.operator.startswith("aten.sub")
    names = _two(builder, call)
    if names is None or call.argument("alpha", 1) != 1:
        return False
    _pend(
        builder,
        call,
        lambda name, relu: Add(name, names, relu, subtract=subtract),
        _named(builder, call, "sub" if subtract else "add"),
    )
    return True


def _product(builder: Builder, call: Call) -> bool:
    names = _two(builder, call)
    if names is None:
        return False
    _pend(builder, call, lambda name, _: Multiply(name, names), _named(builder, call, "mul"))
    return True


def _two(builder: Builder, call: Call) -> tuple[str, str] | None:
    """The values of two operands, each just dequantised; the first may be the one that is broadcast."""
    names = []
    for tensor in call.args[:2]:
        reference = builder.reference(tensor)
        if not isinstance(reference, Real) or not _is_dequantized(builder, tensor, reference, call):
            return None
        names.append(reference.name)
    return names[0], names[1]


def _named(builder: Builder, call: Call, operator: str) -> str:
    return call.scope if call.leaf and call.scope else f"{call.scope}.{operator}".lstrip(".")


# Operators of one value


def _clamped(builder: Builder, call: Call) -> bool:
    reference, ends = builder.reference(call.tensors[0]), clamp_ends(call)
    if isinstance(reference, Pending):
        if reference.clamp != NO_CLAMP or not _is_fused(reference.operator, call.operator, ends):
            return False
        floats = (*reference.floats, call.results[0]) if not reference.moves else reference.floats
        builder.assign(call.results[0], replace(reference, clamp=ends, floats=floats))
        return True
    low, high = f32(ends[0]), f32(ends[1])
    direct = isinstance(reference, Real) and _is_dequantized(builder, call.tensors[0], reference, call)
    return _function(builder, call, lambda x: np.minimum(np.maximum(x, low), high), ends if direct else None)


def _is_fused(operator: str, activation: str, ends: tuple[float, float]) -> bool:
    """Whether XNNPACK clamps in 8 bits what an operator gives: any hardtanh after a layer, a ReLU after a sum."""
    if operator in LAYERS:
        return not activation.startswith("aten.clamp")
    return operator.startswith("aten.add") and ends == RELU


def _function(
    builder: Builder,
    call: Call,
    function: Callable[[Float32], np.ndarray],
    clamp: tuple[float, float] | None = None,
    *,
    error: float = 0,
) -> bool:
    reference, result = builder.reference(call.tensors[0]), call.results[0]
    if isinstance(reference, Real) and dequantized(reference):
        values = rules.dequantized(builder.value(reference.name).affine)
        made = Function(source=reference.name, values=function(values), last=call, clamp=clamp, error=error)
    elif isinstance(reference, Function) and not reference.error:
        made = replace(reference, values=function(reference.values), last=call, clamp=None, error=error)
    else:
        return False
    builder.assign(result, made)
    return True


def _hardswish(builder: Builder, call: Call) -> bool:
    return _function(builder, call, rules.hardswish)


def _leaky_relu(builder: Builder, call: Call) -> bool:
    slope = float(call.argument("negative_slope", 0.01))
    return _function(builder, call, lambda x: rules.leaky_relu(x, slope))


def _sigmoid(builder: Builder, call: Call) -> bool:
    return _function(builder, call, rules.sigmoid, error=rules.POLYNOMIAL)


def _tanh(builder: Builder, call: Call) -> bool:
    return _function(builder, call, rules.tanh, error=rules.POLYNOMIAL)


def _max_pool(builder: Builder, call: Call) -> bool:
    source, result = call.tensors[0], call.results[0]
    reference = builder.reference(source)
    if source.dim() != 4 or not isinstance(reference, Real) or not dequantized(reference):
        return False
    windows = max_pool_windows(call, 2)
    builder.move(call, source, [(result, (Move(lambda name, inputs: MaxPool(name, inputs, *windows), result.shape),))])
    return True


def _mean(builder: Builder, call: Call) -> bool:
    """As a depthwise convolution of ones: the array adds, and the requant unit has XNNPACK's two roundings."""
    source, result = call.tensors[0], call.results[0]
    reference = builder.reference(source)
    if source.dim() != 4 or not isinstance(reference, Real) or not _is_dequantized(builder, source, reference, call):
        return False
    if call.operator == "aten.mean":
        if not call.argument("keepdim", False) or {axis % 4 for axis in call.argument("dim") or range(4)} != {2, 3}:
            return False
    elif tuple(result.shape[2:]) != (1, 1):
        return False
    channels, sizes, name = source.shape[1], tuple(source.shape[2:]), reference.name
    ones = np.ones((channels, 1, *sizes), np.int8)
    scale = np.array([1 / math.prod(sizes)])
    weights = Weights(ones, scale, np.zeros(1, np.int32), per_channel=False, bias=None)

    def make(own: str, _: bool) -> Node:
        return Convolution(own, (name,), weights, (1, 1), ((0, 0), (0, 0)), (1, 1), channels, mean=True)

    _pend(builder, call, make, _named(builder, call, "mean"))
    return True


def _concatenate(builder: Builder, call: Call) -> bool:
    result, axis = call.results[0], int(call.argument("dim", 0)) % call.results[0].dim()
    references = [builder.reference(tensor) for tensor in call.tensors]
    names = [reference.name for reference in references if isinstance(reference, Real) and dequantized(reference)]
    if len(names) != len(references):
        return False
    maps = {builder.value(name).affine for name in names}
    if len(maps) != 1:
        raise ModelError(
            f"{builder.where(call)}: {call.operator} of tensors of {len(maps)} affine maps, which ExecuTorch does not "
            "load; let all of them share one observer, as XNNPACKQuantizer does"
        )
    node = Concatenate(builder.unused(call, "cat"), tuple(names), axis)
    made = builder.internal(node, tuple(result.shape), maps.pop())
    first = references[0]
    assert isinstance(first, Real)
    builder.assign(result, replace(first, name=made, last=call))
    return True


HANDLERS: dict[str, Callable[[Builder, Call], bool]] = {
    **dict.fromkeys(LAYERS, _layer),
    **dict.fromkeys(("aten.add", "aten.sub"), _sum),
    "aten.mul": _product,
    **dict.fromkeys(("aten.relu", "aten.relu6", "aten.hardtanh", "aten.clamp"), _clamped),
    "aten.hardswish": _hardswish,
    "aten.leaky_relu": _leaky_relu,
    "aten.sigmoid": _sigmoid,
    "aten.tanh": _tanh,
    "aten.max_pool2d_with_indices": _max_pool,
    **dict.fromkeys(("aten.mean", "aten._adaptive_avg_pool2d"), _mean),
    "aten.cat": _concatenate,
}
