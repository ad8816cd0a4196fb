"""`quantized.cat`: parts whose affine map differs from the result's are requantised, then laid side by side."""

from __future__ import annotations

import torch

from accelsim.arithmetic.affine import Affine
from accelsim.network import Concatenate, Lookup, Reshape

from .builder import Builder, Codes, affine_of
from .calls import Call
from .lookups import tables_for, tables_of_layout
from .tables import Here, Layout, Spans, Step


def concatenate(builder: Builder, call: Call) -> None:
    """Emit the lookups and the concatenation.

    ATen has a kernel of its own for channels (ATen `TensorShape.cpp`, `is_cat_nhwc_fast_path`), whose vector loop
    starts again in each part of each pixel; otherwise the rounding is that of `quantize_per_tensor`, alike everywhere.
    """
    result = call.results[0]
    parts: list[torch.Tensor] = list(call.argument("qx") or call.argument("tensors"))
    axis = int(call.argument("dim", 0)) % result.dim()
    affine = affine_of(builder.where(call), result)
    stacked, relu = call.operator == "aten.stack", call.operator.endswith("_relu")
    by_pixel = axis == 1 and all(_is_channels_last(part) for part in parts)
    names = []
    for part in parts:
        name = builder.codes(call, part)
        if relu or builder.value(name).affine != affine:
            name = _requantized(builder, call, part, affine, relu=relu, by_pixel=by_pixel)
        if stacked:
            shape = list(part.shape)
            shape.insert(axis, 1)
            name = builder.internal(Reshape(builder.unused(call, "reshape"), (name,)), tuple(shape), affine)
        names.append(name)
    if len(names) == 1 and not stacked:
        builder.assign(result, Codes(names[0]))
        return
    builder.emit(call, lambda own: Concatenate(own, tuple(names), axis), result)


def _is_channels_last(part: torch.Tensor) -> bool:
    return part.dim() == 4 and part.is_contiguous(memory_format=torch.channels_last)


def _requantized(
    builder: Builder, call: Call, part: torch.Tensor, affine: Affine, *, relu: bool, by_pixel: bool
) -> str:
    name, count = builder.codes(call, part), part.numel()
    source = builder.value(name).affine
    operator = "quantized.cat_relu.default" if relu else "quantized.cat.default"
    step = Step(operator, ((Here(0),), int(by_pixel), affine.scale, affine.zero_point))
    if by_pixel:
        channels = int(part.shape[1])
        pixel = Layout((1, channels, 1, 1), (channels, 1, channels, channels), (0, 2, 3, 1))
        tables = tables_of_layout(builder, (step,), source, pixel)
        spans = _repeated(tables.spans, channels, count) if len(tables.tables) > 1 else ((0, count, 0),)
    else:
        tables = tables_for(builder, (step,), source, Layout((count,), (1,), (0,)))
        spans = tables.spans
    node = Lookup(builder.unused(call, "requantize"), (name,), "requantize", tables.tables, spans)
    return builder.internal(node, tuple(part.shape), affine, part)


def _repeated(spans: Spans, row: int, count: int) -> Spans:
    """The spans of one row for each of the rows that make up `count` elements."""
    return tuple((start + a, start + b, table) for start in range(0, count, row) for a, b, table in spans)
