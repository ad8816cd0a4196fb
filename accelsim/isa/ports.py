"""Where tensors lie: the inputs and outputs of a program, and the values that can be looked at on the way."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, get_args

import numpy as np

from accelsim.arithmetic.affine import FLOAT, Affine, Quantization
from accelsim.errors import AssemblyError, MachineError
from accelsim.reading import shown

from .blocks import Region
from .places import visited_twice
from .units import Memory

#: What a load's 40 bits of address reach.
DRAM_BYTES = 1 << 40

_MOST_AXES = 24
_LONGEST_NAME = 1000


@dataclass(frozen=True)
class Port:
    """Where a tensor lies: `stored` is its shape in memory (in elements), `axes` the permutation that brings
    the stored axes into PyTorch's order, `shape` PyTorch's shape after that. `pitches`: bytes along each stored axis of
    a tensor that is not dense. `rounding`: how real numbers that are given to an input become codes."""

    name: str
    address: int
    shape: tuple[int, ...]
    stored: tuple[int, ...]
    axes: tuple[int, ...]
    affine: Affine
    memory: Memory = Memory.DRAM
    pitches: tuple[int, ...] = ()
    rounding: Quantization = "fused"

    def __post_init__(self) -> None:
        if self.rounding not in get_args(Quantization):
            raise AssemblyError(
                f"{self.name}: rounding={shown(self.rounding)}; there are {', '.join(get_args(Quantization))}"
            )
        check_name(self.name)
        _check_affine(self.name, self.affine)
        for field_name in ("shape", "stored", "axes", "pitches"):
            _check_sizes(self.name, field_name, getattr(self, field_name))
        if type(self.address) is not int or not 0 <= self.address < DRAM_BYTES:
            raise AssemblyError(f"{self.name}: address={shown(self.address)}; DRAM ends at {DRAM_BYTES - 1:#x}")
        if len(self.shape) > _MOST_AXES or min((*self.shape, *self.stored), default=1) < 1:
            raise AssemblyError(
                f"{self.name}: shape={self.shape} stored={self.stored}; every size is at least 1, and there are "
                f"at most {_MOST_AXES} axes"
            )
        if self.pitches and len(self.pitches) != len(self.stored):
            raise AssemblyError(f"{self.name}: pitches={self.pitches} must be one for each axis of {self.stored}")
        if sorted(self.axes) != list(range(len(self.stored))) or math.prod(self.shape) != math.prod(self.stored):
            raise AssemblyError(
                f"{self.name}: stored={self.stored} axes={self.axes} do not make up the shape {self.shape}; "
                "axes must be a permutation of the stored axes, and the sizes must agree"
            )
        if self.address + self.bytes > DRAM_BYTES:
            raise AssemblyError(f"{self.name}: ends at {self.address + self.bytes:#x}; DRAM at {DRAM_BYTES - 1:#x}")

    def check_apart(self) -> None:
        """Raise AssemblyError where two elements lie in one byte."""
        if not self.pitches:
            return
        try:
            place = visited_twice(self.address, (*self.stored, self.affine.bytes), (*self.pitches, 1))
        except MachineError as error:
            raise AssemblyError(f"{self.name}: {error}") from None
        if place is not None:
            raise AssemblyError(
                f"{self.name}: two of its elements lie in byte {place:#x}; stored={self.stored} takes larger pitches "
                f"than {self.pitches}"
            )

    @property
    def bytes(self) -> int:
        """Size in memory, from the first to the last."""
        if self.pitches:
            reach = sum((size - 1) * pitch for size, pitch in zip(self.stored, self.pitches, strict=True))
            return self.affine.bytes + reach
        return self.affine.bytes * math.prod(self.stored)

    def to_memory(self, codes: np.ndarray) -> np.ndarray:
        """Codes (runs, *shape) as bytes (runs, bytes)."""
        runs = codes.shape[0]
        permuted = codes.reshape(runs, *(self.stored[axis] for axis in self.axes))
        inverse = np.argsort(self.axes)
        stored = permuted.transpose(0, *(int(axis) + 1 for axis in inverse))
        return np.ascontiguousarray(stored).reshape(runs, -1).view(np.uint8)

    def from_memory(self, raw: np.ndarray) -> np.ndarray:
        """Bytes (runs, bytes) as codes (runs, *shape) of the port's dtype; a view of them where the order allows."""
        runs = raw.shape[0]
        stored = np.ascontiguousarray(raw).view(self.affine.dtype).reshape(runs, *self.stored)
        return stored.transpose(0, *(axis + 1 for axis in self.axes)).reshape(runs, *self.shape)


class Part(NamedTuple):
    """Bytes of a value as it is stored: `lines` rows of `length`, `pitch` apart, from byte `first` on."""

    first: int
    length: int
    lines: int = 1
    pitch: int = 0

    @property
    def size(self) -> int:
        """How many bytes they are."""
        return self.lines * self.length


@dataclass(frozen=True)
class Probe:
    """A value that can be read out, unseen by the machine, when instruction number `instruction` has completed.

    A value that is never whole in one place has several probes: each sees the bytes of a `part`, which lie one after
    the other from the port's address on then. Raises AssemblyError for a part that the value does not have.
    """

    port: Port
    instruction: int
    part: Part | None = None

    def __post_init__(self) -> None:
        part = self.part
        if part is None:
            return
        apart = part.lines == 1 or part.pitch >= part.length
        end = part.first + (part.lines - 1) * part.pitch + part.length
        if any(type(number) is not int for number in part):
            raise AssemblyError(f"{self.port.name}: part {shown(tuple(part))} is not of integers")
        if min(part) < 0 or not part.size or not apart or end > self._size:
            raise AssemblyError(
                f"{self.port.name}: {part} is no part of its {self._size} bytes; rows of one byte or "
                "more, none of them over another, must lie within the value"
            )

    @property
    def _size(self) -> int:
        return self.port.affine.bytes * math.prod(self.port.stored)

    @property
    def region(self) -> Region:
        """The hull of the bytes that are read."""
        size = self.port.bytes if self.part is None else self.part.size
        return Region(self.port.memory, self.port.address, self.port.address + size)


def port_to_dict(port: Port) -> dict[str, Any]:
    """A port as plain data."""
    affine = port.affine
    return {
        "name": port.name,
        "memory": port.memory.label,
        "address": port.address,
        "shape": port.shape,
        "stored": port.stored,
        "axes": port.axes,
        "dtype": affine.dtype,
        "scale": affine.scale,
        "zero_point": affine.zero_point,
        **({"pitches": port.pitches} if port.pitches else {}),
        **({"rounding": port.rounding} if port.rounding != "fused" else {}),
    }


def port_from_dict(item: Mapping[str, Any]) -> Port:
    """A port from plain data. `stored` and `axes` may be left out for a tensor stored in PyTorch's order.

    Raises AssemblyError for what does not make one.
    """
    shape = tuple(item["shape"])
    stored = tuple(item.get("stored", shape))
    affine = Affine(item["scale"], item["zero_point"], item["dtype"])
    axes = tuple(item.get("axes", range(len(stored))))
    memory = {memory.label: memory for memory in Memory}.get(item.get("memory", "dram"))
    if memory is None:
        names = ", ".join(memory.label for memory in Memory)
        raise AssemblyError(f"{shown(item['name'])}: memory={shown(item['memory'])}; there are {names}")
    pitches, rounding = tuple(item.get("pitches", ())), item.get("rounding", "fused")
    return Port(item["name"], item["address"], shape, stored, axes, affine, memory, pitches, rounding)


def check_name(name: Any) -> None:
    """Raise AssemblyError for what is no text, an empty one, or one that is too long."""
    if not isinstance(name, str) or not 0 < len(name) <= _LONGEST_NAME:
        raise AssemblyError(f"{shown(name)} is no name; a name is a text of 1 to {_LONGEST_NAME} characters")


def _check_affine(name: str, affine: Affine) -> None:
    if affine == FLOAT:
        return
    if affine.dtype not in ("uint8", "int8"):
        raise AssemblyError(
            f"{name}: dtype={shown(affine.dtype)} scale={shown(affine.scale)} zero_point={shown(affine.zero_point)}; "
            "codes are uint8 or int8, numbers float32 with scale 1.0 and zero point 0"
        )
    scale = affine.scale
    with np.errstate(over="ignore"):
        single = np.float32(scale) if isinstance(scale, float) else np.float32(0)
    if not (np.isfinite(single) and single > 0):
        raise AssemblyError(
            f"{name}: scale={shown(scale)}; a scale is a finite number above 0, in binary32 too (about 1e-45 to 3e38)"
        )
    zero_point = affine.zero_point
    if type(zero_point) is not int or not affine.minimum <= zero_point <= affine.maximum:
        raise AssemblyError(
            f"{name}: zero_point={shown(zero_point)} is no {affine.dtype} code ({affine.minimum} to {affine.maximum})"
        )


def _check_sizes(name: str, field_name: str, sizes: Any) -> None:
    if not all(type(size) is int and 0 <= size < DRAM_BYTES for size in sizes):
        raise AssemblyError(f"{name}: {field_name}={shown(sizes)}; integers from 0 to {DRAM_BYTES - 1:#x} stand there")
