"""The engine xnnpack gives the codes that ExecuTorch's runtime gave, without it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import storing
import xnnpack_specs
from xnnpack_store import STORE

import accelsim
from accelsim.arithmetic import xnnpack as rules
from accelsim.arithmetic.affine import quantize
from accelsim.arithmetic.elementwise import FixedAdd
from accelsim.errors import ModelError


def test_every_stored_operator_has_xnnpacks_codes() -> None:
    compared: Counter[str] = Counter()
    for spec, inputs, expected in storing.stored(STORE, xnnpack_specs.Spec):
        got = xnnpack_specs.network(spec, expected.shape).run(tuple(inputs))[0].quantized
        assert np.array_equal(got, expected), (spec.operator, spec.attributes, spec.inputs, spec.output)
        compared[spec.operator] += expected.size
    assert sum(compared.values()) > 300_000
    assert len(compared) == 14


def test_the_machine_gives_them_too() -> None:
    accelerator, operators = accelsim.Accelerator.from_yaml("configs/teaching_4x4.yaml"), set()
    for spec, inputs, expected in storing.stored(STORE, xnnpack_specs.Spec):
        if expected.size > 4096 or spec.operator in operators:
            continue
        if spec.operator in ("add", "sub") and not spec.attributes.get("relu") and not _runs_on_the_machine(spec):
            continue
        program = accelsim.compile(xnnpack_specs.network(spec, expected.shape), accelerator, effort=0)
        assert np.array_equal(accelsim.simulate(program, tuple(inputs)).outputs[0].quantized, expected), spec.operator
        operators.add(spec.operator)
    assert len(operators) == 14


def _sum(spec: xnnpack_specs.Spec) -> FixedAdd:
    first, second = (grid for _, grid in spec.inputs)
    relu = spec.attributes.get("relu", False)
    return rules.add_rule(first, second, spec.output, relu, subtract=spec.operator == "sub")


def _pairs() -> tuple[np.ndarray, np.ndarray]:
    every = np.arange(-128, 128)
    return every[:, None], every[None]


def _runs_on_the_machine(spec: xnnpack_specs.Spec) -> bool:
    """Whether no pair of codes makes a tie below zero, which `add_fixed` rounds otherwise."""
    rule = _sum(spec)
    return np.array_equal(rule.apply(*_pairs()), replace(rule, halves_up=False).apply(*_pairs()))


def test_a_sum_with_ties_below_zero_is_refused_by_the_compiler_and_run_by_the_reference() -> None:
    accelerator, refused = accelsim.Accelerator.from_yaml("configs/teaching_4x4.yaml"), 0
    for spec, inputs, expected in storing.stored(STORE, xnnpack_specs.Spec):
        if spec.operator not in ("add", "sub") or expected.shape != (1, 65536):
            continue
        network = xnnpack_specs.network(spec, expected.shape)
        if _runs_on_the_machine(spec):
            continue
        refused += 1
        assert not np.array_equal(replace(_sum(spec), halves_up=False).apply(*inputs), expected)
        with pytest.raises(ModelError, match=r"layer 'out' \(Add\): .* ties below zero"):
            accelsim.compile(network, accelerator)
    assert refused


def test_real_numbers_are_quantised_by_a_product_and_a_nan_has_the_largest_code() -> None:
    real, maps = storing.quantized(STORE)
    for grid, expected in maps:
        assert np.array_equal(quantize(real, grid, "converted"), expected)
        assert set(expected[np.isnan(real)].tolist()) == {127}
    # These numbers tell a product from a division.
    assert any(np.any(quantize(real, grid, "division") != expected) for grid, expected in maps)


def test_the_store_says_what_made_it() -> None:
    assert set(storing.versions(STORE)) == {"executorch", "torch"}
