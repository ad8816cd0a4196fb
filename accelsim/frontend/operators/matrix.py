"""Convolutions and linear layers: the packed parameters become integers."""

from __future__ import annotations

from typing import Any

import torch

from accelsim.network import Convolution, Linear

from ..builder import Builder
from ..packed import weights
from ..recording import Call
from .table import operator


@operator(
    *(f"quantized.conv{rank}d{relu}" for rank in (1, 2, 3) for relu in ("", "_relu")),
    *(f"quantized.conv_transpose{rank}d" for rank in (1, 2, 3)),
)
def _(builder: Builder, call: Call) -> None:
    source, packed = call.tensors[0], call.args[1]
    rank = source.dim() - 2
    tensor, bias = _unpacked(packed, f"conv_transpose{rank}d" if "transpose" in call.operator else f"conv{rank}d")
    transposed = "transpose" in call.operator

    def axes(values: Any) -> tuple[int, ...]:
        # One-dimensional parameters are packed with two, the first of them idle.
        return tuple(int(value) for value in values)[-rank:]

    parameters = weights(builder.where(call), tensor, bias, builder.keys.get(hash(packed), ""))
    name = builder.codes(call, source)
    builder.emit(
        call,
        lambda own: Convolution(
            own,
            (name,),
            parameters,
            axes(packed.stride()),
            tuple((pad, pad) for pad in axes(packed.padding())),
            axes(packed.dilation()),
            int(packed.groups()),
            call.operator.endswith("_relu"),
            transposed,
            axes(packed.output_padding()) if transposed else (),
        ),
        call.results[0],
    )


@operator("quantized.linear", "quantized.linear_relu")
def _(builder: Builder, call: Call) -> None:
    source, packed = call.tensors[0], call.args[1]
    tensor, bias = _unpacked(packed, "linear")
    parameters = weights(builder.where(call), tensor, bias, builder.keys.get(hash(packed), ""))
    name, relu = builder.codes(call, source), call.operator.endswith("_relu")
    builder.emit(call, lambda own: Linear(own, (name,), parameters, relu), call.results[0])


def _unpacked(packed: Any, kind: str) -> tuple[torch.Tensor, torch.Tensor | None]:
    result: tuple[torch.Tensor, torch.Tensor | None] = getattr(torch.ops.quantized, f"{kind}_unpack")(packed)
    return result
