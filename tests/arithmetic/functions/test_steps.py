"""Steps do what their descriptions say, on every host: beside exact arithmetic, and beside the same lists as C."""

from __future__ import annotations

import subprocess
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from accelsim.arithmetic import functions
from accelsim.arithmetic.functions import operations
from accelsim.errors import AccelsimError
from tests.arithmetic.functions import c_code
from tests.arithmetic.functions.inputs import edges, inputs

METHODS = [functions.Method("accurate"), functions.Method("table", 64), functions.Method("i_bert")]


def test_all_operations_are_used_and_every_step_reads_what_came_before_it() -> None:
    used = set()
    for method in METHODS:
        for name in functions.NAMES:
            algorithm = functions.algorithm(name, method)
            known = {"x", *(table.name for table in algorithm.tables)}
            for step in algorithm.steps:
                assert all(o in known for o in step.operands if isinstance(o, str)), (name, step)
                assert step.result not in known
                known.add(step.result)
                used.add(step.operation)
            read = {o for step in algorithm.steps for o in step.operands if isinstance(o, str)}
            unread = [s.result for s in algorithm.steps[:-1] if s.result not in read and s.operation != "column"]
            assert not unread, (name, unread)
    assert used == set(operations.OPERATIONS)


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.kind)
def test_a_count_is_that_of_the_steps_that_are_no_wiring(method: functions.Method) -> None:
    for name in functions.NAMES:
        algorithm = functions.algorithm(name, method)
        assert functions.steps(name, method) == sum(algorithm.counts().values())
        wires = sum(not operations.OPERATIONS[step.operation].steps for step in algorithm.steps)
        assert functions.steps(name, method) == len(algorithm.steps) - wires > 0


@pytest.mark.skipif(c_code.COMPILER is None, reason="no C compiler")
@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.kind)
def test_numpy_and_c_give_the_same_bits(method: functions.Method, tmp_path: Path) -> None:
    x = inputs(20_000, 3)
    algorithms = {name: functions.algorithm(name, method) for name in functions.NAMES}
    program = c_code.evaluator(algorithms, tmp_path)
    for name in functions.NAMES:
        ours = functions.evaluate(name, x, method)
        output = subprocess.run([str(program), name], input=x.tobytes(), capture_output=True, check=True).stdout
        theirs = np.frombuffer(output, np.float32)
        nan = np.isnan(ours)
        assert np.array_equal(nan, np.isnan(theirs)), name
        assert np.array_equal(ours[~nan].view(np.uint32), theirs[~nan].view(np.uint32)), name
        assert set(ours[nan].view(np.uint32)) <= {0x7FC00000}


def test_scales_are_rounded_once() -> None:
    rng = np.random.default_rng(1)
    x = np.concatenate([edges()[np.isfinite(edges())], rng.standard_normal(500).astype(np.float32)])
    n = rng.integers(-300, 300, x.size)
    with np.errstate(over="ignore"):
        ours = operations.OPERATIONS["scale"].execute(x, n)
    for value, power, result in zip(x, n, ours, strict=True):
        exact = Fraction(float(value)) * Fraction(2) ** int(power)
        if not np.isfinite(result):
            assert abs(exact) >= Fraction(2) ** 128 - Fraction(2) ** 103
            continue
        unit = Fraction(2) ** max(-149, int(np.frexp(float(result))[1]) - 24)
        error = abs(Fraction(float(result)) - exact)
        assert error <= unit / 2
        if error == unit / 2:
            assert Fraction(float(result)) / unit % 2 == 0


def test_significand_times_power_is_the_number() -> None:
    x = edges()
    x = x[np.isfinite(x) & (x != 0)]
    exponent = operations.OPERATIONS["exponent"].execute(x)
    significand = operations.OPERATIONS["significand"].execute(x)
    assert np.all((np.abs(significand) >= 1) & (np.abs(significand) < 2))
    assert np.array_equal(np.ldexp(significand.astype(np.float64), exponent), x.astype(np.float64))


def test_integers_saturate_and_a_nan_is_zero() -> None:
    x = np.array([np.nan, np.inf, -np.inf, 3e9, -3e9, 0.5, 1.5, 2.5, -0.5, 2147483520.0], np.float32)
    expected = [0, 2**31 - 1, 1 - 2**31, 2**31 - 1, 1 - 2**31, 0, 2, 2, 0, 2147483520]
    assert operations.OPERATIONS["to_integer"].execute(x).tolist() == expected


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.kind)
def test_a_result_does_not_depend_on_shape_or_neighbours(method: functions.Method) -> None:
    x = inputs(30_000, 5)
    for name in ("gelu", "sqrt"):
        whole = functions.evaluate(name, x, method)
        assert np.array_equal(whole[::7], functions.evaluate(name, x[::7], method), equal_nan=True)
        folded = functions.evaluate(name, x[:600].reshape(2, 300, 1), method)
        assert folded.shape == (2, 300, 1)
        assert np.array_equal(folded.ravel(), whole[:600], equal_nan=True)
        assert functions.evaluate(name, np.float32(2), method).shape == ()
        assert functions.evaluate(name, np.zeros((0, 3)), method).shape == (0, 3)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: functions.Method("tables"), "accurate, table and i_bert"),  # type: ignore[arg-type]
        (lambda: functions.Method("table", 48), "power of two from 2 to 4096"),
        (lambda: functions.Method("table"), "power of two from 2 to 4096"),
        (lambda: functions.Method("table", 8192), "power of two from 2 to 4096"),
        (lambda: functions.Method("accurate", 64), "only table has"),
        (lambda: functions.evaluate("softmax", [1.0], functions.Method("accurate")), "there are exp, exp2"),
    ],
)
def test_a_wrong_choice_says_what_there_is(make: object, said: str) -> None:
    with pytest.raises(AccelsimError, match=said):
        make()  # type: ignore[operator]
