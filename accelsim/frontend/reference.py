"""PyTorch's own codes of a network's values: what every comparison is made with."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from accelsim.errors import InputError
from accelsim.network import Network

from .builder import Builder
from .extraction import build, tensors_of
from .recording import Recording, record


def record_values(model: Any, x: Any, network: Network) -> dict[str, np.ndarray]:
    """The codes of every value that PyTorch makes, by the network's names, for `x`.

    `x`: the model's input, first axis a multiple of the batch that `network` was extracted for; PyTorch runs batch by
    batch, with one thread and the network's engine. Raises InputError for other shapes.
    """
    inputs = tensors_of(x)
    batches = _batches(inputs, network)
    first = record(model, batches[0], network.engine, keep_codes=True)
    builder = build(model, first, network.engine, network.kernels)
    wanted = {name: place for name, place in builder.places.items() if name in network.values}
    parts = [_codes(builder, first, wanted)]
    del first
    parts += [_codes(builder, record(model, batch, network.engine, keep_codes=True), wanted) for batch in batches[1:]]
    return parts[0] if len(parts) == 1 else {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _codes(builder: Builder, recording: Recording, wanted: dict[str, tuple[int, int]]) -> dict[str, np.ndarray]:
    codes = {}
    for name, (position, which) in wanted.items():
        made = recording.calls[position].codes[which]
        if made is not None:
            codes[name] = made
    return codes


def _batches(inputs: tuple[torch.Tensor, ...], network: Network) -> list[tuple[torch.Tensor, ...]]:
    """The inputs cut into pieces of the network's batch."""
    pieces = []
    for tensor, name in zip(inputs, network.inputs, strict=True):
        shape = network.values[name].shape
        whole = tuple(tensor.shape) == shape
        alike = tensor.dim() == len(shape) > 0 and tuple(tensor.shape[1:]) == shape[1:]
        if not whole and not (alike and len(tensor) and len(tensor) % shape[0] == 0):
            raise InputError(
                f"input {name!r}: shape {tuple(tensor.shape)}; expected {shape}, or a multiple of it along the "
                f"first axis"
            )
        pieces.append([tensor] if whole else list(tensor.split(shape[0])))
    return list(zip(*pieces, strict=True))
