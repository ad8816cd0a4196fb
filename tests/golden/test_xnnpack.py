"""The engine xnnpack gives the codes that ExecuTorch's runtime gave, without it."""

from __future__ import annotations

from collections import Counter

import numpy as np
import storing
import xnnpack_specs
from xnnpack_store import STORE

import accelsim
from accelsim.arithmetic.affine import quantize


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
        if spec.operator in operators:
            continue
        program = accelsim.compile(xnnpack_specs.network(spec, expected.shape), accelerator, effort=0)
        assert np.array_equal(accelsim.simulate(program, tuple(inputs)).outputs[0].quantized, expected), spec.operator
        operators.add(spec.operator)
    assert len(operators) == 14


def test_real_numbers_are_quantised_by_a_product_and_a_nan_has_the_largest_code() -> None:
    real, maps = storing.quantized(STORE)
    for grid, expected in maps:
        assert np.array_equal(quantize(real, grid, "converted"), expected)
        assert set(expected[np.isnan(real)].tolist()) == {127}
    # These numbers tell a product from a division.
    assert any(np.any(quantize(real, grid, "division") != expected) for grid, expected in maps)


def test_the_store_says_what_made_it() -> None:
    assert set(storing.versions(STORE)) == {"executorch", "torch"}
