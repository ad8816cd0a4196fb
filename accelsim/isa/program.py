"""A program: what the machine runs, with the data image it starts from and the places of its inputs and outputs."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors
import safetensors.numpy

from accelsim import files
from accelsim.arithmetic.affine import Affine
from accelsim.errors import AssemblyError, ConfigurationError, FormatError
from accelsim.hardware import Accelerator

from .decoding import decode
from .fields import INSTRUCTION_BYTES, Memory
from .instructions import Instruction, Region

_FORMAT = "accelsim-program"
_VERSION = 1


@dataclass(frozen=True)
class Port:
    """Where a tensor lies: `stored` is its shape in memory (one byte an element), `axes` the permutation that brings
    the stored axes into PyTorch's order, `shape` PyTorch's shape after that. `pitches`: bytes along each stored axis of
    a tensor that is not dense."""

    name: str
    address: int
    shape: tuple[int, ...]
    stored: tuple[int, ...]
    axes: tuple[int, ...]
    affine: Affine
    memory: Memory = Memory.DRAM
    pitches: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.pitches and len(self.pitches) != len(self.stored):
            raise AssemblyError(f"{self.name}: pitches={self.pitches} must be one for each axis of {self.stored}")
        if sorted(self.axes) != list(range(len(self.stored))) or np.prod(self.shape) != np.prod(self.stored):
            raise AssemblyError(
                f"{self.name}: stored={self.stored} axes={self.axes} do not make up the shape {self.shape}; "
                "axes must be a permutation of the stored axes, and the sizes must agree"
            )

    @property
    def bytes(self) -> int:
        """Size in memory, from the first to the last."""
        if self.pitches:
            return 1 + sum((size - 1) * pitch for size, pitch in zip(self.stored, self.pitches, strict=True))
        return int(np.prod(self.stored, dtype=np.int64))

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
        if min(part) < 0 or not part.size or not apart or end > math.prod(self.port.stored):
            raise AssemblyError(
                f"{self.port.name}: {part} is no part of its {math.prod(self.port.stored)} bytes; rows of one byte or "
                "more, none of them over another, must lie within the value"
            )

    @property
    def region(self) -> Region:
        """The hull of the bytes that are read."""
        size = self.port.bytes if self.part is None else self.part.size
        return Region(self.port.memory, self.port.address, self.port.address + size)


@dataclass(frozen=True)
class Segment:
    """Bytes of the data image."""

    address: int
    content: bytes


@dataclass(frozen=True)
class Program:
    """Instructions and data image. `layer_of[i]` is the index in `layers` of instruction i's layer.

    The words lie in DRAM at `code`. Raises AssemblyError when parts of the image overlap.
    """

    name: str
    accelerator: Accelerator | None
    instructions: tuple[Instruction, ...]
    layers: tuple[str, ...]
    layer_of: tuple[int, ...]
    data: tuple[Segment, ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    probes: tuple[Probe, ...] = field(default=())
    code: int = -1

    def __post_init__(self) -> None:
        if len(self.layer_of) != len(self.instructions):
            raise AssemblyError(
                f"{self.name}: {len(self.instructions)} instructions but {len(self.layer_of)} layer marks"
            )
        object.__setattr__(self, "data", _join(self.data))
        extents = [(item.address, item.address + len(item.content), "a .data segment") for item in self.data]
        extents += [(port.address, port.address + port.bytes, f"input {port.name}") for port in self.inputs]
        end = max([0, *(stop for _, stop, _ in extents), *(port.address + port.bytes for port in self._dram_ports())])
        if self.code < 0:
            object.__setattr__(self, "code", -(-end // INSTRUCTION_BYTES) * INSTRUCTION_BYTES)
        extents.append((self.code, self.code + INSTRUCTION_BYTES * len(self.instructions), "the code"))
        extents.sort()
        for (_, stop, what), (start, _, other) in pairwise(extents):
            if start < stop:
                raise AssemblyError(f"{self.name}: {other} at {start:#x} overlaps {what}, which ends at {stop:#x}")

    def __hash__(self) -> int:
        # Cheap, where the instructions and the image are long; equality looks at everything.
        return hash((self.name, self.code, len(self.instructions)))

    def _dram_ports(self) -> tuple[Port, ...]:
        probes = (probe.port for probe in self.probes if probe.port.memory == Memory.DRAM)
        return (*self.inputs, *self.outputs, *probes)

    @property
    def dram_bytes(self) -> int:
        """How much DRAM the program spans: data, code, ports and everything its instructions touch."""
        ends = [self.code + INSTRUCTION_BYTES * len(self.instructions)]
        ends += [item.address + len(item.content) for item in self.data]
        ends += [port.address + port.bytes for port in self._dram_ports()]
        for instruction in self.instructions:
            touched = (*instruction.reads(), *instruction.writes())
            ends += [region.stop for region in touched if region.memory == Memory.DRAM]
        return max(ends)

    def words(self) -> bytes:
        """The instruction words."""
        return b"".join(instruction.encode() for instruction in self.instructions)

    def with_instructions(self, instructions: tuple[Instruction, ...]) -> Program:
        """The same program with other instructions in the same places."""
        return replace(self, instructions=instructions)

    def assembly(self, *, data: bool = True) -> str:
        """The program as text that `accelsim.assemble` reads back; without `data` the data image is left out."""
        from .assembly import disassemble

        return disassemble(self, data=data)

    def save(self, path: str | Path) -> None:
        """Write one file: safetensors with the words and the data image, the rest as JSON in its metadata.

        Raises WriteError.
        """
        header = {
            "format": _FORMAT,
            "version": _VERSION,
            "name": self.name,
            "accelerator": None if self.accelerator is None else self.accelerator.to_dict(),
            "layers": self.layers,
            "inputs": [_port_to_dict(port) for port in self.inputs],
            "outputs": [_port_to_dict(port) for port in self.outputs],
            "probes": [
                {"instruction": probe.instruction, "part": probe.part, **_port_to_dict(probe.port)}
                for probe in self.probes
            ],
            "code": self.code,
            "segments": [segment.address for segment in self.data],
        }
        tensors = {
            "words": np.frombuffer(self.words(), np.uint8),
            "layer_of": np.array(self.layer_of, np.int32),
            **{f"data.{i}": np.frombuffer(segment.content, np.uint8) for i, segment in enumerate(self.data)},
        }
        files.write(path, safetensors.numpy.save(tensors, {"accelsim": json.dumps(header)}))

    @classmethod
    def load(cls, path: str | Path) -> Program:
        """Read a saved program. Raises FormatError naming the file when it is missing, damaged or of another kind."""
        try:
            with safetensors.safe_open(path, "numpy") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        except FileNotFoundError:
            raise FormatError(f"{path}: no such file") from None
        except (OSError, safetensors.SafetensorError) as error:
            raise FormatError(f"{path}: not a saved program ({error}); `accelsim compile --out` writes one") from None
        try:
            header = json.loads(metadata["accelsim"])
            if header["format"] != _FORMAT:
                raise FormatError(f"{path}: holds a {header['format']!r}, not a program")
            if header["version"] != _VERSION:
                raise FormatError(f"{path}: version {header['version']} of the format; this release reads {_VERSION}")
            words = tensors["words"].tobytes()
            accelerator = header["accelerator"]
            return cls(
                name=header["name"],
                accelerator=None if accelerator is None else Accelerator.from_dict(accelerator, str(path)),
                instructions=tuple(
                    decode(words[i : i + INSTRUCTION_BYTES]) for i in range(0, len(words), INSTRUCTION_BYTES)
                ),
                layers=tuple(header["layers"]),
                layer_of=tuple(int(i) for i in tensors["layer_of"]),
                data=tuple(
                    Segment(int(address), tensors[f"data.{i}"].tobytes())
                    for i, address in enumerate(header["segments"])
                ),
                inputs=tuple(port_from_dict(item) for item in header["inputs"]),
                outputs=tuple(port_from_dict(item) for item in header["outputs"]),
                probes=tuple(
                    Probe(port_from_dict(item), item["instruction"], item["part"] and Part(*item["part"]))
                    for item in header["probes"]
                ),
                code=header["code"],
            )
        except (KeyError, TypeError, ValueError, AttributeError, AssemblyError, ConfigurationError) as error:
            raise FormatError(
                f"{path}: damaged program file ({type(error).__name__}: {error}); write it again"
            ) from None


def _port_to_dict(port: Port) -> dict[str, Any]:
    affine = port.affine
    return {
        "name": port.name,
        "memory": port.memory.name.lower(),
        "address": port.address,
        "shape": port.shape,
        "stored": port.stored,
        "axes": port.axes,
        "dtype": affine.dtype,
        "scale": affine.scale,
        "zero_point": affine.zero_point,
        **({"pitches": port.pitches} if port.pitches else {}),
    }


def port_from_dict(item: dict[str, Any]) -> Port:
    """A port from plain data. `stored` and `axes` may be left out for a tensor stored in PyTorch's order."""
    shape = tuple(item["shape"])
    stored = tuple(item.get("stored", shape))
    affine = Affine(float(item["scale"]), int(item["zero_point"]), item["dtype"])
    axes = tuple(item.get("axes", range(len(stored))))
    memory = Memory[item.get("memory", "dram").upper()]
    return Port(item["name"], int(item["address"]), shape, stored, axes, affine, memory, tuple(item.get("pitches", ())))


def _join(segments: tuple[Segment, ...]) -> tuple[Segment, ...]:
    """Segments in order of address, those that touch made one: one image has one form."""
    runs: list[tuple[int, list[bytes]]] = []
    end = -1
    for segment in sorted(segments, key=lambda segment: segment.address):
        if segment.address == end:
            runs[-1][1].append(segment.content)
        else:
            runs.append((segment.address, [segment.content]))
        end = segment.address + len(segment.content)
    return tuple(Segment(address, b"".join(parts)) for address, parts in runs)
