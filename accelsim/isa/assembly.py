"""Assembly text to program and back, derived from the declarations of the instructions.

One statement a line, `;` starts a comment. An instruction is its mnemonic and `field=value` pairs; fields with a
default may be left out. Values are integers (decimal, 0x, or a name given by `.define`), binary32 numbers, or names of
an enumeration joined by `+`. A name of unusual characters stands between double quotes, as in JSON. Directives:

    .program NAME                    .layer NAME (of the instructions that follow)
    .define NAME VALUE               .accelerator {...} (a configuration as JSON)
    .data ADDRESS TYPE VALUE ...     TYPE is u8, i8, i32, f32, or hex (the rest of the line, two digits a byte)
    .input NAME key=value ...        keys: address shape dtype scale zero_point, and stored axes memory pitches
    .output NAME key=value ...       the same
    .value NAME key=value ...        a value that can be looked at when the instruction before it has completed; last,
                                     part=FIRST:LENGTH or part=FIRST:LENGTH:LINES:PITCH of one seen in parts
    .code ADDRESS                    where the words lie in DRAM
"""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from accelsim.errors import AccelsimError, AssemblyError
from accelsim.hardware import Accelerator

from .decoding import INSTRUCTIONS
from .fields import Field
from .instructions import Instruction
from .program import Part, Port, Probe, Program, Segment, port_from_dict
from .words import quoted, statement, words

_KINDS = {kind.mnemonic: kind for kind in INSTRUCTIONS}
_TYPES: dict[str, Any] = {"u8": np.uint8, "i8": np.int8, "i32": np.dtype("<i4"), "f32": np.dtype("<f4")}
_BYTES_A_LINE = 64


def assemble(text: str, accelerator: Accelerator | None = None) -> Program:
    """Read a program. `accelerator` takes the place of the text's own `.accelerator`.

    Raises AssemblyError with the line's number, its text and what is allowed there.
    """
    reader = _Reader()
    for number, line in enumerate(re.split("\r\n|\r|\n", text), 1):
        try:
            if told := statement(line):
                reader.statement(told)
        except AccelsimError as error:
            raise AssemblyError(f"line {number}: {error}\n    {line.strip()}") from None
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise AssemblyError(f"line {number}: cannot be read ({error})\n    {line.strip()}") from None
    return reader.program(accelerator)


def disassemble(program: Program, *, data: bool = True) -> str:
    """The text that assembles to `program`; without `data`, the data image is left out."""
    lines = [f".program {quoted(program.name)}"]
    if program.accelerator is not None:
        lines.append(f".accelerator {json.dumps(program.accelerator.to_dict())}")
    lines.append(f".code {program.code:#x}")
    lines += [_port_line(".input", port) for port in program.inputs]
    lines += [_port_line(".output", port) for port in program.outputs]
    for segment in program.data if data else ():
        for start in range(0, len(segment.content), _BYTES_A_LINE):
            part = segment.content[start : start + _BYTES_A_LINE]
            lines.append(f".data {segment.address + start:#x} hex {part.hex()}")
    probes: dict[int, list[str]] = {}
    for probe in program.probes:
        span = "" if probe.part is None else f" part={':'.join(map(str, probe.part))}"
        probes.setdefault(probe.instruction, []).append(_port_line(".value", probe.port) + span)
    layer = -1
    for index, instruction in enumerate(program.instructions):
        if program.layer_of[index] != layer:
            layer = program.layer_of[index]
            lines.append(f".layer {quoted(program.layers[layer])}")
        lines.append(instruction_text(instruction))
        lines += probes.get(index, ())
    return "\n".join(lines) + "\n"


def instruction_text(instruction: Instruction) -> str:
    """One instruction as a line of assembly; fields that hold their default are left out."""
    parts = []
    for item in instruction.fields():
        value = getattr(instruction, item.name)
        if item.default is None or value != item.default:
            parts.append(f"{item.name}={_value_text(item, value)}")
    return " ".join([instruction.mnemonic, *parts])


def _value_text(item: Field, value: Any) -> str:
    if item.kind == "float":
        return str(np.float32(value))
    if isinstance(item.kind, str):
        return str(value)
    names = [str(member.name).lower() for member in item.kind if member.value and value & member.value == member.value]
    if issubclass(item.kind, enum.IntFlag):
        return "+".join(names) or "none"
    return str(value.name.lower())


def _port_line(directive: str, port: Port) -> str:
    shape, stored, axes = ("x".join(map(str, sizes)) for sizes in (port.shape, port.stored, port.axes))
    text = f"{directive} {quoted(port.name)} address={port.address:#x} shape={shape} dtype={port.affine.dtype}"
    text += f" scale={port.affine.scale!r} zero_point={port.affine.zero_point}"
    if port.stored != port.shape or list(port.axes) != list(range(len(port.axes))):
        text += f" stored={stored} axes={axes}"
    if port.pitches:
        text += f" pitches={'x'.join(map(str, port.pitches))}"
    return text + ("" if port.memory.name == "DRAM" else f" memory={port.memory.name.lower()}")


class _Reader:
    """What has been read so far."""

    def __init__(self) -> None:
        self.name = "program"
        self.accelerator: Accelerator | None = None
        self.names: dict[str, int] = {}
        self.instructions: list[Instruction] = []
        self.layers: list[str] = []
        self.layer = -1
        self.layer_of: list[int] = []
        self.data: list[Segment] = []
        self.inputs: list[Port] = []
        self.outputs: list[Port] = []
        self.probes: list[Probe] = []
        self.code = -1
        self.directives: dict[str, Callable[[str], None]] = {
            ".program": self._program,
            ".accelerator": self._accelerator,
            ".define": self._define,
            ".layer": self._layer,
            ".data": self._data,
            ".input": lambda rest: self.inputs.append(self._port(words(rest))),
            ".output": lambda rest: self.outputs.append(self._port(words(rest))),
            ".value": self._value,
            ".code": self._code,
        }

    def statement(self, text: str) -> None:
        word, _, rest = text.partition(" ")
        if word in self.directives:
            self.directives[word](rest.strip())
        elif word in _KINDS:
            if self.layer < 0:
                self._layer("program")
            self.instructions.append(self._instruction(_KINDS[word], rest))
            self.layer_of.append(self.layer)
        else:
            known = ", ".join((*_KINDS, *self.directives))
            raise AssemblyError(f"{word!r} is no instruction or directive; there are {known}")

    def program(self, accelerator: Accelerator | None) -> Program:
        return Program(
            name=self.name,
            accelerator=accelerator or self.accelerator,
            instructions=tuple(self.instructions),
            layers=tuple(self.layers),
            layer_of=tuple(self.layer_of),
            data=tuple(self.data),
            inputs=tuple(self.inputs),
            outputs=tuple(self.outputs),
            probes=tuple(self.probes),
            code=self.code,
        )

    def _program(self, rest: str) -> None:
        (self.name,) = words(rest)

    def _accelerator(self, rest: str) -> None:
        self.accelerator = Accelerator.from_dict(json.loads(rest), ".accelerator")

    def _define(self, rest: str) -> None:
        name, value = rest.split()
        self.names[name] = self._integer(value)

    def _layer(self, rest: str) -> None:
        (name,) = words(rest)
        if name not in self.layers:
            self.layers.append(name)
        self.layer = self.layers.index(name)

    def _data(self, rest: str) -> None:
        address, kind, *values = rest.split()
        if kind == "hex":
            content = bytes.fromhex("".join(values))
        elif kind == "f32":
            content = np.array([np.float32(value) for value in values], _TYPES[kind]).tobytes()
        elif kind in _TYPES:
            content = np.array([self._integer(value) for value in values], _TYPES[kind]).tobytes()
        else:
            raise AssemblyError(f".data: {kind!r} is no type; it takes {', '.join((*_TYPES, 'hex'))}")
        self.data.append(Segment(self._integer(address), content))

    def _code(self, rest: str) -> None:
        self.code = self._integer(rest)

    def _value(self, rest: str) -> None:
        if not self.instructions:
            raise AssemblyError(".value: must stand after the instruction that completes the value")
        *parts, last = words(rest)
        part = None
        if last.startswith("part="):
            numbers = [self._integer(number) for number in last.removeprefix("part=").split(":")]
            if not 2 <= len(numbers) <= 4:
                raise AssemblyError(f".value: {last} must be part=FIRST:LENGTH or part=FIRST:LENGTH:LINES:PITCH")
            part = Part(*numbers)
        else:
            parts.append(last)
        self.probes.append(Probe(self._port(parts), len(self.instructions) - 1, part))

    def _port(self, parts: list[str]) -> Port:
        name, *pairs = parts
        item: dict[str, Any] = {"name": name}
        for key, value in self._pairs(pairs):
            if key in ("shape", "stored", "axes", "pitches"):
                item[key] = tuple(int(size) for size in value.split("x"))
            elif key in ("address", "zero_point"):
                item[key] = self._integer(value)
            elif key in ("dtype", "scale", "memory"):
                item[key] = value
            else:
                raise AssemblyError(f"{name}: unknown key {key!r}")
        missing = [key for key in ("address", "shape", "dtype", "scale", "zero_point") if key not in item]
        if missing:
            raise AssemblyError(f"{name}: {', '.join(missing)} missing")
        return port_from_dict(item)

    def _instruction(self, kind: type[Instruction], rest: str) -> Instruction:
        fields = {item.name: item for item in kind.fields()}
        values: dict[str, Any] = {}
        for key, value in self._pairs(rest.split()):
            if key not in fields:
                raise AssemblyError(f"{kind.mnemonic}: no field {key!r}; it has {', '.join(fields)}")
            if key in values:
                raise AssemblyError(f"{kind.mnemonic}: {key} is given twice")
            values[key] = self._field(kind, fields[key], value)
        missing = [name for name, item in fields.items() if item.default is None and name not in values]
        if missing:
            raise AssemblyError(f"{kind.mnemonic}: {', '.join(missing)} missing")
        return kind(**values)

    def _field(self, kind: type[Instruction], item: Field, text: str) -> Any:
        if item.kind == "float":
            return float(np.float32(text))
        if isinstance(item.kind, str):
            return self._integer(text)
        result: Any = None
        for name in text.split("+"):
            if name == "none":
                member: Any = item.kind(0)
            elif name.upper() in item.kind.__members__:
                member = item.kind[name.upper()]
            else:
                allowed = ", ".join(str(member.name).lower() for member in item.kind)
                raise AssemblyError(f"{kind.mnemonic}: {item.name}={text}: {name!r} is none of {allowed}")
            result = member if result is None else result | member
        return item.kind(result)

    def _integer(self, text: str) -> int:
        if text in self.names:
            return self.names[text]
        try:
            return int(text, 0)
        except ValueError:
            raise AssemblyError(f"{text!r} is neither an integer nor a name given by .define") from None

    @staticmethod
    def _pairs(words: list[str]) -> list[tuple[str, str]]:
        for word in words:
            if "=" not in word:
                raise AssemblyError(f"{word!r}: expected field=value")
        return [(word.split("=", 1)[0], word.split("=", 1)[1]) for word in words]
