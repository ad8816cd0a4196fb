"""What each tensor was when it was made: snapshots, which later operators in place do not touch.

PyTorch's operators may write into their operands, and change sizes, strides and scales of them. A recording wants what
an operator took and what it made. So each tensor that the model handles is recorded as a snapshot: an alias made when
the tensor was, and a new one for each time that it is written. A tensor that shares memory with one that was written
gets a new snapshot too, which is marked as overwritten.
"""

from __future__ import annotations

import ctypes
import zlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._pytree import tree_leaves, tree_map

from .layouts import overlap, own_memory, storage_of


@dataclass(eq=False)
class _Live:
    """A tensor that the model handles, what it was last recorded as, and a checksum of its elements then."""

    tensor: torch.Tensor
    snapshot: torch.Tensor
    mark: int | None


@dataclass(frozen=True)
class _Saved:
    """Memory that is older than the run, and what it held before the run first wrote into it."""

    storage: torch.UntypedStorage
    content: torch.UntypedStorage


class Versions:
    """The snapshots of one run.

    `dependent`: the identities of the snapshots that depend on the model's inputs. `overwritten`: for each of these
    whose memory was written through another tensor the number of the call; None where no operator wrote.
    """

    def __init__(self) -> None:
        self.dependent: set[int] = set()
        self.overwritten: dict[int, int | None] = {}
        self._live: dict[int, _Live] = {}
        #: For each storage the tensors that lie, or once lay, in it, by identity.
        self._sharing: dict[int, dict[int, _Live]] = defaultdict(dict)
        self._snapshots: dict[int, list[torch.Tensor]] = defaultdict(list)
        self._kept: list[torch.Tensor] = []
        self._older: set[int] = set()
        self._saved: dict[int, _Saved] = {}

    def input(self, tensor: torch.Tensor) -> torch.Tensor:
        """The snapshot of an input."""
        return self._renew(tensor, dependent=True)

    def depends(self, item: Any) -> bool:
        """Whether a tensor, or one in a list, depends on the model's inputs."""
        return any(id(self._current(leaf)) in self.dependent for leaf in tree_leaves(item) if _is_tensor(leaf))

    def taken(self, item: Any) -> Any:
        """`item` with the snapshot of what each tensor in it is now. A tensor that is older than the run is its own."""
        return tree_map(lambda leaf: self._taken(leaf) if _is_tensor(leaf) else leaf, item)

    def mark(self, tensor: torch.Tensor) -> int | None:
        """The checksum of a tensor that `taken` was last called with."""
        return self._live[id(tensor)].mark

    def before_write(self, written: Sequence[torch.Tensor]) -> None:
        """Snapshots keep the elements that they have: from here on they lie in memory of their own."""
        for tensor in written:
            storage = storage_of(tensor)
            if storage in self._older and storage not in self._saved:
                self._saved[storage] = _Saved(tensor.untyped_storage(), tensor.untyped_storage().clone())
            self._part(storage, tensor.untyped_storage())

    def after_write(self, written: Sequence[torch.Tensor], position: int, *, dependent: bool) -> None:
        """Call number `position` has written into these tensors."""
        own = {id(tensor) for tensor in written}
        for tensor in written:
            for other in list(self._sharing[storage_of(tensor)].values()):
                if id(other.tensor) not in own and overlap(tensor, other.tensor):
                    self._overwritten(other, position, dependent=dependent)
        for tensor in written:
            self._renew(tensor, dependent=dependent)

    def made(self, result: Any, *, dependent: bool) -> Any:
        """A call's result with a snapshot for each tensor in it."""

        def snapshot(leaf: Any) -> Any:
            if not _is_tensor(leaf):
                return leaf
            live = self._live.get(id(leaf))
            if live is not None and looks(live.snapshot) == looks(leaf):
                return live.snapshot  # an operand that is passed on, or one that was written and is renewed already
            return self._renew(leaf, dependent=dependent)

        return tree_map(snapshot, result)

    def restore(self) -> None:
        """Give memory that is older than the run its content again."""
        for number, saved in self._saved.items():
            self._part(number, saved.storage)
            if saved.storage.nbytes() != saved.content.nbytes():
                saved.storage.resize_(saved.content.nbytes())
            saved.storage.copy_(saved.content)

    def _current(self, tensor: torch.Tensor) -> torch.Tensor:
        live = self._live.get(id(tensor))
        return tensor if live is None else live.snapshot

    def _taken(self, tensor: torch.Tensor) -> torch.Tensor:
        live, mark = self._live.get(id(tensor)), checksum(tensor)
        if live is None:
            live = self._live[id(tensor)] = _Live(tensor, tensor, mark)
            storage = _storage(tensor)
            if storage not in self._sharing:
                self._older.add(storage)
            self._sharing[storage][id(tensor)] = live
        elif mark != live.mark:
            self._overwritten(live, None, dependent=False)
        return live.snapshot

    def _overwritten(self, live: _Live, position: int | None, *, dependent: bool) -> None:
        dependent = dependent or id(live.snapshot) in self.dependent
        snapshot = self._renew(live.tensor, dependent=dependent)
        if dependent:  # else what it holds is a constant, whoever wrote it
            self.overwritten[id(snapshot)] = position

    def _renew(self, tensor: torch.Tensor, *, dependent: bool) -> torch.Tensor:
        snapshot = torch.ops.aten.alias(tensor)
        live = self._live.get(id(tensor))
        if live is None:
            live = self._live[id(tensor)] = _Live(tensor, snapshot, checksum(tensor))
        else:
            live.snapshot, live.mark = snapshot, checksum(tensor)
        storage = _storage(tensor)
        self._sharing[storage][id(tensor)] = live
        self._snapshots[storage].append(snapshot)
        self._kept.append(snapshot)
        if dependent:
            self.dependent.add(id(snapshot))
        return snapshot

    def _part(self, number: int, storage: torch.UntypedStorage) -> None:
        snapshots = self._snapshots.pop(number, [])
        if snapshots:
            content = storage.clone()
            for snapshot in snapshots:
                own_memory(snapshot, content)


def written_tensors(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[torch.Tensor]:
    """The operands that a call may write into: those of which its schema says so, and the first if it has a flag
    `inplace`, which the schemas of `torch.ops.quantized` do not speak of.

    Not those of which it changes sizes and strides alone.
    """
    if torch.Tag.inplace_view in function.tags:
        return []
    declared = list(zip(function._schema.arguments, args, strict=False))
    declared += [
        (argument, kwargs[argument.name]) for argument in function._schema.arguments if argument.name in kwargs
    ]
    flagged = any(argument.name == "inplace" and value is True for argument, value in declared)
    written = [
        value for argument, value in declared if argument.alias_info is not None and argument.alias_info.is_write
    ]
    return [leaf for leaf in tree_leaves([*written, args[0] if flagged else None]) if _is_tensor(leaf)]


def checksum(tensor: torch.Tensor) -> int | None:
    """Of the elements; None for tensors whose memory cannot be looked at."""
    if tensor.layout != torch.strided or tensor.is_meta or type(tensor) not in (torch.Tensor, torch.nn.Parameter):
        return None
    for axis, stride in enumerate(tensor.stride()):
        if not stride and tensor.shape[axis] > 1:
            tensor = tensor.narrow(axis, 0, 1)  # an element that is repeated counts once
    if tensor.is_quantized:
        tensor = tensor.int_repr()
    flat = tensor.detach().resolve_conj().resolve_neg().contiguous()
    # `Tensor.numpy` would forbid the model to resize the tensor from then on.
    size = flat.numel() * flat.element_size()
    return zlib.crc32((ctypes.c_char * size).from_address(flat.data_ptr())) if size else 0


def _is_tensor(item: Any) -> bool:
    return isinstance(item, torch.Tensor)


def _storage(tensor: torch.Tensor) -> int:
    """As `storage_of`; 0 for tensors that have none."""
    return storage_of(tensor) if tensor.layout == torch.strided else 0


def looks(tensor: torch.Tensor) -> tuple[Any, ...]:
    """What operators in place can change about a tensor beside its elements."""
    scales: tuple[Any, ...] = ()
    if tensor.is_quantized and tensor.qscheme() in (torch.per_tensor_affine, torch.per_tensor_symmetric):
        scales = (tensor.q_scale(), tensor.q_zero_point())
    return tuple(tensor.shape), tensor.stride() if tensor.layout == torch.strided else (), tensor.dtype, scales
