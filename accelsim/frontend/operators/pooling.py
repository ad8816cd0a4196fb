"""Pools and means."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from accelsim.errors import ModelError
from accelsim.network import AveragePool, MaxPool, Pads
from accelsim.network.rounding import is_channels_last

from ..builder import Builder
from ..recording import Call
from .table import operator


def _axes(value: Any, rank: int) -> tuple[int, ...]:
    """An argument that may be one number for all axes."""
    values = tuple(int(item) for item in (value if isinstance(value, list | tuple) else [value]))
    return values * rank if len(values) == 1 else values


def _pads(
    before: Sequence[int], size: Sequence[int], out: Sequence[int], spans: Sequence[int], stride: Sequence[int]
) -> Pads:
    """Padding on both sides; ceil mode lets the last window reach further."""
    needed = [(o - 1) * t + span - s - b for o, t, span, s, b in zip(out, stride, spans, size, before, strict=True)]
    return tuple((b, max(b, need)) for b, need in zip(before, needed, strict=True))


@operator("aten.quantized_max_pool1d", "aten.quantized_max_pool2d", "aten.max_pool1d", "aten.max_pool2d")
def _(builder: Builder, call: Call) -> None:
    source, result = call.tensors[0], call.results[0]
    rank = 1 if "pool1d" in call.operator else 2
    kernel = _axes(call.argument("kernel_size"), rank)
    stride = _axes(call.argument("stride") or kernel, rank)
    before, dilation = _axes(call.argument("padding", 0), rank), _axes(call.argument("dilation", 1), rank)
    spans = [(size - 1) * step + 1 for size, step in zip(kernel, dilation, strict=True)]
    pads = _pads(before, source.shape[-rank:], result.shape[-rank:], spans, stride)
    name = _batched(builder, call)
    builder.emit(call, lambda own: MaxPool(own, (name,), kernel, stride, pads, dilation), result)


@operator("aten.avg_pool2d")
def _(builder: Builder, call: Call) -> None:
    source, result = call.tensors[0], call.results[0]
    kernel = _axes(call.argument("kernel_size"), 2)
    stride = _axes(call.argument("stride") or kernel, 2)
    pads = _pads(_axes(call.argument("padding", 0), 2), source.shape[-2:], result.shape[-2:], kernel, stride)
    include, divisor = bool(call.argument("count_include_pad", True)), call.argument("divisor_override")
    ceil_mode = bool(call.argument("ceil_mode", False))
    name = _batched(builder, call)
    builder.emit(
        call,
        lambda own: AveragePool(own, (name,), "window", kernel, stride, pads, include, divisor, ceil_mode),
        result,
    )


@operator("aten._adaptive_avg_pool2d", "aten.adaptive_avg_pool2d")
def _(builder: Builder, call: Call) -> None:
    name = _batched(builder, call)
    none = ((0, 0), (0, 0))
    builder.emit(call, lambda own: AveragePool(own, (name,), "adaptive", (), (), none), call.results[0])


@operator("aten.mean")
def _(builder: Builder, call: Call) -> None:
    source, result = call.tensors[0], call.results[0]
    axes = {axis % source.dim() for axis in call.argument("dim") or range(source.dim())}
    if source.dim() != 4 or axes != {2, 3}:
        raise ModelError(
            f"{builder.where(call)}: a mean over axes {sorted(axes)} of {source.dim()} is not supported; a mean over "
            f"height and width of (N, C, H, W) is"
        )
    name = _batched(builder, call)
    value = builder.value(name)
    qnnpack = builder.engine == "qnnpack" and value.affine.dtype == "uint8"
    if is_channels_last(value) and not qnnpack and builder.kernels.aten != "uniform":
        raise ModelError(
            f"{builder.where(call)}: PyTorch sums the mean of a channels_last tensor in float, in an order that no "
            f"integer unit reproduces; use adaptive_avg_pool2d, or lanes='uniform'"
        )
    size = (int(source.shape[2]), int(source.shape[3]))
    builder.emit(call, lambda own: AveragePool(own, (name,), "mean", size, size, ((0, 0), (0, 0))), result)


def _batched(builder: Builder, call: Call) -> str:
    """The source's name. Raises ModelError for a tensor without a batch axis."""
    source = call.tensors[0]
    rank = 1 if "pool1d" in call.operator else 2
    if source.dim() != rank + 2:
        raise ModelError(
            f"{builder.where(call)}: {call.operator} of a tensor of {source.dim()} axes is not supported; "
            f"give it a batch axis ({rank + 2} in all)"
        )
    return builder.codes(call, source)
