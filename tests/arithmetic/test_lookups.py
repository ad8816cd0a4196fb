"""Functions of one code depend on the place as `lanes` says: one table, or one for the body and one for the tail."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from witness import ENGINES, KERNEL_SETS, Case, PyTorch, affine, codes, pair, styles

from accelsim.arithmetic.affine import Affine
from accelsim.arithmetic.engines import KernelSet
from accelsim.arithmetic.lanes import VECTOR_LOOP, spans

#: One table for every place, whatever the kernel set and the engine ...
ONE_TABLE = (
    "relu",
    "relu6",
    "clamp",
    "hardtanh",
    "tanh",
    "hardsigmoid",
    "gelu",
    "add_scalar",
    "add_scalar_relu",
    "mul_scalar",
    "mul_scalar_relu",
    "requantize",
    "cat",
    "cat_relu",
)
#: ... and one for the vector body, another for the tail.
TWO_TABLES = ("hardswish", "leaky_relu", "elu", "threshold", "sigmoid")


def arguments(operator: str, rng: np.random.Generator, grid: Affine, out: Affine, engine: str) -> tuple[Any, ...]:
    """What the operator takes besides the codes."""
    low, high = sorted(float(value) for value in rng.integers(-20, 20, 2) * grid.scale)
    if operator in ("clamp", "hardtanh", "threshold"):
        return (low, high)
    if operator in ("hardswish", "cat", "cat_relu"):
        return pair(out)
    if operator == "sigmoid":
        return (1 / 256, 0) if engine == "qnnpack" else pair(out)
    if operator in ("leaky_relu", "elu"):
        return (0.5, *pair(out))
    if operator == "gelu":
        return ("none",)
    if operator.startswith(("add_scalar", "mul_scalar")):
        return (float(rng.choice([0.5, 0.3, -0.75, 2.0])),)
    return (*pair(out), out.dtype) if operator == "requantize" else ()


@pytest.mark.parametrize("kernels", KERNEL_SETS, ids=str)
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("operator", ONE_TABLE + TWO_TABLES)
def test_a_function_of_a_code_depends_on_the_place_as_lanes_says(
    pytorch: PyTorch, part: int, engine: str, kernels: KernelSet, operator: str
) -> None:
    rng = np.random.default_rng([23, part, (ONE_TABLE + TWO_TABLES).index(operator)])
    kept = [(index, style) for index, style in styles(100) if style in ("ties", "near ties", "random")]
    every, inputs, tables = np.arange(256, dtype=np.uint8), [], []
    for index, style in kept:
        dtype = "int8" if index % 3 == 2 and operator != "cat" else "uint8"
        grid, out = affine(rng, style, dtype, index), affine(rng, style, dtype, index + 5)
        more = arguments(operator, rng, grid, out, engine)
        x = codes(rng, 1 + (index * 7 + part) % 140, dtype)
        inputs.append((x, grid, more))
        # Four passes of the vector body, and tails of 32 codes each, tell the two tables.
        chunks = [every, *every.reshape(-1, 32)]
        tables += [Case("unary", (c.view(dtype)[None], pair(grid), operator, more), lambda _: every) for c in chunks]
    answers = [np.asarray(answer[0]).reshape(-1) for answer in pytorch.ask(engine, kernels, tables)]
    cases, differ = [], 0
    for (x, grid, more), number in zip(inputs, range(0, len(tables), 9), strict=True):
        body, tail = answers[number], np.concatenate(answers[number + 1 : number + 9])
        differ += int((body != tail).sum())
        if operator in ONE_TABLE:
            assert np.array_equal(body, tail), (operator, engine, kernels, grid, more)
        index = x.view(np.uint8)
        parts = [span.rule[index[span.start : span.stop]] for span in spans(len(x), body, tail)]
        ours = np.concatenate(parts)[None]
        cases.append(Case("unary", (x[None], pair(grid), operator, more), lambda _, ours=ours: ours, note=(grid, more)))
    pytorch.compare(operator, engine, kernels, cases)
    if operator in TWO_TABLES and engine != "qnnpack" and kernels.aten != "default":
        assert differ


def test_the_body_is_whole_passes_of_the_vector_loop() -> None:
    for count, split in ((1, 0), (63, 0), (64, 64), (130, 128)):
        found = spans(count, "body", "tail")
        assert [(span.start, span.stop) for span in found if span.rule == "body"] == ([(0, split)] if split else [])
    assert VECTOR_LOOP == 64
