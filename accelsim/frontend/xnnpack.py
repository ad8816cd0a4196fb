"""Graphs of torch.export whose activations are int8, as ExecuTorch hands them to XNNPACK: one node an operator.

An operator between dequantize and quantize runs in 8 bits, or in float where XNNPACK has no such kernel. Which, and
what is fused, ExecuTorch's partitioner decides (`backends/xnnpack/partition`, `_passes/fuse_activation_pass.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from accelsim.arithmetic import xnnpack as rules
from accelsim.arithmetic.affine import Affine
from accelsim.arithmetic.binary32 import Float32, f32
from accelsim.arithmetic.engines import KernelSet
from accelsim.errors import ModelError
from accelsim.network import Add, Concatenate, Convolution, Linear, Lookup, MaxPool, Multiply, Node, Weights

from .builder import Builder, Codes, FloatInput, Foreign, Move, Real, Unrounded
from .calls import DEQUANTIZE, QUANTIZE, Call
from .chains import Constant, dequantized, finish
from .decomposed import exported_affine
from .exported import clamp_ends, dequantize
from .exported_layers import LAYERS, TRANSPOSED, keeps_rows, operands, weights_of
from .operators import MOVEMENTS, SAME
from .operators.pooling import max_pool_windows

#: Its rules hold for every element; sums of products are exact.
KERNELS = KernelSet("uniform", "vnni")

_NO_CLAMP = (-math.inf, math.inf)
_RELU = (0.0, math.inf)


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
    clamp: tuple[float, float] = _NO_CLAMP


@dataclass(frozen=True, kw_only=True)
class Function(Unrounded):
    """A function in float of the codes of the value `source`: its `values`, (256,) by the code's byte.

    `clamp`: the ends, if it is nothing but a clamp. `last`: the call that made it.
    """

    source: str
    values: Float32
    last: Call
    clamp: tuple[float, float] | None = None


def visit(builder: Builder, call: Call) -> bool:
    """Build what a call stands for; False for calls that mean here what they mean in every model."""
    name = call.operator.removesuffix("_")
    if name.startswith(DEQUANTIZE):
        dequantize(builder, call)
        return True
    references = [builder.reference(tensor) for tensor in call.tensors]
    if name.startswith(QUANTIZE):
        if references[0] is not None:
            _quantize(builder, call)
        return True
    if not any(references) or name in MOVEMENTS or name in SAME:
        return False
    if name in _HANDLERS and _HANDLERS[name](builder, call):
        return True
    reasons = [reference.reason for reference in references if isinstance(reference, Foreign)]
    remedy = _REMEDIES.get(name, "replace it, or leave it out of the model")
    reason = f"{builder.where(call)}: {call.operator}, so used, is not known of the engine xnnpack: {remedy}"
    for result in call.results:
        builder.assign(result, Foreign(reasons[0] if reasons else reason))
    return True


_REMEDIES = {
    "aten.avg_pool2d": "XNNPACK averages in float; take adaptive_avg_pool2d(1), or a convolution with equal weights",
    "aten._adaptive_avg_pool2d": "it is reproduced for one output pixel; take adaptive_avg_pool2d(1)",
    "aten.mean": "it is reproduced over height and width of images with keepdim=True",
    "aten.clamp": "after a layer ExecuTorch fuses relu and hardtanh; take one of them",
    "aten.add": "it is reproduced for two quantised values",
    "aten.mul": "it is reproduced for two quantised values",
}


# The ends


def _quantize(builder: Builder, call: Call) -> None:
    given, result = call.tensors[0], call.results[0]
    reference, affine = builder.reference(given), exported_affine(builder.where(call), call)
    if affine.dtype != "int8":
        raise ModelError(
            f"{builder.where(call)}: XNNPACK's activations are int8, and this one is {affine.dtype}; quantise as "
            "XNNPACKQuantizer does"
        )
    if isinstance(reference, FloatInput):
        builder.quantized_input(call, reference, result)
    elif isinstance(reference, Real):
        _requantize(builder, call, reference, affine)
    elif isinstance(reference, Function):
        source = builder.value(reference.source).affine
        if reference.clamp is not None:
            table = rules.clamp_table(*reference.clamp, source, affine)
        else:
            table = rules.table(reference.values, affine)
        _look_up(builder, call, reference.source, table, reference.last, reference)
    elif isinstance(reference, Pending):
        _round(builder, call, reference, affine)
    else:
        reason = reference.reason if isinstance(reference, Foreign) else f"{builder.where(call)}: a constant"
        raise ModelError(f"{reason}; quantise its input, so that it stands between a dequantize and a quantize")


def _requantize(builder: Builder, call: Call, reference: Real, affine: Affine) -> None:
    source = builder.value(reference.name).affine
    if source == affine:
        builder.made(reference.name)
        builder.assign(call.results[0], Codes(reference.name))
        return
    maker = builder.flow.maker(call.tensors[0])
    if maker is None or not maker.operator.startswith(DEQUANTIZE):
        what = "a movement" if maker is None else maker.operator
        raise ModelError(
            f"{builder.where(call)}: {what} from {source} to {affine}, which ExecuTorch does not load; let its input "
            "and output share their observer"
        )
    table = rules.table(rules.dequantized(source), affine)
    _look_up(builder, call, reference.name, table, call, None)


def _look_up(
    builder: Builder, call: Call, source: str, table: np.ndarray, named: Call, reference: Unrounded | None
) -> None:
    """`call` quantises a function of the codes of `source`."""
    shape = builder.value(source).shape
    operator = named.operator.split(".")[1].strip("_") if named is not call else "requantize"

    def make(name: str) -> Node:
        return Lookup(name, (source,), operator, table, ((0, math.prod(shape), 0),))

    name = builder.name(named)
    if reference is None:
        builder.emit(call, make, call.results[0], name=name)
    else:
        finish(builder, call, reference, make, name, shape)


def _round(builder: Builder, call: Call, pending: Pending, affine: Affine) -> None:
    if not all(builder.flow.uses(tensor) == 1 for tensor in (*pending.floats, call.tensors[0])):
        raise ModelError(
            f"{builder.where(call)}: {pending.operator} has a result in float that is used more than once, so that "
            "XNNPACK does not compute it in 8 bits; quantise it once, and use the quantised tensor"
        )
    shape = tuple(pending.floats[-1].shape)
    flat = pending.operator in LAYERS and all(keeps_rows(made_by, shape) for made_by, _ in pending.moves)
    if pending.moves and not flat:
        raise ModelError(
            f"{builder.where(call)}: a movement stands between {pending.operator} and its quantize, so that XNNPACK "
            "does not compute it in 8 bits; quantise first"
        )
    relu = pending.clamp == _RELU
    moves = pending.moves
    if not relu and pending.clamp != _NO_CLAMP:
        codes = rules.every_code(affine)
        low, high = (rules.code_of_limit(end, affine) for end in pending.clamp)
        table = np.clip(codes, low, high).astype(affine.dtype).view(np.uint8)[None]
        spans = ((0, math.prod(pending.shape), 0),)
        clamp = Move(lambda own, sources: Lookup(own, sources, "clamp", table, spans), pending.shape)
        moves = ((call, (clamp,)), *moves)
    make, name = pending.make, builder.name(call, pending.name)
    finish(builder, call, replace(pending, moves=moves), lambda own: make(own, relu), name, pending.shape)


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
    if convolution and (call.args[6] or source.dim() not in (3, 4) or constant.moves):
        raise ModelError(
            f"{where}: of XNNPACK's convolutions those over one or two axes are supported, not transposed; replace it"
        )
    if not convolution and [made_by.operator for made_by, _ in constant.moves] not in TRANSPOSED:
        raise ModelError(f"{where}: {call.operator} with a parameter that is no transposed weight")
    weights = weights_of(builder, constant, bias)

    def make(name: str, relu: bool) -> Node:
        if not convolution:
            return Linear(name, (real.name,), weights, relu)
        _, _, _, stride, padding, dilation, _, _, groups = call.args
        pads = tuple((int(pad), int(pad)) for pad in padding)
        return Convolution(name, (real.name,), weights, tuple(stride), pads, tuple(dilation), int(groups), relu)

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
        fused = reference.clamp == _NO_CLAMP and not call.operator.startswith("aten.clamp")
        if not fused or (reference.operator.startswith(("aten.mul", "aten.sub", "aten.mean"))):
            return False
        floats = (*reference.floats, call.results[0]) if not reference.moves else reference.floats
        builder.assign(call.results[0], replace(reference, clamp=ends, floats=floats))
        return True
    low, high = f32(ends[0]), f32(ends[1])
    direct = isinstance(reference, Real) and _is_dequantized(builder, call.tensors[0], reference, call)
    return _function(builder, call, lambda x: np.minimum(np.maximum(x, low), high), ends if direct else None)


def _function(
    builder: Builder,
    call: Call,
    function: Callable[[Float32], Float32],
    clamp: tuple[float, float] | None = None,
) -> bool:
    reference, result = builder.reference(call.tensors[0]), call.results[0]
    if isinstance(reference, Real) and dequantized(reference):
        values = rules.dequantized(builder.value(reference.name).affine)
        made = Function(source=reference.name, values=function(values), last=call, clamp=clamp)
    elif isinstance(reference, Function):
        made = replace(reference, values=function(reference.values), last=call, clamp=None)
    else:
        return False
    builder.assign(result, made)
    return True


def _hardswish(builder: Builder, call: Call) -> bool:
    return _function(builder, call, rules.hardswish)


def _leaky_relu(builder: Builder, call: Call) -> bool:
    slope = float(call.argument("negative_slope", 0.01))
    return _function(builder, call, lambda x: rules.leaky_relu(x, slope))


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


_HANDLERS: dict[str, Callable[[Builder, Call], bool]] = {
    **dict.fromkeys(LAYERS, _layer),
    **dict.fromkeys(("aten.add", "aten.sub"), _sum),
    "aten.mul": _product,
    **dict.fromkeys(("aten.relu", "aten.relu6", "aten.hardtanh", "aten.clamp"), _clamped),
    "aten.hardswish": _hardswish,
    "aten.leaky_relu": _leaky_relu,
    "aten.max_pool2d_with_indices": _max_pool,
    **dict.fromkeys(("aten.mean", "aten._adaptive_avg_pool2d"), _mean),
    "aten.cat": _concatenate,
}
