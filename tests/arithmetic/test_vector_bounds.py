"""Bounds of vector programs: they hold what PyTorch and the unit compute, and are narrow; IEEE steps have none."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from accelsim.arithmetic import functions, vector
from accelsim.arithmetic.vector import Operation, Register, Statistic, Writer
from accelsim.arithmetic.vector_bounds import Bounds, bounds_of_statistic, evaluate_bounds, exactly

X = np.random.default_rng(0).normal(0, 3, 20_000).astype(np.float32)


def function(name: str) -> vector.Program:
    writer = Writer()
    writer.function(name, Register(0))
    return writer.program


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("exp", torch.exp),
        ("tanh", torch.tanh),
        ("sigmoid", torch.sigmoid),
        ("erf", torch.erf),
        ("gelu", torch.nn.functional.gelu),
        ("silu", torch.nn.functional.silu),
        ("softplus", torch.nn.functional.softplus),
        ("hardswish", torch.nn.functional.hardswish),
    ],
)
def test_the_bounds_of_a_function_hold_both(name: str, theirs: object) -> None:
    made = evaluate_bounds(function(name), [exactly(X)], "float32")
    ours = vector.evaluate(function(name), [X])
    assert made.hold(ours).all()
    assert made.hold(theirs(torch.from_numpy(X)).numpy()).all()  # type: ignore[operator]
    # Sixteen ulps off is no rounding any more.
    assert not made.hold(ours + 32 * np.spacing(np.maximum(np.abs(ours), np.abs(X)))).any()


def test_ieee_steps_of_known_numbers_are_known() -> None:
    writer = Writer()
    total = writer.step(Operation.ADD, writer.step(Operation.MULTIPLY, Register(0), 1.1), Register(1))
    root = writer.step(Operation.SQUARE_ROOT, writer.step(Operation.ABSOLUTE, total))
    writer.step(Operation.DIVIDE, writer.function("hardswish", root), 3.0)
    operands = [X, np.float32(X[::-1])]
    made = evaluate_bounds(writer.program, [exactly(part) for part in operands], "float32")
    assert made.known.all()
    assert np.array_equal(made.low.astype(np.float32), vector.evaluate(writer.program, operands))


@pytest.mark.parametrize("length", [1, 2, 65, 1000])
def test_any_order_of_a_sum_is_within(length: int) -> None:
    rows = np.random.default_rng(length).normal(0, 1, (50, length)).astype(np.float32)
    made = bounds_of_statistic(exactly(rows), Statistic.SUM)
    assert made.hold(vector.statistic(rows, Statistic.SUM)).all()
    assert made.hold(torch.from_numpy(rows).sum(-1).numpy()).all()
    assert made.hold(np.cumsum(rows, axis=-1, dtype=np.float32)[:, -1]).all()
    if length > 2:
        assert ((made.high - made.low) < 1e-3 * length).all()


@pytest.mark.parametrize("kind", [Statistic.MAXIMUM, Statistic.MINIMUM])
def test_the_largest_of_known_numbers_is_known(kind: Statistic) -> None:
    rows = X.reshape(-1, 100)
    made = bounds_of_statistic(exactly(rows), kind)
    assert made.known.all()
    assert np.array_equal(made.low, vector.statistic(rows, kind))


def test_a_softmax_in_steps_holds_pytorchs_and_its_codes() -> None:
    rows = X.reshape(-1, 50)
    x = torch.from_numpy(rows)
    most = bounds_of_statistic(exactly(rows), Statistic.MAXIMUM).moved(lambda part: part[:, None])
    writer = Writer()
    writer.function("exp", writer.step(Operation.SUBTRACT, Register(0), Register(1)))
    powers = evaluate_bounds(writer.program, [exactly(rows), most], "float32")
    total = bounds_of_statistic(powers, Statistic.SUM).moved(lambda part: part[:, None])
    writer = Writer()
    share = writer.step(Operation.DIVIDE, Register(0), Register(1))
    real = evaluate_bounds(writer.program, [powers, total], "float32")
    theirs = torch.softmax(x, -1)
    assert real.hold(theirs.numpy()).all()
    assert ((real.high - real.low) / real.low).max() < 2e-5
    writer.step(Operation.QUANTIZE_SEPARATE, share, 256.0, 0.0)
    codes = evaluate_bounds(writer.program, [powers, total], "uint8")
    quantised = torch.clamp(torch.round(theirs * 256.0), 0, 255).numpy()
    assert codes.hold(quantised).all()
    # A code is free only where a half lies between the bounds: seldom.
    assert np.mean(~codes.known) < 1e-3


def test_what_a_mask_hides_is_known_to_be_nothing() -> None:
    """Minus infinity is added to a number that lies between two others: its exponential is as good as 0."""
    writer = Writer()
    hidden = writer.step(Operation.ADD, Register(0), Register(1))
    writer.function("exp", writer.step(Operation.SUBTRACT, hidden, 1.0))
    scores = Bounds(np.array([0.5, 0.5]), np.array([0.6, 0.6]))
    made = evaluate_bounds(writer.program, [scores, exactly(np.array([-np.inf, 0.0]))], "float32")
    assert -1e-30 < made.low[0] <= 0 <= made.high[0] < 1e-30
    assert made.low[1] < np.exp(-0.5) < np.exp(-0.4) < made.high[1] < 0.7


def test_every_step_of_unknown_numbers_is_within_its_ends() -> None:
    """Numbers drawn between the bounds of the operands give results between the bounds of the results."""
    rng = np.random.default_rng(1)
    ends = [np.sort(rng.normal(0, 2, (2, 3000)), axis=0) for _ in range(3)]
    given = [Bounds(low, high) for low, high in ends]
    inside = [(low + rng.random(3000) * (high - low)).astype(np.float32) for low, high in ends]
    inside = [
        np.clip(part, np.float32(b.low) + 0, b.high).astype(np.float32) for part, b in zip(inside, given, strict=True)
    ]
    registers = [Register(0), Register(1), Register(2)]
    for operation in vector.Operation:
        if operation in vector.QUANTIZE.values():
            continue
        names = [name for name in functions.NAMES if name not in ("log", "sqrt", "rsqrt", "reciprocal")]
        for name in names if operation == Operation.FUNCTION else [""]:
            count = vector.operand_count(operation)
            step = vector.Step(operation, tuple(registers[:count]), name)
            made = evaluate_bounds((step,), given, "float32")
            got = vector.evaluate((step,), inside)
            assert (made.hold(got) | np.isnan(got)).all(), step.name
