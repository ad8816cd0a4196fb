"""The engine onnxruntime gives the codes that ONNX Runtime gave, without it."""

from __future__ import annotations

import numpy as np
import onnx_specs
import onnxruntime_store as store

from accelsim.arithmetic.affine import quantize


def test_every_stored_operator_has_onnx_runtimes_codes() -> None:
    compared, operators = 0, set()
    for spec, inputs, expected in store.stored():
        got = onnx_specs.network(spec, expected.shape).run(tuple(inputs))[0].quantized
        assert np.array_equal(got, expected), (spec.operator, spec.attributes, spec.inputs, spec.output)
        compared += expected.size
        operators.add(spec.operator)
    assert compared > 50_000
    assert len(operators) == 14


def test_real_numbers_are_quantised_by_division() -> None:
    real, maps = store.quantized()
    for grid, expected in maps:
        assert np.array_equal(quantize(real, grid, "division"), expected)
    # These numbers tell a division from a product with the reciprocal.
    assert any(np.any(quantize(real, grid, "separate") != expected) for grid, expected in maps)


def test_the_store_says_what_made_it() -> None:
    assert set(store.versions()) == {"onnxruntime", "onnx", "numpy"}
