"""`quantized.cat`: parts whose affine map differs from the result's are requantised, then laid side by side."""

from __future__ import annotations

import torch

from accelsim.network import Concatenate, Lookup

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
    names = []
    for part in parts:
        name = builder.codes(call, part)
        before = builder.value(name).affine
        if before != affine:
            step = Step("quantized.cat.default", ((Here(0),), axis, affine.scale, affine.zero_point))
            layout = Layout(tuple(part.shape), part.stride(), order_of(part))
            tables = tables_of_layout(builder, (step,), before, layout)
            source, lookup = name, builder.unused(call, "requantize")
            node = Lookup(lookup, (source,), "requantize", tables.tables, tables.spans)
            name = builder.internal(node, tuple(part.shape), affine, order_of(part))
        names.append(name)
    if len(names) == 1:
        builder.assign(result, builder.reference_to(names[0]))
        return
    builder.emit(call, lambda own: Concatenate(own, tuple(names), axis), result)
