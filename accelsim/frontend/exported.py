"""Graphs of torch.export (PT2E): what stands between dequantize and quantize, as the node that lowering makes of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from accelsim.errors import ModelError
from accelsim.frontend.operators.pooling import average_windows, max_pool_windows
from accelsim.network import Add, AveragePool, Concatenate, MaxPool, Reshape

from .builder import Builder, Codes, FloatInput, Floats, Foreign, Move, Real, Unrounded, reshape
from .calls import DEQUANTIZE, QUANTIZE, Call
from .chains import Averaged, Constant, ElementSum, LayerSum, dequantized, finish
from .decomposed import exported_affine
from .exported_layers import LAYERS, layer, longer, quantize_layer
from .float_operators import compute
from .floats import FloatCall, quantize_floats
from .lookups import look_up, step_of
from .operators import MOVEMENTS, SAME
from .tables import Here, Step

_INT_REPR = Step("aten.int_repr.default", (Here(0),))
#: With these a larger code never gives a smaller number.
_MONOTONE = frozenset({"relu", "hardtanh", "clamp", "relu6"})


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
    if name in _HANDLERS and any(references) and _HANDLERS[name](builder, call):
        return True
    if name in MOVEMENTS or name in SAME or not any(isinstance(reference, Unrounded) for reference in references):
        return False
    if compute(builder, call):
        return True
    reason = f"{builder.where(call)}: {call.operator} takes a sum or a parameter in float, which no node does"
    for result in call.results:
        builder.assign(result, Foreign(reason))
    return True


# The ends of a chain


def dequantize(builder: Builder, call: Call) -> None:
    """A value dequantised, or a parameter."""
    source, result = call.tensors[0], call.results[0]
    if isinstance(builder.reference(source), Codes):
        name = builder.codes(call, source)
        step = step_of(call, {id(source): 1})
        if step is None or exported_affine(builder.where(call), call) != builder.value(name).affine:
            raise ModelError(f"{builder.where(call)}: {call.operator} dequantises {name!r} by another affine map")
        builder.assign(result, Real(name, (_INT_REPR, step), 2, call))
        return
    if builder.reference(source) is not None:
        raise ModelError(
            f"{builder.where(call)}: {call.operator} takes what nothing in the graph has quantised; a model's inputs "
            f"are floats that it quantises itself"
        )
    axis, per_channel = int(call.argument("axis", 0)), "per_channel" in call.operator
    if source.dtype != torch.int8:
        raise ModelError(
            f"{builder.where(call)}: parameters of {source.dtype} are not supported; quantise weights to torch.int8, "
            "per tensor or per output channel"
        )
    scale, zero = (call.argument(name + "s" * per_channel) for name in ("scale", "zero_point"))
    scales, zeros = (np.atleast_1d(np.asarray(0 if part is None else part)) for part in (scale, zero))
    if per_channel:  # the kernels take binary32 scales
        scales = scales.astype(np.float32).astype(np.float64)
    builder.assign(
        result,
        Constant(
            codes=source,
            scale=scales,
            zero_point=zeros.astype(np.int32),
            per_channel=per_channel,
            axis=axis % source.dim() if per_channel else 0,
        ),
    )


def _quantize(builder: Builder, call: Call) -> None:
    given, result = call.tensors[0], call.results[0]
    reference, affine = builder.reference(given), exported_affine(builder.where(call), call)
    if isinstance(reference, FloatInput):
        builder.quantized_input(call, reference, result)
    elif isinstance(reference, Real):
        step = step_of(call, {id(given): reference.index})
        if step is None:
            raise ModelError(f"{builder.where(call)}: {call.operator} with several scales is not supported")
        names = [one.operator.split(".")[1] for one in reference.program[2:]]
        named = reference.last if names else call
        program = (*reference.program, step)
        look_up(builder, call, reference.name, program, given, operator="-".join(names) or "requantize", named=named)
    elif isinstance(reference, Floats):
        quantize_floats(builder, call, reference.name, affine)
    elif isinstance(reference, LayerSum):
        quantize_layer(builder, call, reference, affine)
    elif isinstance(reference, ElementSum):
        sources, relu = reference.sources, reference.relu
        name = builder.name(call, "add")
        finish(builder, call, reference, lambda own: Add(own, sources, relu), name, builder.value(sources[0]).shape)
    elif isinstance(reference, Averaged):
        if builder.value(reference.source).affine != affine:
            average = FloatCall(builder, call).source(given)
            if isinstance(average, str):
                quantize_floats(builder, call, average, affine)
                return
            raise ModelError(
                f"{builder.where(call)}: an average is quantised to {affine}, but its input to "
                f"{builder.value(reference.source).affine}; let a pool's input and output share their observer"
            )
        builder.moved_to(call, reference.source, reference.moves, result)
        if all(isinstance(move.node("", ()), Reshape) for _, moves in reference.moves for move in moves):
            builder.made(reference.source)  # the same codes in the same order
    else:
        reason = reference.reason if isinstance(reference, Foreign) else f"{builder.where(call)}: a constant"
        raise ModelError(f"{reason}; quantise its input, so that it stands between a dequantize and a quantize")


# What stands between


def _clamped(builder: Builder, call: Call) -> bool:
    reference = builder.reference(call.tensors[0])
    low, high = clamp_ends(call)
    if isinstance(reference, LayerSum):
        kernel = reference.kernel
        kernel = replace(kernel, low=min(max(kernel.low, low), high), high=max(min(kernel.high, high), low))
        post = "relu" if (low, high) == (0, math.inf) else "clamp" if math.isfinite(low + high) else "one-sided clamp"
        longer(builder, call, reference, kernel, post)
    elif isinstance(reference, ElementSum) and (low, high) == (0, math.inf):
        builder.assign(call.results[0], replace(reference, relu=True))
    else:
        return False
    return True


def clamp_ends(call: Call) -> tuple[float, float]:
    """Between what a ReLU, a hardtanh or a clamp keeps numbers."""
    name = call.operator.removesuffix("_").removeprefix("aten.")
    if name in ("relu", "relu6"):
        return 0, math.inf if name == "relu" else 6
    low, high = ("min_val", "max_val") if name == "hardtanh" else ("min", "max")
    least, most = call.argument(low), call.argument(high)
    return -math.inf if least is None else float(least), math.inf if most is None else float(most)


def _add(builder: Builder, call: Call) -> bool:
    a, b = call.args[:2]
    first, second = builder.reference(a), builder.reference(b)
    if first is None or second is None or call.argument("alpha", 1) != 1:
        return False
    if isinstance(second, LayerSum):
        (a, first), (b, second) = (b, second), (a, first)
    if not isinstance(second, Real) or not dequantized(second) or a.shape != b.shape:
        return False
    if isinstance(first, LayerSum):
        kernel = first.kernel
        if first.moves or first.residual or (kernel.low, kernel.high) != (-math.inf, math.inf):
            return False
        kernel = replace(kernel, residual=(b, builder.value(second.name).affine))
        longer(builder, call, first, kernel, "add", second.name)
        return True
    if dequantized(first) and isinstance(first, Real) and first.name != second.name:
        builder.assign(call.results[0], ElementSum(sources=(first.name, second.name)))
        return True
    return False


def _max_pool(builder: Builder, call: Call) -> bool:
    """A maximum commutes with whatever only rises: that of the codes is the code of that of the numbers."""
    source, result = call.tensors[0], call.results[0]
    reference = builder.reference(source)
    if source.dim() != 4 or not isinstance(reference, Real | LayerSum | ElementSum):
        return False
    if isinstance(reference, Real) and any(
        step.operator.split(".")[1] not in _MONOTONE for step in reference.program[2 : reference.index]
    ):
        return False
    windows = max_pool_windows(call, 2)
    builder.move(call, source, [(result, (Move(lambda name, inputs: MaxPool(name, inputs, *windows), result.shape),))])
    return True


def _average(builder: Builder, call: Call) -> bool:
    source, result = call.tensors[0], call.results[0]
    reference = builder.reference(source)
    if source.dim() != 4 or not isinstance(reference, Real) or not dequantized(reference):
        return False
    value, none = builder.value(reference.name), ((0, 0), (0, 0))
    shape, sizes = tuple(result.shape), tuple(source.shape[2:])
    moves: tuple[tuple[Call, tuple[Move, ...]], ...] = ()
    if call.operator == "aten.avg_pool2d":
        pool = average_windows(call, 2)
    else:
        if call.operator == "aten.mean":
            if {axis % 4 for axis in call.argument("dim") or range(4)} != {2, 3}:
                return False
            shape = (*source.shape[:2], 1, 1)
            moves = () if call.argument("keepdim", False) else ((call, (reshape(result.shape),)),)
        pool = {"kind": "adaptive", "kernel": sizes, "stride": sizes, "padding": none}
    name = builder.unused(call, "average") if moves else builder.name(call)
    made = builder.internal(AveragePool(name, (reference.name,), **pool), shape, value.affine)
    builder.assign(result, Averaged(source=made, moves=moves))
    return True


def _concatenate(builder: Builder, call: Call) -> bool:
    result, axis = call.results[0], int(call.argument("dim", 0)) % call.results[0].dim()
    references = [builder.reference(tensor) for tensor in call.tensors]
    names = [reference.name for reference in references if isinstance(reference, Real) and dequantized(reference)]
    if len(names) != len(references) or len({builder.value(name).affine for name in names}) != 1:
        return False
    affine = builder.value(names[0]).affine
    node = Concatenate(builder.unused(call, "cat"), tuple(names), axis)
    made = builder.internal(node, tuple(result.shape), affine)
    first = references[0]
    assert isinstance(first, Real)
    builder.assign(result, replace(first, name=made, last=call))
    return True


_HANDLERS: dict[str, Callable[[Builder, Call], bool]] = {
    **dict.fromkeys(LAYERS, layer),
    **dict.fromkeys(("aten.relu", "aten.relu6", "aten.hardtanh", "aten.clamp"), _clamped),
    "aten.add": _add,
    "aten.max_pool2d_with_indices": _max_pool,
    **dict.fromkeys(("aten.avg_pool2d", "aten._adaptive_avg_pool2d", "aten.mean"), _average),
    "aten.cat": _concatenate,
}
