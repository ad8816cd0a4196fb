"""Element-wise instructions of the post unit: sums, products, the larger of two codes, tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from accelsim.arithmetic.binary32 import f32
from accelsim.arithmetic.elementwise import FixedAdd, FloatAdd, Operand, Product
from accelsim.hardware import Accelerator
from accelsim.isa import Add, AddFixed, Instruction, Lookup, Memory, Multiply
from accelsim.isa.instructions.elementwise import BinaryInstruction, LinesInstruction, Maximum
from accelsim.machine.semantics import Semantics, Work, each_place_once

from . import timing
from .data import check_steps, rule_of, store

#: Codes of a result from the codes of two operands: integers, or whole binary32 numbers.
Rule = Callable[[np.ndarray, np.ndarray], np.ndarray]


#: A rule, and the smallest and largest code that it gives.
Bounded = tuple[Rule, tuple[int, int]]


def _add(add: Add) -> Bounded:
    rule = FloatAdd(
        Operand(add.subtract_a, f32(add.scale_a), f32(add.offset_a)),
        Operand(add.subtract_b, f32(add.scale_b), f32(add.offset_b)),
        rule_of(add, add.multiplier),
        fused=bool(add.fused),
    )
    return rule.codes, (add.minimum, add.maximum)


def _add_fixed(add: AddFixed) -> Bounded:
    rule = FixedAdd(
        add.multiplier_a,
        add.zero_a,
        add.multiplier_b,
        add.zero_b,
        add.shift,
        add.zero_point,
        add.minimum,
        add.maximum,
        halves_up=bool(add.halves_up),
    )
    return rule.apply, (add.minimum, add.maximum)


def _multiply(multiply: Multiply) -> Bounded:
    rule = Product(multiply.zero_a, multiply.zero_b, rule_of(multiply, multiply.multiplier))
    return rule.apply, (multiply.minimum, multiply.maximum)


def _maximum(maximum: Maximum) -> Bounded:
    bounds = -128 if maximum.signed_a or maximum.signed_b else 0, 127 if maximum.signed_a and maximum.signed_b else 255
    return np.minimum if maximum.smaller else np.maximum, bounds


def _bind(rule_of_instruction: Callable[[Any], Bounded], binary: BinaryInstruction, work: Work) -> None:
    activation = work.memories[Memory.ACTIVATION]
    (first, second), (result,) = binary.read_blocks(), binary.written_blocks()
    a, b = activation.read(first, work.actions), activation.read(second, work.actions)
    target = work.memories.target(result, max(len(a), len(b)))
    a = a.view(np.int8) if binary.signed_a else a
    b = b.view(np.int8) if binary.signed_b else b
    rule, bounds = rule_of_instruction(binary)
    work.actions.append(lambda: store(target, rule(a, b), bounds))


def _bind_lookup(lookup: Lookup, work: Work) -> None:
    operand, entries = lookup.read_blocks()
    table = work.memories[Memory.PARAMETER].read(entries, work.actions)
    indices = work.memories[Memory.ACTIVATION].read(operand, work.actions)
    target = work.memories.target(lookup.written_blocks()[0], max(len(table), len(indices)))

    def look_up() -> None:
        if len(table) == 1:
            np.copyto(target, table[0][indices])
        else:
            every = np.broadcast_to(indices, (len(table), *indices.shape[1:]))
            np.copyto(target, np.stack([entries[part] for entries, part in zip(table, every, strict=True)]))

    work.actions.append(look_up)


def _binary_work(binary: BinaryInstruction, accelerator: Accelerator) -> timing.Work:
    """Two accesses a vector: both operands come through one port."""
    return timing.vectors(binary.lines, binary.length, 2, accelerator)


def _lookup_work(lookup: Lookup, accelerator: Accelerator) -> timing.Work:
    return timing.vectors(lookup.lines, lookup.length, 1, accelerator, table=256)


def _host_cost(instruction: LinesInstruction) -> tuple[int, int]:
    return 40 * instruction.elements, 16 * instruction.elements


def _check_add(add: Add, _accelerator: Accelerator) -> str | None:
    return check_steps(add.steps, divisor=True)


def _check_multiply(multiply: Multiply, _accelerator: Accelerator) -> str | None:
    return check_steps(multiply.steps, divisor=False)


def _binary(rule: Callable[[Any], Bounded]) -> Semantics:
    return Semantics(
        traffic=each_place_once,
        bind=partial(_bind, rule),
        host_cost=_host_cost,
        occupancy=timing.occupancy_of(_binary_work),
        in_place=True,
    )


SEMANTICS: Mapping[type[Instruction], Semantics] = {
    Add: replace(_binary(_add), check=_check_add),
    AddFixed: _binary(_add_fixed),
    Multiply: replace(_binary(_multiply), check=_check_multiply),
    Maximum: _binary(_maximum),
    Lookup: Semantics(
        traffic=each_place_once,
        bind=_bind_lookup,
        host_cost=_host_cost,
        occupancy=timing.occupancy_of(_lookup_work),
        in_place=True,
    ),
}
