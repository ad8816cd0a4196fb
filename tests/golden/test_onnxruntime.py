"""The engine onnxruntime gives the codes that ONNX Runtime gave, without it."""

from __future__ import annotations

import itertools
from typing import Literal

import numpy as np
import onnx_specs
import pytest
import storing
from onnxruntime_store import STORE

import accelsim
from accelsim.arithmetic.affine import Affine, quantize
from accelsim.arithmetic.engines import KernelSet
from accelsim.network import Add, Network, Value


def test_every_stored_operator_has_onnx_runtimes_codes() -> None:
    compared, operators = 0, set()
    for spec, inputs, expected in storing.stored(STORE, onnx_specs.Spec):
        got = onnx_specs.network(spec, expected.shape).run(tuple(inputs))[0].quantized
        assert np.array_equal(got, expected), (spec.operator, spec.attributes, spec.inputs, spec.output)
        compared += expected.size
        operators.add(spec.operator)
    assert compared > 50_000
    assert len(operators) == 14


def test_the_machine_gives_them_too() -> None:
    accelerator, operators = accelsim.Accelerator.from_yaml("configs/teaching_4x4.yaml"), set()
    for spec, inputs, expected in itertools.islice(storing.stored(STORE, onnx_specs.Spec), 0, None, 7):
        program = accelsim.compile(onnx_specs.network(spec, expected.shape), accelerator)
        assert np.array_equal(accelsim.simulate(program, tuple(inputs)).outputs[0].quantized, expected), spec.operator
        operators.add(spec.operator)
    assert len(operators) > 8


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_a_sum_in_float_is_divided_by_the_outputs_scale_and_so_does_the_machine(
    dtype: Literal["uint8", "int8"],
) -> None:
    zeros = (3, 200, 90) if dtype == "uint8" else (-100, 3, 50)
    grids = [Affine(float(np.float32(s)), z, dtype) for s, z in zip((0.1, 0.037, 0.093), zeros, strict=True)]
    every = np.arange(256, dtype=np.uint8).view(dtype)
    codes = np.repeat(every, 256)[None], np.tile(every, 256)[None]
    values = {name: Value(name, (1, 65536), grid, (0, 1)) for name, grid in zip("abc", grids, strict=True)}
    add = Add("c", ("a", "b"), form="float")
    network = Network("onnxruntime", KernelSet("uniform", "vnni"), values, (add,), ("a", "b"), ("c",))
    real = [
        (part.astype(np.int32) - grid.zero_point).astype(np.float32) * np.float32(grid.scale)
        for part, grid in zip(codes, grids, strict=False)
    ]
    steps = np.rint((real[0] + real[1]) / np.float32(grids[2].scale)).astype(np.int64) + grids[2].zero_point
    expected = np.clip(steps, grids[2].minimum, grids[2].maximum)
    assert np.array_equal(network.run(codes)[0].quantized, expected)
    program = accelsim.compile(network, accelsim.Accelerator.from_yaml("configs/edge_16x16.yaml"))
    assert np.array_equal(accelsim.simulate(program, codes).outputs[0].quantized, expected)


def test_real_numbers_are_quantised_by_division() -> None:
    real, maps = storing.quantized(STORE)
    for grid, expected in maps:
        assert np.array_equal(quantize(real, grid, "division"), expected)
    # These numbers tell a division from a product with the reciprocal.
    assert any(np.any(quantize(real, grid, "separate") != expected) for grid, expected in maps)


def test_the_store_says_what_made_it() -> None:
    assert set(storing.versions(STORE)) == {"onnxruntime", "onnx", "numpy"}
