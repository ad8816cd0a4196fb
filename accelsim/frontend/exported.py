"""Graphs of torch.export (PT2E): what stands between dequantize and quantize, as the node that lowering makes of it.

Such a graph computes in float. Inductor lowers a layer with what follows it to one of oneDNN's pointwise kernels
(`torch/_inductor/fx_passes/quantization.py`); which, the calls up to the next quantize decide.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from accelsim.arithmetic.affine import Affine
from accelsim.arithmetic.matrix import requantization
from accelsim.arithmetic.requantize import Requantization
from accelsim.errors import ModelError
from accelsim.network import (
    Add,
    AveragePool,
    Concatenate,
    Convolution,
    Linear,
    Lookup,
    MaxPool,
    Node,
    Reshape,
    ResidualLayer,
)
from accelsim.network.graph import Weights
from accelsim.network.rounding import convolution_shape

from .builder import Builder, Codes, FloatInput, Foreign, Move, Real, Unrounded, exported_affine, reshape
from .kernels import Kernel
from .lookups import look_up, step_of
from .operators.pooling import average_windows, max_pool_windows
from .recording import DEQUANTIZE, QUANTIZE, Call
from .tables import Here, Step

_INT_REPR = Step("aten.int_repr.default", (Here(0),))
_LAYERS = ("aten.convolution", "aten.addmm", "aten.mm")
_VIEWS = frozenset({"aten.view", "aten._unsafe_view", "aten._reshape_copy", "aten.view_copy"})
_TRANSPOSED = (["aten.t"], ["aten.transpose"], ["aten.permute"])
#: What Inductor fuses into a kernel that quantises: after a convolution, and after a linear layer.
_FUSED = {
    False: ((), ("relu",), ("clamp",), ("add",), ("add", "relu")),
    True: ((), ("relu",), ("add",), ("add", "relu")),
}
#: With these a larger code never gives a smaller number.
_MONOTONE = frozenset({"relu", "hardtanh", "clamp", "relu6"})


@dataclass(frozen=True, kw_only=True)
class Constant(Unrounded):
    """A dequantised parameter: int8 codes with the scales and zero points of their first axis, or of all."""

    codes: torch.Tensor
    scale: np.ndarray
    zero_point: np.ndarray
    per_channel: bool


@dataclass(frozen=True, kw_only=True)
class LayerSum(Unrounded):
    """A layer's sum in float, before anything rounds it; `kernel` is what it is lowered to.

    `source`: the value that the layer reads; `residual`: the one that is added, "" for none. `floats`: the tensors of
    the calls that the kernel stands for, `posts`: what these do after the layer; `last`, `end`: the last of them, and
    its number. `lowered`: the layer reads what a dequantize made, which is what Inductor looks for.
    """

    source: str
    weights: Weights
    kernel: Kernel
    floats: tuple[torch.Tensor, ...]
    last: Call
    end: int
    lowered: bool
    posts: tuple[str, ...] = ()
    residual: str = ""


@dataclass(frozen=True, kw_only=True)
class ElementSum(Unrounded):
    """Two dequantised values added in float."""

    sources: tuple[str, str]
    relu: bool = False


@dataclass(frozen=True, kw_only=True)
class Averaged(Unrounded):
    """Averages of a dequantised value in float; `source` is the value of their codes, of the same affine map."""

    source: str


def visit(builder: Builder, call: Call) -> bool:
    """Build what a call stands for; False for calls that mean here what they mean in every model."""
    name = call.operator.removesuffix("_")
    if name.startswith(DEQUANTIZE):
        _dequantize(builder, call)
        return True
    if name.startswith(QUANTIZE):
        if builder.reference(call.tensors[0]) is not None:
            _quantize(builder, call)
        return True
    return name in _HANDLERS and any(map(builder.reference, call.tensors)) and _HANDLERS[name](builder, call)


def dequantized(reference: Any) -> bool:
    """Whether a tensor is a value dequantised, and nothing else was done to its numbers."""
    return isinstance(reference, Real) and reference.program[reference.index - 1].operator.startswith(DEQUANTIZE)


# The ends of a chain


def _dequantize(builder: Builder, call: Call) -> None:
    source, result = call.tensors[0], call.results[0]
    if isinstance(builder.reference(source), Codes):
        name = builder.codes(call, source)
        step = step_of(call, {id(source): 1})
        if step is None or exported_affine(builder.where(call), call) != builder.value(name).affine:
            raise ModelError(f"{builder.where(call)}: {call.operator} dequantises {name!r} by another affine map")
        builder.assign(result, Real(name, (_INT_REPR, step), 2, call))
        return
    axis, per_channel = int(call.argument("axis", 0)), "per_channel" in call.operator
    if source.dtype != torch.int8 or (per_channel and axis % source.dim()):
        raise ModelError(
            f"{builder.where(call)}: parameters of {source.dtype} with scales along axis {axis} are not supported; "
            f"quantise weights to torch.int8, per tensor or per output channel (axis 0)"
        )
    scale, zero = (call.argument(name + "s" * per_channel) for name in ("scale", "zero_point"))
    scales, zeros = (np.atleast_1d(np.asarray(0 if part is None else part)) for part in (scale, zero))
    # The kernels take binary32 scales.
    scales = scales.astype(np.float32).astype(np.float64)
    builder.assign(
        result,
        Constant(codes=source, scale=scales, zero_point=zeros.astype(np.int32), per_channel=per_channel),
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
    elif isinstance(reference, LayerSum):
        _quantize_layer(builder, call, reference, affine)
    elif isinstance(reference, ElementSum):
        sources, relu = reference.sources, reference.relu
        name = builder.name(call, "add")
        _finish(builder, call, reference, lambda own: Add(own, sources, relu), name, builder.value(sources[0]).shape)
    elif isinstance(reference, Averaged):
        if builder.value(reference.source).affine != affine:
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


def _finish(
    builder: Builder,
    call: Call,
    reference: Unrounded,
    make: Callable[[str], Node],
    name: str,
    shape: tuple[int, ...],
) -> None:
    """The node of a chain, then what moved its float result; the last of them gives the quantised tensor."""
    if reference.moves:
        made = builder.internal(make(name), shape, exported_affine(builder.where(call), call))
        builder.moved_to(call, made, reference.moves, call.results[0])
    else:
        builder.emit(call, make, call.results[0], name=name)


def _quantize_layer(builder: Builder, call: Call, layer: LayerSum, affine: Affine) -> None:
    kernel, shape = layer.kernel, tuple(layer.floats[-1].shape)
    # A linear layer over several axes is computed over two; that is no movement of its own.
    flat = kernel.is_linear and all(_keeps_rows(made_by, shape) for made_by, _ in layer.moves)
    used_once = all(builder.flow.uses(tensor) == sum(tensor is t for t in layer.floats) for tensor in layer.floats)
    fused = layer.lowered and used_once and (flat or not layer.moves) and layer.posts in _FUSED[kernel.is_linear]
    if layer.residual and not kernel.is_linear:
        fused = fused and _may_be_overwritten(builder, layer)
    name = builder.name(call, layer.weights.key or ("linear" if kernel.is_linear else "convolution"))
    node = _node(name, layer, float_output=not fused)
    whole = ResidualLayer(name, (layer.source, layer.residual), node) if layer.residual else node
    moves = layer.moves
    table = _clamp(kernel, affine, _rule(builder, node, affine))
    if table is not None:
        spans = ((0, math.prod(shape), 0),)
        clamp = Move(lambda own, sources: Lookup(own, sources, "clamp", table, spans), shape)
        moves = ((layer.last, (clamp,)), *moves)
    _finish(builder, call, replace(layer, moves=moves), lambda _: whole, name, shape)
    direct = fused and not layer.moves
    kernel = replace(kernel, output=affine if fused else None, codes=direct)
    builder.lowered[builder.position if direct else layer.end] = kernel


def _keeps_rows(call: Call, shape: tuple[int, ...]) -> bool:
    return call.operator in _VIEWS and call.results[0].shape[-1] == shape[-1]


def _may_be_overwritten(builder: Builder, layer: LayerSum) -> bool:
    """Whether a convolution's kernel may add to the residual's codes in their place, where they are scaled too.

    Not if it reads them itself, or if something else does that is not on the way to it (Inductor's
    `_is_valid_quantized_op_binary_optimization_pattern`), or if another sum takes the same dequantised numbers; layers
    get these for themselves (its dequant promotion).
    """
    assert layer.kernel.residual is not None
    made, read = (builder.flow.maker(tensor) for tensor in (layer.kernel.residual[0], layer.kernel.source))
    if made is None or read is None or not made.operator.startswith(DEQUANTIZE):
        return False
    codes = made.tensors[0]
    if sum(user.operator not in _LAYERS for user in builder.flow.users(layer.kernel.residual[0])) > 1:
        return False
    return codes is not read.tensors[0] and len(builder.flow.users_beside(codes, layer.kernel.call)) <= 1


def _node(name: str, layer: LayerSum, *, float_output: bool) -> Convolution | Linear:
    kernel, inputs = layer.kernel, (layer.source,)
    if kernel.is_linear:
        return Linear(name, inputs, layer.weights, kernel.low == 0, float_output)
    _, _, _, stride, padding, dilation, _, _, groups = kernel.call.args
    pads = tuple((int(pad), int(pad)) for pad in padding)
    geometry = (tuple(stride), pads, tuple(dilation), int(groups))
    return Convolution(name, inputs, layer.weights, *geometry, kernel.low == 0, float_output=float_output)


def _rule(builder: Builder, node: Convolution | Linear, output: Affine) -> Requantization:
    convolution = isinstance(node, Convolution)
    return requantization(
        builder.engine,
        builder.kernels,
        kind="convolution" if convolution else "linear",
        input=builder.value(node.inputs[0]).affine,
        weight_scale=node.weights.scale,
        weight_zero_point=node.weights.zero_point,
        per_channel=node.weights.per_channel,
        output=output,
        bias=None,
        relu=node.relu,
        channels=1 if not node.weights.per_channel else len(node.weights.scale),
        shape=convolution_shape(node) if isinstance(node, Convolution) else None,
        float_output=node.float_output,
    )


def _clamp(kernel: Kernel, affine: Affine, rule: Requantization) -> np.ndarray | None:
    """The table of a clamp of the codes that does what one of the sums does; None where it does nothing more.

    What follows a clamp only rises with the sum: clamped codes are the codes of clamped sums.
    """
    low, high = (int(rule.rounded(np.array([end], np.float32)).flat[0]) for end in (kernel.low, kernel.high))
    if (low, high) == (rule.minimum, rule.maximum):
        return None
    codes = np.arange(256, dtype=np.uint8).view(affine.dtype)
    return np.clip(codes, low, high).astype(affine.dtype).view(np.uint8)[None]


# What stands between


def _matrix(builder: Builder, call: Call) -> bool:
    """A convolution or a product with a dequantised parameter."""
    convolution = call.operator == "aten.convolution"
    source, weight = call.args[1:3] if call.operator == "aten.addmm" else call.args[:2]
    bias = call.args[2] if convolution else call.args[0] if call.operator == "aten.addmm" else None
    real, constant = builder.reference(source), builder.reference(weight)
    if not isinstance(constant, Constant):
        return False
    if not isinstance(real, Real) or not dequantized(real):
        builder.assign(call.results[0], Foreign(f"{builder.where(call)}: {call.operator} of what is not quantised"))
        return True
    affine, result = builder.value(real.name).affine, call.results[0]
    if affine.dtype != "uint8":
        raise ModelError(
            f"{builder.where(call)}: {call.operator} of int8 activations is lowered to no kernel that is reproduced; "
            f"quantise activations to torch.uint8, as X86InductorQuantizer does"
        )
    if np.any(constant.zero_point):
        raise ModelError(f"{builder.where(call)}: {call.operator}: oneDNN's kernels take no weight zero points")
    if convolution and (call.args[6] or source.dim() != 4 or constant.moves):
        raise ModelError(
            f"{builder.where(call)}: of a torch.export graph's convolutions those over two axes are supported, "
            f"not transposed"
        )
    if not convolution and [made_by.operator for made_by, _ in constant.moves] not in _TRANSPOSED:
        raise ModelError(f"{builder.where(call)}: {call.operator} with a parameter that is no transposed weight")
    key = next((builder.keys[id(tensor)] for tensor in (bias, constant.codes) if id(tensor) in builder.keys), "")
    parameters = Weights(
        codes=np.ascontiguousarray(constant.codes.numpy()),
        scale=constant.scale,
        zero_point=constant.zero_point,
        per_channel=constant.per_channel,
        bias=None if bias is None else bias.detach().numpy().astype(np.float32),
        key=key,
    )
    if not constant.per_channel:
        raise ModelError(
            f"{builder.where(call)}: {call.operator} of weights with one scale is lowered to no integer kernel; "
            f"quantise weights per output channel, as X86InductorQuantizer does"
        )
    scale = torch.from_numpy(constant.scale.astype(np.float32))
    kernel = Kernel(call, source, affine, constant.codes, scale, bias)
    builder.assign(
        result,
        LayerSum(
            source=real.name,
            weights=parameters,
            kernel=kernel,
            floats=(result,),
            last=call,
            end=builder.position,
            lowered=_reads_codes(builder, source, rows=not convolution),
        ),
    )
    return True


def _reads_codes(builder: Builder, source: torch.Tensor, *, rows: bool) -> bool:
    """Whether a dequantize made a tensor; `rows`: views that keep its rows may come between."""
    made = builder.flow.maker(source)
    while rows and made is not None and _keeps_rows(made, tuple(made.tensors[0].shape)):
        made = builder.flow.maker(made.tensors[0])
    return made is not None and made.operator.startswith(DEQUANTIZE)


def _longer(builder: Builder, call: Call, layer: LayerSum, kernel: Kernel, post: str, residual: str = "") -> None:
    """One more call that the layer's kernel stands for; a clamp after movements is the same as one before them."""
    result = call.results[0]
    layer = replace(layer, kernel=kernel, posts=(*layer.posts, post), residual=residual or layer.residual)
    if layer.moves:
        builder.assign(result, layer)
        return
    builder.assign(
        result,
        replace(
            layer,
            floats=(*layer.floats, result),
            last=call,
            end=builder.position,
        ),
    )


def _clamped(builder: Builder, call: Call) -> bool:
    reference = builder.reference(call.tensors[0])
    low, high = _ends(call)
    if isinstance(reference, LayerSum):
        kernel = reference.kernel
        kernel = replace(kernel, low=min(max(kernel.low, low), high), high=max(min(kernel.high, high), low))
        post = "relu" if (low, high) == (0, math.inf) else "clamp" if math.isfinite(low + high) else "one-sided clamp"
        _longer(builder, call, reference, kernel, post)
    elif isinstance(reference, ElementSum) and (low, high) == (0, math.inf):
        builder.assign(call.results[0], replace(reference, relu=True))
    else:
        return False
    return True


def _ends(call: Call) -> tuple[float, float]:
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
        _longer(builder, call, first, kernel, "add", second.name)
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
            if {axis % 4 for axis in call.argument("dim")} != {2, 3}:
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
    **dict.fromkeys(_LAYERS, _matrix),
    **dict.fromkeys(("aten.relu", "aten.relu6", "aten.hardtanh", "aten.clamp"), _clamped),
    "aten.add": _add,
    "aten.max_pool2d_with_indices": _max_pool,
    **dict.fromkeys(("aten.avg_pool2d", "aten._adaptive_avg_pool2d", "aten.mean"), _average),
    "aten.cat": _concatenate,
}
