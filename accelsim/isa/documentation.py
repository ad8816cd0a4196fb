"""The instruction-set page of the documentation, derived from the declarations.

python -m accelsim.isa.documentation > docs/instruction_set.md
"""

from __future__ import annotations

import enum
import inspect
from collections.abc import Iterator

from accelsim.arithmetic.requantize import CONSTANTS

from .fields import INSTRUCTION_BYTES, OPCODE_BITS, Field
from .instructions import INSTRUCTIONS
from .instructions.base import Instruction
from .units import Memory, Unit

_OPENING = """\
# Instruction set

This page is written by `python -m accelsim.isa.documentation` from the declarations in `accelsim/isa/instructions/`
and `accelsim/isa/units.py`.

Every instruction is one word of {bytes} bytes, little endian. Bits {top}..0 are the opcode. The fields follow from bit
{first} on in the order of their tables; what is left is zero. Signed fields are two's complement, `float` fields IEEE
binary32. `wait`, `signal` and `memory` have room for more units and memories than there are.

An instruction is a macro-instruction: one scratchpad tile, walked by hardware address generators. Each unit runs its
own instructions in order. There is a counting semaphore for each ordered pair of units. `wait=load` takes a token from
(load -> this unit) before the instruction starts; `signal=post` puts one into (this unit -> post) when it is complete.

In assembly text an instruction is its name and `field=value` pairs: `mac activation=x channels=4 outputs=3 wait=load`
and so on. Fields with a default may be left out. Sets are written with `+`: `wait=load+post`.

* Units, as bits of `wait` and `signal`: {units}.
* Memories: {memories}. Addresses are in bytes, in the accumulator memory in words of `buffers.accumulator.bits`.
* Constants of a `requantize`, in the order of their planes in the parameter buffer, with the steps that read them:
  {constants}."""


def markdown() -> str:
    """The page."""
    constants = "; ".join(f"`{name}` ({' or '.join(_members(step))})" for name, step in CONSTANTS)
    opening = _OPENING.format(
        bytes=INSTRUCTION_BYTES,
        top=OPCODE_BITS - 1,
        first=OPCODE_BITS,
        units=", ".join(f"{unit.label} {1 << unit}" for unit in Unit),
        memories=", ".join(f"{memory.label} {memory.value}" for memory in Memory),
        constants=constants,
    )
    return "\n\n".join([opening, _summary(), *(part for kind in INSTRUCTIONS for part in _instruction(kind))]) + "\n"


def _summary() -> str:
    rows = ["| opcode | instruction | unit | bits used |", "|---|---|---|---|"]
    for kind in INSTRUCTIONS:
        unit = kind.unit.label if kind.unit is not None else "fetcher"
        used = max(field.offset + field.bits for field in kind.fields())
        rows.append(f"| {kind.opcode} | [`{kind.mnemonic}`](#{kind.mnemonic}) | {unit} | {used} |")
    return "\n".join(rows)


def _instruction(kind: type[Instruction]) -> Iterator[str]:
    yield f"## {kind.mnemonic}"
    # What an instruction has in common with others is said by the classes that it is made of.
    for ancestor in kind.__mro__[: kind.__mro__.index(Instruction)]:
        if ancestor.__doc__:
            yield inspect.cleandoc(ancestor.__doc__)
    rows = ["| bits | field | type | default | meaning |", "|---|---|---|---|---|"]
    for field in kind.fields():
        bits = f"{field.offset + field.bits - 1}..{field.offset}" if field.bits > 1 else str(field.offset)
        rows.append(f"| {bits} | `{field.name}` | {_type(field)} | {_default(field)} | {field.meaning} |")
    yield "\n".join(rows)
    for field in kind.fields():
        if not isinstance(field.kind, str) and field.name not in ("wait", "signal"):
            values = ", ".join(f"`{str(item.name).lower()}` {item.value}" for item in field.kind)
            yield f"`{field.name}`: {values}."


def _type(field: Field) -> str:
    if field.kind == "float":
        return "float"
    if isinstance(field.kind, str):
        return f"{field.kind} {field.bits}"
    return "set" if issubclass(field.kind, enum.IntFlag) else "choice"


def _default(field: Field) -> str:
    if field.default is None:
        return "required"
    if isinstance(field.default, enum.IntFlag):
        return " + ".join(_members(field.default)) or "none"
    return f"{field.default:g}" if field.kind == "float" else str(int(field.default))


def _members(value: enum.IntFlag) -> list[str]:
    return [str(item.name).lower() for item in type(value) if item in value and item.value]


if __name__ == "__main__":
    print(markdown(), end="")
