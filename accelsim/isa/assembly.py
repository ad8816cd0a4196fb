"""Assembly text to program and back, derived from the declarations of the instructions.

One statement a line, `;` starts a comment. An instruction is its mnemonic and `field=value` pairs; fields with a
default may be left out. Values are integers (decimal, 0x, or a name given by `.define`), binary32 numbers, or names of
an enumeration joined by `+`. A name of unusual characters stands between double quotes, as in JSON. What is named or
set is so once. Directives:

    .program NAME                    .layer NAME (of the instructions that follow)
    .define NAME VALUE               .accelerator {...} (a configuration as JSON)
    .data ADDRESS TYPE VALUE ...     TYPE is u8, i8, i32, f32, or hex (the rest of the line, two digits a byte)
    .input NAME key=value ...        keys: address shape dtype scale zero_point, and stored axes memory pitches rounding
    .output NAME key=value ...       the same
    .value NAME key=value ...        a value that can be looked at when the instruction before it has completed; last,
                                     part=FIRST:LENGTH or part=FIRST:LENGTH:LINES:PITCH of one seen in parts
    .code ADDRESS                    where the words lie in DRAM
"""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from accelsim.errors import AccelsimError, AssemblyError
from accelsim.hardware import Accelerator
from accelsim.reading import from_json, shown

from .fields import Field
from .instructions import INSTRUCTIONS
from .instructions.base import Instruction
from .ports import Part, Port, Probe, port_from_dict
from .program import Program, Segment
from .words import quoted, statement, words

_KINDS = {kind.mnemonic: kind for kind in INSTRUCTIONS}
_TYPES: dict[str, Any] = {"u8": np.uint8, "i8": np.int8, "i32": np.dtype("<i4"), "f32": np.dtype("<f4")}
_BYTES_A_LINE = 64
_DEFINED = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
_NUMBER = re.compile(r"[-+]?(0x[0-9a-f]+|0b[01]+|[0-9]+)", re.IGNORECASE)
#: Characters of an integer: more than any field takes.
_DIGITS = 40


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
            raise AssemblyError(f"line {number}: {error}\n    {shown(line.strip())[1:-1]}") from None
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise AssemblyError(
                f"line {number}: cannot be read ({shown(str(error))[1:-1]})\n    {shown(line.strip())[1:-1]}"
            ) from None
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
    if list(dict.fromkeys(program.layer_of)) != list(range(len(program.layers))):
        # The order of the names is not that of their first instructions: here it is.
        lines += [f".layer {quoted(name)}" for name in program.layers]
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


def _one(text: str, directive: str) -> str:
    parts = words(text)
    if len(parts) != 1:
        raise AssemblyError(
            f"{directive}: takes one name, not {len(parts)} words; put a name with spaces in double quotes"
        )
    return parts[0]


def _port_line(directive: str, port: Port) -> str:
    shape, stored, axes = ("x".join(map(str, sizes)) for sizes in (port.shape, port.stored, port.axes))
    text = f"{directive} {quoted(port.name)} address={port.address:#x} shape={shape} dtype={port.affine.dtype}"
    text += f" scale={port.affine.scale!r} zero_point={port.affine.zero_point}"
    if port.stored != port.shape or list(port.axes) != list(range(len(port.axes))):
        text += f" stored={stored} axes={axes}"
    if port.pitches:
        text += f" pitches={'x'.join(map(str, port.pitches))}"
    if port.rounding != "fused":
        text += f" rounding={port.rounding}"
    return text + ("" if port.memory.name == "DRAM" else f" memory={port.memory.label}")


class _Reader:
    """What has been read so far."""

    def __init__(self) -> None:
        self.name = "program"
        self.accelerator: Accelerator | None = None
        self.names: dict[str, int] = {}
        self.instructions: list[Instruction] = []
        self.layers: dict[str, int] = {}
        self.layer = -1
        self.layer_of: list[int] = []
        self.data: list[Segment] = []
        self.inputs: list[Port] = []
        self.outputs: list[Port] = []
        self.probes: list[Probe] = []
        self.code = -1
        self.given: set[str] = set()
        self.directives: dict[str, Callable[[str], None]] = {
            ".program": self._program,
            ".accelerator": self._accelerator,
            ".define": self._define,
            ".layer": self._layer,
            ".data": self._data,
            ".input": lambda rest: self.inputs.append(self._port(rest)),
            ".output": lambda rest: self.outputs.append(self._port(rest)),
            ".value": self._value,
            ".code": self._code,
        }

    def statement(self, text: str) -> None:
        word, *parts = text.split(None, 1)
        rest = parts[0] if parts else ""
        if word in self.directives:
            if word in (".program", ".accelerator", ".code"):
                if word in self.given:
                    raise AssemblyError(f"{word}: is given twice; a program has one")
                self.given.add(word)
            self.directives[word](rest)
        elif word in _KINDS:
            if self.layer < 0:
                self._layer("program")
            self.instructions.append(self._instruction(_KINDS[word], rest))
            self.layer_of.append(self.layer)
        else:
            known = ", ".join((*_KINDS, *self.directives))
            raise AssemblyError(f"{shown(word)} is no instruction or directive; there are {known}")

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
        self.name = _one(rest, ".program")

    def _accelerator(self, rest: str) -> None:
        self.accelerator = Accelerator.from_dict(from_json(rest), ".accelerator")

    def _define(self, rest: str) -> None:
        words = rest.split()
        if len(words) != 2 or not _DEFINED.fullmatch(words[0]):
            raise AssemblyError(".define: takes a name (a letter or _, then letters, digits, _ or .) and an integer")
        if words[0] in self.names:
            raise AssemblyError(f".define: {shown(words[0])} is {self.names[words[0]]} already; take another name")
        self.names[words[0]] = self._integer(words[1])

    def _layer(self, rest: str) -> None:
        self.layer = self.layers.setdefault(_one(rest, ".layer"), len(self.layers))

    def _data(self, rest: str) -> None:
        address, kind, *values = rest.split() if len(rest.split(None, 2)) > 1 else ("", "", "")
        if not values:
            raise AssemblyError(f".data: takes an address, a type ({', '.join((*_TYPES, 'hex'))}) and values")
        if kind == "hex":
            content = bytes.fromhex("".join(values))
        elif kind == "f32":
            content = np.array([_binary32(value) for value in values], _TYPES[kind]).tobytes()
        elif kind in _TYPES:
            numbers, range_ = [self._integer(value) for value in values], np.iinfo(_TYPES[kind])
            for number in numbers:
                if not range_.min <= number <= range_.max:
                    raise AssemblyError(f".data: {shown(number)} does not fit {kind} ({range_.min} to {range_.max})")
            content = np.array(numbers, _TYPES[kind]).tobytes()
        else:
            raise AssemblyError(f".data: {shown(kind)} is no type; it takes {', '.join((*_TYPES, 'hex'))}")
        self.data.append(Segment(self._integer(address), content))

    def _code(self, rest: str) -> None:
        self.code = self._integer(rest)
        if self.code < 0:
            raise AssemblyError(f".code: {self.code} is no address")

    def _value(self, rest: str) -> None:
        if not self.instructions:
            raise AssemblyError(".value: must stand after the instruction that completes the value")
        *parts, last = words(rest) or [""]
        part = None
        if last.startswith("part="):
            numbers = [self._integer(number) for number in last.removeprefix("part=").split(":")]
            if not 2 <= len(numbers) <= 4:
                raise AssemblyError(f".value: {shown(last)} must be part=FIRST:LENGTH or part=FIRST:LENGTH:LINES:PITCH")
            part = Part(*numbers)
        else:
            parts.append(last)
        self.probes.append(Probe(self._port_of(parts), len(self.instructions) - 1, part))

    def _port(self, rest: str) -> Port:
        return self._port_of(words(rest))

    def _port_of(self, parts: list[str]) -> Port:
        if not parts or not parts[0]:
            raise AssemblyError("the name of the tensor is missing")
        name, *pairs = parts
        item: dict[str, Any] = {"name": name}
        for key, value in self._pairs(pairs):
            if key in item:
                raise AssemblyError(f"{shown(name)}: {shown(key)} is given twice")
            if key in ("shape", "stored", "axes", "pitches"):
                item[key] = tuple(_plain_integer(size) for size in value.split("x") if value)
            elif key in ("address", "zero_point"):
                item[key] = self._integer(value)
            elif key == "scale":
                item[key] = float(value)
            elif key in ("dtype", "memory", "rounding"):
                item[key] = value
            else:
                raise AssemblyError(f"{shown(name)}: unknown key {shown(key)}")
        missing = [key for key in ("address", "shape", "dtype", "scale", "zero_point") if key not in item]
        if missing:
            raise AssemblyError(f"{shown(name)}: {', '.join(missing)} missing")
        return port_from_dict(item)

    def _instruction(self, kind: type[Instruction], rest: str) -> Instruction:
        fields = {item.name: item for item in kind.fields()}
        values: dict[str, Any] = {}
        for key, value in self._pairs(rest.split()):
            if key not in fields:
                raise AssemblyError(f"{kind.mnemonic}: no field {shown(key)}; it has {', '.join(fields)}")
            if key in values:
                raise AssemblyError(f"{kind.mnemonic}: {key} is given twice")
            values[key] = self._field(kind, fields[key], value)
        missing = [name for name, item in fields.items() if item.default is None and name not in values]
        if missing:
            raise AssemblyError(f"{kind.mnemonic}: {', '.join(missing)} missing")
        return kind(**values)

    def _field(self, kind: type[Instruction], item: Field, text: str) -> Any:
        if item.kind == "float":
            return float(_binary32(text))
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
                raise AssemblyError(f"{kind.mnemonic}: {item.name}: {shown(name)} is none of {allowed}")
            result = member if result is None else result | member
        return item.kind(result)

    def _integer(self, text: str) -> int:
        return self.names[text] if text in self.names else _plain_integer(text)

    @staticmethod
    def _pairs(words: Iterable[str]) -> list[tuple[str, str]]:
        pairs = []
        for word in words:
            key, equals, value = word.partition("=")
            if not equals:
                raise AssemblyError(f"{shown(word)}: expected field=value")
            pairs.append((key, value))
        return pairs


def _plain_integer(text: str) -> int:
    if len(text) > _DIGITS or not _NUMBER.fullmatch(text):
        raise AssemblyError(f"{shown(text)} is neither an integer nor a name given by .define")
    digits = text.lstrip("+-").lower()
    return int(text, {"0x": 16, "0b": 2}.get(digits[:2], 10))


def _binary32(text: str) -> np.float32:
    with np.errstate(over="ignore"):
        value = np.float32(text)
    if not np.isfinite(value):
        raise AssemblyError(f"{shown(text)} is no finite binary32 number")
    return value
