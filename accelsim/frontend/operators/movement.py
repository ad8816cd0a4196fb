"""Movements of elements: views, permutations, cuts, windows, choices of elements, shuffles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from accelsim.errors import ModelError
from accelsim.frontend.builder import Builder, Codes, Foreign, Move, Real, cut, gather, permute, reshape, windows
from accelsim.frontend.calls import Call

from .repetition import padded
from .table import movement


@movement(
    "aten.view",
    "aten._unsafe_view",
    "aten._reshape_alias",
    "aten._reshape_copy",
    "aten.view_copy",
    "aten.squeeze",
    "aten.unsqueeze",
    "aten.squeeze_copy",
    "aten.unsqueeze_copy",
)
def _(builder: Builder, call: Call) -> None:
    source, result = call.tensors[0], call.results[0]
    builder.move(call, source, [(result, () if source.shape == result.shape else (reshape(result.shape),))])


@movement("aten.permute", "aten.transpose", "aten.t")
def _(builder: Builder, call: Call) -> None:
    source, result = call.tensors[0], call.results[0]
    axes = list(range(source.dim()))
    name = call.operator.removesuffix("_")
    if name == "aten.permute":
        axes = [axis % source.dim() for axis in call.argument("dims")]
    elif name == "aten.transpose":
        a, b = call.argument("dim0") % source.dim(), call.argument("dim1") % source.dim()
        axes[a], axes[b] = axes[b], axes[a]
    else:
        axes.reverse()
    builder.move(call, source, [(result, () if axes == sorted(axes) else (permute(source.shape, axes),))])


@movement("aten.slice")
def _(builder: Builder, call: Call) -> None:
    source, result = call.tensors[0], call.results[0]
    axis = call.argument("dim", 0) % source.dim()
    size, step = source.shape[axis], call.argument("step", 1)
    start, stop, _ = slice(call.argument("start"), call.argument("end")).indices(size)
    whole = result.shape == source.shape
    builder.move(call, source, [(result, () if whole else (cut(source.shape, axis, start, stop, step),))])


@movement("aten.select")
def _(builder: Builder, call: Call) -> None:
    source = call.tensors[0]
    axis = call.argument("dim") % source.dim()
    index = call.argument("index") % source.shape[axis]
    builder.move(call, source, [(call.results[0], _selected(source.shape, axis, index))])


@movement("aten.unbind")
def _(builder: Builder, call: Call) -> None:
    source = call.tensors[0]
    axis = call.argument("dim", 0) % source.dim()
    moves = [_selected(source.shape, axis, index) for index in range(source.shape[axis])]
    builder.move(call, source, list(zip(call.results, moves, strict=True)))


def _selected(shape: Sequence[int], axis: int, index: int) -> tuple[Move, ...]:
    rest = [size for i, size in enumerate(shape) if i != axis]
    return (cut(shape, axis, index, index + 1), reshape(rest))


@movement("aten.split", "aten.split_with_sizes", "aten.chunk", "aten.tensor_split")
def _(builder: Builder, call: Call) -> None:
    source = call.tensors[0]
    axis = call.argument("dim", 0) % source.dim()
    results, moves, start = call.results, [], 0
    for result in results:
        stop = start + result.shape[axis]
        moves.append((result, (cut(source.shape, axis, start, stop),) if len(results) > 1 else ()))
        start = stop
    builder.move(call, source, moves)


@movement("aten.unfold")
def _(builder: Builder, call: Call) -> None:
    source = call.tensors[0]
    if not source.dim():
        raise ModelError(f"{builder.where(call)}: {call.operator} of a single number is not supported; reshape it")
    axis = call.argument("dimension") % source.dim()
    moved = windows(source.shape, axis, call.argument("size"), call.argument("step"))
    builder.move(call, source, [(call.results[0], (moved,))])


@movement("aten.im2col")
def _(builder: Builder, call: Call) -> None:
    """`torch.nn.functional.unfold`, which PyTorch has for float tensors alone."""
    source, result = call.tensors[0], call.results[0]
    pads, rates, steps = (call.argument(name) for name in ("padding", "dilation", "stride"))
    reference = builder.reference(source)
    shape = source.shape
    if any(pads):
        if not (isinstance(reference, Codes) or (isinstance(reference, Real) and reference.index == 1)):
            builder.assign(result, Foreign(f"{builder.where(call)}: {call.operator} pads what is not just dequantised"))
            return
        name, zero = reference.name, builder.value(reference.name).affine.zero_point
        for axis, pad in zip((-1, -2), reversed(pads), strict=True):
            name = padded(builder, call, name, source.dim() + axis, (pad, pad), zero)
        shape = builder.value(name).shape
        reference = replace(reference, name=name)
    n = len(shape) - 3
    moves: list[Move] = []
    for axis, kernel, rate, step in zip((n + 1, n + 2), call.argument("kernel_size"), rates, steps, strict=True):
        moves.append(windows(shape, axis, (kernel - 1) * rate + 1, step))
        moves.append(cut(moves[-1].shape, len(moves[-1].shape) - 1, 0, (kernel - 1) * rate + 1, rate))
        shape = moves[-1].shape
    moves.append(permute(shape, (*range(n + 1), n + 3, n + 4, n + 1, n + 2)))
    moves.append(reshape(result.shape))
    builder.move(call, source, [(result, tuple(moves))], reference)


@movement("aten.flip")
def _(builder: Builder, call: Call) -> None:
    source = call.tensors[0]
    axes = [axis % source.dim() for axis in call.argument("dims")]
    moves = tuple(gather(source.shape, axis, range(source.shape[axis] - 1, -1, -1)) for axis in axes)
    builder.move(call, source, [(call.results[0], moves)])


@movement("aten.index_select")
def _(builder: Builder, call: Call) -> None:
    source, chosen = call.tensors[0], call.argument("index")
    axis = call.argument("dim") % source.dim()
    builder.move(call, source, [(call.results[0], (gather(source.shape, axis, chosen.reshape(-1).tolist()),))])


@movement("aten.channel_shuffle", "aten.native_channel_shuffle")
def _(builder: Builder, call: Call) -> None:
    source, groups = call.tensors[0], call.argument("groups")
    n, channels, *rest = source.shape
    split = (n, groups, channels // groups, *rest)
    swapped = permute(split, (0, 2, 1, *range(3, len(split))))
    builder.move(call, source, [(call.results[0], (reshape(split), swapped, reshape(source.shape)))])


@movement("aten.pixel_shuffle")
def _(builder: Builder, call: Call) -> None:
    source, factor = call.tensors[0], call.argument("upscale_factor")
    *lead, channels, height, width = source.shape
    n = len(lead)
    split = (*lead, channels // factor**2, factor, factor, height, width)
    axes = (*range(n), n, n + 3, n + 1, n + 4, n + 2)
    builder.move(
        call, source, [(call.results[0], (reshape(split), permute(split, axes), reshape(call.results[0].shape)))]
    )


@movement("aten.pixel_unshuffle")
def _(builder: Builder, call: Call) -> None:
    source, factor = call.tensors[0], call.argument("downscale_factor")
    *lead, channels, height, width = source.shape
    n = len(lead)
    split = (*lead, channels, height // factor, factor, width // factor, factor)
    axes = (*range(n), n, n + 2, n + 4, n + 1, n + 3)
    builder.move(
        call, source, [(call.results[0], (reshape(split), permute(split, axes), reshape(call.results[0].shape)))]
    )
