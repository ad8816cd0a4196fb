"""Mutated files of `torch.save`: read as PyTorch reads them, or refused in plain words that name the file."""

from __future__ import annotations

import io
import random
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch

from accelsim.errors import FormatError
from accelsim.frontend.state_dict import Entry, StateDict, read_state_dict

from ..frontend.checkpoints import archive, entries, saved

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")

_NUMBERS = (b"\xff\xff\xff\xff", b"\0\0\0\x80", b"\xff\xff\xff\x7f", b"\0\0\0\0", b"\x01\0\0\0")
_WORDS = (b"R", b"b", b"u", b"t", b"\x85", b"\x86", b"Q", b"(", b"}", b"]", b"h\x00", b"cbuiltins\nbytearray\n", b"N")


@cache
def samples() -> tuple[bytes, ...]:
    """Two files: one of what every reader takes, one of what has no array."""
    scales, points = torch.tensor([0.5, 2.0], dtype=torch.double), torch.tensor([0, 3])
    weight = torch.quantize_per_channel(torch.arange(6.0).reshape(2, 3), scales, points, 0, torch.qint8)
    plain = {
        "a": torch.arange(6.0).reshape(2, 3).t(),
        "half": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
        "byte": torch.tensor([0, 60, 200], dtype=torch.uint8).view(torch.float8_e4m3fn),
        "q": torch.quantize_per_tensor(torch.tensor([1.0, -2.0]), 0.5, 3, torch.quint8),
        "c": weight,
        "fc._packed_params._packed_params": (weight, torch.ones(2)),
        "in": {"p": torch.nn.Parameter(torch.ones(2)), "l": [torch.zeros(0, 3)], "n": 3},
    }
    odd = {"s": torch.eye(2).to_sparse(), "m": torch.zeros(2, device="meta"), "x": torch.zeros(1).expand(9), "o": Path}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return saved(plain), saved(odd | plain)


def bytes_changed(random: Random, content: bytes) -> bytes:
    """Bits flipped, bytes set, removed, inserted and copied, numbers at their ends, operations of pickle."""
    changed = bytearray(content)
    for _ in range(random.choice((1, 1, 1, 2, 3, 8))):
        if not changed:
            break
        at, kind = random.randrange(len(changed)), random.randrange(7)
        if kind == 0:
            changed[at] ^= 1 << random.randrange(8)
        elif kind == 1:
            changed[at] = random.randrange(256)
        elif kind == 2:
            del changed[at : at + random.randrange(1, 9)]
        elif kind == 3:
            changed[at:at] = random.randbytes(random.randrange(1, 5))
        elif kind == 4:
            start = random.randrange(len(changed))
            changed[at:at] = changed[start : start + random.randrange(1, 60)]
        elif kind == 5:
            changed[at : at + 4] = random.choice(_NUMBERS)
        else:
            changed[at:at] = random.choice(_WORDS)
    return bytes(changed)


def entry_changed(random: Random, content: bytes) -> bytes:
    """One entry of the archive changed, its sum right for it: mostly the pickle."""
    parts = entries(content)
    pickled = next(name for name in parts if name.endswith("data.pkl"))
    name = random.choice((*[pickled] * len(parts), *parts))
    parts[name] = bytes_changed(random, parts[name])
    if random.random() < 0.05:
        del parts[name]
    return archive(parts)


MUTATIONS: tuple[Callable[[Random, bytes], bytes], ...] = (bytes_changed, entry_changed, entry_changed, entry_changed)


def enter(path: Path) -> None:
    """Read the file. Where PyTorch reads it too, the values are PyTorch's. Raises FormatError."""
    content = read_state_dict(path)
    if content.unread:
        return
    try:
        # In an archive made anew: with some changes of one byte in its directory, PyTorch reads memory nobody wrote.
        expected = torch.load(io.BytesIO(archive(entries(path.read_bytes()))), weights_only=True)
    except Exception:
        return  # names that PyTorch does not look up are no obstacle to data
    found = {entry.key: entry for entry in content.entries}
    for key, tensor in _tensors(expected):
        array = _array(content, found[key])
        values = tensor.int_repr() if tensor.is_quantized else tensor.detach()
        narrow = values.dtype in (torch.bfloat16, torch.float8_e4m3fn)
        np.testing.assert_array_equal(array, (values.float() if narrow else values.resolve_conj()).numpy())
        if tensor.is_quantized and tensor.qscheme() == torch.per_tensor_affine:
            assert content.arrays[f"{key}.scale"].tolist() == [tensor.q_scale()] or np.isnan(tensor.q_scale())


def _array(content: StateDict, entry: Entry) -> np.ndarray:
    assert entry.array is not None
    return content.arrays[entry.key]


def _tensors(content: Any, prefix: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    for key, item in content.items() if isinstance(content, dict) else enumerate(content):
        name = f"{prefix}{key}"
        if isinstance(item, torch.Tensor):
            yield name, item
        elif isinstance(item, tuple) and name.endswith("_packed_params"):
            layer = name.removesuffix("_packed_params").removesuffix("_packed_params.")
            for role, part in zip(("weight", "bias"), item, strict=False):
                if isinstance(part, torch.Tensor):
                    yield f"{layer}{role}", part
        elif isinstance(item, dict | list | tuple):
            yield from _tensors(item, f"{name}.")


@pytest.mark.parametrize(
    ("first", "count"), [(0, 1000), *(pytest.param(n, 10_000, marks=pytest.mark.full) for n in range(1, 11))]
)
def test_a_mutated_checkpoint_is_read_right_or_refused_in_words(first: int, count: int, tmp_path: Path) -> None:
    draw = random.Random(first)
    path = tmp_path / "mutated.pt"
    refused = 0
    for _ in range(count):
        content = draw.choice(samples())
        for _ in range(draw.choice((1, 1, 2))):
            try:
                content = draw.choice(MUTATIONS)(draw, content)
            except Exception:  # no archive any more: as it is then
                break
        path.write_bytes(content)
        message = None
        try:
            enter(path)
        except FormatError as error:
            message = str(error)
        if message is not None:
            refused += 1
            assert str(path) in message
            assert len(message) < 700
            assert "save" in message
    assert count * 0.3 < refused < count
