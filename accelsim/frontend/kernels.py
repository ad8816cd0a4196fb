"""The kernels to which a layer of a torch.export graph is lowered, run: what such a network is compared with."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils._pytree import tree_leaves, tree_map

from accelsim.arithmetic.affine import Affine

from .builder import Builder
from .calls import QUANTIZE, Call, Recording, Returned, codes_of, returned
from .decomposed import grid
from .layouts import copy_of
from .tables import STORAGE

Lookup = Callable[[Any], Any]


@dataclass(frozen=True)
class Kernel:
    """A call of `torch.ops.onednn.qconv2d_pointwise` or `qlinear_pointwise` in the place of recorded calls.

    `call`: the convolution or product, of the float tensor `source`, which holds codes of the map `input`, and of the
    int8 codes `weight`. `residual`: a float tensor and the map of its codes. `low`, `high`: what the sum is clamped to.
    `output`: the map of the result, or None for float; `codes`: whether the result is codes, or these dequantised.
    """

    call: Call
    source: torch.Tensor
    input: Affine
    weight: torch.Tensor
    scale: torch.Tensor
    bias: torch.Tensor | None
    residual: tuple[torch.Tensor, Affine] | None = None
    low: float = -math.inf
    high: float = math.inf
    output: Affine | None = None
    codes: bool = False

    @property
    def is_linear(self) -> bool:
        """Else it is a convolution."""
        return self.call.operator != "aten.convolution"

    def run(self, given: Lookup) -> torch.Tensor:
        """The result; `given` maps recorded tensors to those of this run."""
        decomposed = torch.ops.quantized_decomposed
        x = decomposed.quantize_per_tensor(given(self.source), *grid(self.input))
        zeros = torch.zeros(len(self.scale), dtype=torch.int32)
        scale, zero = self.input.scale, self.input.zero_point
        function, more = torch.ops.onednn.qlinear_pointwise, []
        if self.is_linear:
            packed = torch.ops.onednn.qlinear_prepack(self.weight, list(x.shape))
        else:
            _, _, _, stride, padding, dilation, _, _, groups = self.call.args
            function, more = torch.ops.onednn.qconv2d_pointwise, [stride, padding, dilation, groups]
            packed = torch.ops.onednn.qconv_prepack(self.weight, self.scale, scale, zero, *more, list(x.shape))
        source = (x, scale, zero, packed, self.scale, zeros)
        target: tuple[Any, ...] = (1.0, 0, torch.float32)
        if self.output is not None:
            target = (self.output.scale, self.output.zero_point, STORAGE[self.output.dtype])
        if self.residual is None:
            result = function(*source, self.bias, *more, *target, *self._post_op())
        else:
            result = self._binary(function, source, more, target, given)
        if self.output is not None and not self.codes:
            result = decomposed.dequantize_per_tensor(result, *grid(self.output))
        # Memory order is the recorded tensor's: what comes after may look at it.
        return result.contiguous().to(memory_format=_format(self.call.result))

    def _binary(
        self, function: Any, source: tuple[Any, ...], more: list[Any], target: tuple[Any, ...], given: Lookup
    ) -> torch.Tensor:
        assert self.residual is not None
        tensor, affine = self.residual
        other = given(tensor).clone()
        if self.is_linear:
            return function.binary(*source, other, self.bias, *target, 1.0, 0, "add", 1.0, *self._post_op())
        scale, zero = 1.0, 0
        if self.output is not None:
            other = torch.ops.quantized_decomposed.quantize_per_tensor(other, *grid(affine))
            scale, zero = affine.scale, affine.zero_point
        other = other.contiguous(memory_format=torch.channels_last)
        return function.binary(*source, other, self.bias, *more, *target, scale, zero, "sum", 1.0, *self._post_op())

    def _post_op(self) -> tuple[str, list[float], str]:
        if (self.low, self.high) == (0, math.inf):
            return "relu", [], ""
        if (self.low, self.high) == (-math.inf, math.inf):
            return "none", [], ""
        return "hardtanh", [self.low, self.high], ""


def run_lowered(
    builder: Builder, recording: Recording, keep_floats: Collection[int]
) -> tuple[dict[tuple[int, int], np.ndarray], tuple[Returned | None, ...]]:
    """The recorded calls once more, with the layers' kernels in their place; the codes by the number of the call and of
    its result, the numbers of those of `keep_floats`, and the outputs."""
    made = {id(tensor): tensor for tensor in recording.inputs}

    def given(item: Any) -> Any:
        return made.get(id(item), item) if isinstance(item, torch.Tensor) else item

    codes = {}
    with torch.no_grad():
        for position, call in enumerate(recording.calls):
            kernel = builder.lowered.get(position)
            if kernel is not None:
                results = [kernel.run(given)]
            elif any(id(tensor) in made for tensor in call.tensors):
                args, kwargs = tree_map(given, (call.args, call.kwargs))
                if call.function._schema.is_mutable:  # what was recorded must stay
                    args = (copy_of(args[0]), *args[1:])
                results = [
                    leaf for leaf in tree_leaves(call.function(*args, **kwargs)) if isinstance(leaf, torch.Tensor)
                ]
            else:
                continue
            made.update((id(old), new) for old, new in zip(call.results, results, strict=True))
            if call.operator.startswith(QUANTIZE) or position in keep_floats:
                for which, result in enumerate(results):
                    held = codes_of(result, plain=True)
                    assert held is not None
                    codes[position, which] = held
    return codes, tuple(returned(given(output)) for output in recording.outputs)


def _format(tensor: torch.Tensor) -> torch.memory_format:
    last = tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last and not tensor.is_contiguous() else torch.contiguous_format
