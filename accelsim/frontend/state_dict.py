"""A bare `state_dict` file of a quantised model: its integers by key. There is no graph in it, and none is guessed."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from accelsim.errors import FormatError


def is_state_dict(path: str | Path) -> bool:
    """Whether a file is what `torch.save` makes of tensors: not TorchScript, not an exported program."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.partition("/")[2] for name in archive.namelist()}
    except (OSError, zipfile.BadZipFile):
        return False
    return "data.pkl" in names and "constants.pkl" not in names


def read_state_dict(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of the file by key, loaded with `weights_only=True`: nothing in it is executed.

    A quantised tensor gives its codes under its key, and `.scale` (float64) and `.zero_point` (int32) after it, of
    length 1 or one a channel; per channel also `.axis`. The packed parameters of a linear layer give `weight` and
    `bias` of the layer. Raises FormatError for a file that is no state_dict.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise FormatError(f"{path}: no such file") from None
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise FormatError(
            f"{path}: no state_dict that loads with weights_only=True ({reason}); "
            "torch.save(model.state_dict(), path) writes one"
        ) from None
    if not isinstance(content, Mapping):
        raise FormatError(f"{path}: holds a {type(content).__name__}, not a state_dict; save model.state_dict()")
    arrays: dict[str, np.ndarray] = {}
    for key, item in content.items():
        for name, tensor in _tensors(str(key), item):
            arrays |= _arrays(name, tensor)
    if not arrays:
        raise FormatError(f"{path}: holds no tensors")
    return arrays


def _tensors(key: str, item: Any) -> list[tuple[str, torch.Tensor]]:
    if isinstance(item, torch.Tensor):
        return [(key, item)]
    if isinstance(item, tuple) and key.endswith("_packed_params"):
        # A quantised linear layer's (weight, bias), under `<layer>._packed_params._packed_params`.
        layer = key.removesuffix("_packed_params").removesuffix("_packed_params.")
        named = zip(("weight", "bias"), item, strict=False)
        return [(f"{layer}{name}", part) for name, part in named if isinstance(part, torch.Tensor)]
    return []


def _arrays(key: str, tensor: torch.Tensor) -> dict[str, np.ndarray]:
    tensor = tensor.detach()
    if not tensor.is_quantized:
        return {key: tensor.numpy()}
    codes = np.ascontiguousarray(tensor.int_repr().numpy())
    if tensor.qscheme() in (torch.per_channel_affine, torch.per_channel_symmetric):
        return {
            key: codes,
            f"{key}.scale": tensor.q_per_channel_scales().numpy().astype(np.float64),
            f"{key}.zero_point": tensor.q_per_channel_zero_points().numpy().astype(np.int32),
            f"{key}.axis": np.array(tensor.q_per_channel_axis(), np.int32),
        }
    return {
        key: codes,
        f"{key}.scale": np.array([tensor.q_scale()], np.float64),
        f"{key}.zero_point": np.array([tensor.q_zero_point()], np.int32),
    }
