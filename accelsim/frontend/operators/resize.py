"""Bilinear resizes of images; those to nearest neighbours are movements (`repetition.py`)."""

from __future__ import annotations

from accelsim.arithmetic.interpolation import check_resize
from accelsim.frontend.builder import Builder
from accelsim.frontend.calls import Call
from accelsim.frontend.layouts import order_of
from accelsim.network import Bilinear, Value
from accelsim.network.rounding import layout_of

from .table import operator


@operator("aten.upsample_bilinear2d")
def _(builder: Builder, call: Call) -> None:
    source, result = call.tensors[0], call.results[0]
    name = builder.codes(call, source)
    made = Value("", tuple(result.shape), builder.value(name).affine, order_of(result))
    with builder.located(call):
        check_resize(source.shape[1], source.shape[2], source.shape[3], layout_of(made))
    corners, factors = bool(call.argument("align_corners")), (call.argument("scales_h"), call.argument("scales_w"))
    builder.emit(call, lambda own: Bilinear(own, (name,), corners, factors), result)
