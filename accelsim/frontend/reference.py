"""PyTorch's own codes of a network's values, and its outputs: what every comparison is made with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from accelsim.arithmetic.engines import PT2E
from accelsim.errors import InputError
from accelsim.network import Network

from .calls import Recording, Returned
from .extraction import build, tensors_of
from .kernels import run_lowered
from .recording import record


@dataclass(frozen=True)
class Run:
    """What PyTorch computes: the codes of every value that it makes, by the network's names, when it makes them, and
    the outputs as its caller gets them. Several batches lie one after the other along the first axis."""

    values: dict[str, np.ndarray]
    outputs: tuple[Returned | None, ...]


def record_run(model: Any, x: Any, network: Network) -> Run:
    """PyTorch's run for `x`.

    `x`: the model's input, first axis a multiple of the batch that `network` was extracted for; PyTorch runs batch by
    batch, with one thread and the network's engine. A torch.export graph ("pt2e") is run with its layers replaced by
    the kernels that they are lowered to. Raises InputError for other shapes.
    """
    return _recorded(model, x, network, lowered=network.engine == PT2E)


def record_values(model: Any, x: Any, network: Network) -> dict[str, np.ndarray]:
    """The values of `record_run`."""
    return record_run(model, x, network).values


def record_eager_values(model: Any, x: Any, network: Network) -> dict[str, np.ndarray]:
    """As `record_values`, of a torch.export graph as it stands, which computes its layers in float."""
    return _recorded(model, x, network, lowered=False).values


def _recorded(model: Any, x: Any, network: Network, *, lowered: bool) -> Run:
    parts: list[dict[str, np.ndarray]] = []
    ends: list[tuple[Returned | None, ...]] = []
    wanted: dict[str, tuple[int, int]] = {}
    floats: frozenset[int] = frozenset()
    for batch in _batches(tensors_of(x), network):
        recording = record(model, batch, network.engine, keep_codes=not lowered, keep_floats=floats)
        if lowered or not parts:
            builder = build(model, recording, network.engine, network.kernels)
            builder.make_float_outputs()
            wanted = {name: place for name, place in builder.places.items() if name in network.values}
            floats = frozenset(
                position for name, (position, _) in wanted.items() if network.values[name].affine.is_float
            )
            if floats and not lowered:  # which they are is known now
                recording = record(model, batch, network.engine, keep_codes=True, keep_floats=floats)
        codes, outputs = run_lowered(builder, recording, floats) if lowered else (None, recording.returned)
        parts.append(_codes(network, recording, wanted, codes))
        ends.append(outputs)
    if len(parts) == 1:
        return Run(parts[0], ends[0])
    values = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return Run(values, tuple(map(_joined, zip(*ends, strict=True))))


def _joined(parts: tuple[Returned | None, ...]) -> Returned | None:
    """One output of several batches."""
    arrays = [part.elements for part in parts if part is not None and part.elements.ndim]
    if parts[0] is None or len(arrays) < len(parts):
        return None
    return replace(parts[0], elements=np.concatenate(arrays))


def _codes(
    network: Network,
    recording: Recording,
    wanted: dict[str, tuple[int, int]],
    lowered: dict[tuple[int, int], np.ndarray] | None,
) -> dict[str, np.ndarray]:
    codes = {}
    for name, (position, which) in wanted.items():
        made = recording.calls[position].codes[which] if lowered is None else lowered.get((position, which))
        if made is not None:
            codes[name] = made.reshape(network.values[name].shape)
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
