"""Graphs of torch.export whose activations are int8, as ExecuTorch hands them to XNNPACK: one node an operator.

An operator between dequantize and quantize runs in 8 bits, or in float where XNNPACK has no such kernel. Which, and
what is fused, ExecuTorch's partitioner decides (`backends/xnnpack/partition`, `_passes/fuse_activation_pass.py`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from accelsim.arithmetic import xnnpack as rules
from accelsim.arithmetic.affine import Affine
from accelsim.arithmetic.engines import KernelSet
from accelsim.errors import ModelError
from accelsim.network import Lookup, Node

from .builder import Builder, Codes, FloatInput, Foreign, Move, Real, Unrounded
from .calls import DEQUANTIZE, QUANTIZE, Call
from .chains import finish
from .decomposed import exported_affine
from .exported import dequantize
from .exported_layers import LAYERS, keeps_rows
from .operators import MOVEMENTS, SAME
from .xnnpack_operators import HANDLERS, NO_CLAMP, RELU, Function, Pending

#: Its rules hold for every element; sums of products are exact.
KERNELS = KernelSet("uniform", "vnni")


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
    if name in HANDLERS and HANDLERS[name](builder, call):
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
    **dict.fromkeys(
        ("aten.relu", "aten.relu6", "aten.hardtanh", "aten.clamp"),
        "after a layer relu and hardtanh are computed in 8 bits, after a sum relu; other such pairs in float, so "
        "quantise between the two",
    ),
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
        table = _table(builder, reference, affine)
        _look_up(builder, call, reference.source, table, reference.last, reference)
    elif isinstance(reference, Pending):
        _round(builder, call, reference, affine)
    else:
        reason = reference.reason if isinstance(reference, Foreign) else f"{builder.where(call)}: a constant"
        raise ModelError(f"{reason}; quantise its input, so that it stands between a dequantize and a quantize")


def _table(builder: Builder, function: Function, affine: Affine) -> np.ndarray:
    source = builder.value(function.source).affine
    if function.clamp is not None:
        _check_used_once(builder, function.last, function.last.results)
        return rules.clamp_table(*function.clamp, source, affine)
    if not function.error:
        return rules.table(function.values, affine)
    table, near = rules.table_within(function.values, function.error, source, affine)
    if near:
        builder.notes.append(
            f"{builder.where(function.last)}: {function.last.operator} of the codes {', '.join(map(str, near))} lies "
            "so near to the middle between two codes that XNNPACK's polynomial, which is another one on other "
            "processors, may give the other"
        )
    return table


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


def _check_used_once(builder: Builder, call: Call, floats: Sequence[torch.Tensor], operator: str = "") -> None:
    if not all(builder.flow.uses(tensor) == 1 for tensor in floats):
        raise ModelError(
            f"{builder.where(call)}: {operator or call.operator} has a result in float that is used more than once, so "
            "that XNNPACK may not compute it in 8 bits; quantise it once, and use the quantised tensor"
        )


def _round(builder: Builder, call: Call, pending: Pending, affine: Affine) -> None:
    _check_used_once(builder, call, (*pending.floats, call.tensors[0]), pending.operator)
    shape = tuple(pending.floats[-1].shape)
    flat = pending.operator in LAYERS and all(keeps_rows(made_by, shape) for made_by, _ in pending.moves)
    if pending.moves and not flat:
        raise ModelError(
            f"{builder.where(call)}: a movement stands between {pending.operator} and its quantize, so that XNNPACK "
            "does not compute it in 8 bits; quantise first"
        )
    relu = pending.clamp == RELU
    moves = pending.moves
    if not relu and pending.clamp != NO_CLAMP:
        codes = rules.every_code(affine)
        low, high = (rules.code_of_limit(end, affine) for end in pending.clamp)
        table = np.clip(codes, low, high).astype(affine.dtype).view(np.uint8)[None]
        spans = ((0, math.prod(pending.shape), 0),)
        clamp = Move(lambda own, sources: Lookup(own, sources, "clamp", table, spans), pending.shape)
        moves = ((call, (clamp,)), *moves)
    make, name = pending.make, builder.name(call, pending.name)
    finish(builder, call, replace(pending, moves=moves), lambda own: make(own, relu), name, pending.shape)
