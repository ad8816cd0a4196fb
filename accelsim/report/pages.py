"""The worked example as a page of Markdown, which is also what the terminal shows."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

import numpy as np

from accelsim.arithmetic.affine import Affine
from accelsim.escaping import markdown, markdown_code

from .worked_example import LayerExample

_WIDTH = 96


def to_markdown(examples: Sequence[LayerExample], *, most_terms: int | None = None) -> str:
    """The page. Of sums longer than `most_terms` only that many terms are listed."""
    title = f"# One output, worked through: {' and '.join(markdown(example.layer) for example in examples)}"
    conventions = (
        "`f32` rounds to binary32, `rne` to the nearest integer (half to even), `fma` rounds once. Every binary32 "
        "value is printed so that it can be read back exactly: the shortest decimal, and hexadecimal."
    )
    parts = [title, conventions]
    for number, example in enumerate(examples):
        before = examples[number - 1] if number else None
        after = examples[number + 1] if number + 1 < len(examples) else None
        parts += _layer(example, before, after, most_terms)
    return "\n\n".join(parts) + "\n"


def _layer(
    example: LayerExample, before: LayerExample | None, after: LayerExample | None, most_terms: int | None
) -> Iterable[str]:
    channel = "channel" if example.kind == "Convolution" else "feature"
    place = f"element {example.element}, index {list(example.index)}, {channel} {example.channel}"
    yield f"## {markdown(example.layer)}: output {place}"
    if before is not None:
        yield _consumed(example, before)
    yield "**Operands.** " + _operands(example)
    yield _fenced(
        [*_listing("qx", _inputs(example), most_terms), *_listing("qw", map(str, example.weights), most_terms)]
    )
    yield "**The exact sum, and how the zero points leave it.**"
    yield _fenced(_sum(example))
    yield "**The bias.** " + _bias(example)
    yield "**The multiplier.** It brings units of `sx * sw` to units of `so`:"
    sx, so = example.input_affine.scale, example.output_affine.scale
    yield _fenced([f"m = sx * sw / so = {sx!r} * {example.weight_scale!r} / {so!r} = {example.m!r}"])
    yield f"**The roundings of {_owner(example)}**, in order:"
    yield _fenced(_roundings(example))
    yield "**The same in fixed point**, with a multiplier of at most 31 bits:"
    yield _fenced(_fixed(example))
    yield _fixed_verdict(example)
    yield _beside(example)
    if after is not None:
        yield (
            f"**What the next layer takes.** {markdown(after.layer)} takes the code {example.code} itself, with "
            f"sx = {so!r} and zx = {example.output_affine.zero_point}: no real number is ever formed."
        )


def _consumed(example: LayerExample, before: LayerExample) -> str:
    layer, from_layer = markdown(example.layer), markdown(before.layer)
    way = [markdown(name) for name in example.between if name != example.layer]
    through = f" through {', '.join(way)}" if way else ""
    if example.handed_on is None:
        return f"{from_layer}'s code does not reach this element unchanged; {layer} is worked by its own input."
    k = example.handed_on
    zx = example.input_affine.zero_point
    weight = example.weights[k]
    taken = before.code - zx
    return (
        f"{from_layer}'s code {before.code} comes in{through} as term k = {k} of this sum: "
        f"(qx - zx) * qw = ({before.code} - {zx}) * {weight} = {taken * weight}."
        if not example.weight_zero_point
        else f"{from_layer}'s code {before.code} comes in{through} as qx of term k = {k} of this sum."
    )


def _operands(example: LayerExample) -> str:
    padded = sum(code is None for code in example.inputs)
    padding = f" {padded} of the inputs are padding; they enter as the zero point, shown in brackets." if padded else ""
    relu = ", with ReLU" if example.relu else ""
    return (
        f"K = {len(example.inputs)} codes of {markdown_code(example.input_name)} "
        f"({_affine(example.input_affine, 'x')}) and as many int8 weights "
        f"(sw = {example.weight_scale!r}, zw = {example.weight_zero_point}); the output has "
        f"{_affine(example.output_affine, 'o')}{relu}.{padding}"
    )


def _affine(affine: Affine, letter: str) -> str:
    return f"{affine.dtype}, s{letter} = {affine.scale!r}, z{letter} = {affine.zero_point}"


def _inputs(example: LayerExample) -> Iterable[str]:
    return (f"({example.input_affine.zero_point})" if code is None else str(code) for code in example.inputs)


def _listing(name: str, items: Iterable[str], most: int | None) -> list[str]:
    words = list(items)
    shown = words if most is None or len(words) <= most else [*words[:most], f"… ({len(words) - most} more)"]
    return textwrap.wrap(" ".join(shown), _WIDTH, initial_indent=f"{name} = ", subsequent_indent=" " * (len(name) + 3))


def _sum(example: LayerExample) -> list[str]:
    zx, zw, terms = example.input_affine.zero_point, example.weight_zero_point, len(example.inputs)
    if not zw:
        return [
            "acc = sum (qx - zx) * qw",
            "    = sum qx * qw - zx * sum qw",
            f"    = {example.raw_sum} - {zx} * {_signed(example.weight_sum)}",
            f"    = {example.exact_sum}",
        ]
    return [
        "acc = sum (qx - zx) * (qw - zw)",
        "    = sum qx * qw - zx * sum qw - zw * sum qx + K * zx * zw",
        f"    = {example.raw_sum} - {zx} * {_signed(example.weight_sum)} - {_signed(zw)} * {example.input_sum} "
        f"+ {terms} * {zx} * {_signed(zw)}",
        f"    = {example.exact_sum}",
    ]


def _bias(example: LayerExample) -> str:
    if example.bias is None:
        return "This layer has none."
    product = example.input_affine.scale * example.weight_scale
    return (
        f"{example.bias!r} in real units, which is bias / (sx * sw) = {example.bias / product!r} in units of the sum. "
        f"As this engine takes it: {example.bias_meaning}."
    )


def _roundings(example: LayerExample) -> list[str]:
    rows = [(f"acc = {example.exact_sum}", "", "")]
    for rounding in example.roundings:
        value = str(rounding.value) if isinstance(rounding.value, int) else _binary32(rounding.value)
        rows.append((rounding.formula, value, rounding.hex))
    rows.append((f"clamp to {example.minimum} .. {example.maximum}", str(example.code), ""))
    left, middle = (max(len(row[column]) for row in rows[1:]) for column in (0, 1))
    lines = [rows[0][0], *(f"{a:{left}}  = {b:{middle}}  {c}".rstrip() for a, b, c in rows[1:])]
    return [*lines, f"real value: so * (q - zo) = {example.real!r}"]


def _binary32(value: float) -> str:
    return str(np.float32(value))


def _fixed(example: LayerExample) -> list[str]:
    fixed = example.fixed_point
    return [
        f"M = {fixed.multiplier}, B = {fixed.offset}, S = {fixed.shift}",
        f"(acc * M + B) >> S = ({example.exact_sum} * {fixed.multiplier} + {_signed(fixed.offset)}) >> {fixed.shift} = "
        f"{(example.exact_sum * fixed.multiplier + fixed.offset) >> fixed.shift}",
        f"clamp to {example.minimum} .. {example.maximum} = {fixed.code}",
    ]


def _fixed_verdict(example: LayerExample) -> str:
    fixed = example.fixed_point
    reach = f"the {fixed.high - fixed.low + 1:,} sums from {fixed.low:,} to {fixed.high:,} that these weights can reach"
    if not fixed.differing:
        return f"This is the code of {_owner(example)} for every one of {reach}: proved by comparing all thresholds."
    some = ", ".join(f"{value:,}" for value in fixed.examples)
    more = ", …" if fixed.differing > len(fixed.examples) else ""
    return f"Of {reach}, {fixed.differing:,} give another code than {_owner(example)}: {some}{more}."


def _beside(example: LayerExample) -> str:
    where = f"{list(example.index)} of {markdown(example.layer)}"
    if example.torch_code is None:
        verdict = "equal" if example.reference_code == example.code else "DIFFERENT"
        return (
            f"**Beside the integer reference.** It gives {example.reference_code} at {where}: {verdict}. "
            "(PyTorch's own value is not known here: no PyTorch model was given, or it keeps this value in float.)"
        )
    verdict = "equal" if example.torch_code == example.code else "DIFFERENT"
    return f"**Beside PyTorch.** `int_repr()` at {where} is {example.torch_code}: {verdict}."


def _owner(example: LayerExample) -> str:
    if example.engine == example.arithmetic:
        return example.engine
    return f"{example.engine} (here {example.arithmetic}'s arithmetic)"


def _signed(value: int) -> str:
    return str(value) if value >= 0 else f"({value})"


def _fenced(lines: Iterable[str]) -> str:
    return "\n".join(("```", *lines, "```"))
