"""A program: what the machine runs, with the data image it starts from and the places of its inputs and outputs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from accelsim import files
from accelsim.container import brief, check_same, pack, unpack
from accelsim.errors import AccelsimError, AssemblyError, FormatError
from accelsim.hardware import Accelerator
from accelsim.reading import shown
from accelsim.summary import Shown, Summary, counted, tensors

from .decoding import decode
from .fields import INSTRUCTION_BYTES
from .instructions.base import Instruction
from .ports import DRAM_BYTES, Part, Port, Probe, check_name, port_from_dict, port_to_dict
from .units import Memory

_KIND = "accelsim-program"


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


@dataclass(frozen=True, repr=False)
class Program(Shown):
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
        check_name(self.name)
        for name in self.layers:
            check_name(name)
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

    def summary(self) -> Summary:
        """Name and accelerator, instructions of each kind, bytes, inputs and outputs; by layer its instructions."""
        kinds = Counter(instruction.mnemonic for instruction in self.instructions)
        by_layer: list[Counter[str]] = [Counter() for _ in self.layers]
        for layer, instruction in zip(self.layer_of, self.instructions, strict=True):
            by_layer[layer][instruction.mnemonic] += 1
        machine = "any accelerator" if self.accelerator is None else self.accelerator.name
        ends = [
            tensors((port.name, port.shape, port.affine.dtype) for port in ports)
            for ports in (self.inputs, self.outputs)
        ]
        return Summary(
            f"Program {self.name} for {machine}: {len(self.instructions):,} instructions, {len(self.layers):,} layers",
            (
                ("instructions", counted(kinds.most_common())),
                ("data", f"{sum(len(item.content) for item in self.data):,} bytes"),
                ("inputs", ends[0]),
                ("outputs", ends[1]),
            ),
            ("layer", *kinds),
            [(name, *(str(found[kind]) for kind in kinds)) for name, found in zip(self.layers, by_layer, strict=True)],
        )

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
        """Write one file: safetensors with the words and the data image, the rest as JSON in its metadata.

        Raises WriteError.
        """
        header, arrays = self._contents()
        files.write(path, pack(_KIND, header, arrays))

    def _contents(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """What a file holds: plain data, and arrays by name."""
        header: dict[str, Any] = {
            "name": self.name,
            "accelerator": None if self.accelerator is None else self.accelerator.to_dict(),
            "layers": self.layers,
            "inputs": [port_to_dict(port) for port in self.inputs],
            "outputs": [port_to_dict(port) for port in self.outputs],
            "probes": [
                {"instruction": probe.instruction, "part": probe.part, **port_to_dict(probe.port)}
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
