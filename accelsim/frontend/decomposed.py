"""`quantized_decomposed`, the operators of torch.export graphs: codes in plain tensors, their map in the arguments."""

from __future__ import annotations

import torch
import torch.ao.quantization.fx._decomposed  # makes the operators

from accelsim.arithmetic.affine import Affine
from accelsim.errors import ModelError

from .calls import Call
from .tables import STORAGE

_NAMES = {dtype: name for name, dtype in STORAGE.items()}


def grid(affine: Affine) -> tuple[float, int, int, int, torch.dtype]:
    """An affine map as the arguments of these operators."""
    return affine.scale, affine.zero_point, affine.minimum, affine.maximum, STORAGE[affine.dtype]


def exported_affine(layer: str, call: Call) -> Affine:
    """What an operator of `quantized_decomposed` quantises to, or dequantises.

    Raises ModelError for other codes than all of uint8 or int8, and for scales that are not per tensor.
    """
    limits, given = (call.argument(name) for name in ("quant_min", "quant_max")), call.argument("dtype")
    if "per_tensor" in call.operator and given in _NAMES:
        affine = Affine(float(call.argument("scale")), int(call.argument("zero_point")), _NAMES[given])  # type: ignore[arg-type]
        if tuple(limits) == (affine.minimum, affine.maximum):
            return affine
    raise ModelError(
        f"{layer}: {call.operator} of {given}: activations must be quantised per tensor to all of torch.uint8 or "
        f"torch.int8 (reduce_range=False)"
    )
