"""A program: what the machine runs, with the data image it starts from and the places of its inputs and outputs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from accelsim.arithmetic.affine import Affine
from accelsim.container import brief, check_same, pack, unpack
from accelsim.errors import AccelsimError, AssemblyError, FormatError, MachineError
from accelsim.hardware import Accelerator
from accelsim.reading import shown

from .decoding import decode
from .fields import INSTRUCTION_BYTES, Memory
from .instructions import Instruction, Region
from .places import visited_twice

_KIND = "accelsim-program"

#: What a load's 40 bits of address reach.
DRAM_BYTES = 1 << 40

_MOST_AXES = 24
_LONGEST_NAME = 1000


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
        _check_name(self.name)
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
            place = visited_twice(self.address, self.stored, self.pitches)
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
            return 1 + sum((size - 1) * pitch for size, pitch in zip(self.stored, self.pitches, strict=True))
        return math.prod(self.stored)

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
    """Bytes of the data image. Raises AssemblyError for an address outside DRAM."""

    address: int
    content: bytes

    def __post_init__(self) -> None:
        if type(self.address) is not int or not 0 <= self.address <= DRAM_BYTES - len(self.content):
            raise AssemblyError(
                f".data: {len(self.content)} bytes at {shown(self.address)}; DRAM's addresses are 0 to "
                f"{DRAM_BYTES - 1:#x}"
            )


@dataclass(frozen=True)
class Program:
    """Instructions and data image. `layer_of[i]` is the index in `layers` of instruction i's layer.

    The words lie in DRAM at `code` (-1: behind everything else). Raises AssemblyError when parts of the image overlap,
    for marks of layers and values of instructions that do not exist, and for a name given twice.
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
        self._check_layers()
        self._check_ports()
        if type(self.code) is not int or not -1 <= self.code < DRAM_BYTES:
            raise AssemblyError(
                f"{self.name}: code at {shown(self.code)}; DRAM's addresses are 0 to {DRAM_BYTES - 1:#x}"
            )
        object.__setattr__(self, "data", _join(self.data))
        extents = [(item.address, item.address + len(item.content), "a .data segment") for item in self.data]
        extents += [(port.address, port.address + port.bytes, f"input {port.name}") for port in self._dram(self.inputs)]
        ports = self._dram((*self.inputs, *self.outputs, *(probe.port for probe in self.probes)))
        end = max([0, *(stop for _, stop, _ in extents), *(port.address + port.bytes for port in ports)])
        if self.code < 0:
            object.__setattr__(self, "code", -(-end // INSTRUCTION_BYTES) * INSTRUCTION_BYTES)
        code = (self.code, self.code + INSTRUCTION_BYTES * len(self.instructions), "the code")
        outputs = [
            (port.address, port.address + port.bytes, f"output {port.name}") for port in self._dram(self.outputs)
        ]
        for apart in ([*extents, code], *([code, output] for output in outputs)):
            _check_apart(self.name, apart)

    def _check_layers(self) -> None:
        _check_name(self.name)
        for name in self.layers:
            _check_name(name)
        if len(set(self.layers)) != len(self.layers):
            raise AssemblyError(f"{self.name}: two layers have one name; give each its own")
        if len(self.layer_of) != len(self.instructions):
            raise AssemblyError(
                f"{self.name}: {len(self.instructions)} instructions but {len(self.layer_of)} layer marks"
            )
        for index, layer in enumerate(self.layer_of):
            if not 0 <= layer < len(self.layers):
                raise AssemblyError(
                    f"{self.name}: instruction {index} is of layer {layer}; there are {len(self.layers)}"
                )

    def _check_ports(self) -> None:
        names = [port.name for port in self.inputs]
        if len(set(names)) != len(names):
            raise AssemblyError(f"{self.name}: two inputs have one name ({', '.join(names)}); give each its own")
        for port in (*self.inputs, *self.outputs):
            port.check_apart()
        values: dict[str, Port] = {}
        for probe in self.probes:
            port, first = probe.port, values.setdefault(probe.port.name, probe.port)
            if (port.shape, port.stored, port.axes, port.affine) != (
                first.shape,
                first.stored,
                first.axes,
                first.affine,
            ):
                raise AssemblyError(
                    f"{self.name}: two values are called {port.name}; parts of one value differ in no size"
                )
            if type(probe.instruction) is not int or not 0 <= probe.instruction < len(self.instructions):
                raise AssemblyError(
                    f"{self.name}: value {probe.port.name} is seen after instruction {shown(probe.instruction)}; "
                    f"there are {len(self.instructions)}"
                )

    def __hash__(self) -> int:
        # Cheap, where the instructions and the image are long; equality looks at everything.
        return hash((self.name, self.code, len(self.instructions)))

    @staticmethod
    def _dram(ports: Iterable[Port]) -> list[Port]:
        return [port for port in ports if port.memory == Memory.DRAM]

    @property
    def dram_bytes(self) -> int:
        """How much DRAM the program spans: data, code, ports and everything its instructions touch."""
        ends = [self.code + INSTRUCTION_BYTES * len(self.instructions)]
        ends += [item.address + len(item.content) for item in self.data]
        ports = self._dram((*self.inputs, *self.outputs, *(probe.port for probe in self.probes)))
        ends += [port.address + port.bytes for port in ports]
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
        """Write one file: safetensors with the words and the data image, the rest as JSON in its metadata."""
        header, arrays = self._contents()
        Path(path).write_bytes(pack(_KIND, header, arrays))

    def _contents(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """What a file holds: plain data, and arrays by name."""
        header: dict[str, Any] = {
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
        arrays: dict[str, np.ndarray] = {
            "words": np.frombuffer(self.words(), np.uint8),
            "layer_of": np.array(self.layer_of, np.int32),
            **{f"data.{i}": np.frombuffer(segment.content, np.uint8) for i, segment in enumerate(self.data)},
        }
        return header, arrays

    @classmethod
    def load(cls, path: str | Path) -> Program:
        """Read a saved program. Raises FormatError naming the file when it is missing, damaged or of another kind."""
        header, arrays = unpack(path, _KIND, "accelsim compile --out")
        try:
            words = arrays["words"].tobytes()
            accelerator = header["accelerator"]
            program = cls(
                name=header["name"],
                accelerator=None if accelerator is None else Accelerator.from_dict(accelerator, "accelerator"),
                instructions=tuple(_decoded(words)),
                layers=tuple(header["layers"]),
                layer_of=tuple(int(i) for i in arrays["layer_of"]),
                data=tuple(
                    Segment(address, arrays[f"data.{i}"].tobytes()) for i, address in enumerate(header["segments"])
                ),
                inputs=tuple(port_from_dict(item) for item in header["inputs"]),
                outputs=tuple(port_from_dict(item) for item in header["outputs"]),
                probes=tuple(
                    Probe(port_from_dict(item), item["instruction"], item["part"] and Part(*item["part"]))
                    for item in header["probes"]
                ),
                code=header["code"],
            )
            check_same((header, arrays), program._contents())
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError, AccelsimError) as error:
            raise FormatError(
                f"{path}: damaged program file ({type(error).__name__}: {brief(str(error))}); write it again"
            ) from None
        return program


def _decoded(words: bytes) -> Iterator[Instruction]:
    for index in range(0, len(words), INSTRUCTION_BYTES):
        try:
            yield decode(words[index : index + INSTRUCTION_BYTES])
        except AssemblyError as error:
            raise AssemblyError(f"instruction {index // INSTRUCTION_BYTES}: {error}") from None


def _check_apart(name: str, extents: list[tuple[int, int, str]]) -> None:
    extents.sort()
    for (_, stop, what), (start, _, other) in pairwise(extents):
        if start < stop:
            raise AssemblyError(f"{name}: {other} at {start:#x} overlaps {what}, which ends at {stop:#x}")


def _check_name(name: Any) -> None:
    if not isinstance(name, str) or not 0 < len(name) <= _LONGEST_NAME:
        raise AssemblyError(f"{shown(name)} is no name; a name is a text of 1 to {_LONGEST_NAME} characters")


def _check_affine(name: str, affine: Affine) -> None:
    if affine.dtype not in ("uint8", "int8"):
        raise AssemblyError(f"{name}: dtype={shown(affine.dtype)}; codes are uint8 or int8")
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


def port_from_dict(item: Mapping[str, Any]) -> Port:
    """A port from plain data. `stored` and `axes` may be left out for a tensor stored in PyTorch's order.

    Raises AssemblyError for what does not make one.
    """
    shape = tuple(item["shape"])
    stored = tuple(item.get("stored", shape))
    affine = Affine(item["scale"], item["zero_point"], item["dtype"])
    axes = tuple(item.get("axes", range(len(stored))))
    memory = {memory.name.lower(): memory for memory in Memory}.get(item.get("memory", "dram"))
    if memory is None:
        names = ", ".join(memory.name.lower() for memory in Memory)
        raise AssemblyError(f"{shown(item['name'])}: memory={shown(item['memory'])}; there are {names}")
    return Port(item["name"], item["address"], shape, stored, axes, affine, memory, tuple(item.get("pitches", ())))


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
