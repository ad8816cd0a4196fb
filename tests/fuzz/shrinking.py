"""Makes a failing case small: leaves out statements, outputs, inputs and elements for as long as it fails."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace

from models import Case


def shrink(case: Case, fails: Callable[[Case], bool]) -> Case:
    """The smallest case found that still fails."""
    while True:
        smaller = next((candidate for candidate in _smaller(case) if fails(candidate)), None)
        if smaller is None:
            return case
        case = smaller


def _smaller(case: Case) -> Iterator[Case]:
    """Cases with a little less in them."""
    if case.same:
        yield replace(case, same=False)
    for position in reversed(range(len(case.statements))):
        kept = case.statements[:position] + case.statements[position + 1 :]
        yield replace(case, statements=kept)
        made = re.match(r"(\w+) = ", case.statements[position])
        if made is None:
            continue
        # Another tensor in the place of the one that the statement makes.
        for other in [f"x{i}" for i in range(len(case.inputs))] + re.findall(
            r"\b[a-z]\d+\b", case.statements[position]
        )[1:]:
            yield replace(
                case,
                statements=tuple(_renamed(line, made[1], other) for line in kept),
                outputs=tuple(other if name == made[1] else name for name in case.outputs),
            )
    if len(case.outputs) > 1:
        for position in range(len(case.outputs)):
            yield replace(case, outputs=case.outputs[:position] + case.outputs[position + 1 :])
    text = "\n".join((*case.statements, *case.outputs))
    for position in range(len(case.constants)):
        if not re.search(rf"\b{case.constants[position].split(' = ')[0]}\b", text):
            yield replace(case, constants=case.constants[:position] + case.constants[position + 1 :])
    if len(case.inputs) > 1 and not re.search(rf"\bx{len(case.inputs) - 1}\b", text):
        yield replace(case, inputs=case.inputs[:-1])
    for position, given in enumerate(case.inputs):
        simpler = [replace(given, layout="contiguous")] if given.layout != "contiguous" else []
        if given.scale != 0.5:
            simpler.append(replace(given, scale=0.5))
        # PyTorch's convolutions divide by zero where the kernel is larger than the input.
        for axis, size in enumerate(given.shape if "conv(" not in "".join(case.constants) else ()):
            for less in sorted({1, 2, size // 2, size - 1}):
                if 0 < less < size:
                    simpler.append(replace(given, shape=(*given.shape[:axis], less, *given.shape[axis + 1 :])))
        for other in simpler:
            yield replace(case, inputs=(*case.inputs[:position], other, *case.inputs[position + 1 :]))


def _renamed(line: str, old: str, new: str) -> str:
    return re.sub(rf"\b{old}\b", new, line)
