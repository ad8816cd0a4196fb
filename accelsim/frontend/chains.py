"""What float tensors of a torch.export graph (PT2E) stand for between a dequantize and the next quantize."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from accelsim.network import Node, Weights

from .builder import Builder, Real, Unrounded
from .calls import Call
from .decomposed import exported_affine
from .kernels import Kernel


@dataclass(frozen=True, kw_only=True)
class Constant(Unrounded):
    """A dequantised parameter: int8 codes with the scales and zero points of one `axis`, or of all."""

    codes: torch.Tensor
    scale: np.ndarray
    zero_point: np.ndarray
    per_channel: bool
    axis: int = 0


@dataclass(frozen=True, kw_only=True)
class LayerSum(Unrounded):
    """A layer's sum in float, before anything rounds it; `kernel` is what it is lowered to.

    `source`: the value that the layer reads; `residual`: the one that is added, "" for none. `floats`: the tensors of
    the calls that the kernel stands for, `posts`: what these do after the layer; `last`, `end`: the last of them, and
    its number. `lowered`: the layer reads what a dequantize made, which is what Inductor looks for.
    """

    source: str
    weights: Weights
    kernel: Kernel
    floats: tuple[torch.Tensor, ...]
    last: Call
    end: int
    lowered: bool
    posts: tuple[str, ...] = ()
    residual: str = ""


@dataclass(frozen=True, kw_only=True)
class ElementSum(Unrounded):
    """Two dequantised values added in float."""

    sources: tuple[str, str]
    relu: bool = False


@dataclass(frozen=True, kw_only=True)
class Averaged(Unrounded):
    """Averages of a dequantised value in float; `source` is the value of their codes, of the same affine map."""

    source: str


def dequantized(reference: Any) -> bool:
    """Whether a tensor is a value dequantised, and nothing else was done to its numbers."""
    return isinstance(reference, Real) and reference.is_dequantized


def finish(
    builder: Builder,
    call: Call,
    reference: Unrounded,
    make: Callable[[str], Node],
    name: str,
    shape: tuple[int, ...],
) -> None:
    """The node of a chain, then what moved its float result; the last of them gives the quantised tensor."""
    if reference.moves:
        made = builder.internal(make(name), shape, exported_affine(builder.where(call), call))
        builder.moved_to(call, made, reference.moves, call.results[0])
    else:
        builder.emit(call, make, call.results[0], name=name)
