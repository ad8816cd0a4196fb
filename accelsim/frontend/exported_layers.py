"""Layers of torch.export graphs (PT2E): what oneDNN's kernels compute of them, and what follows in float.

Inductor lowers a layer with what follows it to one of these kernels (`torch/_inductor/fx_passes/quantization.py`);
which, the calls up to the next quantize decide.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch

from accelsim.arithmetic.affine import FLOAT, Affine
from accelsim.arithmetic.requantize import Requantization
from accelsim.errors import ModelError
from accelsim.network import Convolution, Linear, Lookup, ResidualLayer, Weights
from accelsim.network.rounding import layer_rounding

from .builder import Builder, Foreign, Move, Real
from .calls import DEQUANTIZE, Call
from .chains import Constant, LayerSum, dequantized, finish
from .kernels import Kernel

#: The operators of layers.
LAYERS = ("aten.convolution", "aten.addmm", "aten.mm")
_VIEWS = frozenset({"aten.view", "aten._unsafe_view", "aten._reshape_copy", "aten.view_copy"})
#: What makes of a linear layer's weights the second factor of a product.
TRANSPOSED = (["aten.t"], ["aten.transpose"], ["aten.permute"])
#: What Inductor fuses into a kernel that quantises: after a convolution, and after a linear layer.
_FUSED = {
    False: ((), ("relu",), ("clamp",), ("add",), ("add", "relu")),
    True: ((), ("relu",), ("add",), ("add", "relu")),
}


def layer(builder: Builder, call: Call) -> bool:
    """A convolution or a product with a dequantised parameter."""
    convolution = call.operator == "aten.convolution"
    source, weight, bias = operands(call)
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
    check_axis(builder, call, constant, 0)
    if np.any(constant.zero_point):
        raise ModelError(f"{builder.where(call)}: {call.operator}: oneDNN's kernels take no weight zero points")
    if convolution and (call.args[6] or source.dim() != 4 or constant.moves):
        raise ModelError(
            f"{builder.where(call)}: of a torch.export graph's convolutions those over two axes are supported, "
            f"not transposed"
        )
    if not convolution and [made_by.operator for made_by, _ in constant.moves] not in TRANSPOSED:
        raise ModelError(f"{builder.where(call)}: {call.operator} with a parameter that is no transposed weight")
    parameters = weights_of(builder, constant, bias)
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


def check_axis(builder: Builder, call: Call, constant: Constant, axis: int) -> None:
    """Raises ModelError for weights that have several scales, but not along the axis of the output channels."""
    if constant.per_channel and constant.axis != axis:
        raise ModelError(
            f"{builder.where(call)}: {call.operator} of parameters with scales along axis {constant.axis} is not "
            f"supported; quantise weights per tensor or per output channel (axis {axis})"
        )


def operands(call: Call) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """What a layer reads, its weights and its bias."""
    if call.operator == "aten.addmm":
        return call.args[1], call.args[2], call.args[0]
    return call.args[0], call.args[1], call.args[2] if call.operator == "aten.convolution" else None


def weights_of(builder: Builder, constant: Constant, bias: torch.Tensor | None) -> Weights:
    """The parameters of a layer."""
    key = next((builder.keys[id(tensor)] for tensor in (bias, constant.codes) if id(tensor) in builder.keys), "")
    return Weights(
        codes=np.array(constant.codes.numpy(), order="C"),
        scale=constant.scale,
        zero_point=constant.zero_point,
        per_channel=constant.per_channel,
        bias=None if bias is None else bias.detach().numpy().astype(np.float32),
        key=key,
    )


def _reads_codes(builder: Builder, source: torch.Tensor, *, rows: bool) -> bool:
    """Whether a dequantize made a tensor; `rows`: views that keep its rows may come between."""
    made = builder.flow.maker(source)
    while rows and made is not None and keeps_rows(made, tuple(made.tensors[0].shape)):
        made = builder.flow.maker(made.tensors[0])
    return made is not None and made.operator.startswith(DEQUANTIZE)


def longer(builder: Builder, call: Call, layer: LayerSum, kernel: Kernel, post: str, residual: str = "") -> None:
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


def quantize_layer(builder: Builder, call: Call, layer: LayerSum, affine: Affine) -> None:
    """`call` quantises a layer's sum, or what moved it: emit the layer's node, and note which kernel it stands for."""
    kernel, shape = layer.kernel, tuple(layer.floats[-1].shape)
    # A linear layer over several axes is computed over two; that is no movement of its own.
    flat = kernel.is_linear and all(keeps_rows(made_by, shape) for made_by, _ in layer.moves)
    used_once = all(builder.flow.uses(tensor) == sum(tensor is t for t in layer.floats) for tensor in layer.floats)
    fused = layer.lowered and used_once and (flat or not layer.moves) and layer.posts in _FUSED[kernel.is_linear]
    if layer.residual and not kernel.is_linear:
        fused = fused and _may_be_overwritten(builder, layer)
    if not layer.lowered:
        builder.notes.append(
            f"{builder.where(call)}: {kernel.call.operator} does not read what a dequantize made; its lowering leaves "
            f"it in float, and here its sum is exact"
        )
    name = builder.name(call, layer.weights.key or ("linear" if kernel.is_linear else "convolution"))
    node = _node(name, layer, float_output=not fused)
    whole = ResidualLayer(name, (layer.source, layer.residual), node) if layer.residual else node
    moves = layer.moves
    rule = layer_rounding(node, builder.value(node.inputs[0]).affine, affine, builder.engine, builder.kernels)
    table = _clamp(kernel, affine, rule)
    if table is not None:
        spans = ((0, math.prod(shape), 0),)
        clamp = Move(lambda own, sources: Lookup(own, sources, "clamp", table, spans), shape)
        moves = ((layer.last, (clamp,)), *moves)
    finish(builder, call, replace(layer, moves=moves), lambda _: whole, name, shape)
    direct = fused and not layer.moves
    kernel = replace(kernel, output=affine if fused else None, codes=direct)
    builder.lowered[builder.position if direct else layer.end] = kernel


def float_sum(builder: Builder, layer: LayerSum) -> str | None:
    """The value in binary32 of a layer's sum; None where its lowering leaves all of it in float."""
    kernel = layer.kernel
    if not layer.lowered:
        return None
    position = builder.flow.position(kernel.call)
    if position not in builder.sums:
        whole = replace(kernel, low=-math.inf, high=math.inf, output=None, codes=False)
        name = builder.name(kernel.call, layer.weights.key or ("linear" if kernel.is_linear else "convolution"))
        node = _node(name, replace(layer, kernel=whole), float_output=True)
        made = layer.floats[0]
        builder.internal(node, tuple(made.shape), FLOAT, made)
        builder.places[name] = (position, 0)
        builder.lowered[position] = whole
        builder.sums[position] = name
        builder.notes.append(
            f"{name}: its sum is left in binary32, and what follows it is computed step by step as PyTorch does, also "
            "where Inductor would fuse it into oneDNN's kernel"
        )
    return builder.sums[position]


def keeps_rows(call: Call, shape: tuple[int, ...]) -> bool:
    """Whether a call is a view that leaves the last axis of a tensor of that shape."""
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
    if sum(user.operator not in LAYERS for user in builder.flow.users(layer.kernel.residual[0])) > 1:
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


def _clamp(kernel: Kernel, affine: Affine, rule: Requantization) -> np.ndarray | None:
    """The table of a clamp of the codes that does what one of the sums does; None where it does nothing more.

    What follows a clamp only rises with the sum: clamped codes are the codes of clamped sums.
    """
    low, high = (int(rule.rounded(np.array([end], np.float32)).flat[0]) for end in (kernel.low, kernel.high))
    if (low, high) == (rule.minimum, rule.maximum):
        return None
    codes = np.arange(256, dtype=np.uint8).view(affine.dtype)
    return np.clip(codes, low, high).astype(affine.dtype).view(np.uint8)[None]
