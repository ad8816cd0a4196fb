"""Pools and means."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from accelsim.errors import ModelError
from accelsim.frontend.builder import Builder
from accelsim.frontend.calls import Call
from accelsim.frontend.layouts import order_of
from accelsim.network import AveragePool, MaxPool, Pads, Reshape, Value
from accelsim.network.rounding import channels_last_order

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


def max_pool_windows(call: Call, rank: int) -> tuple[Any, ...]:
    """Kernel, stride, padding and dilation of a max pool."""
    source, result = call.tensors[0], call.results[0]
    kernel = _axes(call.argument("kernel_size"), rank)
    stride = _axes(call.argument("stride") or kernel, rank)
    before, dilation = _axes(call.argument("padding", 0), rank), _axes(call.argument("dilation", 1), rank)
    spans = [(size - 1) * step + 1 for size, step in zip(kernel, dilation, strict=True)]
    return kernel, stride, _pads(before, source.shape[-rank:], result.shape[-rank:], spans, stride), dilation


def average_windows(call: Call, rank: int) -> dict[str, Any]:
    """The fields of an average pool's node, but for its inputs."""
    source, result = call.tensors[0], call.results[0]
    kernel = _axes(call.argument("kernel_size"), rank)
    stride = _axes(call.argument("stride") or kernel, rank)
    pads = _pads(_axes(call.argument("padding", 0), rank), source.shape[-rank:], result.shape[-rank:], kernel, stride)
    return {
        "kind": "window",
        "kernel": kernel,
        "stride": stride,
        "padding": pads,
        "count_include_pad": bool(call.argument("count_include_pad", True)),
        "divisor": call.argument("divisor_override"),
    }


@operator(
    *(f"aten.{name}max_pool{rank}d" for name in ("", "quantized_") for rank in (1, 2, 3)),
)
def _(builder: Builder, call: Call) -> None:
    result, rank = call.results[0], _rank(call)
    name = _batched(builder, call)
    windows = max_pool_windows(call, rank)
    before, dilation = _axes(call.argument("padding", 0), rank), windows[-1]
    dilated = any(step > 1 and pad > 0 for step, pad in zip(dilation, before, strict=True))
    if dilated and rank < 3 and _is_qnnpack(builder, name) and not call.argument("ceil_mode", False):
        raise ModelError(
            f"{builder.where(call)}: QNNPACK's max pool with dilation and padding takes the pixels of the edge for the "
            f"padding; use one of the two, or another engine"
        )
    if rank == 3 or not _is_qnnpack(builder, name) or call.argument("ceil_mode", False):
        _check_order(builder, call, name)
    builder.emit(call, lambda own: MaxPool(own, (name,), *windows), result)


@operator("aten.avg_pool2d", "aten.avg_pool3d")
def _(builder: Builder, call: Call) -> None:
    result, rank = call.results[0], _rank(call)
    name = _batched(builder, call)
    windows = average_windows(call, rank)
    aten = rank != 2 or bool(call.argument("ceil_mode", False))  # QNNPACK's kernel has neither
    if aten or not _is_qnnpack(builder, name):
        _check_order(builder, call, name)
    builder.emit(call, lambda own: AveragePool(own, (name,), **windows, aten=aten), result)


@operator(*(f"aten.{name}adaptive_avg_pool{rank}d" for name in ("", "_") for rank in (2, 3)))
def _(builder: Builder, call: Call) -> None:
    name, rank = _batched(builder, call), _rank(call)
    none = tuple((0, 0) for _ in range(rank))
    sizes, outputs = builder.value(name).shape[2:], call.results[0].shape[2:]
    # QNNPACK's kernel has windows of one size; ATen takes the rest (`enable_qnnpack_for_ada_avgpool`).
    divided = all(size % count == 0 for size, count in zip(sizes, outputs, strict=True))
    if not (_is_qnnpack(builder, name) and divided):
        _check_order(builder, call, name)
    builder.emit(call, lambda own: AveragePool(own, (name,), "adaptive", (), (), none, aten=rank != 2), call.results[0])


@operator("aten.mean")
def _(builder: Builder, call: Call) -> None:
    source, result, given = call.tensors[0], call.results[0], list(call.argument("dim") or ())
    name = builder.codes(call, source)
    value, rank = builder.value(name), source.dim()
    axes = sorted({axis % rank for axis in given} or set(range(rank)))
    # ATen asks for these very numbers: [-2, -1] is not QNNPACK's (`ReduceOps.cpp`).
    qnnpack = rank == 4 and given == [2, 3] and _is_qnnpack(builder, name)
    innermost = axes == list(range(rank - len(axes), rank))
    contiguous = value.lies_as(tuple(range(rank))) or builder.kernels.aten == "uniform"
    if not qnnpack and not (innermost and contiguous):
        raise ModelError(
            f"{builder.where(call)}: PyTorch sums this mean (over axes {axes}, of a tensor that is not contiguous or "
            f"over other axes than the last) in float, in an order that no integer unit reproduces; use "
            f"adaptive_avg_pool2d, make the tensor contiguous, or use lanes='uniform' for a mean over the last axes"
        )
    if axes != list(range(2, rank)) or not 3 <= rank <= 5:
        # One image for each mean, as near to a square as can be: machines have bounds for the sides of a window.
        elements = math.prod(source.shape[axes[0] :])
        height = max(side for side in range(1, math.isqrt(elements) + 1) if elements % side == 0)
        images = (math.prod(source.shape[: axes[0]]), 1, height, elements // height)
        name = builder.internal(Reshape(builder.unused(call, "images"), (name,)), images, value.affine)
    shape = builder.value(name).shape
    size, none = shape[2:], tuple((0, 0) for _ in shape[2:])
    if tuple(result.shape) == (*shape[:2], *(1 for _ in size)):
        builder.emit(call, lambda own: AveragePool(own, (name,), "mean", size, size, none, aten=not qnnpack), result)
        return
    pool = AveragePool(builder.unused(call, "mean"), (name,), "mean", size, size, none, aten=not qnnpack)
    mean = builder.internal(pool, (*shape[:2], *(1 for _ in size)), value.affine)
    builder.emit(call, lambda own: Reshape(own, (mean,)), result)


def _check_order(builder: Builder, call: Call, name: str) -> None:
    """Raises ModelError where ATen's kernel writes its result in another order than the result tensor has.

    It asks the tensor whether it is channels_last in two ways, which disagree where strides are ambiguous: a channels
    axis brought to the front of one image of one line, for example.
    """
    value, result = builder.value(name), call.results[0]
    rank = len(value.shape)
    both = channels_last_order(rank), tuple(range(rank))
    if not value.lies_as(both[0]):
        return
    made = Value("", tuple(result.shape), value.affine, order_of(result))
    if not made.lies_as(both[0]):
        raise ModelError(
            f"{builder.where(call)}: PyTorch's {call.operator} returns its elements in the wrong order here: it takes "
            f"the input for channels_last and its result for contiguous; call contiguous() on the input, or expand it "
            f"where it has one pixel"
        )


def _is_qnnpack(builder: Builder, name: str) -> bool:
    return builder.engine == "qnnpack" and builder.value(name).affine.dtype == "uint8"


def _rank(call: Call) -> int:
    return int(call.operator[-2])


def _batched(builder: Builder, call: Call) -> str:
    """The source's name. Raises ModelError for a tensor without a batch axis."""
    source, rank = call.tensors[0], _rank(call)
    if source.dim() != rank + 2:
        raise ModelError(
            f"{builder.where(call)}: {call.operator} of a tensor of {source.dim()} axes is not supported; "
            f"give it a batch axis ({rank + 2} in all)"
        )
    return builder.codes(call, source)
