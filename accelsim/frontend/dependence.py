"""Whether a model does the same with every input: a second run, on other numbers, must make the same calls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.utils._pytree import tree_leaves

from accelsim.errors import ModelError

from .calls import Call, Recording
from .layouts import copy_of
from .versions import checksum, looks

_REMEDY = (
    "a network's calls and constants are the same for every input; take what depends on data, on chance or on earlier "
    "runs out of the model"
)


def perturbed(inputs: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """Other inputs of the same shapes, strides, dtypes and affine maps: the same every time.

    Floats become other floats of about their size, codes any codes; other integers (indices, say) change their places.
    """
    random = np.random.default_rng(0)
    return tuple(_other(tensor, random) for tensor in inputs)


def _other(tensor: torch.Tensor, random: np.random.Generator) -> torch.Tensor:
    other = copy_of(tensor)
    if tensor.is_quantized:
        codes = torch.from_numpy(random.integers(0, 256, tuple(tensor.shape), dtype=np.uint8))
        codes = codes if tensor.dtype == torch.quint8 else codes.view(torch.int8)
        if tensor.dtype in (torch.quint8, torch.qint8) and tensor.qscheme() == torch.per_tensor_affine:
            _write(other, torch._make_per_tensor_quantized_tensor(codes, tensor.q_scale(), tensor.q_zero_point()))
        return other
    order = torch.from_numpy(random.permutation(tensor.numel()))
    moved = tensor.reshape(-1)[order].reshape(tensor.shape)
    if tensor.is_floating_point():
        drawn = torch.from_numpy(random.standard_normal(tuple(tensor.shape))).to(tensor.dtype)
        finite = torch.where(torch.isfinite(moved), moved, torch.zeros_like(moved))
        size = finite.abs().max() if finite.numel() else 1.0
        moved = finite * 0.7 + drawn * (size * 0.4 + 1e-3)
    _write(other, moved)
    return other


def _write(tensor: torch.Tensor, elements: torch.Tensor) -> None:
    for axis, stride in enumerate(tensor.stride()):
        if not stride and tensor.shape[axis] > 1:  # an element that is repeated is written once
            tensor, elements = tensor.narrow(axis, 0, 1), elements.narrow(axis, 0, 1)
    tensor.copy_(elements)


def check_repeats(first: Recording, second: Recording | ModelError) -> None:
    """Raises ModelError naming the first call that a second run on other inputs made in another way."""
    if isinstance(second, ModelError):
        raise ModelError(f"on other numbers of the same shapes, {second}; {_REMEDY}") from second
    for one, other in zip(_dependent(first), _dependent(second), strict=False):
        difference = _difference(one, other)
        if difference:
            where = f"layer {one.scope!r}" if one.scope else "the model"
            raise ModelError(f"{where}: {one.operator}: on other numbers of the same shapes {difference}; {_REMEDY}")
    counts = len(_dependent(first)), len(_dependent(second))
    if counts[0] != counts[1]:
        raise ModelError(
            f"the model calls {counts[0]} operators, and {counts[1]} on other numbers of the same shapes; {_REMEDY}"
        )


def _dependent(recording: Recording) -> list[Call]:
    return [call for call in recording.calls if call.depends]


def _difference(one: Call, other: Call) -> str:
    if one.function is not other.function:
        return f"{other.operator} is called in its place"
    if one.constants != other.constants:
        return "a tensor that it takes, and that does not come from the inputs, holds other elements"
    if not _alike((one.args, one.kwargs), (other.args, other.kwargs)):
        return "it is called with other arguments"
    if not _alike(one.result, other.result):
        return "its result has another shape or scale"
    return ""


def _alike(one: Any, other: Any) -> bool:
    """Whether two arguments are the same numbers and parameters, and tensors that differ in their elements alone."""
    ones, others = tree_leaves(one), tree_leaves(other)
    return len(ones) == len(others) and all(map(_alike_leaf, ones, others))


def _alike_leaf(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return looks(one) == looks(other)
    if isinstance(one, torch.ScriptObject) and isinstance(other, torch.ScriptObject):
        return hash(one) == hash(other) or _packed(one) == _packed(other)
    return type(one) is type(other) and (one == other or repr(one) == repr(other))  # NaN is not itself


def _packed(parameters: torch.ScriptObject) -> list[int | None] | None:
    """Checksums of what was packed, for parameters that the model packs itself."""
    try:
        return [checksum(part) for part in parameters.unpack() if part is not None]
    except (AttributeError, RuntimeError):
        return None
