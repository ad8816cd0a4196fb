"""What a program argument names: assembly text, or a saved program."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from accelsim.errors import AssemblyError
from accelsim.hardware import Accelerator
from accelsim.isa import INSTRUCTIONS, Program, assemble
from accelsim.report.tables import plain_table

from .kinds import PROGRAM, saved_kind
from .status import CallError

#: Of assembly, in bytes. The data image of ResNet-50 takes 50 MB.
_LONGEST_TEXT = 1 << 27


def is_program(argument: str) -> bool:
    """Whether the argument is a program rather than a model."""
    return argument.endswith(".asm") or saved_kind(argument) == PROGRAM


def open_program(argument: str) -> Program:
    """The program in a file. Raises CallError, and the errors of `assemble` and `Program.load`."""
    if argument.endswith(".asm"):
        return assemble_file(Path(argument))
    return Program.load(argument)


def assemble_file(path: Path, accelerator: Accelerator | None = None) -> Program:
    """The program that a text file spells out. Raises CallError for an unreadable file, AssemblyError for its text."""
    try:
        with path.open("rb") as file:
            content = file.read(_LONGEST_TEXT + 1)  # a device may never end
        if len(content) > _LONGEST_TEXT:
            raise CallError(f"{path}: more than {_LONGEST_TEXT >> 20} MiB of text; save a large program as words")
        text = content.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise CallError(f"{path}: cannot be read ({reason}); give a file of assembly text") from None
    try:
        program = assemble(text, accelerator)
    except AssemblyError as error:
        raise AssemblyError(f"{path}: {error}") from None
    if not program.instructions:
        raise AssemblyError(f"{path}: holds no instruction; programs/two_layers.asm shows how one is written")
    return program


def program_summary(program: Program) -> dict[str, Any]:
    """Plain data: by layer how many instructions of each kind, and the sizes of code and data in bytes."""
    layers = [{"name": name, "instructions": Counter[str]()} for name in program.layers]
    for layer, instruction in zip(program.layer_of, program.instructions, strict=True):
        layers[layer]["instructions"][instruction.mnemonic] += 1  # type: ignore[index]
    return {
        "program": program.name,
        "accelerator": None if program.accelerator is None else program.accelerator.name,
        "instructions": len(program.instructions),
        "code_bytes": len(program.words()),
        "data_bytes": sum(len(segment.content) for segment in program.data),
        "dram_bytes": program.dram_bytes,
        "layers": layers,
    }


def program_table(summary: dict[str, Any]) -> Table:
    """The summary for people."""
    kinds = [kind.mnemonic for kind in INSTRUCTIONS]
    used = [kind for kind in kinds if any(kind in layer["instructions"] for layer in summary["layers"])]
    table = plain_table(
        f"{summary['program']} for {summary['accelerator'] or 'any accelerator'}: instructions by layer",
        ("layer", *used, "all"),
        caption=f"{summary['code_bytes']:,} bytes of instructions, {summary['data_bytes']:,} of data, "
        f"{summary['dram_bytes']:,} of DRAM in all",
    )
    for layer in summary["layers"]:
        counts = layer["instructions"]
        table.add_row(layer["name"], *(str(counts[kind] or "-") for kind in used), str(sum(counts.values())))
    return table


def plan_table(plans: Sequence[Mapping[str, Any]], accumulator_bits: int) -> Table:
    """How each layer of the MAC array was cut: a tile's sizes, the order, and the estimate with what bounds it; and the
    bits that its sums may take, marked where the accumulators have fewer."""
    tile = ("tile: images x lines x pixels", "outputs", "groups", "input channels", "pixels unrolled")
    columns = ("layer", "bound by", *tile, "outermost", "cycles (estimate)", "DRAM bytes", "fused", "bits of sums")
    over = [plan["layer"] for plan in plans if (plan["sum_bits"] or 0) > accumulator_bits]
    caption = (
        f"! codes that fit the weights worst make sums of more than the accumulators' {accumulator_bits} bits; a run "
        "that comes to one stops with an error"
    )
    table = plain_table("Tiles by layer", columns, left=2, caption=caption if over else "")
    for plan in plans:
        table.add_row(
            plan["layer"],
            plan["bound"],
            f"{plan['images']} x {plan['lines']} x {plan['pixels']}",
            str(plan["outputs"]),
            str(plan["groups"]),
            str(plan["channels"]),
            str(plan["unroll_pixels"]),
            ("pixels" if plan["pixels_outer"] else "channels") + (", interleaved" if plan["interleaved"] else ""),
            f"{plan['cost']:,.0f}",
            f"{plan['dram']:,}",
            plan["fused"] or "-",
            f"{plan['sum_bits'] or '-'}{' !' if plan['layer'] in over else ''}",
        )
    return table
