"""`quantized.cat`: parts whose affine map differs from the result's are requantised, then laid side by side."""

from __future__ import annotations

import torch

from accelsim.arithmetic.affine import Affine
from accelsim.network import Concatenate, Lookup, Reshape

from .builder import Builder, affine_of, order_of
from .lookups import tables_of_layout
from .recording import Call
from .tables import Here, Layout, Step


def concatenate(builder: Builder, call: Call) -> None:
    """Emit the lookups and the concatenation. Each part is requantised as if it were alone: kernels go part by part."""
    result = call.results[0]
    parts: list[torch.Tensor] = list(call.argument("qx") or call.argument("tensors"))
    axis = int(call.argument("dim", 0)) % result.dim()
    affine = affine_of(builder.where(call), result)
    stacked, relu = call.operator == "aten.stack", call.operator.endswith("_relu")
    names = []
    for part in parts:
        name = builder.codes(call, part)
        if relu or builder.value(name).affine != affine:
            name = _requantized(builder, call, part, 0 if stacked else axis, affine, relu)
        if stacked:
            shape = list(part.shape)
            shape.insert(axis, 1)
            name = builder.internal(Reshape(builder.unused(call, "reshape"), (name,)), tuple(shape), affine)
        names.append(name)
    if len(names) == 1 and not stacked:
        builder.assign(result, builder.reference_to(names[0]))
        return
    builder.emit(call, lambda own: Concatenate(own, tuple(names), axis), result)


def _requantized(builder: Builder, call: Call, part: torch.Tensor, axis: int, affine: Affine, relu: bool) -> str:
    name = builder.codes(call, part)
    operator = "quantized.cat_relu.default" if relu else "quantized.cat.default"
    step = Step(operator, ((Here(0),), axis, affine.scale, affine.zero_point))
    layout = Layout(tuple(part.shape), part.stride(), order_of(part))
    tables = tables_of_layout(builder, (step,), builder.value(name).affine, layout)
    node = Lookup(builder.unused(call, "requantize"), (name,), "requantize", tables.tables, tables.spans)
    return builder.internal(node, tuple(part.shape), affine, part)
