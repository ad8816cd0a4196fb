"""Normalisations, softmaxes and products of two tensors: what the machine may have no instruction for."""

from __future__ import annotations

from typing import Any

import numpy as np

from accelsim.arithmetic.matmul import check_product
from accelsim.arithmetic.normalization import check_images
from accelsim.arithmetic.softmax import check_softmax, is_integer
from accelsim.frontend.builder import Builder, affine_of
from accelsim.frontend.calls import Call
from accelsim.frontend.float_operators import quantized_softmax
from accelsim.network import GroupNorm, LayerNorm, Matmul, Softmax
from accelsim.network.rounding import layout_of

from .table import operator


def _parameter(tensor: Any) -> np.ndarray | None:
    """A float parameter of a normalisation."""
    return None if tensor is None else tensor.detach().float().contiguous().numpy()


@operator("quantized.layer_norm")
def _(builder: Builder, call: Call) -> None:
    name = builder.codes(call, call.tensors[0])
    axes, epsilon = len(call.argument("normalized_shape")), float(call.argument("eps"))
    weight, bias = (_parameter(call.argument(which)) for which in ("weight", "bias"))
    builder.emit(call, lambda own: LayerNorm(own, (name,), axes, weight, bias, epsilon), call.results[0])


@operator("quantized.group_norm", "quantized.instance_norm")
def _(builder: Builder, call: Call) -> None:
    source = call.tensors[0]
    name = builder.codes(call, source)
    images, channels, *spatial = source.shape
    groups = int(call.argument("num_groups", channels))
    with builder.located(call):
        check_images(images, channels // groups, int(np.prod(spatial)), layout_of(builder.value(name)))
    epsilon = float(call.argument("eps"))
    weight, bias = (_parameter(call.argument(which)) for which in ("weight", "bias"))
    builder.emit(call, lambda own: GroupNorm(own, (name,), groups, weight, bias, epsilon), call.results[0])


@operator("quantized.softmax")
def _(builder: Builder, call: Call) -> None:
    source, result = call.tensors[0], call.results[0]
    name = builder.codes(call, source)
    axis = int(call.argument("dim")) % source.dim()
    grids = builder.value(name).affine, affine_of(builder.where(call), result)
    if not is_integer(builder.engine, *grids):
        quantized_softmax(builder, call, name, axis)
        return
    with builder.located(call):
        check_softmax(builder.engine, *grids)
    builder.emit(call, lambda own: Softmax(own, (name,), axis), result)


@operator("quantized.matmul")
def _(builder: Builder, call: Call) -> None:
    a, b = call.args[:2]
    names = (builder.codes(call, a), builder.codes(call, b))
    with builder.located(call):
        check_product(builder.value(names[0]).affine, builder.value(names[1]).affine, int(a.shape[-1]))
    builder.emit(call, lambda own: Matmul(own, names), call.results[0])
