"""Packed parameters of convolutions and linear layers: unpacked to integers, and whose kernels they were packed for."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from accelsim.errors import ModelError
from accelsim.network import Weights

from .calls import Call


def packed_keys(model: Any) -> dict[int, str]:
    """The `state_dict` prefix of every packed object and float bias of a model, by the object's identity."""
    keys: dict[int, str] = {}
    if not isinstance(model, torch.nn.Module):
        return keys
    for path, parameter in model.named_parameters():
        if path.endswith(".bias"):
            keys[id(parameter)] = path.removesuffix(".bias")
    for path, module in model.named_modules():
        names = ["_packed_params"] if isinstance(module, torch.jit.ScriptModule) else list(vars(module))
        for name in names:
            packed = getattr(module, name, None)
            if isinstance(packed, torch.ScriptObject):
                own = path if name == "_packed_params" else f"{path}.{name}".lstrip(".")
                keys.setdefault(hash(packed), own.removesuffix("._packed_params"))
    return keys


#: How the packed parameters of each engine begin their complaint about an activation that they cannot take.
_OWNERS = {"(FBGEMM)": "fbgemm", "(qnnpack)": "qnnpack", "(ONEDNN)": "onednn", "Expected input data type": "fbgemm"}


def packed_for(call: Call) -> str | None:
    """Whose kernels the packed parameters of a call belong to; None if that cannot be told.

    The object does not say, and runs under every engine. But each engine's kernel names itself when it refuses int32
    activations, which it does before it computes anything.
    """
    source, rest = call.args[0], call.args[1:]
    wrong = torch._make_per_tensor_quantized_tensor(torch.zeros(source.shape, dtype=torch.int32), 1.0, 0)
    try:
        call.function(wrong, *rest, **call.kwargs)
    except RuntimeError as error:
        message = str(error).partition("\n")[0]
        return next((owner for mark, owner in _OWNERS.items() if mark in message), None)
    return None


def weights(layer: str, tensor: torch.Tensor, bias: torch.Tensor | None, key: str) -> Weights:
    """The integers of an unpacked weight. Raises ModelError for weights that are not int8."""
    if tensor.dtype != torch.qint8:
        raise ModelError(f"{layer}: weights of {tensor.dtype} are not supported; quantise them to torch.qint8")
    per_channel = tensor.qscheme() in (torch.per_channel_affine, torch.per_channel_symmetric)
    if per_channel:
        scale = tensor.q_per_channel_scales().numpy().astype(np.float64)
        zero_point = tensor.q_per_channel_zero_points().numpy().astype(np.int32)
    else:
        scale = np.array([tensor.q_scale()], np.float64)
        zero_point = np.array([tensor.q_zero_point()], np.int32)
    return Weights(
        codes=np.ascontiguousarray(tensor.int_repr().numpy()),
        scale=scale,
        zero_point=zero_point,
        per_channel=per_channel,
        bias=None if bias is None else bias.detach().numpy().astype(np.float32),
        key=key,
    )
